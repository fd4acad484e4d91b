"""A cost, compiled: what it reads from an event, and how values become one.

The same meter reads events as they come in and when they are read back, so a rollup
and the events behind it cannot disagree.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from outlay.server._metering.decimals import ZERO, add, divide, to_countable
from outlay.server._metering.jsonpath import PathReader, compile_path
from outlay.server._records import Aggregation, CostMetric

Instant: TypeAlias = tuple[int, int]
"""When a value holds: (microseconds since 1970, order of receipt)."""

Dimensions: TypeAlias = tuple[str, ...]
"""One value per dimension of the cost, ordered by dimension name."""

_NEVER: Final[Instant] = (-(2**63), 0)


class Contribution(msgspec.Struct, frozen=True, gc=False):
    """What some events of one customer and one set of dimensions add to a cost.

    Attributes:
        bucket_at: an instant of theirs, in microseconds since 1970; all of them lie
            in the same hour.
        events: how many there are.
        skipped: how many of them have no countable value.
        value: their combined value, or None if none counts; text for UNIQUE_COUNT.
        at: when the value holds; only LATEST asks.
    """

    bucket_at: int
    customer: str
    dimensions: Dimensions
    events: int
    skipped: int
    value: Decimal | str | None
    at: Instant


class Accumulator(Protocol):
    """Combines contributions into one quantity."""

    events: int
    skipped: int

    def add(self, contribution: Contribution) -> None:
        """Take in one contribution."""
        ...

    def result(self) -> Decimal | None:
        """Return the quantity, or None if it has no value (such as no maximum)."""
        ...


_Combine: TypeAlias = Callable[[Decimal, Instant, Decimal, Instant], Decimal]

_COMBINE: Final[dict[Aggregation, _Combine]] = {
    Aggregation.SUM: lambda old, _, new, __: add(old, new),
    Aggregation.AVG: lambda old, _, new, __: add(old, new),
    Aggregation.COUNT: lambda old, _, __, ___: old,
    Aggregation.MIN: lambda old, _, new, __: min(old, new),
    Aggregation.MAX: lambda old, _, new, __: max(old, new),
    Aggregation.LATEST: lambda old, was, new, at: new if at > was else old,
}

_Finish: TypeAlias = Callable[["NumberAccumulator"], Decimal | None]

_RESULT: Final[dict[Aggregation, _Finish]] = {
    Aggregation.SUM: lambda tally: ZERO if tally.value is None else tally.value,
    Aggregation.AVG: lambda tally: (
        None
        if tally.value is None
        else divide(tally.value, Decimal(tally.events - tally.skipped))
    ),
    Aggregation.COUNT: lambda tally: Decimal(tally.events),
    Aggregation.MIN: lambda tally: tally.value,
    Aggregation.MAX: lambda tally: tally.value,
    Aggregation.LATEST: lambda tally: tally.value,
}


class NumberAccumulator:
    """Combines numbers by one aggregation, exactly. Not thread-safe."""

    __slots__ = ("_aggregation", "_combine", "at", "events", "skipped", "value")

    events: int
    skipped: int
    value: Decimal | None
    at: Instant

    def __init__(self, aggregation: Aggregation) -> None:
        self._aggregation = aggregation
        self._combine = _COMBINE[aggregation]
        self.events = 0
        self.skipped = 0
        self.value = None
        self.at = _NEVER

    def add(self, contribution: Contribution) -> None:
        """Take in one contribution."""
        self.events += contribution.events
        self.skipped += contribution.skipped
        value, at = contribution.value, contribution.at
        if not isinstance(value, Decimal):
            return
        if self.value is None:
            self.value = value
        else:
            combine = self._combine
            self.value = combine(self.value, self.at, value, at)
        if at > self.at:  # noqa: PLR1730 - max() takes five times as long
            self.at = at

    def result(self) -> Decimal | None:
        """Return the quantity, or None for an average or extreme of nothing."""
        return _RESULT[self._aggregation](self)


class DistinctAccumulator:
    """Counts distinct values. Memory grows with their number. Not thread-safe."""

    __slots__ = ("_seen", "events", "skipped")

    def __init__(self) -> None:
        self.events = 0
        self.skipped = 0
        self._seen: set[str] = set()

    def add(self, contribution: Contribution) -> None:
        """Take in one contribution."""
        self.events += contribution.events
        self.skipped += contribution.skipped
        if isinstance(contribution.value, str):
            self._seen.add(contribution.value)

    def result(self) -> Decimal | None:
        """Return how many distinct values there were."""
        return Decimal(len(self._seen))


class CompiledMetric:
    """Reads values and dimensions from events, for one definition of a cost.

    Thread safety: any thread; it does not change.

    Raises:
        PathError: a path of the cost is not one.
    """

    __slots__ = ("_read_value", "_readers", "aggregation", "cost", "names")

    def __init__(self, cost: CostMetric, aggregation: Aggregation) -> None:
        self.cost = cost
        self.aggregation = aggregation
        self.names = tuple(sorted(cost.group_by))
        self._readers = [compile_path(cost.group_by[name]) for name in self.names]
        self._read_value = _value_reader(aggregation, cost.value_property)

    @property
    def can_roll_up(self) -> bool:
        """Whether hourly rollups can stand for the events behind them."""
        return self.aggregation is not Aggregation.UNIQUE_COUNT

    def tally(self) -> Accumulator:
        """Return an empty tally for this aggregation."""
        return (
            NumberAccumulator(self.aggregation)
            if self.can_roll_up
            else DistinctAccumulator()
        )

    def contribution(
        self, seq: int, at: int, customer: str, fields: dict[str, Any]
    ) -> Contribution:
        """Return what one event adds.

        Args:
            seq: its order of receipt.
            at: when it happened, in microseconds since 1970.
            customer: who it is attributed to.
            fields: its data, decoded.
        """
        value = self._read_value(fields)
        return Contribution(
            at,
            customer,
            tuple([_text(read(fields)) for read in self._readers]),
            1,
            value is None,
            value,
            (at, seq),
        )


def compile_metric(cost: CostMetric) -> CompiledMetric | None:
    """Return the meter of ``cost``, or None if it computes nothing."""
    if cost.aggregation is None or cost.event_type is None:
        return None
    return CompiledMetric(cost, cost.aggregation)


def _value_reader(
    aggregation: Aggregation, path: str | None
) -> Callable[[dict[str, Any]], Decimal | str | None]:
    if aggregation is Aggregation.COUNT or path is None:
        return lambda _: ZERO  # every event counts, whatever it says
    read: PathReader = compile_path(path)
    if aggregation is Aggregation.UNIQUE_COUNT:
        return lambda fields: _text(read(fields)) or None
    return lambda fields: to_countable(read(fields))


def _text(value: object) -> str:
    """Return a dimension's value as text: always a string, '' when missing.

    Takes whatever JSON can hold, such as integers beyond 64 bits: an event was
    accepted before its dimensions are looked at.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return str(value)
    # true, 42, [1,2]; a decimal inside of a container becomes a string.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
