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

from outlay._capture.enclosure import Counted, Enclosure, Spec, enclosing
from outlay._capture.guard import guarded
from outlay._capture.identity import operation_id_of, operation_text
from outlay._capture.observation import Observation
from outlay._capture.operations import Running
from outlay._capture.places import Places, facts_of
from outlay._default import default_client
from outlay._model.clock import SystemClock
from outlay._model.events import check_text
from outlay._model.money import Amount, exact
from outlay._model.notices import Notices

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from outlay._capture.arguments import Teller

Told = Amount | Callable[[Any], Amount | None] | None
"""An amount or a quantity: the same for each call, or told by what it returned."""

Extract = Callable[[Any], Observation | Iterable[Observation] | None]
"""Reads off what a call returned what it cost."""

_notices: Final = Notices(SystemClock())


class Terms(NamedTuple):
    """What a call costs; the fields are arguments of `track_call`."""

    amount: Told
    line: str | None
    quantity: Told
    unit: str | None
    extract: Extract | None
    charged_on_error: bool | Callable[[BaseException], bool]


class UntoldError(Exception):
    """A function of the user's did not tell its fact; that was counted and logged."""


class NoCostFoundError(LookupError):
    """Nothing is said of a call's cost, nothing counted in it, nothing returned."""


class Tracked(NamedTuple):
    """A function whose calls are tracked.

    Attributes:
        name: for logs.
        spec: what each call is begun with.
        terms: what it costs.
        operation_ids: tells its operation's id.
        customers: tells its customer.
    """

    name: str
    spec: Spec
    terms: Terms
    operation_ids: Teller | None
    customers: Teller | None

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallRun:
        """Return the run of a call. Never raises."""
        ids = self.operation_ids
        operation_id = customer_id = None
        if ids is not None and not ids.late:
            operation_id = self.tell_or_none(
                "operation_id", operation_text, ids.tell, args, kwargs
            )
        if self.customers is not None:
            customer_id = self.tell_or_none(
                "customer_id", _customer, self.customers.tell, args, kwargs
            )
        late = None
        if ids is not None and ids.late:

            def late(result: object) -> object:
                return ids.tell(args, kwargs, result)

        return CallRun(self, Enclosure(self.spec, operation_id, customer_id), late)

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
            raise UntoldError(field)
        return answer[0]

    def tell_or_none(
        self,
        field: str,
        check: Callable[[Any], Any],
        source: Callable[..., object],
        *args: object,
    ) -> Any:
        """Return what `tell` does, or None for what is not told."""
        try:
            return self.tell(field, check, source, *args)
        except UntoldError:
            return None


