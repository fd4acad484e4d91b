"""Sum up one cost over a period: in total, by dimension, and by window."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from outlay.server._metering.decimals import format_plain, multiply
from outlay.server._metering.metric import (
    Accumulator,
    CompiledMetric,
    Contribution,
    compile_metric,
)
from outlay.server._services.breakdown import (
    TimeWindow,
    dimension_filter,
    select_dimensions,
    window_at,
)
from outlay.server._services.costs import get_cost
from outlay.server._wire.request_models import SummaryQuery, Window
from outlay.server._wire.response_models import (
    SummaryGroup,
    SummaryPoint,
    SummaryResponse,
    format_instant,
    json_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from outlay.server._records import ApiKey, CostMetric
    from outlay.server._storage.store import Store

K = TypeVar("K", bound=tuple[object, ...])


class SummaryService:
    """Computes summaries. Thread safety: any thread. A call may take seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def summarize(
        self, key: ApiKey, cost_id: str, query: SummaryQuery
    ) -> SummaryResponse:
        """Return the summary of a cost over a period.

        Raises:
            HttpProblem: The cost or a dimension does not exist.
        """
        with self._store.reading() as reader:
            cost = get_cost(reader, key, cost_id)
            metric = compile_metric(cost)
            if metric is None:
                return _empty_summary(cost)
            builder = _SummaryBuilder(metric, query)
            for contribution in reader.contributions(
                metric,
                query.start,
                query.end,
                hourly=query.window is not Window.MINUTE,
                customer=query.subject,
            ):
                builder.add(contribution)
        return builder.response()


class _SummaryBuilder:
    """Accumulates contributions in total, by group, and by window."""

    def __init__(self, metric: CompiledMetric, query: SummaryQuery) -> None:
        self._metric = metric
        self._window = query.window
        self._is_wanted = dimension_filter(metric, query.filter_group_by)
        self._selection = select_dimensions(metric, "groupBy", query.group_by)
        self._total = metric.new_accumulator()
        self._groups: dict[tuple[str, ...], Accumulator] = {}
        self._series: dict[TimeWindow, Accumulator] = {}

    def add(self, contribution: Contribution) -> None:
        """Add one contribution, unless the filter excludes it."""
        if not self._is_wanted(contribution):
            return
        self._total.add(contribution)
        if self._selection.names:
            self._add_to(
                self._groups, self._selection.values(contribution), contribution
            )
        if self._window is not None:
            window = window_at(self._window, contribution.bucket_at)
            self._add_to(self._series, window, contribution)

    def _add_to(
        self, accumulators: dict[K, Accumulator], key: K, contribution: Contribution
    ) -> None:
        accumulator = accumulators.get(key)
        if accumulator is None:
            accumulator = accumulators[key] = self._metric.new_accumulator()
        accumulator.add(contribution)

    def response(self) -> SummaryResponse:
        """Return the summary."""
        cost = self._metric.cost
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
            self._group_rows() if self._selection.names else None,
            self._series_points() if self._window is not None else None,
        )

    def _group_rows(self) -> list[SummaryGroup]:
        return [
            SummaryGroup(
                dict(zip(self._selection.names, values, strict=True)),
                json_number(quantity),
                json_number(cost),
                format_plain(cost),
            )
            for values, quantity, cost in self._priced(self._groups)
        ]

    def _series_points(self) -> list[SummaryPoint]:
        return [
            SummaryPoint(
                format_instant(window.start),
                format_instant(window.end),
                json_number(quantity),
                json_number(cost),
                format_plain(cost),
            )
            for window, quantity, cost in self._priced(self._series)
        ]

    def _priced(
        self, accumulators: Mapping[K, Accumulator]
    ) -> Iterator[tuple[K, Decimal, Decimal]]:
        """Yield each key that has a quantity, its quantity and its cost, in order."""
        for key in sorted(accumulators):
            quantity = accumulators[key].result()
            if quantity is not None:
                yield key, quantity, multiply(quantity, self._metric.cost.unit_cost)


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
