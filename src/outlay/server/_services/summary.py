"""Sums of a cost over a period: in total, by dimension, by window of time."""

from __future__ import annotations

from datetime import MAXYEAR, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from outlay.server._metering.decimals import format_plain, multiply
from outlay.server._metering.metric import (
    Accumulator,
    CompiledMetric,
    Contribution,
    compile_metric,
)
from outlay.server._services.costs import get_cost
from outlay.server._wire.problems import FieldError, HttpProblem, invalid_fields
from outlay.server._wire.request_models import CUSTOMER_DIMENSION, SummaryQuery, Window
from outlay.server._wire.response_models import (
    LAST_INSTANT,
    SummaryGroup,
    SummaryPoint,
    SummaryResponse,
    format_instant,
    from_microseconds,
    json_number,
    to_microseconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from decimal import Decimal

    from outlay.server._records import ApiKey, CostMetric
    from outlay.server._storage.store import Store

K = TypeVar("K", bound=tuple[object, ...])

_MINUTE: Final = 60_000_000  # microseconds
_FIXED_WINDOWS: Final = {
    Window.MINUTE: _MINUTE,
    Window.HOUR: 60 * _MINUTE,
    Window.DAY: 24 * 60 * _MINUTE,
}


class TimeWindow(NamedTuple):
    """A window of time, ``start <= t < end``, in microseconds since 1970."""

    start: int
    end: int


def bucket_of(window: Window, at: int) -> TimeWindow:
    """Return the UTC-aligned window that ``at`` lies in."""
    if window is Window.MONTH:
        return _month_of(from_microseconds(at))
    length = _FIXED_WINDOWS[window]
    start = at - at % length
    return TimeWindow(start, start + length)


def _month_of(moment: datetime) -> TimeWindow:
    first = datetime(moment.year, moment.month, 1, tzinfo=moment.tzinfo)
    if (moment.year, moment.month) == (MAXYEAR, 12):
        return TimeWindow(to_microseconds(first), LAST_INSTANT)
    year, month = divmod(moment.year * 12 + moment.month, 12)
    following = datetime(year, month + 1, 1, tzinfo=moment.tzinfo)
    return TimeWindow(to_microseconds(first), to_microseconds(following))


class DimensionSelection(NamedTuple):
    """Picks named dimensions out of contributions.

    Attributes:
        names: the dimensions, in the order asked for.
        values: returns their values.
    """

    names: tuple[str, ...]
    values: Callable[[Contribution], tuple[str, ...]]


def select_dimensions(
    meter: CompiledMetric, field: str, names: Iterable[str]
) -> DimensionSelection:
    """Return the selection of ``names`` among a cost's dimensions.

    Raises:
        Problem: 400, one of them is no dimension of the cost; it names those that are.
    """
    wanted = tuple(dict.fromkeys(names))
    positions: list[int | None] = []
    for name in wanted:
        if name in meter.names:
            positions.append(meter.names.index(name))
        elif name == CUSTOMER_DIMENSION:
            positions.append(None)
        else:
            raise unknown_dimension(field, name, meter.names)

    def values(contribution: Contribution) -> tuple[str, ...]:
        dimensions = contribution.dimensions
        return tuple(
            [
                contribution.customer if position is None else dimensions[position]
                for position in positions
            ]
        )

    return DimensionSelection(wanted, values)


def unknown_dimension(field: str, name: str, names: Iterable[str]) -> HttpProblem:
    """Return the 400 for a name that is none of ``names``; it lists some of them."""
    allowed = ", ".join([CUSTOMER_DIMENSION, *names][:20])
    return invalid_fields(
        [
            FieldError(
                field,
                f"no dimension {name!r}; there are {allowed}",
                "UNKNOWN_DIMENSION",
            )
        ]
    )


def dimension_filter(
    meter: CompiledMetric, wanted: Mapping[str, frozenset[str]]
) -> Callable[[Contribution], bool]:
    """Return what tells whether a contribution has the wanted dimension values.

    Raises:
        Problem: 400, one of the names is no dimension of the cost.
    """
    if not wanted:
        return lambda _: True
    chosen = select_dimensions(meter, "filterGroupBy", wanted)
    allowed = [wanted[name] for name in chosen.names]
    return lambda contribution: all(
        value in values
        for value, values in zip(chosen.values(contribution), allowed, strict=True)
    )


class SummaryService:
    """Answers summaries. Thread safety: any thread; may take seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def summarize(
        self, key: ApiKey, cost_id: str, query: SummaryQuery
    ) -> SummaryResponse:
        """Return what a cost comes to over a period.

        Raises:
            Problem: no such cost, or no such dimension.
        """
        with self._store.reading() as reader:
            cost = get_cost(reader, key, cost_id)
            meter = compile_metric(cost)
            if meter is None:
                return _empty_summary(cost)
            breakdown = _SummaryBuilder(meter, query)
            for contribution in reader.contributions(
                meter,
                query.start,
                query.end,
                hourly=query.window is not Window.MINUTE,
                customer=query.subject,
            ):
                breakdown.add(contribution)
        return breakdown.answer()


class _SummaryBuilder:
    """Tallies contributions in total, per group, and per window."""

    def __init__(self, meter: CompiledMetric, query: SummaryQuery) -> None:
        self._meter = meter
        self._window = query.window
        self._wanted = dimension_filter(meter, query.filter_group_by)
        self._grouping = select_dimensions(meter, "groupBy", query.group_by)
        self._total = meter.tally()
        self._groups: dict[tuple[str, ...], Accumulator] = {}
        self._series: dict[TimeWindow, Accumulator] = {}

    def add(self, contribution: Contribution) -> None:
        """Take in one contribution, unless it is filtered out."""
        if not self._wanted(contribution):
            return
        for tally in self._tallies(contribution):
            tally.add(contribution)

    def _tallies(self, contribution: Contribution) -> Iterator[Accumulator]:
        yield self._total
        if self._grouping.names:
            values = self._grouping.values(contribution)
            group = self._groups.get(values)
            if group is None:
                group = self._groups[values] = self._meter.tally()
            yield group
        if self._window is not None:
            bucket = bucket_of(self._window, contribution.bucket_at)
            point = self._series.get(bucket)
            if point is None:
                point = self._series[bucket] = self._meter.tally()
            yield point

    def answer(self) -> SummaryResponse:
        """Return the summary."""
        cost = self._meter.cost
        quantity = self._total.result()
        total = None if quantity is None else multiply(quantity, cost.unit_cost)
        return SummaryResponse(
            cost.id,
            cost.name,
            "metered",
            cost.currency,
            None if total is None else json_number(total),
            None if quantity is None else json_number(quantity),
            self._total.events,
            self._total.skipped,
            None if total is None else format_plain(total),
            None if quantity is None else format_plain(quantity),
            cost.event_type,
            cost.unit,
            self._group_answers() if self._grouping.names else None,
            self._point_answers() if self._window is not None else None,
        )

    def _group_answers(self) -> list[SummaryGroup]:
        return [
            SummaryGroup(
                dict(zip(self._grouping.names, values, strict=True)),
                json_number(quantity),
                json_number(cost),
                format_plain(cost),
            )
            for values, quantity, cost in self._priced(self._groups)
        ]

    def _point_answers(self) -> list[SummaryPoint]:
        return [
            SummaryPoint(
                format_instant(bucket.start),
                format_instant(bucket.end),
                json_number(quantity),
                json_number(cost),
                format_plain(cost),
            )
            for bucket, quantity, cost in self._priced(self._series)
        ]

    def _priced(
        self, tallies: Mapping[K, Accumulator]
    ) -> Iterator[tuple[K, Decimal, Decimal]]:
        """Yield those that have a value, with it and its price, in order of key."""
        for key in sorted(tallies):
            quantity = tallies[key].result()
            if quantity is not None:
                yield key, quantity, multiply(quantity, self._meter.cost.unit_cost)


def _empty_summary(cost: CostMetric) -> SummaryResponse:
    """Return the summary of a cost without aggregation or event type."""
    return SummaryResponse(
        cost.id,
        cost.name,
        "metered",
        cost.currency,
        None,
        None,
        0,
        0,
        event_type=cost.event_type,
        unit=cost.unit,
    )
