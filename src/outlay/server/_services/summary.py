"""Sum up one cost over a period: in total, by dimension, and by window."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from outlay.server._metering.decimals import add, format_plain, multiply
from outlay.server._metering.metric import (
    Accumulator,
    CompiledMetric,
    Contribution,
    compile_metric,
)
from outlay.server._services.breakdown import (
    MAX_GROUPS,
    TimeWindow,
    accumulate,
    boundary_text,
    event_filter,
    select_dimensions,
    stored_names,
    window_at,
)
from outlay.server._services.costs import get_cost
from outlay.server._services.gross import closed_costs, gross_cost, has_corrections
from outlay.server._wire.response_models import (
    ClosedAdjustment,
    ReportPeriod,
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
    from outlay.server._storage.store import Reader, Views
    from outlay.server._wire.request_models import SummaryQuery, Window

K = TypeVar("K", bound=tuple[object, ...])


class SummaryService:
    """Computes summaries. Thread safety: any thread. A call may take seconds.

    Args:
        store: The store of costs and events.
        max_groups: The most groups or windows of a summary.
    """

    def __init__(self, store: Views, max_groups: int = MAX_GROUPS) -> None:
        self._store = store
        self._max_groups = max_groups

    def summarize(
        self, key: ApiKey, cost_id: str, query: SummaryQuery
    ) -> SummaryResponse:
        """Return the summary of a cost over a period.

        Raises:
            HttpProblem: The cost or a dimension does not exist, or there are too many
                groups or windows.
        """
        with self._store.reading() as reader:
            cost = get_cost(reader, key, cost_id)
            metric = compile_metric(cost)
            if metric is None:
                return _empty_summary(cost)
            return _SummaryBuilder(reader, metric, query, self._max_groups).response()


class _SummaryBuilder:
    """Builds one summary from one consistent view."""

    def __init__(
        self,
        reader: Reader,
        metric: CompiledMetric,
        query: SummaryQuery,
        max_groups: int,
    ) -> None:
        self._reader = reader
        self._max_groups = max_groups
        self._metric = metric
        self._query = query
        self._where = event_filter(metric, query.filter_group_by, query.subject)
        self._selection = select_dimensions(metric, "groupBy", query.group_by)
        self._total = metric.new_accumulator()

    def _groups(self) -> dict[tuple[str, ...], Accumulator]:
        """Return the groups, and accumulate the total."""
        names = stored_names(self._metric, self._selection.names)
        return accumulate(self._metric, self._by_group(names), self._max_groups)

    def _by_group(
        self, names: frozenset[str]
    ) -> Iterator[tuple[tuple[str, ...], Contribution]]:
        """Yield each contribution with its group, and accumulate the total."""
        for contribution in self._contributions(names=names):
            self._total.add(contribution)
            yield self._selection.values(contribution), contribution

    def _series(self, window: Window) -> dict[TimeWindow, Accumulator]:
        """Return the windows."""
        found = self._contributions(window=window)
        by_window = ((window_at(window, one.bucket_at), one) for one in found)
        return accumulate(self._metric, by_window, self._max_groups)

    def _contributions(
        self, names: frozenset[str] = frozenset(), window: Window | None = None
    ) -> Iterator[Contribution]:
        return self._reader.contributions(
            self._metric,
            self._query.start,
            self._query.end,
            names=names,
            where=self._where,
            window=window,
            as_of=self._query.as_of,
        )

    def response(self) -> SummaryResponse:
        """Return the summary."""
        cost = self._metric.cost
        groups = self._groups()
        window = self._query.window
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
            self._group_rows(groups) if self._selection.names else None,
            None if window is None else self._series_points(window),
            self._total.other_currency,
            *self._corrections(total),
        )

    def _corrections(
        self, net: Decimal | None
    ) -> tuple[str | None, str | None, list[ClosedAdjustment] | None]:
        """Return the gross cost, the corrections, and those of closed periods."""
        query, metric = self._query, self._metric
        if net is None or not has_corrections(
            self._reader, metric.cost.namespace, self._query.as_of
        ):
            return None, None, None
        asked = (TimeWindow(query.start, query.end), self._where, query.as_of)
        gross = gross_cost(self._reader, metric, *asked)
        adjustments = closed_costs(self._reader, metric, *asked)
        return (
            format_plain(gross),
            format_plain(add(net, gross.copy_negate())),
            [
                ClosedAdjustment(
                    ReportPeriod(format_instant(one.start), format_instant(one.end)),
                    format_plain(cost),
                )
                for one, cost in adjustments
            ]
            or None,
        )

    def _group_rows(
        self, groups: Mapping[tuple[str, ...], Accumulator]
    ) -> list[SummaryGroup]:
        return [
            SummaryGroup(
                dict(zip(self._selection.names, values, strict=True)),
                json_number(quantity),
                json_number(cost),
                format_plain(cost),
            )
            for values, quantity, cost in self._priced(groups)
        ]

    def _series_points(self, window: Window) -> list[SummaryPoint]:
        points = []
        for at, quantity, cost in self._priced(self._series(window)):
            text = format_plain(cost)
            number = msgspec.Raw(text.encode())
            points.append(
                SummaryPoint(
                    boundary_text(at.start),
                    boundary_text(at.end),
                    number if quantity is cost else json_number(quantity),
                    number,
                    text,
                )
            )
        return points

    def _priced(
        self, accumulators: Mapping[K, Accumulator]
    ) -> Iterator[tuple[K, Decimal, Decimal]]:
        """Yield each key that has a quantity, its quantity and its cost, in order."""
        unit_cost = self._metric.cost.unit_cost
        for key in sorted(accumulators):
            quantity = accumulators[key].result()
            if quantity is not None:
                cost = quantity if unit_cost == 1 else multiply(quantity, unit_cost)
                yield key, quantity, cost


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
