"""Track each call of a function that `track_call` decorates.

A call is counted when it has ended, by the innermost source that observes it. Any error
in here is counted and logged. The caller gets what the function returned or raised. A
cost whose amount cannot be computed is stored among the unpriced costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay._capture.guard import guarded
from outlay._capture.observation import Observation
from outlay._capture.operations.ids import (
    DerivedIds,
    identity_fields,
    operation_id_text,
    resolve_operation_id,
)
from outlay._capture.operations.operation import OperationRun
from outlay._capture.operations.returned_responses import observations_in
from outlay._capture.operations.state import (
    CostIdentity,
    OperationLabels,
    OperationState,
    count_in_operation,
    current_derived_ids,
    current_operation_state,
)
from outlay._capture.pricing import PriceUnknown
from outlay._capture.recorder import Recorder
from outlay._capture.recording.hand_over import UNKNOWN_AMOUNT
from outlay._capture_sink import CaptureSink
from outlay._default_client import default_client
from outlay._model.clock import SystemClock
from outlay._model.event_rules import validate_text
from outlay._model.money import Amount, to_exact_decimal
from outlay._model.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from outlay._capture.operations.arguments import ArgumentCallback

ValueOrCallback = Amount | Callable[[Any], Amount | None] | None
"""An amount or a quantity: one for all calls, or a function of the returned object."""

Extract = Callable[[Any], Observation | Iterable[Observation] | None]
"""Makes observations from the object that a call returned."""

_log: Final = RateLimitedLog(SystemClock())


class CostTerms(NamedTuple):
    """The cost of a call. The fields are arguments of `track_call`."""

    amount: ValueOrCallback
    line: str | None
    quantity: ValueOrCallback
    unit: str | None
    extract: Extract | None
    charged_on_error: bool | Callable[[BaseException], bool]


class CallbackFailedError(Exception):
    """A user's callback failed. The failure was counted and logged."""


class NoCostFoundError(LookupError):
    """The call has no cost: none was given, counted inside, or returned."""


class TrackedFunction(NamedTuple):
    """A function whose calls are tracked.

    Attributes:
        name: The name of the function, for logs.
        labels: The labels of each call's operation.
        terms: The cost of a call.
        operation_ids: The callback for the operation's id, if there is one.
        customers: The callback for the customer, if there is one.
    """

    name: str
    labels: OperationLabels
    terms: CostTerms
    operation_ids: ArgumentCallback | None
    customers: ArgumentCallback | None

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> TrackedCall:
        """Return the run of a call. It never raises."""
        ids = self.operation_ids
        operation_id = customer_id = late_id = None
        if ids is not None and ids.needs_result:

            def late_id(result: object) -> object:
                return ids.value(args, kwargs, result)

        elif ids is not None:
            operation_id = self.value_or_none(
                "operation_id", operation_id_text, ids.value, args, kwargs
            )
        if self.customers is not None:
            customer_id = self.value_or_none(
                "customer_id", _customer, self.customers.value, args, kwargs
            )
        state = OperationState(self.labels, operation_id, customer_id)
        return TrackedCall(self, state, late_id)

    def value(
        self,
        field: str,
        check: Callable[[Any], Any],
        callback: Callable[..., object],
        *args: object,
    ) -> Any:
        """Return the checked value of a user's callback, or None if it returns None.

        Raises:
            CallbackFailedError: It failed, or returned an invalid value.
        """

        def compute() -> tuple[Any]:
            value = callback(*args)
            return (None if value is None else check(value),)

        result = guarded(f"track_call {self.name} {field}", compute)
        if result is None:
            raise CallbackFailedError(field)
        return result[0]

    def value_or_none(
        self,
        field: str,
        check: Callable[[Any], Any],
        callback: Callable[..., object],
        *args: object,
    ) -> Any:
        """Return the same as `value`, or None if the callback failed."""
        try:
            return self.value(field, check, callback, *args)
        except CallbackFailedError:
            return None


