"""Ask for revenue beside cost, and prepare both for the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._dashboard.amounts import (
    amount,
    change,
    percent,
    points,
)
from outlay.server._dashboard.charts import sparkline
from outlay.server._dashboard.pages import Kpi
from outlay.server._metering.decimals import ZERO, add, format_plain
from outlay.server._services.breakdown import TimeWindow
from outlay.server._services.profitability import Margin, MarginQuery, Margins
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.response_models import format_instant
from outlay.server._wire.revenue_models import BucketWidth, MarginSort

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from outlay.server._dashboard.amounts import Amount, Change
    from outlay.server._dashboard.figures import Point
    from outlay.server._dashboard.visit import Visit

_READ: Final = "revenue:read"


class Money(NamedTuple):
    """Revenue beside cost in the period of a page.

    Attributes:
        margins: The margins. None if they cannot be computed; a warning says why.
        windows: The windows of `Margins.window_revenue`, one for each bucket.
        warnings: The facts that a reader must know.
    """

    margins: Margins | None
    windows: Sequence[TimeWindow]
    warnings: Sequence[str]


def ask(
    visit: Visit,
    *,
    sort: MarginSort = MarginSort.COST,
    limit: int = 1,
    offset: int = 0,
    customer: str | None = None,
    trend: bool = False,
    totals_only: bool = False,
) -> Money | None:
    """Return revenue beside cost, or None on a page that cannot have any.

    Revenue has no dimensions, so a filtered page has none. A running period ends now:
    the revenue of the rest of the month is not earned yet.

    Args:
        visit: The request of the page.
        sort: The value that ranks the customers.
        limit: The number of customers.
        offset: The number of customers before the first one.
        customer: The only customer. If None, all count.
        trend: Whether each customer has a trend of its profit by day.
        totals_only: Whether all customers count together.
    """
    if visit.where or visit.metric is not None or not visit.may(_READ):
        return None
    period = visit.period
    windows = []
    if totals_only or customer is not None:
        windows = [
            TimeWindow(min(one.start, period.until), min(one.end, period.until))
            for one in period.buckets()
        ]
    query = MarginQuery(
        period.start,
        period.until,
        visit.currency,
        sort,
        limit,
        offset,
        BucketWidth.DAY if trend and period.grain == "day" else None,
        TimeWindow(period.prior.start, period.prior.end),
        customer=customer,
        totals_only=totals_only or customer is not None,
        windows=windows,
        as_of=visit.as_of,
    )
    try:
        found = visit.core.profitability.margins(visit.key.namespace, query)
    except HttpProblem as problem:
        return Money(None, windows, [f"There is no margin: {problem}."])
    rates = [
        f"Converted at {format_plain(rate.rate)} {rate.to_currency} for 1 "
        f"{rate.from_currency}, valid from {format_instant(rate.valid_from)[:10]} "
        f"({rate.source})."
        for rate in found.rates
    ]
    return Money(found, windows, [*found.warnings, *rates])


def margin_kpis(
    visit: Visit, money: Money, found: Margins, costs: Sequence[Point]
) -> list[Kpi]:
    """Return revenue, margin and margin in percent, each beside the prior period's."""
    if not found.total.revenue and not (found.prior and found.prior.revenue):
        hint = "none in this period; import it on the page Revenue"
        return [
            Kpi("Revenue", hint, text="–"),
            Kpi("Margin", "needs revenue", text="–"),
            Kpi("Margin %", "needs revenue", text="–"),
        ]
    total, prior, versus = found.total, found.prior, visit.period.prior.label
    series = _series(money.windows, found, costs)
    unfinished = visit.period.is_running
    grain = visit.period.grain

    def compared(current: Decimal, before: Decimal | None) -> str:
        if before is None:
            return f"no comparison with {versus}"
        return f"{change(current, before).text} vs {versus}"

    return [
        Kpi(
            "Revenue",
            compared(total.revenue, prior and prior.revenue),
            amount=amount(total.revenue),
            spark=sparkline(
                [one and one.revenue for one in series], unfinished=unfinished
            ),
            spark_words=f"Revenue by {grain}",
        ),
        Kpi(
            "Margin",
            compared(total.profit, prior and prior.profit),
            amount=amount(total.profit),
            spark=sparkline(
                [one and one.profit for one in series], unfinished=unfinished
            ),
            spark_words=f"Margin by {grain}",
        ),
        Kpi(
            "Margin %",
            _points_note(total, prior, versus),
            text=percent(total.profit, total.revenue) or "–",
            spark=sparkline(
                [one and one.percent for one in series], unfinished=unfinished
            ),
            spark_words=f"Margin in percent by {grain}",
        ),
    ]


def _points_note(total: Margin, prior: Margin | None, versus: str) -> str:
    if prior is None or prior.percent is None or total.percent is None:
        return f"no comparison with {versus}"
    difference = add(total.percent, prior.percent.copy_negate())
    return f"{points(difference)} vs {versus}"


def _series(
    windows: Sequence[TimeWindow], found: Margins, costs: Sequence[Point]
) -> list[Margin | None]:
    """Return the margin of each bucket. None is a bucket without cost and revenue."""
    return [
        None
        if window.start == window.end or (point.total is None and not earned)
        else Margin(point.total or ZERO, earned)
        for window, point, earned in zip(
            windows, costs, found.window_revenue, strict=True
        )
    ]


class MarginRow(NamedTuple):
    """One customer, as a row of a table."""

    rank: str
    customer: str
    name: str
    href: str
    cost: Amount
    revenue: Amount
    margin: Amount
    percent: str | None
    change: Change | None
    lack: str
    trend: object


def margin_rows(visit: Visit, found: Margins, offset: int) -> list[MarginRow]:
    """Return the rows of a page of customers."""
    return [
        MarginRow(
            str(offset + place),
            row.customer,
            row.name,
            visit.link_to_group("customer", row.customer),
            amount(row.current.cost),
            amount(row.current.revenue),
            amount(row.current.profit),
            percent(row.current.profit, row.current.revenue),
            None if row.prior is None else change(row.current.profit, row.prior.profit),
            _lack(row.current),
            None
            if row.trend is None
            else sparkline([*row.trend], unfinished=visit.period.is_running),
        )
        for place, row in enumerate(found.rows, 1)
    ]


def _lack(margin: Margin) -> str:
    if not margin.revenue and margin.cost:
        return "no revenue"
    if not margin.cost and margin.revenue:
        return "no cost"
    return ""