class CallRun(Running):
    """One call; see `wrapping.Run`."""

    __slots__ = ("_failed", "_id", "_late_id", "_result", "_tracked")

    def __init__(
        self,
        tracked: Tracked,
        inside: Enclosure,
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
        running = enclosing.set(self.inside.outer)
        self._id = self._operation_id()
        try:
            self._count()
        except UntoldError as untold:
            self._keep(str(untold))
        finally:
            enclosing.reset(running)

    def _is_charged(self, error: BaseException) -> bool:
        charged = self._tracked.terms.charged_on_error
        if not callable(charged):
            return charged
        told = self._tracked.tell_or_none("charged_on_error", bool, charged, error)
        return told is True

    def _count(self) -> None:
        terms = self._tracked.terms
        if terms.amount is not None:
            self._count_amount(terms.amount)
        elif terms.extract is not None:
            self._record(self._told("extract", terms.extract, _observations) or ())
        elif terms.unit is not None:
            quantity = self._told("quantity", terms.quantity, _quantity)
            if quantity is not None:
                self._record([self._seen(usage={terms.unit: quantity})])
        elif not self.inside.counted:
            found = self._told("result", self._costs_in, _observations)
            if found is None:
                raise NoCostFoundError
            self._record(found)

    def _told(self, field: str, told: object, check: Callable[[Any], Any]) -> Any:
        """Return what is told of the call, if need be by what it returned.

        Raises:
            UntoldError: it failed; or the call has, and so returned nothing.
        """
        if not callable(told):
            return told
        if self._failed:
            raise UntoldError(field)
        return self._tracked.tell(field, check, told, self._result)

    def _costs_in(self, result: object) -> object:
        from outlay._capture.returned import costs_in  # noqa: PLC0415 - for few

        return costs_in(result, self._tracked.spec.provider)

    def _count_amount(self, told: Told) -> None:
        """Track an amount that was given by hand."""
        spec, terms = self._tracked.spec, self._tracked.terms
        cost = Counted(spec.provider, self._event_type, terms.line)
        if self._is_counted(cost):
            return
        client = spec.client or default_client()
        credits_too = client.settings.allow_credits
        amount = self._told(
            "amount", told, lambda given: exact(given, allow_credits=credits_too)
        )
        if amount is None:
            return
        quantity = self._quantity_or_none()
        operation_id = self._id
        if operation_id is None:
            consumed = {str(terms.unit): quantity}
            operation_id = operation_id_of(self._seen(amount=amount, usage=consumed))
        client.track_captured(
            self.inside.owner,
            self._event_type,
            amount,
            operation_id=operation_id,
            provider=spec.provider,
            line=terms.line,
            quantity=quantity,
            unit=terms.unit,
        )
        _note(cost)

    def _quantity_or_none(self) -> Decimal | None:
        try:
            quantity: Decimal | None = self._told(
                "quantity", self._tracked.terms.quantity, _quantity
            )
        except UntoldError:  # the amount is known, which matters more
            return None
        return quantity

    def _record(self, observations: Iterable[Observation]) -> None:
        """Record what was observed, as the decorator has it."""
        from outlay._capture.recorder import Recorder  # noqa: PLC0415 - see __init__

        recorder = Recorder.of(self._tracked.spec.client)
        for observation in self._named([*map(self._as_said, observations)]):
            if not self._is_counted(Counted.of(observation)):
                guarded(
                    f"track_call {self._tracked.name}",
                    recorder.record,
                    observation,
                    self.inside.owner,
                )

    def _as_said(self, observation: Observation) -> Observation:
        spec, terms = self._tracked.spec, self._tracked.terms
        return msgspec.structs.replace(
            observation,
            event_type=self._event_type,
            provider=spec.provider or observation.provider,
            line=observation.line or terms.line,
        )

    def _named(self, observations: list[Observation]) -> Iterable[Observation]:
        """Give the operation's id to what was observed, and alike costs one each."""
        name = self._id
        if name is None:
            return observations
        shared = Counter(map(Counted.of, observations))
        places = Places(name)
        return [
            msgspec.structs.replace(
                each,
                operation_id=name
                if shared[Counted.of(each)] == 1
                else places.name(*facts_of(each)),
            )
            for each in observations
        ]

    def _operation_id(self) -> str | None:
        """Return the id that the user tells; None: another is to be found."""
        told: str | None = self.inside.operation_id
        if told is None and self._late_id is not None and not self._failed:
            told = self._tracked.tell_or_none(
                "operation_id", operation_text, self._late_id, self._result
            )
        return told

    def _is_counted(self, cost: Counted) -> bool:
        """Return whether the same money was counted inside; says so once."""
        if not any(_same_money(cost, other) for other in self.inside.counted):
            return False
        _notices.warn_once(
            f"passed over {self._tracked.name}",
            _PASSED_OVER,
            self._tracked.name,
            cost.provider or cost.event_type,
        )
        return True

    def _keep(self, field: str) -> None:
        """Keep a cost that is there, but whose amount nobody could tell."""
        from outlay._capture.pricing import NoPrice  # noqa: PLC0415 - see __init__
        from outlay._capture.recorder import (  # noqa: PLC0415
            UNKNOWN_AMOUNT,
            Recorder,
        )

        seen = self._seen(complete=False)
        if self._is_counted(Counted.of(seen)):
            return
        name = self._tracked.name
        why = "the call failed" if self._failed else f"its {field}= failed; see the log"
        Recorder.of(self._tracked.spec.client).keep(
            seen,
            self.inside.owner,
            NoPrice(UNKNOWN_AMOUNT, f"{name} does not tell its cost: {why}"),
        )
        _note(Counted.of(seen))

    def _seen(self, **facts: Any) -> Observation:
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


def _same_money(cost: Counted, other: Counted) -> bool:
    """Return whether ``other``, counted inside, is of the money of ``cost``."""
    if cost.line != other.line:
        return False
    if cost.provider:
        return cost.provider == other.provider
    return cost.event_type == other.event_type


def _note(cost: Counted) -> None:
    around = enclosing.get()
    if around is not None:
        around.note(cost)


def _customer(told: object) -> str | None:
    return check_text("customer_id", told)


def _quantity(told: Amount) -> Decimal:
    return exact(told, field="quantity")


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
