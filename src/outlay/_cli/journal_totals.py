"""What kept events say, and what they come to."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from outlay._cli.output_amounts import aligned, plain
from outlay._model.clock import SystemClock, to_ms
from outlay._model.events import decode_event
from outlay._model.money import exact_sum

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from outlay._journal.admin.inspect import StoredEvent

STATES: Final = ("pending", "parked", "quarantined", "dead")
"""Where an undelivered event can be, in the order they are shown."""

LETTER_STATES: Final = ("quarantined", "dead")
"""Those of them that a person decides about."""

_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))  # seconds


class EventSummary(NamedTuple):
    """What an event says, as far as it can be read."""

    type: str
    customer: str
    amount: Decimal | None
    timestamp: str
    key: str

    @classmethod
    def of(cls, event: StoredEvent) -> Self:
        """Read an event; one that cannot be read says "-"."""
        try:
            read = decode_event(event.payload)
        except msgspec.DecodeError:
            return cls("-", "-", None, "-", "-")
        amount = read.data.get("amount")
        if isinstance(amount, int) and not isinstance(amount, bool):
            amount = Decimal(amount)
        elif not isinstance(amount, Decimal):
            amount = None
        key = read.idempotency_key
        return cls(read.type, read.subject, amount, read.timestamp, key)


class EventTotals(NamedTuple):
    """What some events of one state, reason and type come to.

    Attributes:
        events: how many.
        amount: their exact sum; None where one of them has none.
        oldest: the earliest timestamp.
    """

    events: int
    amount: Decimal | None
    oldest: str


Tallies: TypeAlias = dict[tuple[str, str, str], EventTotals]
"""By state, reason and event type."""


def total_events(events: Iterable[StoredEvent]) -> Tallies:
    """Return what events come to; sorted by state, reason and type."""
    found: Tallies = {}
    for event in events:
        facts = EventSummary.of(event)
        key = event.state, event.reason, facts.type
        earlier = found.get(key, EventTotals(0, Decimal(), facts.timestamp))
        found[key] = EventTotals(
            earlier.events + 1,
            _add_amounts(earlier.amount, facts.amount),
            min(earlier.oldest, facts.timestamp),
        )
    return dict(sorted(found.items(), key=lambda item: _sort_key(item[0])))


def _add_amounts(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    if one is None or other is None:
        return None
    return exact_sum((one, other))


def _sort_key(key: tuple[str, str, str]) -> tuple[int, str, str]:
    state, reason, event_type = key
    return STATES.index(state), reason, event_type


def as_json(tallies: Tallies) -> list[dict[str, Any]]:
    """Return tallies for scripts; amounts are exact strings."""
    return [
        {
            "state": state,
            "reason": reason,
            "type": event_type,
            "events": each.events,
            "amount": None if each.amount is None else plain(each.amount),
            "oldest": each.oldest,
        }
        for (state, reason, event_type), each in tallies.items()
    ]


def show_tallies(tallies: Tallies) -> None:
    """Print tallies as a table."""
    from outlay._cli import output as _tables

    now_ms = SystemClock().now_ms()
    amounts = aligned(each.amount for each in tallies.values())
    rows = [
        (
            state,
            reason_text(reason),
            event_type,
            f"{each.events:,}",
            amount,
            each.oldest,
            _age(each.oldest, now_ms),
        )
        for ((state, reason, event_type), each), amount in zip(
            tallies.items(), amounts, strict=True
        )
    ]
    headers = ("state", "reason", "event type", "events", "amount", "oldest", "age")
    _tables.show(_tables.table(headers, rows, amounts=["amount"]))


def reason_text(reason: str) -> str:
    """Return a reason as people write it."""
    return reason.replace("_", " ")


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _age(timestamp: str, now_ms: int) -> str:
    """Return how long ago an instant was, in its largest unit, rounded down."""
    try:
        seconds = (now_ms - to_ms(datetime.fromisoformat(timestamp))) // 1000
    except ValueError:  # it cannot be read
        return "-"
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds // length:,} {unit}"
    return "now"
