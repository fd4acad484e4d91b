"""Show the cost of a period by one grouping: a chart, its table twin, and a ranking."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from outlay.server._dashboard.amounts import (
    Amount,
    Change,
    amount,
    change,
    count,
    percent,
    tail_class,
)
from outlay.server._dashboard.charts import Bucket as ChartBucket
from outlay.server._dashboard.charts import (
    Part,
    StackedChart,
    bar_width,
    stacked_chart,
)
from outlay.server._dashboard.colors import OTHER_CLASS, color_classes
from outlay.server._dashboard.figures import (
    Point,
    Scope,
    first_group,
    is_linkable,
    prior_costs,
    report,
    series,
)
from outlay.server._dashboard.visit import dimension_label
from outlay.server._metering.decimals import ZERO
from outlay.server._services.ranking import OTHER
from outlay.server._services.report_scope import BY_CUSTOMER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._dashboard.visit import Visit
    from outlay.server._wire.response_models import ReportGroup, ReportResponse

_GRAINS = {"hour": "Hour", "day": "Day", "month": "Month"}


class LegendItem(NamedTuple):
    """One group of a chart."""

    key: str
    label: str
    css: str
    href: str


class TwinRow(NamedTuple):
    """One bucket of a chart, as a row. None is a bucket or a group without events."""

    label: str
    href: str
    amounts: Sequence[Amount | None]
    total: Amount | None


class Twin(NamedTuple):
    """The table with the figures of a chart."""

    unit: str
    rows: Sequence[TwinRow]
    tail: str


class GroupRow(NamedTuple):
    """One group of a ranking."""

    label: str
    href: str
    css: str
    width: str
    amount: Amount
    share: str | None
    change: Change | None


class Ranking(NamedTuple):
    """The groups of a period by cost."""

    kind: str
    title: str
    shown: str
    versus: str
    rows: Sequence[GroupRow]
    total: Amount
    change: Change
    tail: str


class Breakdown(NamedTuple):
    """All about one grouping of a page."""

    response: ReportResponse
    points: Sequence[Point]
    prior_total: Decimal
    chart: StackedChart | None
    legend: Sequence[LegendItem]
    twin: Twin
    ranking: Ranking


def break_down(visit: Visit, scope: Scope, by: str) -> Breakdown:
    """Return the costs of the visit's period by ``by``."""
    period = visit.period
    response = report(visit, scope, period.start, period.end, by, in_buckets=True)
    named = [group for group in response.groups if not group.is_other]
    keys = [group.key for group in named]
    points = series(period, response)
    prior = prior_costs(visit, scope, period.prior, by, keys)
    legend = _legend(visit, by, response.groups)
    twin = _twin(visit, points, legend)
    return Breakdown(
        response,
        points,
        prior[0],
        _chart(visit, points, legend, twin),
        legend,
        twin,
        _ranking(visit, by, response, legend, prior),
    )


def _legend(visit: Visit, by: str, groups: Sequence[ReportGroup]) -> list[LegendItem]:
    colors = color_classes(group.key for group in groups if not group.is_other)
    return [
        LegendItem(
            group.key,
            _label(visit, by, group),
            OTHER_CLASS if group.is_other else colors[group.key],
            visit.link_to_group(by, group.key)
            if is_linkable(by, group.key) and not group.is_other
            else "",
        )
        for group in groups
    ]


def _label(visit: Visit, by: str, group: ReportGroup) -> str:
    if not group.key:
        return first_group(by)
    names = visit.customer_names if by == BY_CUSTOMER else {}
    return names.get(group.key, group.label)


def _chart(
    visit: Visit, points: Sequence[Point], legend: Sequence[LegendItem], twin: Twin
) -> StackedChart | None:
    if not any(point.costs for point in points):
        return None
    return stacked_chart(
        [
            _chart_bucket(visit, point, legend, row)
            for point, row in zip(points, twin.rows, strict=True)
        ]
    )


def _chart_bucket(
    visit: Visit, point: Point, legend: Sequence[LegendItem], row: TwinRow
) -> ChartBucket:
    bucket = point.bucket
    is_running = bucket.start <= visit.period.now < bucket.end
    words = bucket.name
    if row.total is not None:
        words += f": {row.total.text} {visit.currency}"
    if is_running:
        words += ", not over yet"
    return ChartBucket(
        bucket.label,
        words,
        row.href,
        [
            Part(item.css, point.costs[item.key])
            for item in legend
            if item.key in point.costs
        ],
        is_running,
    )


def _twin(visit: Visit, points: Sequence[Point], legend: Sequence[LegendItem]) -> Twin:
    rows = [
        TwinRow(
            point.bucket.name,
            visit.link_to_period(point.bucket.query) if point.bucket.query else "",
            [
                amount(point.costs[item.key]) if item.key in point.costs else None
                for item in legend
            ],
            None if point.total is None else amount(point.total),
        )
        for point in points
    ]
    shown = [one for row in rows for one in (*row.amounts, row.total) if one]
    return Twin(_GRAINS[visit.period.grain], rows, tail_class(shown))


def _ranking(
    visit: Visit,
    by: str,
    response: ReportResponse,
    legend: Sequence[LegendItem],
    prior: tuple[Decimal, Mapping[str, Decimal]],
) -> Ranking:
    prior_total, costs_before = prior
    total = Decimal(response.total_cost_exact)
    costs = [Decimal(group.total_cost_exact) for group in response.groups]
    largest = max(costs, default=ZERO)
    rows = [
        GroupRow(
            item.label,
            item.href,
            item.css,
            bar_width(cost, largest),
            amount(cost),
            percent(cost, total),
            None
            if item.key == OTHER
            else change(cost, costs_before.get(item.key, ZERO)),
        )
        for item, cost in zip(legend, costs, strict=True)
    ]
    kind = dimension_label(by)
    return Ranking(
        kind,
        plural(kind),
        shown_of(sum(1 for one in legend if one.key != OTHER), response),
        f"vs {visit.period.prior.label}",
        rows,
        amount(total),
        change(total, prior_total),
        tail_class([amount(total), *(row.amount for row in rows)]),
    )


def shown_of(shown: int, response: ReportResponse) -> str:
    """Return the number of shown groups, such as ``Top 9 of 487``."""
    all_groups = response.pagination.total
    if shown < all_groups:
        return f"Top {count(shown)} of {count(all_groups)}"
    return f"All {count(all_groups)}" if all_groups > 1 else ""


def plural(kind: str) -> str:
    """Return the title of a list of groups."""
    if kind.endswith("y"):
        return kind[:-1] + "ies"
    return kind if kind.endswith("s") else kind + "s"


def choices(visit: Visit, by: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the links that choose the grouping of a page."""
    return [
        {
            "label": dimension_label(name),
            "href": visit.link(by=name),
            "current": name == by,
        }
        for name in names
    ]


def chart_note(visit: Visit, points: Sequence[Point]) -> str:
    """Return the sentence below the title of a chart."""
    grain = visit.period.grain
    article = "an" if grain == "hour" else "a"
    note = f"{visit.currency} {article} {grain}"
    if any(
        p.costs and p.bucket.start <= visit.period.now < p.bucket.end for p in points
    ):
        note += f". The pale {grain} is not over yet"
    if any(not p.costs and p.bucket.end <= visit.period.now for p in points):
        note += f". A gap is {article} {grain} without events"
    return note + "."
