"""Read the events in a journal, and total them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from outlay._cli.output import Table, plain_or_none, print_table, reason_text
from outlay._model.clock import SystemClock, to_ms
from outlay._model.events import decode_event
from outlay._model.money import exact_sum

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from outlay._journal.admin.inspect import DestinationView, StoredEvent

STATES: Final = ("pending", "parked", "quarantined", "dead")
"""The states of an undelivered event, in the order in which they are shown."""

LETTER_STATES: Final = ("quarantined", "dead")
"""The states of dead letters, which a person decides about."""

_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))  # seconds


class EventSummary(NamedTuple):
    """The readable fields of an event.

    Attributes:
        type: The event type.
        customer: The customer id.
        amount: The amount. None if it cannot be read.
        timestamp: The event's time, RFC 3339, UTC.
        key: The idempotency key.
    """

    type: str
    customer: str
    amount: Decimal | None
    timestamp: str
    key: str

    @classmethod
    def from_event(cls, event: StoredEvent) -> Self:
        """Read an event. The fields of an unreadable event are "-"."""
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
    """The totals of the events of one state, reason and type.

    Attributes:
        events: The number of events.
        amount: Their exact sum. None if one of them has no amount.
        oldest: The earliest timestamp.
    """

    events: int
    amount: Decimal | None
    oldest: str


Totals: TypeAlias = dict[tuple[str, str, str], EventTotals]
"""Totals by state, reason and event type."""


def total_events(events: Iterable[StoredEvent]) -> Totals:
    """Return the totals of events, sorted by state, reason and type."""
    totals: Totals = {}
    for event in events:
        summary = EventSummary.from_event(event)
        key = event.state, event.reason, summary.type
        earlier = totals.get(key, EventTotals(0, Decimal(), summary.timestamp))
        totals[key] = EventTotals(
            earlier.events + 1,
            _add_amounts(earlier.amount, summary.amount),
            min(earlier.oldest, summary.timestamp),
        )
    return dict(sorted(totals.items(), key=lambda item: _sort_key(item[0])))


def _add_amounts(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    if one is None or other is None:
        return None
    return exact_sum((one, other))


def _sort_key(key: tuple[str, str, str]) -> tuple[int, str, str]:
    state, reason, event_type = key
    return STATES.index(state), reason, event_type


def totals_json(totals: Totals) -> list[dict[str, Any]]:
    """Return totals for scripts. Amounts are exact strings."""
    return [
        {
            "state": state,
            "reason": reason,
            "type": event_type,
            "events": each.events,
            "amount": plain_or_none(each.amount),
            "oldest": each.oldest,
        }
        for (state, reason, event_type), each in totals.items()
    ]


def print_totals(totals: Totals) -> None:
    """Print totals as a table."""
    now_ms = SystemClock().now_ms()
    headers = ("state", "reason", "event type", "events", "amount", "oldest", "age")
    rows = [
        (
            state,
            reason_text(reason),
            event_type,
            each.events,
            each.amount,
            each.oldest,
            _age(each.oldest, now_ms),
        )
        for (state, reason, event_type), each in totals.items()
    ]
    print_table(Table(headers, rows, hide=("oldest", "reason", "age")))


def _age(timestamp: str, now_ms: int) -> str:
    """Return the time since ``timestamp`` in its largest unit, rounded down."""
    try:
        seconds = (now_ms - to_ms(datetime.fromisoformat(timestamp))) // 1000
    except ValueError:  # The event is unreadable.
        return "-"
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds // length:,} {unit}"
    return "now"


class Backlog(NamedTuple):
    """Counts of the events in the segments of one destination.

    Attributes:
        pending: Pending events of dead writers.
        parked: Parked events of dead writers.
        shipped_by_others: Events of writers that another process ships for.
        without_agent: Events of living writers that wait for an agent.
    """

    pending: int
    parked: int
    shipped_by_others: int
    without_agent: int

    @classmethod
    def from_view(cls, view: DestinationView) -> Self:
        """Count the events of a destination."""
        writers = {writer.path.name: writer for writer in view.writers()}
        counts: Counter[str] = Counter()
        for event in view.events(lambda _: None):
            writer = writers.get(event.location.partition("/")[0])
            if writer is None or writer.is_dead:
                counts[event.state] += 1
            else:
                counts["unattended" if writer.is_unattended else "others"] += 1
        return cls(
            counts["pending"], counts["parked"], counts["others"], counts["unattended"]
        )

    @property
    def of_dead_writers(self) -> int:
        """The number of events of dead writers, which no process ships."""
        return self.pending + self.parked
