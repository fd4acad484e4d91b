"""Compute what corrections and late events add to quantities, alike in every store."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from outlay.server._records import MICROSECONDS_PER_HOUR, ClosedPeriod, Entry
from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from outlay.server._metering.metric import CompiledMetric, Contribution


class CountedEntry(NamedTuple):
    """An entry with the event that it belongs to."""

    entry: Entry
    seq: int
    event_at: int
    customer: str
    data: str


def period_at(closed: Iterable[ClosedPeriod], at: int) -> ClosedPeriod | None:
    """Return the closed period that contains an instant, or None."""
    return next((one for one in closed if one.start <= at < one.end), None)


def late_entries(at: int, now: int, closed: ClosedPeriod) -> list[Entry]:
    """Return the entries of an event that arrives after its period was closed."""
    return [
        Entry(at, -1, closed_start=closed.start),
        Entry(now, 1, closed_start=closed.start),
    ]


def negated(one: Contribution) -> Contribution:
    """Return the contribution that takes another one back."""
    value = one.value
    return msgspec.structs.replace(
        one,
        events=-one.events,
        skipped=-one.skipped,
        other_currency=-one.other_currency,
        value=value.copy_negate() if isinstance(value, Decimal) else value,
    )


def entry_contribution(
    metric: CompiledMetric, entry: Entry, seq: int, customer: str, data: str
) -> Contribution:
    """Return what an entry adds to a metric whose values can be subtracted."""
    one = metric.contribution(seq, entry.effective_at, customer, decode_data(data))
    if entry.delta is not None:
        return msgspec.structs.replace(
            one, events=0, skipped=0, other_currency=0, value=entry.delta
        )
    return one if entry.sign > 0 else negated(one)


def counted_contribution(metric: CompiledMetric, one: CountedEntry) -> Contribution:
    return entry_contribution(metric, one.entry, one.seq, one.customer, one.data)


def copied_contribution(metric: CompiledMetric, one: CountedEntry) -> Contribution:
    """Return the contribution of an event at the time of an entry."""
    data = decode_data(one.data)
    return metric.contribution(one.seq, one.entry.effective_at, one.customer, data)


def presence(
    entries: Iterable[CountedEntry],
) -> tuple[dict[int, int], list[CountedEntry]]:
    """Return the events that do not count at their time, and those at another one.

    The first are times of events by order of receipt.
    """
    signs: defaultdict[tuple[int, int], int] = defaultdict(int)
    last: dict[tuple[int, int], CountedEntry] = {}
    for one in entries:
        place = (one.seq, one.entry.effective_at)
        signs[place] += one.entry.sign
        last[place] = one
    excluded = {
        seq: at
        for (seq, at), sign in signs.items()
        if sign < 0 and at == last[seq, at].event_at
    }
    added = [last[place] for place, sign in signs.items() if sign > 0]
    return excluded, added


def segments(
    start: int, end: int, excluded: Mapping[int, int]
) -> Iterator[tuple[int, int, bool]]:
    """Split a period into hours with excluded events, and the parts between them."""
    for hour in sorted({at // MICROSECONDS_PER_HOUR for at in excluded.values()}):
        first = max(start, hour * MICROSECONDS_PER_HOUR)
        last = min(end, (hour + 1) * MICROSECONDS_PER_HOUR)
        if start < first:
            yield start, first, False
        yield first, last, True
        start = last
    if start < end:
        yield start, end, False


def contributions_from_rows(
    metric: CompiledMetric, rows: Iterable[Sequence[Any]]
) -> Iterator[Contribution]:
    """Yield the contribution of each event, from rows of `READING_COLUMNS`."""
    for seq, at, customer, data in rows:
        yield metric.contribution(seq, at, customer, decode_data(data))
