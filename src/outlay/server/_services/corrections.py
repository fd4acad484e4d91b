"""Decide about corrections of events, and close periods.

An event is never changed. It counts where its entries put it: at first at its own time.
A correction counts at the time of what it corrects, unless that period is closed. Then
it counts now, as an adjustment of the closed period.

A voided event accepts no other correction than the revert of its void. So an event is
either void, or counts its own amount and its adjustments.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay.server._metering.decimals import ZERO, add
from outlay.server._records import (
    Aggregation,
    ClosedPeriod,
    Correction,
    CorrectionKind,
    Entry,
)
from outlay.server._storage.correction_store import Decision
from outlay.server._wire.problems import FieldError, HttpProblem, invalid_fields
from outlay.server._wire.response_models import format_instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from outlay.server._records import CostMetric, Event
    from outlay.server._storage.correction_store import EventHistory

_ID_BYTES: Final = 12


class Order(NamedTuple):
    """An order to correct an event.

    Attributes:
        key: The idempotency key. If None, the order is a new one.
        by: The name of the API key.
        now: The time, in microseconds since 1970.
        cost: The metric of an adjustment.
        delta: The amount of an adjustment.
        reverts: The id of the correction to revert.
        skips_voided: Whether a void of a voided event is no error.
    """

    kind: CorrectionKind
    reason: str
    key: str | None
    by: str
    now: int
    cost: CostMetric | None = None
    delta: Decimal | None = None
    reverts: str | None = None
    skips_voided: bool = False


def decide(order: Order, history: EventHistory) -> Decision | Correction | None:
    """Return the correction that an order leads to.

    It is an earlier one if the order was given before, and None if it is skipped.

    Raises:
        HttpProblem: 409, because the event does not accept the correction.
    """
    for earlier in history.corrections:
        if order.key is not None and earlier.key == order.key:
            _check_same(order, earlier)
            return earlier
    void = _active_void(history)
    if void is not None and order.reverts != void.id:
        if order.skips_voided:
            return None
        raise HttpProblem(
            409,
            f"event {history.event.id} is void since {format_instant(void.created_at)} "
            f"by {void.id}; revert that one first",
            code="EVENT_VOIDED",
            details={"correctionId": void.id},
        )
    return Decision(_new(order, history.event), _entries(order, history))


def decide_closing(
    start: int, end: int, by: str, now: int, others: Iterable[ClosedPeriod]
) -> ClosedPeriod | None:
    """Return the period to close, or None if it is closed already.

    Raises:
        HttpProblem: 409, because the period has not ended.
    """
    if any((one.start, one.end) == (start, end) for one in others):
        return None
    if end > now:
        raise HttpProblem(
            409,
            f"the period ends at {format_instant(end)}; close it after that",
            code="PERIOD_NOT_OVER",
        )
    return ClosedPeriod(start, end, now, by)


def check_metric(cost: CostMetric, event_type: str | None) -> None:
    """Refuse an adjustment of a metric that is no sum, or reads other events.

    Args:
        cost: The metric.
        event_type: The type of the events. If None, it is not checked.

    Raises:
        HttpProblem: 400, with the reason.
    """
    if cost.aggregation is not Aggregation.SUM:
        message = f"{cost.name} is {cost.aggregation}; only a SUM can be adjusted"
    elif event_type is not None and cost.event_type != event_type:
        message = f"{cost.name} counts {cost.event_type}, the event is {event_type}"
    else:
        return
    raise invalid_fields([FieldError("costId", message, "NOT_ADJUSTABLE")])


def _check_same(order: Order, earlier: Correction) -> None:
    cost_id = None if order.cost is None else order.cost.id
    same = (order.kind, cost_id, order.delta, order.reverts) == (
        earlier.kind,
        earlier.cost_id,
        earlier.delta,
        earlier.reverts,
    )
    if not same:
        raise HttpProblem(
            409,
            f"the idempotency key {earlier.key!r} stands for {earlier.id}, which is "
            "another correction; choose another key",
            code="KEY_CONFLICT",
        )


def _new(order: Order, event: Event) -> Correction:
    correction_id = "cor_" + secrets.token_hex(_ID_BYTES)
    return Correction(
        correction_id,
        event.namespace,
        order.key or correction_id,
        order.kind,
        event.id,
        order.reason,
        order.now,
        order.by,
        None if order.cost is None else order.cost.id,
        order.delta,
        order.reverts,
    )


def _active_void(history: EventHistory) -> Correction | None:
    """Return the void that has not been reverted, or None."""
    reverted = {one.reverts for one in history.corrections}
    for one in history.corrections:
        if one.kind is CorrectionKind.VOID and one.id not in reverted:
            return one
    return None


def _entries(order: Order, history: EventHistory) -> list[Entry]:
    if order.kind is CorrectionKind.REVERT:
        taken_back = _entries_of(order.reverts, history)
    elif order.kind is CorrectionKind.VOID:
        taken_back = _present(history)
    else:
        cost_id = None if order.cost is None else order.cost.id
        itself = _present(history)[0]
        adjustment = msgspec.structs.replace(
            itself, sign=0, cost_id=cost_id, delta=order.delta
        )
        return [_placed(adjustment, order, history)]
    return [_placed(_negated(one), order, history) for one in taken_back]


def _entries_of(reverts: str | None, history: EventHistory) -> Sequence[Entry]:
    """Return the entries of the correction to revert.

    Raises:
        HttpProblem: 409, because it is a revert, or was reverted.
    """
    for place, one in enumerate(history.corrections, 1):
        if one.id != reverts:
            continue
        by = next((c.id for c in history.corrections if c.reverts == one.id), None)
        if one.kind is CorrectionKind.REVERT or by is not None:
            reason = "is a revert itself" if by is None else f"was reverted by {by}"
            raise HttpProblem(
                409,
                f"correction {one.id} {reason}; correct the event again instead",
                code="NOT_REVERTIBLE",
            )
        return history.entries[place]
    raise HttpProblem(404, f"correction {reverts} does not exist", code="NOT_FOUND")


def _present(history: EventHistory) -> list[Entry]:
    """Return what the event counts now: itself first, then its adjustments."""
    signs: defaultdict[int, int] = defaultdict(int)
    signs[history.event.at] = 1
    deltas: defaultdict[tuple[int, str], Decimal] = defaultdict(lambda: ZERO)
    closed: dict[int, int | None] = {}
    for entry in (one for several in history.entries for one in several):
        if entry.effective_at != history.event.at:
            closed[entry.effective_at] = entry.closed_start
        if entry.delta is not None and entry.cost_id is not None:
            place = (entry.effective_at, entry.cost_id)
            deltas[place] = add(deltas[place], entry.delta)
        else:
            signs[entry.effective_at] += entry.sign
    return [
        *(
            Entry(at, sign, closed_start=closed.get(at))
            for at, sign in signs.items()
            if sign
        ),
        *(
            Entry(at, 0, cost_id, delta, closed.get(at))
            for (at, cost_id), delta in deltas.items()
            if delta
        ),
    ]


def _negated(entry: Entry) -> Entry:
    return msgspec.structs.replace(
        entry,
        sign=-entry.sign,
        delta=None if entry.delta is None else entry.delta.copy_negate(),
    )


def _placed(entry: Entry, order: Order, history: EventHistory) -> Entry:
    """Return an entry at the time at which it counts."""
    for closed in history.closed:
        if closed.start <= entry.effective_at < closed.end:
            return msgspec.structs.replace(
                entry, effective_at=order.now, closed_start=closed.start
            )
    return entry
