"""Compile a cost metric: read its value from events, and combine the values.

The same compiled metric reads events when they arrive and when they are read back. So
a rollup and the events behind it cannot disagree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from outlay.server._metering.decimals import ZERO, add, divide, to_countable
from outlay.server._metering.jsonpath import PathReader, compile_path
from outlay.server._records import Aggregation, CostMetric

Instant: TypeAlias = tuple[int, int]
"""The time of a value: microseconds since 1970, and the order of receipt."""

Dimensions: TypeAlias = tuple[str, ...]
"""One value for each dimension of the cost, ordered by the dimension's name."""

_COUNTS: Final = {Aggregation.COUNT, Aggregation.UNIQUE_COUNT}
_SUBTRACTED: Final = {Aggregation.SUM, Aggregation.COUNT, Aggregation.AVG}
_CURRENCY: Final = re.compile("[A-Za-z]{3}")
_NEVER: Final[Instant] = (-(2**63), 0)


class Contribution(msgspec.Struct, frozen=True, gc=False):
    """The part that some events of one customer and set of dimensions add to a cost.

    Attributes:
        bucket_at: The time of one of the events, in microseconds since 1970. All of
            them lie in the same hour.
        events: The number of events.
        skipped: The number of events without a countable value.
        other_currency: The number of skipped events that are in another currency.
        value: Their combined value, or None if none counts. Text for UNIQUE_COUNT.
        at: The time of the value. Only LATEST reads it.
    """

    bucket_at: int
    customer: str
    dimensions: Dimensions
    events: int
    skipped: int
    value: Decimal | str | None
    at: Instant
    other_currency: int = 0


class Accumulator(Protocol):
    """Combines contributions into one quantity."""

    events: int
    skipped: int
    other_currency: int

    def add(self, contribution: Contribution) -> None:
        """Add one contribution."""
        ...

    def result(self) -> Decimal | None:
        """Return the quantity, or None if there is none, such as no maximum."""
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

_Result: TypeAlias = Callable[["NumberAccumulator"], Decimal | None]

_RESULT: Final[dict[Aggregation, _Result]] = {
    Aggregation.SUM: lambda of: ZERO if of.value is None else of.value,
    Aggregation.AVG: lambda of: (
        # Corrections may have taken every value back.
        None
        if of.value is None or of.events == of.skipped
        else divide(of.value, Decimal(of.events - of.skipped))
    ),
    Aggregation.COUNT: lambda of: Decimal(of.events),
    Aggregation.MIN: lambda of: of.value,
    Aggregation.MAX: lambda of: of.value,
    Aggregation.LATEST: lambda of: of.value,
}


class NumberAccumulator:
    """Combines numbers by one aggregation, exactly. Not thread-safe."""

    __slots__ = (
        "_aggregation",
        "_combine",
        "at",
        "events",
        "other_currency",
        "skipped",
        "value",
    )

    events: int
    skipped: int
    other_currency: int
    value: Decimal | None
    at: Instant

    def __init__(self, aggregation: Aggregation) -> None:
        self._aggregation = aggregation
        self._combine = _COMBINE[aggregation]
        self.events = 0
        self.skipped = 0
        self.other_currency = 0
        self.value = None
        self.at = _NEVER

    def add(self, contribution: Contribution) -> None:
        """Add one contribution."""
        self.events += contribution.events
        self.skipped += contribution.skipped
        self.other_currency += contribution.other_currency
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

    def add_event(
        self, value: Decimal | None, at: int, seq: int, *, other_currency: bool
    ) -> None:
        """Add the contribution of one event. It is faster than `add`.

        Args:
            value: The event's value, or None if it does not count.
            at: The event's time, in microseconds since 1970.
            seq: The event's order of receipt.
            other_currency: Whether the event is in another currency.
        """
        self.events += 1
        if value is None:
            self.skipped += 1
            self.other_currency += other_currency
            return
        instant = (at, seq)
        if self.value is None:
            self.value = value
        else:
            self.value = self._combine(self.value, self.at, value, instant)
        self.at = max(self.at, instant)

    def result(self) -> Decimal | None:
        """Return the quantity, or None for an average or extreme of no values."""
        return _RESULT[self._aggregation](self)


class DistinctAccumulator:
    """Counts distinct values. Memory grows with their number. Not thread-safe."""

    __slots__ = ("_seen", "events", "other_currency", "skipped")

    def __init__(self) -> None:
        self.events = 0
        self.skipped = 0
        self.other_currency = 0
        self._seen: set[str] = set()

    def add(self, contribution: Contribution) -> None:
        """Add one contribution."""
        self.events += contribution.events
        self.skipped += contribution.skipped
        self.other_currency += contribution.other_currency
        if isinstance(contribution.value, str):
            self._seen.add(contribution.value)

    def result(self) -> Decimal | None:
        """Return the number of distinct values."""
        return Decimal(len(self._seen))


