"""Reports: what costs come to over a period, group by group.

What the contract leaves open is settled for a reader who adds the rows up:

- Totals are sums over all groups, shown or not. Amounts of SUM and COUNT add up over
  anything; for other aggregations a warning says that each group has its own.
- A page shows the first ``min(topN, limit)`` groups after ``offset``, and everything
  ranked after them as ``__other__``. So the first page comes to the total, and each
  further page to the ``__other__`` before it. ``pagination.limit`` is the size of a
  page, ``pagination.total`` the number of groups to page through.
- The time series has the keys of the page. A window without events is left out, and
  so is a group inside of a window in which it has none.
- A report is in one currency: the one asked for, else the only one that there is.
- The period before is just as long and ends where the period starts. Who cost
  something then and nothing now is a group as well, with nothing.
- An empty group has neither cost nor quantity; what credits cancel out is empty too.
- Percentages are rounded to hundredths, each by itself. Of a total of 0 all are 0, and
  only credits (negative amounts) bring any below 0 or above 100.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from outlay.server._metering.decimals import ZERO, add, format_plain, percentage
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
from outlay.server._services.summary import TimeWindow, bucket_of
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
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from outlay.server._metering.metric import Accumulator, Contribution
    from outlay.server._records import ApiKey
    from outlay.server._storage.store import Reader, Store
    from outlay.server._wire.request_models import ReportQuery


class ReportService:
    """Answers reports. Thread safety: any thread; may take seconds.

    Args:
        store: where costs and events are.
        default_currency: of a report on an organization without any cost.
    """

    def __init__(self, store: Store, default_currency: str) -> None:
        self._store = store
        self._default_currency = default_currency

    def report(self, key: ApiKey, query: ReportQuery) -> ReportResponse:
        """Return what costs come to over a period, group by group.

        Raises:
            Problem: 400, naming the parameter and what it may be.
        """
        with self._store.reading() as reader:
            scope = resolve_scope(reader, key.namespace, query, self._default_currency)
            return _ReportBuilder(reader, query, scope).answer()


class _CostTotals(NamedTuple):
    """What one cost comes to in a period, by group."""

    line: ReportMetric
    groups: Mapping[str, Accumulator]

    @property
    def events(self) -> int:
        return sum(tally.events for tally in self.groups.values())

    @property
    def skipped(self) -> int:
        return sum(tally.skipped for tally in self.groups.values())


class _ReportBuilder:
    """Reads what one report needs, from one consistent view, and puts it together."""

    def __init__(self, reader: Reader, query: ReportQuery, scope: ReportScope) -> None:
        self._reader = reader
        self._query = query
        self._scope = scope

    def answer(self) -> ReportResponse:
        """Return the report."""
        query = self._query
        spent = self._spent(query.start, query.end)
        groups = self._groups(spent)
        filled = [group for group in groups if not group.is_empty]
        total = total_of(group.current for group in groups)
        ranking = rank(
            filled if query.exclude_empty else groups, query.sort, query.sort_dir
        )
        size = min(query.top_n, query.limit)
        page = page_of(ranking, query.offset, size)
        rows = [self._row(group, total.cost) for group in page.groups]
        if page.rest:
            rest = page.other_group(self._scope.unit)
            rows.append(self._row(rest, total.cost, is_other=True))
        return ReportResponse(
            self._scope.currency,
            ReportPeriod(format_instant(query.start), format_instant(query.end)),
            query.group_by,
            json_number(total.cost),
            json_number(total.quantity),
            rows,
            self._series(page.shown_key_by_group),
            self._scope.dimensions,
            Pagination(size, query.offset, len(ranking)),
            len(groups),
            len(groups) - len(filled),
            format_plain(total.cost),
            format_plain(total.quantity),
            self._warnings(spent) or None,
            self._range(spent),
        )

    # -- reading

    def _contributions(
        self, line: ReportMetric, start: int, end: int
    ) -> Iterator[Contribution]:
        return self._reader.contributions(
            line.meter, start, end, hourly=True, customer=self._query.subject
        )

    def _spent(self, start: int, end: int) -> list[_CostTotals]:
        return [
            _CostTotals(
                line,
                line.tallies(self._contributions(line, start, end), line.group_of),
            )
            for line in self._scope.lines
        ]

    def _groups(self, spent: Sequence[_CostTotals]) -> list[Group]:
        """Return all groups, unordered, with what they come to and came to before."""
        query = self._query
        now = _totals_by_group(spent)
        before: Mapping[str, Amount] = {}
        if query.compare_prior_period:
            length = query.end - query.start
            before = _totals_by_group(self._spent(query.start - length, query.start))
        if query.group_by == BY_COST:
            names = [(cost.id, cost.name, cost.unit) for cost in self._scope.costs]
        else:
            unit = self._scope.unit
            names = [(key, key or "(none)", unit) for key in {**now, **before}]
        return [
            Group(
                key,
                label,
                unit,
                now.get(key, ZERO_AMOUNT),
                before.get(key, ZERO_AMOUNT),
            )
            for key, label, unit in names
        ]

    def _series(self, places: Mapping[str, str]) -> list[ReportPoint]:
        """Return the costs of each window under the keys of the page.

        Read a second time, so that only the groups of the page take up memory, and
        not every customer in every window.
        """
        if self._query.window_size is None:
            return []
        window = Window(self._query.window_size)
        windows: defaultdict[TimeWindow, dict[str, Decimal]] = defaultdict(dict)
        for line in self._scope.lines:
            tallies = line.tallies(
                self._contributions(line, self._query.start, self._query.end),
                _bucket_and_key(line, window, places),
            )
            for (bucket, name), tally in tallies.items():
                place = places.get(name, OTHER)
                costs = windows[bucket]
                costs[place] = add(costs.get(place, ZERO), line.amount(tally).cost)
        return [
            ReportPoint(
                format_instant(bucket.start),
                format_instant(bucket.end),
                {key: json_number(cost) for key, cost in sorted(costs.items())},
            )
            for bucket, costs in sorted(windows.items())
        ]

    # -- answering

    def _row(
        self, group: Group, total: Decimal, *, is_other: bool = False
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
        )

    def _warnings(self, spent: Sequence[_CostTotals]) -> list[str]:
        """Return what a reader of the sums should know."""
        warnings = [*self._scope.warnings]
        warnings += [
            f"in no sum, for want of a countable value: {one.skipped} of the events of "
            + named([one.line.cost])
            for one in spent
            if one.skipped
        ]
        lines = [one.line for one in spent if one.events]
        by_itself = [line.cost for line in lines if not line.is_additive]
        if by_itself and (self._query.group_by != BY_COST or self._query.window_size):
            warnings.append(
                "no SUM or COUNT, so each group and window has a value of its own, "
                f"and totals add those up: {named(by_itself)}"
            )
        units = sorted({line.cost.unit for line in lines if line.cost.unit})
        if len(units) > 1:
            warnings.append(f"totalQuantity adds different units: {', '.join(units)}")
        return warnings

    def _range(
        self, spent: Sequence[_CostTotals]
    ) -> ReportRange | msgspec.UnsetType | None:
        """Return from when to when there are events, if the period has none.

        Unset where finding out would mean to read all events of all time: for a
        customer, or a filter.
        """
        narrowed = self._query.subject or self._query.filter_group_by
        if narrowed or any(one.events for one in spent):
            return msgspec.UNSET
        extents = [
            extent
            for line in self._scope.lines
            if (extent := self._reader.time_range(line.meter)) is not None
        ]
        if not extents:
            return None
        return ReportRange(
            format_instant(min(first for first, _ in extents)),
            format_instant(max(last for _, last in extents)),
        )


def _totals_by_group(spent: Sequence[_CostTotals]) -> dict[str, Amount]:
    """Return what all costs together come to, by group."""
    sums: dict[str, Amount] = {}
    for line, groups in spent:
        for key, tally in groups.items():
            sums[key] = sums.get(key, ZERO_AMOUNT) + line.amount(tally)
    return sums


def _bucket_and_key(
    line: ReportMetric, window: Window, places: Mapping[str, str]
) -> Callable[[Contribution], tuple[TimeWindow, str] | None]:
    """Return what tells the window of a contribution, and under which key it goes.

    What does not add up keeps the key of its group, to be tallied group by group, as
    the remainder's total is.
    """

    def name_of(one: Contribution) -> tuple[TimeWindow, str] | None:
        group = line.group_of(one)
        place = places.get(group)
        if place is None:
            return None
        return bucket_of(window, one.bucket_at), place if line.is_additive else group

    return name_of


def _prior_period(group: Group) -> PriorPeriod:
    before = group.prior.cost
    change = None
    if before:
        # Not with operators, which would round to 28 digits. Of the absolute value,
        # so that a rise is positive from a credit as well.
        difference = add(group.current.cost, before.copy_negate())
        change = json_number(percentage(difference, before.copy_abs()))
    return PriorPeriod(json_number(before), change, format_plain(before))