class TrackedCall(OperationRun):
    """One call of a tracked function. See `FunctionRun`."""

    __slots__ = ("_failed", "_function", "_id", "_late_id", "_result")

    def __init__(
        self,
        function: TrackedFunction,
        state: OperationState,
        late_id: Callable[[object], object] | None,
    ) -> None:
        super().__init__(state)
        self._function = function
        self._late_id = late_id
        self._result: object = None
        self._failed = False
        self._id: str | None = None

    def finish(self, result: object, error: BaseException | None) -> None:
        """Count the cost of the call, and end its operation."""
        self._result, self._failed = result, error is not None
        guarded(f"track_call {self._function.name}", self._track, error)
        super().finish(result, error)

    def _track(self, error: BaseException | None) -> None:
        if error is not None and not self._is_charged(error):
            return
        # A generator may end anywhere. Its cost belongs to where it was made.
        running = current_operation_state.set(self.state.parent)
        self._id = self._operation_id()
        try:
            self._track_terms()
        except CallbackFailedError as failed:
            self._store_unpriced(str(failed))
        finally:
            current_operation_state.reset(running)

    def _is_charged(self, error: BaseException) -> bool:
        charged = self._function.terms.charged_on_error
        if not callable(charged):
            return charged
        value = self._function.value_or_none("charged_on_error", bool, charged, error)
        return value is True

    def _track_terms(self) -> None:
        terms = self._function.terms
        if terms.amount is not None:
            self._track_amount(terms.amount)
        elif terms.extract is not None:
            self._record(self._resolve("extract", terms.extract, _observations) or ())
        elif terms.unit is not None:
            quantity = self._resolve("quantity", terms.quantity, _quantity)
            if quantity is not None:
                self._record([self._observation(usage={terms.unit: quantity})])
        elif not self.state.counted_costs:
            extracted = self._resolve("result", self._costs_in, _observations)
            if extracted is None:
                raise NoCostFoundError
            self._record(extracted)

    def _resolve(self, field: str, given: object, check: Callable[[Any], Any]) -> Any:
        """Return a given value, or the value of a callback for the returned object.

        Raises:
            CallbackFailedError: It failed, or the call failed and returned nothing.
        """
        if not callable(given):
            return given
        if self._failed:
            raise CallbackFailedError(field)
        return self._function.value(field, check, given, self._result)

    def _costs_in(self, result: object) -> object:
        return observations_in(result, self._function.labels.provider)

    def _track_amount(self, given: ValueOrCallback) -> None:
        """Track an amount that the user gave."""
        labels, terms = self._function.labels, self._function.terms
        cost = CostIdentity(labels.provider, self._event_type, terms.line)
        if self._is_counted(cost):
            return
        client = labels.client or default_client()
        allow_credits = client.settings.allow_credits
        amount = self._resolve(
            "amount",
            given,
            lambda value: to_exact_decimal(value, allow_credits=allow_credits),
        )
        if amount is None:
            return
        quantity = self._quantity_or_none()
        operation_id = self._id
        if operation_id is None:
            usage = {str(terms.unit): quantity}
            operation_id = resolve_operation_id(
                self._observation(amount=amount, usage=usage), current_derived_ids()
            )
        CaptureSink(client).track_captured(
            self.state.attribution,
            self._event_type,
            amount,
            operation_id=operation_id,
            provider=labels.provider,
            line=terms.line,
            quantity=quantity,
            unit=terms.unit,
        )
        count_in_operation(cost)

    def _quantity_or_none(self) -> Decimal | None:
        try:
            quantity: Decimal | None = self._resolve(
                "quantity", self._function.terms.quantity, _quantity
            )
        except CallbackFailedError:  # the amount is known, which matters more
            return None
        return quantity

    def _record(self, observations: Iterable[Observation]) -> None:
        """Record observations with the decorator's labels and the operation's id."""
        recorder = Recorder.for_client(self._function.labels.client)
        labelled = [*map(self._with_decorator_labels, observations)]
        for observation in self._with_operation_ids(labelled):
            if not self._is_counted(CostIdentity.from_observation(observation)):
                guarded(
                    f"track_call {self._function.name}",
                    recorder.record,
                    observation,
                    self.state.attribution,
                )

    def _with_decorator_labels(self, observation: Observation) -> Observation:
        labels, terms = self._function.labels, self._function.terms
        return msgspec.structs.replace(
            observation,
            event_type=self._event_type,
            provider=labels.provider or observation.provider,
            line=observation.line or terms.line,
        )

    def _with_operation_ids(
        self, observations: list[Observation]
    ) -> Iterable[Observation]:
        """Return ``observations`` with the operation's id, or one derived from it.

        Costs with the same labels get derived ids. Otherwise only one would count.
        """
        operation_id = self._id
        if operation_id is None:
            return observations
        equal = Counter(map(CostIdentity.from_observation, observations))
        derived_ids = DerivedIds(operation_id)
        return [
            msgspec.structs.replace(
                each,
                operation_id=operation_id
                if equal[CostIdentity.from_observation(each)] == 1
                else derived_ids.next_id(*identity_fields(each)),
            )
            for each in observations
        ]

    def _operation_id(self) -> str | None:
        """Return the id that the user gives, or None."""
        operation_id: str | None = self.state.operation_id
        if operation_id is None and self._late_id is not None and not self._failed:
            operation_id = self._function.value_or_none(
                "operation_id", operation_id_text, self._late_id, self._result
            )
        return operation_id

    def _is_counted(self, cost: CostIdentity) -> bool:
        """Return whether the same money was counted inside. Warn once if so."""
        if not any(_is_same_cost(cost, other) for other in self.state.counted_costs):
            return False
        _log.warn_once(
            f"counted inside {self._function.name}",
            _COUNTED_INSIDE,
            self._function.name,
            cost.provider or cost.event_type,
        )
        return True

    def _store_unpriced(self, field: str) -> None:
        """Store a cost whose amount could not be computed."""
        observation = self._observation(is_complete=False)
        if self._is_counted(CostIdentity.from_observation(observation)):
            return
        why = "the call failed" if self._failed else f"its {field}= failed; see the log"
        message = f"{self._function.name} has no known cost: {why}"
        Recorder.for_client(self._function.labels.client).record_unpriced(
            observation, self.state.attribution, PriceUnknown(UNKNOWN_AMOUNT, message)
        )

    def _observation(self, **fields: Any) -> Observation:
        labels = self._function.labels
        return Observation(
            provider=labels.provider or "",
            event_type=self._event_type,
            operation_id=self._id,
            line=self._function.terms.line,
            region=labels.region,
            **fields,
        )

    @property
    def _event_type(self) -> str:
        return str(self._function.labels.event_type)


def _is_same_cost(cost: CostIdentity, other: CostIdentity) -> bool:
    """Return whether ``other``, counted inside, is the same money as ``cost``."""
    if cost.line != other.line:
        return False
    if cost.provider:
        return cost.provider == other.provider
    return cost.event_type == other.event_type


def _customer(value: object) -> str | None:
    return validate_text("customer_id", value)


def _quantity(value: Amount) -> Decimal:
    return to_exact_decimal(value, field="quantity")


def _observations(value: object) -> list[Observation]:
    observations = [value] if isinstance(value, Observation) else list(value)  # type: ignore[call-overload]  # checked below
    for each in observations:
        if not isinstance(each, Observation):
            raise TypeError(f"extract= returned {type(each).__name__}, no Observation")
    return observations


_COUNTED_INSIDE: Final = (
    "a cost of %s is not counted by track_call: one of %s was counted inside, by an "
    "instrumented client, by add, or by another track_call. If it is another cost, "
    "give it a line (logged once)"
)
