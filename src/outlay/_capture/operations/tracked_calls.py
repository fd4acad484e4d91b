"""Calls: what becomes of each call of a function that `track_call` decorates.

A call is counted when it has ended, by the innermost that sees it. Whatever goes wrong
in here is counted and logged, and the caller gets what the function returned or raised.
A cost whose amount cannot be worked out is kept among the unpriced ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay._capture.guard import guarded
from outlay._capture.observation import Observation
from outlay._capture.operations.ids import DerivedIds, identity_fields
from outlay._capture.operations.ids_resolve import (
    operation_id_text,
    resolve_operation_id,
)
from outlay._capture.operations.operation import OperationRun
from outlay._capture.operations.state import (
    CostIdentity,
    OperationLabels,
    OperationState,
    current_operation_state,
)
from outlay._capture_sink import CaptureSink
from outlay._default_client import default_client
from outlay._model.clock import SystemClock
from outlay._model.events import validate_text
from outlay._model.money import Amount, to_exact_decimal
from outlay._model.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from outlay._capture.operations.arguments import ArgumentCallback

ValueOrCallback = Amount | Callable[[Any], Amount | None] | None
"""An amount or a quantity: the same for each call, or told by what it returned."""

Extract = Callable[[Any], Observation | Iterable[Observation] | None]
"""Reads off what a call returned what it cost."""

_notices: Final = RateLimitedLog(SystemClock())


class CostTerms(NamedTuple):
    """What a call costs; the fields are arguments of `track_call`."""

    amount: ValueOrCallback
    line: str | None
    quantity: ValueOrCallback
    unit: str | None
    extract: Extract | None
    charged_on_error: bool | Callable[[BaseException], bool]


class CallbackFailedError(Exception):
    """A function of the user's did not tell its fact; that was counted and logged."""


class NoCostFoundError(LookupError):
    """Nothing is said of a call's cost, nothing counted in it, nothing returned."""


class TrackedFunction(NamedTuple):
    """A function whose calls are tracked.

    Attributes:
        name: for logs.
        spec: what each call is begun with.
        terms: what it costs.
        operation_ids: tells its operation's id.
        customers: tells its customer.
    """

    name: str
    spec: OperationLabels
    terms: CostTerms
    operation_ids: ArgumentCallback | None
    customers: ArgumentCallback | None

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> TrackedCall:
        """Return the run of a call. Never raises."""
        ids = self.operation_ids
        operation_id = customer_id = None
        if ids is not None and not ids.needs_result:
            operation_id = self.value_or_none(
                "operation_id", operation_id_text, ids.value, args, kwargs
            )
        if self.customers is not None:
            customer_id = self.value_or_none(
                "customer_id", _customer, self.customers.value, args, kwargs
            )
        late = None
        if ids is not None and ids.needs_result:

            def late(result: object) -> object:
                return ids.value(args, kwargs, result)

        return TrackedCall(
            self, OperationState(self.spec, operation_id, customer_id), late
        )

    def tell(
        self,
        field: str,
        check: Callable[[Any], Any],
        source: Callable[..., object],
        *args: object,
    ) -> Any:
        """Return what a function of the user's tells, checked; None: it told nothing.

        Raises:
            UntoldError: it failed, or told what cannot be.
        """

        def ask() -> tuple[Any]:
            told = source(*args)
            return (None if told is None else check(told),)

        answer = guarded(f"track_call {self.name} {field}", ask)
        if answer is None:
            raise CallbackFailedError(field)
        return answer[0]

    def value_or_none(
        self,
        field: str,
        check: Callable[[Any], Any],
        source: Callable[..., object],
        *args: object,
    ) -> Any:
        """Return what `tell` does, or None for what is not told."""
        try:
            return self.tell(field, check, source, *args)
        except CallbackFailedError:
            return None


