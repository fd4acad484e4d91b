"""Report the totals of costs over a period, by group.

Where the contract leaves a choice, the rows of a report add up to its totals:

- Totals are sums over all groups, shown or not. Amounts of SUM and COUNT add up. For
  other aggregations, a warning says that each group has a value of its own.
- A page shows the first ``limit`` groups after ``offset``, and all groups after them as
  ``__other__``. So the first page adds up to the total, and each further page to the
  ``__other__`` before it. ``pagination.total`` is the number of groups.
- The time series names the first ``topN`` groups of the page. It adds up all groups
  after them as ``__other__``. It leaves out windows without events, and inside a window
  the groups without events.
- A report is in one currency: the requested one, or else the only one.
- The prior period has the same length and ends at the period's start. A customer with
  costs in the prior period only is a group as well.
- An empty group has neither cost nor quantity, for example because credits cancel it.
- Each percentage is rounded to hundredths. If the total is 0, all are 0. Only credits
  (negative amounts) bring one below 0 or above 100.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay.server._metering.decimals import (
    ZERO,
    add,
    exact_sum,
    format_plain,
    percentage,
)
from outlay.server._services.breakdown import (
    MAX_GROUPS,
    TimeWindow,
    accumulate,
    boundary_text,
    window_at,
)
from outlay.server._services.gross import has_corrections
from outlay.server._services.ranking import (
    OTHER,
    ZERO_AMOUNT,
    Amount,
    Group,
    page_of,
    rank,
    total_of,
)
from outlay.server._services.report_scope import (
    BY_COST,
    ReportMetric,
    ReportScope,
    named,
    resolve_scope,
)
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import (
    Pagination,
    PriorPeriod,
    ReportGroup,
    ReportPeriod,
    ReportPoint,
    ReportRange,
    ReportResponse,
    format_instant,
    json_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from outlay.server._metering.metric import Accumulator, Contribution
    from outlay.server._records import ApiKey
    from outlay.server._storage.store import Reader, Views
    from outlay.server._wire.request_models import ReportQuery


_FEW: Final = 4  # the share of groups that are few: a fourth


class ReportService:
    """Computes reports. Thread safety: any thread. A call may take seconds.

    Args:
        store: The store of costs and events.
        default_currency: The currency of a report without any cost.
        max_groups: The most groups of a report, of which it shows a page.
    """

    def __init__(
        self, store: Views, default_currency: str, max_groups: int = MAX_GROUPS
    ) -> None:
        self._store = store
        self._max_groups = max_groups
        self._default_currency = default_currency

    def report(
        self,
        key: ApiKey,
        query: ReportQuery,
        *,
        across_costs: bool = False,
        windows: Sequence[TimeWindow] = (),
    ) -> ReportResponse:
        """Return the totals of costs over a period, by group.

        Args:
            key: The API key of the request.
            query: The query.
            across_costs: Whether several costs may be grouped by a dimension, which
                the contract does not allow. See `resolve_scope`.
            windows: The windows of the time series, inside of the period, for a query
                without a size of windows.

        Raises:
            HttpProblem: 400, with the parameter and its allowed values.
        """
        with self._store.reading() as reader:
            scope = resolve_scope(
                reader,
                key.namespace,
                query,
                self._default_currency,
                across_costs=across_costs,
            )
            return _ReportBuilder(
                reader, query, scope, self._max_groups, windows
            ).response()


class _CostTotals(NamedTuple):
    """The totals of one cost in a period, by group."""

    metric: ReportMetric
    groups: Mapping[str, Accumulator]

    @property
    def events(self) -> int:
        return sum(group.events for group in self.groups.values())

    @property
    def skipped(self) -> int:
        return sum(group.skipped for group in self.groups.values())

    @property
    def other_currency(self) -> int:
        return sum(group.other_currency for group in self.groups.values())


class _ReportBuilder:
    """Builds one report from one consistent view."""

    def __init__(
        self,
        reader: Reader,
        query: ReportQuery,
        scope: ReportScope,
        max_groups: int,
        windows: Sequence[TimeWindow],
    ) -> None:
        self._reader = reader
        self._max_groups = max_groups
        self._query = query
        self._scope = scope
        self._windows = windows

    def response(self) -> ReportResponse:
        """Return the report."""
        query = self._query
        totals = self._totals(query.start, query.end)
        groups = self._groups(totals)
        filled = [group for group in groups if not group.is_empty]
        total = total_of(group.current for group in groups)
        ranking = rank(
            filled if query.exclude_empty else groups, query.sort, query.sort_dir
        )
        page = page_of(ranking, query.offset, query.limit)
        gross = self._gross()
        rows = [self._row(group, total.cost, gross, [group]) for group in page.groups]
        if page.rest:
            rest = page.other_group(self._scope.unit)
            rows.append(self._row(rest, total.cost, gross, page.rest, is_other=True))
        return ReportResponse(
            self._scope.currency,
            ReportPeriod(format_instant(query.start), format_instant(query.end)),
            query.group_by,
            json_number(total.cost),
            json_number(total.quantity),
            rows,
            self._series(page.chart_keys(query.top_n), groups),
            self._scope.dimensions,
            Pagination(query.limit, query.offset, len(ranking)),
            len(groups),
            len(groups) - len(filled),
            format_plain(total.cost),
            format_plain(total.quantity),
            self._warnings(totals) or None,
            None if gross is None else format_plain(exact_sum(gross.values())),
            None if gross is None else self._corrections(total.cost, gross.values()),
            self._range(totals),
        )

    # -- reading

    def _in_windows(
        self,
        metric: ReportMetric,
        names: frozenset[str],
        where: Mapping[str, frozenset[str]],
    ) -> Iterator[tuple[TimeWindow, Contribution]]:
        """Yield the contributions of the time series, each with its window."""
        query = self._query
        if query.window_size is None:
            for at in self._windows:
                for one in self._contributions(metric, at, names, where):
                    yield at, one
            return
        period = TimeWindow(query.start, query.end)
        window = Window(query.window_size)
        for one in self._contributions(metric, period, names, where, window=window):
            yield window_at(window, one.bucket_at), one

    def _contributions(
        self,
        metric: ReportMetric,
        period: TimeWindow,
        names: frozenset[str],
        where: Mapping[str, frozenset[str]],
        *,
        window: Window | None = None,
        gross: bool = False,
    ) -> Iterator[Contribution]:
        return self._reader.contributions(
            metric.metric,
            period.start,
            period.end,
            names=names,
            where=where,
            window=window,
            gross=gross,
            as_of=self._query.as_of,
        )

    def _gross(self) -> dict[str, Decimal] | None:
        """Return the costs without corrections by group. None if there are none."""
        if not any(
            has_corrections(self._reader, one.cost.namespace, self._query.as_of)
            for one in self._scope.metrics[:1]
        ):
            return None
        totals = self._totals(self._query.start, self._query.end, gross=True)
        return {key: one.cost for key, one in _totals_by_group(totals).items()}

    @staticmethod
    def _corrections(net: Decimal, gross: Iterable[Decimal]) -> str:
        return format_plain(add(net, exact_sum(gross).copy_negate()))

    def _totals(
        self, start: int, end: int, *, gross: bool = False
    ) -> list[_CostTotals]:
        period = TimeWindow(start, end)
        totals = []
        for metric in self._scope.metrics:
            found = self._contributions(
                metric, period, metric.names, metric.where, gross=gross
            )
            by_group = ((metric.group_of(one), one) for one in found)
            groups = accumulate(metric.metric, by_group, self._max_groups)
            totals.append(_CostTotals(metric, groups))
        return totals

    def _groups(self, totals: Sequence[_CostTotals]) -> list[Group]:
        """Return all groups, unordered, with their current and prior amounts."""
        query = self._query
        current = _totals_by_group(totals)
        prior: Mapping[str, Amount] = {}
        if query.compare_prior_period:
            length = query.end - query.start
            prior = _totals_by_group(self._totals(query.start - length, query.start))
        if query.group_by == BY_COST:
            names = [(cost.id, cost.name, cost.unit) for cost in self._scope.costs]
        else:
            unit = self._scope.unit
            names = [(key, key or "(none)", unit) for key in {**current, **prior}]
        return [
            Group(
                key,
                label,
                unit,
                current.get(key, ZERO_AMOUNT),
                prior.get(key, ZERO_AMOUNT),
            )
            for key, label, unit in names
        ]

    def _series(
        self, shown_keys: Mapping[str, str], groups: Sequence[Group]
    ) -> list[ReportPoint]:
        """Return the costs of each window under the keys of the chart.

        The contributions are read a second time. So only the groups of the page take
        up memory, and not every customer in every window.
        """
        if self._query.window_size is None and not self._windows:
            return []
        windows: defaultdict[TimeWindow, dict[str, Decimal]] = defaultdict(dict)
        # All groups but those that are shown as "other".
        apart = frozenset(
            group.key for group in groups if shown_keys.get(group.key) != OTHER
        )
        for metric in self._scope.metrics:
            is_few = len(apart) * _FEW < len(groups)
            if metric.is_additive and metric.names and is_few:
                found = self._series_by_difference(metric, shown_keys, apart)
            else:
                found = self._series_by_group(metric, shown_keys)
            for at, key, cost in found:
                shown = shown_keys.get(key, OTHER)
                costs = windows[at]
                costs[shown] = add(costs.get(shown, ZERO), cost)
        return [
            ReportPoint(
                boundary_text(at.start),
                boundary_text(at.end),
                {key: json_number(cost) for key, cost in sorted(costs.items())},
            )
            for at, costs in sorted(windows.items())
        ]

    def _series_by_group(
        self, metric: ReportMetric, shown_keys: Mapping[str, str]
    ) -> Iterator[tuple[TimeWindow, str, Decimal]]:
        """Yield the cost of each window and group, from all groups.

        Amounts that are not additive are accumulated by group, like the total of the
        rest. The caller adds them up.
        """

        def placed() -> Iterator[tuple[tuple[TimeWindow, str], Contribution]]:
            for at, one in self._in_windows(metric, metric.names, metric.where):
                group = metric.group_of(one)
                shown = shown_keys.get(group)
                if shown is not None:
                    yield (at, shown if metric.is_additive else group), one

        accumulators = accumulate(metric.metric, placed(), self._max_groups)
        for (at, key), accumulator in accumulators.items():
            yield at, key, metric.amount(accumulator).cost

    def _series_by_difference(
        self,
        metric: ReportMetric,
        shown_keys: Mapping[str, str],
        apart: frozenset[str],
    ) -> Iterator[tuple[TimeWindow, str, Decimal]]:
        """Yield the same, where few groups are apart from "other".

        The cost of "other" is the difference of the window's total and these groups.
        So the many other groups are never read.
        """
        [name] = metric.names
        only = {**metric.where, name: metric.where.get(name, apart) & apart}
        totals = accumulate(
            metric.metric,
            self._in_windows(metric, frozenset(), metric.where),
            self._max_groups,
        )
        found = self._in_windows(metric, metric.names, only)
        by_group = (((at, metric.group_of(one)), one) for at, one in found)
        parts = accumulate(metric.metric, by_group, self._max_groups)
        left = {
            at: (total.events, metric.amount(total).cost)
            for at, total in totals.items()
        }
        for (at, key), accumulator in parts.items():
            cost = metric.amount(accumulator).cost
            events, rest = left[at]
            left[at] = (events - accumulator.events, add(rest, cost.copy_negate()))
            if key in shown_keys:
                yield at, key, cost
        for at, (events, rest) in left.items():
            if events or rest:
                yield at, OTHER, rest

    # -- building

    def _row(
        self,
        group: Group,
        total: Decimal,
        gross: Mapping[str, Decimal] | None,
        parts: Sequence[Group],
        *,
        is_other: bool = False,
    ) -> ReportGroup:
        cost, quantity = group.current
        return ReportGroup(
            group.key,
            group.label,
            json_number(cost),
            json_number(quantity),
            json_number(percentage(cost, total) if total else ZERO),
            is_other,
            format_plain(cost),
            group.unit,
            _prior_period(group) if self._query.compare_prior_period else None,
            None
            if gross is None
            else self._corrections(cost, (gross.get(one.key, ZERO) for one in parts)),
        )

    def _warnings(self, totals: Sequence[_CostTotals]) -> list[str]:
        """Return the warnings that a reader of the totals needs."""
        warnings = [*self._scope.warnings]
        warnings += [
            f"excluded, because they {reason}: {count} of the events of "
            f"{named([one.metric.cost])}"
            for one in totals
            for reason, count in (
                ("have no numeric value", one.skipped - one.other_currency),
                ("are in another currency than the metric", one.other_currency),
            )
            if count
        ]
        metrics = [one.metric for one in totals if one.events]
        not_additive = [metric.cost for metric in metrics if not metric.is_additive]
        if not_additive and (
            self._query.group_by != BY_COST or self._query.window_size
        ):
            warnings.append(
                "neither SUM nor COUNT, so each group and window has a value of its "
                f"own, and totals add those up: {named(not_additive)}"
            )
        units = sorted({metric.cost.unit for metric in metrics if metric.cost.unit})
        if len(units) > 1:
            warnings.append(f"totalQuantity adds different units: {', '.join(units)}")
        return warnings

    def _range(
        self, totals: Sequence[_CostTotals]
    ) -> ReportRange | msgspec.UnsetType | None:
        """Return the times of the first and last event, if the period has no events.

        It is unset for a customer or a filter, because the figure would need all
        events of all time.
        """
        narrowed = self._query.subject or self._query.filter_group_by
        if narrowed or any(one.events for one in totals):
            return msgspec.UNSET
        ranges = [
            found
            for metric in self._scope.metrics
            if (found := self._reader.time_range(metric.metric)) is not None
        ]
        if not ranges:
            return None
        return ReportRange(
            format_instant(min(first for first, _ in ranges)),
            format_instant(max(last for _, last in ranges)),
        )


def _totals_by_group(totals: Sequence[_CostTotals]) -> dict[str, Amount]:
    """Return the amount of all costs together, by group."""
    amounts: dict[str, Amount] = {}
    for metric, groups in totals:
        for key, accumulator in groups.items():
            amount = metric.amount(accumulator)
            amounts[key] = amounts[key] + amount if key in amounts else amount
    return amounts


def _prior_period(group: Group) -> PriorPeriod:
    prior = group.prior.cost
    change = None
    if prior:
        # Operators would round to 28 digits. The change is relative to the absolute
        # value, so that a rise from a credit is positive as well.
        difference = add(group.current.cost, prior.copy_negate())
        change = json_number(percentage(difference, prior.copy_abs()))
    return PriorPeriod(json_number(prior), change, format_plain(prior))