class CompiledMetric:
    """Reads values and dimensions from events, by one definition of a cost.

    Thread safety: any thread, because it does not change.

    Attributes:
        cost: The cost.
        aggregation: The way in which values become one quantity.
        names: The names of the dimensions, in order.
        can_subtract: Whether a value can be taken back from the combined value of many.
        can_roll_up: Whether rollups can stand for the events behind them.
        new_accumulator: A function that returns an empty accumulator.

    Raises:
        PathError: A path of the cost is not a JSONPath.
    """

    __slots__ = (
        "_adds_money",
        "_read_value",
        "_readers",
        "aggregation",
        "can_roll_up",
        "can_subtract",
        "cost",
        "names",
        "new_accumulator",
    )

    def __init__(self, cost: CostMetric, aggregation: Aggregation) -> None:
        self.cost = cost
        self.aggregation = aggregation
        self.names = tuple(sorted(cost.group_by))
        self._readers = [compile_path(cost.group_by[name]) for name in self.names]
        self._adds_money = aggregation not in _COUNTS and cost.billable is None
        self._read_value = _value_reader(aggregation, cost.value_property)
        self.can_subtract = aggregation in _SUBTRACTED
        self.can_roll_up = aggregation is not Aggregation.UNIQUE_COUNT
        self.new_accumulator: Callable[[], Accumulator] = (
            partial(NumberAccumulator, aggregation)
            if self.can_roll_up
            else DistinctAccumulator
        )

    def contribution(
        self, seq: int, at: int, customer: str, fields: dict[str, Any]
    ) -> Contribution:
        """Return the contribution of one event.

        Args:
            seq: The event's order of receipt.
            at: The event's time, in microseconds since 1970.
            customer: The customer of the event.
            fields: The event's decoded data.
        """
        value, dimensions, other_currency = self.measure(fields)
        return Contribution(
            at,
            customer,
            dimensions,
            1,
            value is None,
            value,
            (at, seq),
            other_currency,
        )

    def measure(
        self, fields: dict[str, Any]
    ) -> tuple[Decimal | str | None, Dimensions, bool]:
        """Return the value of one event, its dimensions, and its foreign currency.

        The value is None if it does not count. The last is whether the event is in
        another currency.
        """
        value = self._read_value(fields)
        other_currency = self._adds_money and self._is_other_currency(fields)
        if other_currency:
            value = None
        dimensions = tuple(
            [
                # Most are texts, which need no call.
                text if type(text := read(fields)) is str else dimension_text(text)
                for read in self._readers
            ]
        )
        return value, dimensions, other_currency

    def _is_other_currency(self, fields: dict[str, Any]) -> bool:
        """Return whether an event's data names another currency than the metric's.

        Amounts of two currencies are never added. Text that is no currency code, which
        has three letters in any case, says nothing about the currency.
        """
        code = fields.get("currency")
        return (
            code is not None
            and code != self.cost.currency
            and isinstance(code, str)
            and _CURRENCY.fullmatch(code) is not None
            and code.upper() != self.cost.currency
        )


def compile_metric(cost: CostMetric) -> CompiledMetric | None:
    """Return ``cost`` compiled, or None if it has no event type or aggregation."""
    if cost.aggregation is None or cost.event_type is None:
        return None
    if cost.aggregation is Aggregation.UNIQUE_COUNT and cost.value_property is None:
        # Each event is a value of its own.
        return CompiledMetric(cost, Aggregation.COUNT)
    return CompiledMetric(cost, cost.aggregation)


def _value_reader(
    aggregation: Aggregation, path: str | None
) -> Callable[[dict[str, Any]], Decimal | str | None]:
    if aggregation is Aggregation.COUNT or path is None:
        return lambda _: ZERO  # every event counts, whatever its data
    read: PathReader = compile_path(path)
    if aggregation is Aggregation.UNIQUE_COUNT:
        return lambda fields: dimension_text(read(fields)) or None
    return lambda fields: to_countable(read(fields))


def dimension_text(value: object) -> str:
    """Return a dimension's value as text. A missing value is ''.

    It accepts every JSON value, such as integers beyond 64 bits, because the event was
    accepted before.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return str(value)
    # true, 42, [1,2]; a decimal inside of a container becomes a string.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