class TrackedCall(OperationRun):
    """One call; see `wrapping.Run`."""

    __slots__ = ("_failed", "_id", "_late_id", "_result", "_tracked")

    def __init__(
        self,
        tracked: TrackedFunction,
        inside: OperationState,
        late_id: Callable[[object], object] | None,
    ) -> None:
        super().__init__(inside)
        self._tracked = tracked
        self._late_id = late_id
        self._result: object = None
        self._failed = False
        self._id: str | None = None

    def finish(self, result: object, error: BaseException | None) -> None:
        """Count what the call cost, and end its operation."""
        self._result, self._failed = result, error is not None
        guarded(f"track_call {self._tracked.name}", self._settle, error)
        super().finish(result, error)

    def _settle(self, error: BaseException | None) -> None:
        if error is not None and not self._is_charged(error):
            return
        # A generator may end anywhere: its cost belongs where it was made.
        running = current_operation_state.set(self.inside.parent)
        self._id = self._operation_id()
        try:
            self._count()
        except CallbackFailedError as untold:
            self._store_unpriced(str(untold))
        finally:
            current_operation_state.reset(running)

    def _is_charged(self, error: BaseException) -> bool:
        charged = self._tracked.terms.charged_on_error
        if not callable(charged):
            return charged
        told = self._tracked.value_or_none("charged_on_error", bool, charged, error)
        return told is True

    def _count(self) -> None:
        terms = self._tracked.terms
        if terms.amount is not None:
            self._count_amount(terms.amount)
        elif terms.extract is not None:
            self._record(self._resolve("extract", terms.extract, _observations) or ())
        elif terms.unit is not None:
            quantity = self._resolve("quantity", terms.quantity, _quantity)
            if quantity is not None:
                self._record([self._observation(usage={terms.unit: quantity})])
        elif not self.inside.counted_costs:
            found = self._resolve("result", self._costs_in, _observations)
            if found is None:
                raise NoCostFoundError
            self._record(found)

    def _resolve(self, field: str, told: object, check: Callable[[Any], Any]) -> Any:
        """Return what is told of the call, if need be by what it returned.

        Raises:
            UntoldError: it failed; or the call has, and so returned nothing.
        """
        if not callable(told):
            return told
        if self._failed:
            raise CallbackFailedError(field)
        return self._tracked.tell(field, check, told, self._result)

    def _costs_in(self, result: object) -> object:
        from outlay._capture.operations.returned_answers import observations_in  # noqa: PLC0415 - for few

        return observations_in(result, self._tracked.spec.provider)

    def _count_amount(self, told: ValueOrCallback) -> None:
        """Track an amount that was given by hand."""
        spec, terms = self._tracked.spec, self._tracked.terms
        cost = CostIdentity(spec.provider, self._event_type, terms.line)
        if self._is_counted(cost):
            return
        client = spec.client or default_client()
        credits_too = client.settings.allow_credits
        amount = self._resolve(
            "amount",
            told,
            lambda given: to_exact_decimal(given, allow_credits=credits_too),
        )
        if amount is None:
            return
        quantity = self._quantity_or_none()
        operation_id = self._id
        if operation_id is None:
            consumed = {str(terms.unit): quantity}
            operation_id = resolve_operation_id(
                self._observation(amount=amount, usage=consumed)
            )
        CaptureSink(client).track_captured(
            self.inside.owner,
            self._event_type,
            amount,
            operation_id=operation_id,
            provider=spec.provider,
            line=terms.line,
            quantity=quantity,
            unit=terms.unit,
        )
        _count(cost)

    def _quantity_or_none(self) -> Decimal | None:
        try:
            quantity: Decimal | None = self._resolve(
                "quantity", self._tracked.terms.quantity, _quantity
            )
        except CallbackFailedError:  # the amount is known, which matters more
            return None
        return quantity

    def _record(self, observations: Iterable[Observation]) -> None:
        """Record what was observed, as the decorator has it."""
        from outlay._capture.recorder import Recorder  # noqa: PLC0415 - see __init__

        recorder = Recorder.of(self._tracked.spec.client)
        for observation in self._with_operation_ids(
            [*map(self._with_decorator_labels, observations)]
        ):
            if not self._is_counted(CostIdentity.of(observation)):
                guarded(
                    f"track_call {self._tracked.name}",
                    recorder.record,
                    observation,
                    self.inside.owner,
                )

    def _with_decorator_labels(self, observation: Observation) -> Observation:
        spec, terms = self._tracked.spec, self._tracked.terms
        return msgspec.structs.replace(
            observation,
            event_type=self._event_type,
            provider=spec.provider or observation.provider,
            line=observation.line or terms.line,
        )

    def _with_operation_ids(
        self, observations: list[Observation]
    ) -> Iterable[Observation]:
        """Give the operation's id to what was observed, and alike costs one each."""
        name = self._id
        if name is None:
            return observations
        shared = Counter(map(CostIdentity.of, observations))
        places = DerivedIds(name)
        return [
            msgspec.structs.replace(
                each,
                operation_id=name
                if shared[CostIdentity.of(each)] == 1
                else places.next_id(*identity_fields(each)),
            )
            for each in observations
        ]

    def _operation_id(self) -> str | None:
        """Return the id that the user tells; None: another is to be found."""
        told: str | None = self.inside.operation_id
        if told is None and self._late_id is not None and not self._failed:
            told = self._tracked.value_or_none(
                "operation_id", operation_id_text, self._late_id, self._result
            )
        return told

    def _is_counted(self, cost: CostIdentity) -> bool:
        """Return whether the same money was counted inside; says so once."""
        if not any(_is_same_cost(cost, other) for other in self.inside.counted_costs):
            return False
        _notices.warn_once(
            f"passed over {self._tracked.name}",
            _PASSED_OVER,
            self._tracked.name,
            cost.provider or cost.event_type,
        )
        return True

    def _store_unpriced(self, field: str) -> None:
        """Keep a cost that is there, but whose amount nobody could tell."""
        from outlay._capture.pricing import PriceUnknown  # noqa: PLC0415 - see __init__
        from outlay._capture.recorder import (  # noqa: PLC0415
            UNKNOWN_AMOUNT,
            Recorder,
        )

        seen = self._observation(is_complete=False)
        if self._is_counted(CostIdentity.of(seen)):
            return
        name = self._tracked.name
        why = "the call failed" if self._failed else f"its {field}= failed; see the log"
        Recorder.of(self._tracked.spec.client).store_unpriced(
            seen,
            self.inside.owner,
            PriceUnknown(UNKNOWN_AMOUNT, f"{name} does not tell its cost: {why}"),
        )
        _count(CostIdentity.of(seen))

    def _observation(self, **facts: Any) -> Observation:
        spec = self._tracked.spec
        return Observation(
            provider=spec.provider or "",
            event_type=self._event_type,
            operation_id=self._id,
            line=self._tracked.terms.line,
            region=spec.region,
            **facts,
        )

    @property
    def _event_type(self) -> str:
        return str(self._tracked.spec.event_type)


def _is_same_cost(cost: CostIdentity, other: CostIdentity) -> bool:
    """Return whether ``other``, counted inside, is of the money of ``cost``."""
    if cost.line != other.line:
        return False
    if cost.provider:
        return cost.provider == other.provider
    return cost.event_type == other.event_type


def _count(cost: CostIdentity) -> None:
    around = current_operation_state.get()
    if around is not None:
        around.count(cost)


def _customer(told: object) -> str | None:
    return validate_text("customer_id", told)


def _quantity(told: Amount) -> Decimal:
    return to_exact_decimal(told, field="quantity")


def _observations(told: object) -> list[Observation]:
    made = [told] if isinstance(told, Observation) else list(told)  # type: ignore[call-overload]  # checked below
    for each in made:
        if not isinstance(each, Observation):
            raise TypeError(f"extract= returned {type(each).__name__}, no Observation")
    return made


_PASSED_OVER: Final = (
    "a cost of %s is not counted by track_call: one of %s was counted inside, by an "
    "instrumented client, by add, or by another track_call. If it is another cost, "
    "give it a line (said once)"
)
