"""Compare revenue and cost by customer.

- A customer with costs or revenue in the period is a row, whatever is known of it.
- A line of revenue that reaches out of the period counts in proportion to time. Its
  cumulative share is rounded to 12 decimal places. So the shares of periods that follow
  each other add up to the line exactly.
- Amounts of other currencies are converted at the user's rates, or refused.
- The cost of a customer is the sum of its amounts of all cost metrics.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from outlay.server._metering.decimals import (
    ZERO,
    add,
    exact_sum,
    multiply,
    percentage,
    proportion,
)
from outlay.server._metering.metric import Accumulator, CompiledMetric, compile_metric
from outlay.server._records import MICROSECONDS_PER_HOUR, Aggregation
from outlay.server._services.breakdown import TimeWindow
from outlay.server._services.currency import Converter
from outlay.server._services.gross import has_corrections
from outlay.server._services.report_scope import named
from outlay.server._storage.page import ALL
from outlay.server._storage.store import CUSTOMER_NAME, NO_FILTER
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import FIRST_INSTANT
from outlay.server._wire.revenue_models import BucketWidth, MarginSort

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from outlay.server._metering.metric import Contribution
    from outlay.server._records import CostMetric, Rate, RevenueLine
    from outlay.server._storage.store import Reader, Views

K = TypeVar("K", bound="Hashable")

_MOST_BUCKETS: Final = 1000  # of a trend
_DAY: Final = 24 * MICROSECONDS_PER_HOUR
_WEEK: Final = 7 * _DAY
_FIRST_MONDAY: Final = 4 * _DAY  # 1970-01-05
_WIDTHS: Final = {
    BucketWidth.HOUR: MICROSECONDS_PER_HOUR,
    BucketWidth.DAY: _DAY,
    BucketWidth.WEEK: _WEEK,
}
_ADDITIVE: Final = {Aggregation.SUM, Aggregation.COUNT}
_BY_CUSTOMER: Final = frozenset([CUSTOMER_NAME])


class Margin(NamedTuple):
    """A cost beside a revenue, both exact."""

    cost: Decimal
    revenue: Decimal

    @property
    def profit(self) -> Decimal:
        """The revenue minus the cost."""
        return add(self.revenue, self.cost.copy_negate())

    @property
    def percent(self) -> Decimal | None:
        """The profit in percent of the revenue, to hundredths. None without revenue."""
        return percentage(self.profit, self.revenue) if self.revenue else None

    def __add__(self, other: Margin) -> Margin:  # type: ignore[override]
        """Return the exact sum of both."""
        return Margin(add(self.cost, other.cost), add(self.revenue, other.revenue))


NO_MARGIN: Final = Margin(ZERO, ZERO)


class CustomerMargin(NamedTuple):
    """The margin of one customer.

    Attributes:
        customer: The customer's id. '' stands for unattributed costs.
        name: The display name, or ''.
        current: The margin in the period.
        prior: The margin in the prior period. None if it needs a missing rate, and
            for the rest of all customers.
        trend: The profit of each bucket. None if it was not requested.
    """

    customer: str
    name: str
    current: Margin
    prior: Margin | None
    trend: Sequence[Decimal] | None = None

    @property
    def change(self) -> Decimal | None:
        """The change of the profit in percent. None without a prior profit."""
        if self.prior is None or not self.prior.profit:
            return None
        prior = self.prior.profit
        difference = add(self.current.profit, prior.copy_negate())
        # Relative to the absolute value, so that a rise from a loss is positive.
        return percentage(difference, prior.copy_abs())


class MarginQuery(NamedTuple):
    """A question for revenue beside cost.

    Attributes:
        start: The start of the period, in microseconds since 1970.
        end: The first instant after the period, in the same unit.
        currency: The currency of the result. If None, it is the only one that costs
            and revenue of both periods have, or else the server's default.
        sort: The value that ranks the customers.
        limit: The number of rows.
        offset: The number of customers before the first row.
        trend: The width of the buckets of trends. If None, there are no trends.
        prior: The prior period. If None, it has the same length, and ends at the start.
        as_of: The instant whose state is read. If None, it is the current state.
        customer: The only customer. If None, all customers count.
        totals_only: Whether all customers are one row, which is faster.
        windows: The windows whose revenue is wanted, inside of the period.
    """

    start: int
    end: int
    currency: str | None = None
    sort: MarginSort = MarginSort.PROFIT
    limit: int = 10
    offset: int = 0
    trend: BucketWidth | None = None
    prior: TimeWindow | None = None
    as_of: int | None = None
    customer: str | None = None
    totals_only: bool = False
    windows: Sequence[TimeWindow] = ()

    @property
    def prior_period(self) -> TimeWindow:
        """The prior period. It is shorter if it would start before the year 1."""
        if self.prior is not None:
            return self.prior
        start = self.start - (self.end - self.start)
        return TimeWindow(max(start, FIRST_INSTANT), self.start)


class Margins(NamedTuple):
    """Revenue beside cost, by customer.

    Attributes:
        currency: The currency of all amounts.
        rows: The requested page of customers, in order of rank.
        rest: The sum of all customers after the page. None if there are none.
        customers: The number of customers with cost or revenue.
        total: The sum of all customers.
        gross_cost: The cost of all customers without corrections of events.
        prior: The sum of all customers in the prior period. None if it needs a rate
            that is missing. A warning says so.
        rates: The rates that converted an amount.
        warnings: The facts that a reader of the amounts must know.
        window_revenue: The revenue of each window of the query. Lines of one period are
            added first. So the sum of the windows may differ from the revenue of the
            period in the twelfth decimal place.
    """

    currency: str
    rows: Sequence[CustomerMargin]
    rest: CustomerMargin | None
    customers: int
    total: Margin
    gross_cost: Decimal
    prior: Margin | None
    rates: Sequence[Rate]
    warnings: Sequence[str]
    window_revenue: Sequence[Decimal] = ()


class ProfitabilityService:
    """Compares revenue and cost. Thread safety: any thread. A call may take seconds.

    Args:
        store: The store of events and revenue.
        default_currency: The currency of a result that could have several.
    """

    def __init__(self, store: Views, default_currency: str) -> None:
        self._store = store
        self._default_currency = default_currency

    def margins(self, namespace: str, query: MarginQuery) -> Margins:
        """Return revenue beside cost, by customer.

        Args:
            namespace: The organization.
            query: The period, the order and the page.

        Raises:
            HttpProblem: 400, because a rate between two currencies is missing.
        """
        with self._store.reading() as reader:
            return _Comparison(
                reader, namespace, query, self._default_currency
            ).margins()


class _Prior(NamedTuple):
    """The margins of the prior period: of shown customers, and of all together."""

    rows: Mapping[str, Margin]
    total: Margin


class _Comparison:
    """One comparison of revenue and cost, from one consistent view."""

    def __init__(
        self,
        reader: Reader,
        namespace: str,
        query: MarginQuery,
        default_currency: str,
    ) -> None:
        self._reader = reader
        self._namespace = namespace
        self._query = query
        costs, _ = reader.costs(namespace, None, ALL)
        compiled = [(cost, compile_metric(cost)) for cost in costs]
        self._metrics = [metric for _, metric in compiled if metric is not None]
        self._idle = [cost for cost, metric in compiled if metric is None]
        prior = query.prior_period
        # Read once, because a line may be in both periods.
        lines = self._revenue(prior.start, query.end)
        self._lines = _overlapping(lines, query.start, query.end)
        self._prior_lines = _overlapping(lines, *prior)
        self._excluded: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        currency = query.currency or self._only_currency() or default_currency
        rates = reader.rates(namespace, as_of=query.as_of)
        self._converter = Converter(rates, currency)

    def margins(self) -> Margins:
        """Return the margins of all customers, and the requested page of rows."""
        query = self._query
        current = self._by_customer(query.start, query.end, self._lines)
        excluded = self._exclusions()
        ranking = _rank(current, query.sort)
        page = ranking[query.offset : query.offset + query.limit]
        after = ranking[query.offset + query.limit :]
        prior, lacking = self._prior(page)
        trends, refused = self._trends(page)
        names = self._reader.customer_names(self._namespace)
        total = _sum(current.values())
        rows = [
            CustomerMargin(
                customer,
                names.get(customer, ""),
                current[customer],
                None if prior is None else prior.rows.get(customer, NO_MARGIN),
                trends.get(customer),
            )
            for customer in page
        ]
        rest = None
        if after:
            rest = CustomerMargin(
                "other", "Other", _sum(current[customer] for customer in after), None
            )
        return Margins(
            self._converter.currency,
            rows,
            rest,
            len(ranking),
            total,
            self._gross_cost(total.cost),
            None if prior is None else prior.total,
            self._converter.used,
            [*self._warnings(), *excluded, *lacking, *refused],
            self._window_revenue(),
        )

    # -- amounts

    def _revenue(self, start: int, end: int) -> list[RevenueLine]:
        lines = self._reader.revenue(
            self._namespace,
            start,
            end,
            customer=self._query.customer,
            as_of=self._query.as_of,
        )
        # An amount of 0 takes an earlier line back.
        return [line for line in lines if line.amount]

    def _only_currency(self) -> str | None:
        """Return the one currency of revenue and of the costs with events, or None."""
        found = {line.currency for line in [*self._lines, *self._prior_lines]}
        others = {metric.cost.currency for metric in self._metrics} - found
        for currency in others:
            if any(
                True
                for metric in self._metrics
                if metric.cost.currency == currency
                for period in (self._query.prior_period, self._query)
                for _ in self._reader.contributions(metric, period[0], period[1])
            ):
                found.add(currency)
        return found.pop() if len(found) == 1 else None

    def _gross_cost(self, net: Decimal) -> Decimal:
        """Return the cost of all customers without corrections of events."""
        if not has_corrections(self._reader, self._namespace, self._query.as_of):
            return net
        total = ZERO
        for metric in self._metrics:
            for _, cost in self._costs(
                metric,
                self._query.start,
                self._query.end,
                lambda one: one.customer,
                gross=True,
            ):
                total = add(total, cost)
        return total

    def _prior(self, page: Sequence[str]) -> tuple[_Prior | None, list[str]]:
        """Return the margins of the prior period, or the reason why there are none.

        Only the customers of the page are read apart, where the total needs no others.
        """
        period, lines = self._query.prior_period, self._prior_lines
        try:
            if not all(metric.aggregation in _ADDITIVE for metric in self._metrics):
                margins = self._by_customer(*period, lines)
                return _Prior(margins, _sum(margins.values())), []
            total = self._by_customer(*period, lines, is_total=True)
            rows: Mapping[str, Margin] = total
            if not self._query.totals_only:
                shown = frozenset(page)
                lines = [line for line in lines if line.customer in shown]
                rows = self._by_customer(*period, lines, only=shown)
        except HttpProblem as problem:
            return None, [f"the prior period is left out; {problem}"]
        return _Prior(rows, _sum(total.values())), []

    def _by_customer(
        self,
        start: int,
        end: int,
        lines: Iterable[RevenueLine],
        *,
        only: frozenset[str] | None = None,
        is_total: bool = False,
    ) -> dict[str, Margin]:
        """Return the margin of each customer in ``start <= t < end``.

        Args:
            start: The start, in microseconds since 1970.
            end: The first instant after it, in the same unit.
            lines: The lines of revenue.
            only: The customers whose costs count. If None, those of the query.
            is_total: Whether all customers are one row, with the id ''.
        """
        is_total = is_total or self._query.totals_only
        if only is None and self._query.customer is not None:
            only = frozenset([self._query.customer])
        where = NO_FILTER if only is None else {CUSTOMER_NAME: only}
        costs: dict[str, Decimal] = {}
        for metric in self._metrics:
            # Amounts that can be added need no customers for their total.
            is_sum = is_total and metric.aggregation in _ADDITIVE
            for customer, cost in self._costs(
                metric,
                start,
                end,
                lambda one: one.customer,
                names=frozenset() if is_sum else _BY_CUSTOMER,
                where=where,
            ):
                row = "" if is_total else customer
                costs[row] = add(costs[row], cost) if row in costs else cost
        revenue: dict[str, Decimal] = {}
        for line in lines:
            row = "" if is_total else line.customer
            share = self._share(line, start, end)
            revenue[row] = add(revenue[row], share) if row in revenue else share
        return {
            customer: Margin(costs.get(customer, ZERO), revenue.get(customer, ZERO))
            for customer in {**costs, **revenue}
        }

    def _costs(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        key_of: Callable[[Contribution], K],
        *,
        names: frozenset[str] = _BY_CUSTOMER,
        where: Mapping[str, frozenset[str]] = NO_FILTER,
        window: Window | None = None,
        gross: bool = False,
    ) -> Iterator[tuple[K, Decimal]]:
        """Yield the converted costs of a metric by key. A key may repeat."""
        currency, unit_cost = metric.cost.currency, metric.cost.unit_cost
        if metric.aggregation in _ADDITIVE:
            periods = [*self._converter.periods(currency, start, end)]
        else:
            # Its amounts of several periods cannot be added.
            periods = [self._converter.period_at_end(currency, start, end)]
        # Amounts in another currency are added first. A sum of 0 needs no rate.
        is_plain_sum = (
            metric.aggregation in _ADDITIVE and currency == self._converter.currency
        )
        for period in periods:
            found = self._reader.contributions(
                metric,
                period.start,
                period.end,
                names=names,
                where=where,
                window=window,
                gross=gross,
                as_of=self._query.as_of,
            )
            counts = self._excluded[metric.cost.id]
            for key, part, quantity in (
                _added(metric, found, key_of)
                if is_plain_sum
                else _combined(metric, found, key_of)
            ):
                counts[0] += part.skipped - part.other_currency
                counts[1] += part.other_currency
                cost = quantity if unit_cost == 1 else multiply(quantity, unit_cost)
                yield key, self._converter.convert(cost, period)

    def _share(self, line: RevenueLine, start: int, end: int) -> Decimal:
        """Return the converted revenue of a line in ``start <= t < end``."""
        is_converted = line.currency != self._converter.currency
        if start <= line.start < line.end <= end and not is_converted:
            return line.amount  # as most lines do
        start, end = max(start, line.start), min(end, line.end)
        if start >= end:
            return ZERO
        if not is_converted:
            return _earned_between(line.amount, line.start, line.end, start, end)
        share = ZERO
        for period in self._converter.periods(line.currency, start, end):
            amount = _earned_between(
                line.amount, line.start, line.end, period.start, period.end
            )
            share = add(share, self._converter.convert(amount, period))
        return share

    def _window_revenue(self) -> list[Decimal]:
        """Return the converted revenue of each window of the query."""
        if not self._query.windows:
            return []
        lines: dict[tuple[int, int, str], RevenueLine] = {}
        amounts: defaultdict[tuple[int, int, str], Decimal] = defaultdict(lambda: ZERO)
        for line in self._lines:
            key = (line.start, line.end, line.currency)
            lines[key] = line
            amounts[key] = add(amounts[key], line.amount)
        together = [
            msgspec.structs.replace(line, amount=amounts[key])
            for key, line in lines.items()
        ]
        return [
            exact_sum(self._share(line, *window) for line in together)
            for window in self._query.windows
        ]

    # -- trends

    def _trends(
        self, customers: Sequence[str]
    ) -> tuple[dict[str, list[Decimal]], list[str]]:
        """Return the profit in each bucket by customer, or a warning instead."""
        query = self._query
        if query.trend is None or not customers:
            return {}, []
        width = _WIDTHS[query.trend]
        offset = _FIRST_MONDAY if query.trend is BucketWidth.WEEK else 0
        first = (query.start - offset) // width
        buckets = -(-(query.end - offset) // width) - first
        if buckets > _MOST_BUCKETS:
            warning = (
                f"the period has {buckets} buckets of bucketWidth {query.trend}, so "
                f"there are no trends; pass a longer one, for at most {_MOST_BUCKETS}"
            )
            return {}, [warning]
        profits: dict[str, list[Decimal]] = {
            customer: [ZERO] * buckets for customer in customers
        }
        window = Window.HOUR if query.trend is BucketWidth.HOUR else Window.DAY
        for metric in self._metrics:
            for (customer, bucket), cost in self._costs(
                metric,
                query.start,
                query.end,
                lambda one: (one.customer, (one.bucket_at - offset) // width - first),
                where={CUSTOMER_NAME: frozenset(customers)},
                window=window,
            ):
                profit = profits[customer][bucket]
                profits[customer][bucket] = add(profit, cost.copy_negate())
        edges = [
            max(query.start, offset + (first + bucket) * width)
            for bucket in range(buckets)
        ]
        for line in self._lines:
            series = profits.get(line.customer)
            if series is not None:
                self._add_shares(line, [*edges, query.end], series)
        return profits, []

    def _add_shares(
        self, line: RevenueLine, edges: Sequence[int], series: list[Decimal]
    ) -> None:
        """Add the converted revenue of a line between each two edges to a series."""
        first = max(bisect_right(edges, line.start) - 1, 0)
        last = min(bisect_left(edges, line.end), len(series))
        edges = edges[first : last + 1]
        if line.currency == self._converter.currency:
            times = [max(at, line.start) for at in edges]
            shares = [
                _earned_between(line.amount, line.start, line.end, start, end)
                for start, end in pairwise(times)
            ]
        else:
            shares = [self._share(line, *bucket) for bucket in pairwise(edges)]
        for bucket, share in enumerate(shares, first):
            series[bucket] = add(series[bucket], share)

    # -- warnings

    def _warnings(self) -> list[str]:
        query = self._query
        warnings = []
        partial = sum(
            line.start < query.start or line.end > query.end for line in self._lines
        )
        if partial:
            warnings.append(
                f"{partial} of {len(self._lines)} lines of revenue cover more time "
                "than this period; the part that falls into it counts"
            )
        by_type: defaultdict[str | None, list[CostMetric]] = defaultdict(list)
        for metric in self._metrics:
            by_type[metric.cost.event_type].append(metric.cost)
        warnings += [
            f"the costs have events of type {event_type} once for each of "
            f"{named(several)}; delete all but one of these cost metrics"
            for event_type, several in by_type.items()
            if len(several) > 1
        ]
        if self._idle:
            warnings.append(
                "excluded, because they have no event type or aggregation: "
                f"{named(self._idle)}"
            )
        return warnings

    def _exclusions(self) -> list[str]:
        """Return the warnings of events that no cost has, and forget their counts."""
        warnings = []
        for metric in self._metrics:
            without_value, other_currency = self._excluded[metric.cost.id]
            for reason, count in (
                ("have no numeric value", without_value),
                ("are in another currency than the metric", other_currency),
            ):
                if count:
                    warnings.append(
                        f"excluded, because they {reason}: {count} of the events of "
                        f"{named([metric.cost])}"
                    )
        self._excluded.clear()
        return warnings


def _added(
    metric: CompiledMetric,
    contributions: Iterable[Contribution],
    key_of: Callable[[Contribution], K],
) -> Iterator[tuple[K, Contribution, Decimal]]:
    """Yield each part of an additive quantity. A key may repeat."""
    is_count = metric.aggregation is Aggregation.COUNT
    for one in contributions:
        value = Decimal(one.events) if is_count else one.value
        yield key_of(one), one, value if isinstance(value, Decimal) else ZERO


def _combined(
    metric: CompiledMetric,
    contributions: Iterable[Contribution],
    key_of: Callable[[Contribution], K],
) -> Iterator[tuple[K, Accumulator, Decimal]]:
    """Yield the quantity of each key, combined from all of its contributions."""
    accumulators: dict[K, Accumulator] = {}
    for one in contributions:
        key = key_of(one)
        accumulator = accumulators.get(key)
        if accumulator is None:
            accumulator = accumulators[key] = metric.new_accumulator()
        accumulator.add(one)
    for key, accumulator in accumulators.items():
        quantity = accumulator.result()
        yield key, accumulator, ZERO if quantity is None else quantity


# Many customers pay the same price, and a page asks for the same part of each.
@lru_cache(maxsize=4096)
def _earned_between(
    amount: Decimal, first: int, last: int, start: int, end: int
) -> Decimal:
    """Return the part of an amount that is earned in ``start <= t < end``.

    Args:
        amount: The amount of a line of revenue.
        first: The start of the line's period, in microseconds since 1970.
        last: The first instant after the line's period, in the same unit.
        start: The start of the part, within the line's period.
        end: The first instant after the part. It may be after the line's period.
    """
    until = _earned(amount, first, last, end)
    if start == first:
        return until
    return add(until, _earned(amount, first, last, start).copy_negate())


def _earned(amount: Decimal, first: int, last: int, at: int) -> Decimal:
    """Return the part of an amount that is earned before ``at``."""
    return amount if at >= last else proportion(amount, at - first, last - first)


def _overlapping(
    lines: Iterable[RevenueLine], start: int, end: int
) -> list[RevenueLine]:
    """Return the lines whose period has a part of ``start <= t < end``."""
    return [line for line in lines if line.end > start and line.start < end]


def _sum(margins: Iterable[Margin]) -> Margin:
    all_margins = [*margins]
    return Margin(
        exact_sum(margin.cost for margin in all_margins),
        exact_sum(margin.revenue for margin in all_margins),
    )


def _rank(margins: Mapping[str, Margin], sort: MarginSort) -> list[str]:
    """Return the customers in order of rank. Equal ones are in order of id."""

    def value(customer: str) -> Decimal:
        margin = margins[customer]
        if sort is MarginSort.COST:
            return margin.cost
        return margin.revenue if sort is MarginSort.REVENUE else margin.profit

    return sorted(sorted(margins), key=value, reverse=sort is not MarginSort.WORST)
