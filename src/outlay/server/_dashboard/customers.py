"""The pages of all customers, and of one."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from outlay.server._dashboard import margins
from outlay.server._dashboard.amounts import (
    amount,
    change,
    count,
    percent,
    tail_class,
)
from outlay.server._dashboard.breakdown import break_down, chart_note, choices
from outlay.server._dashboard.budgets import budget_notice
from outlay.server._dashboard.charts import bar_width
from outlay.server._dashboard.events import few_events
from outlay.server._dashboard.figures import (
    Scope,
    event_counts,
    first_group,
    prior_costs,
    report,
)
from outlay.server._dashboard.overview import cost_kpi, quality_rows
from outlay.server._dashboard.pages import (
    Kpi,
    Message,
    Page,
    Redirect,
    filter_chips,
    frame,
    overlap_warnings,
    period_controls,
    worth_saying,
)
from outlay.server._dashboard.visit import AS_OF, refused
from outlay.server._metering.decimals import ZERO
from outlay.server._services.ranking import OTHER
from outlay.server._services.report_scope import BY_COST, BY_CUSTOMER
from outlay.server._wire.revenue_models import MarginSort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay.server._dashboard.breakdown import Breakdown
    from outlay.server._dashboard.visit import Visit
    from outlay.server._services.profitability import Margins

PAGE_SIZE: Final = 25

_SORTS: Final = {
    "cost": ("Highest cost", MarginSort.COST),
    "margin": ("Highest margin", MarginSort.PROFIT),
    "worst": ("Worst margin", MarginSort.WORST),
    "revenue": ("Highest revenue", MarginSort.REVENUE),
}
_COST_SORTS: Final = {"cost": "Highest cost", "cheapest": "Lowest cost"}


def customers(visit: Visit) -> Page:
    """Return the page ``/customers``: customers, ranked by cost or by margin."""
    sort = visit.query.get("sort", "cost")
    offset = (visit.page - 1) * PAGE_SIZE
    known = {**{one: label for one, (label, _) in _SORTS.items()}, **_COST_SORTS}
    if sort not in known:
        raise refused("sort", f"must be one of {', '.join(known)}")
    money = None
    if sort in _SORTS:
        money = margins.ask(
            visit, sort=_SORTS[sort][1], limit=PAGE_SIZE, offset=offset, trend=True
        )
    found = money.margins if money else None
    warnings = overlap_warnings(visit)
    if found is not None:
        table = _margin_table(visit, found, offset)
        sorts = {one: label for one, (label, _) in _SORTS.items()}
    else:
        table, more = _cost_table(visit, offset, ascending=sort == "cheapest")
        warnings += worth_saying(more)
        sorts = _COST_SORTS
    return Page(
        "customers.html",
        {
            **frame(visit, "Customers"),
            **period_controls(visit),
            "base_url": visit.base_url,
            "chips": filter_chips(visit),
            "warnings": warnings,
            "notes": worth_saying(money.warnings) if money else (),
            "is_empty": not visit.has_events,
            "kept_period": [
                *visit.period.query.items(),
                ("currency", visit.currency),
                (AS_OF, visit.query.get(AS_OF, "")),
            ],
            "has_margins": found is not None,
            "versus": f"vs {visit.period.prior.label}",
            "sorts": [
                {"label": label, "href": visit.link(sort=one), "current": one == sort}
                for one, label in sorts.items()
            ],
            **table,
        },
    )


def _pager(visit: Visit, offset: int, shown: int, total: int) -> dict[str, str]:
    last = offset + shown
    text = f"All {count(total)}"
    if offset:
        text = f"{count(offset + 1)}–{count(last)} of {count(total)}"
    elif shown < total:
        text = f"Top {count(shown)} of {count(total)}"
    return {
        "shown": text,
        "previous_page": visit.link(page=str(visit.page - 1)) if offset else "",
        "next_page": visit.link(page=str(visit.page + 1)) if last < total else "",
    }


def _margin_table(visit: Visit, found: Margins, offset: int) -> dict[str, Any]:
    rows = margins.margin_rows(visit, found, offset)
    total = found.total
    totals = [amount(total.cost), amount(total.revenue), amount(total.profit)]
    return {
        "rows": rows,
        "total": totals,
        "total_percent": percent(total.profit, total.revenue),
        "total_change": found.prior and change(total.profit, found.prior.profit),
        "tail": "",
        "tails": [
            tail_class([totals[0], *(row.cost for row in rows)]),
            tail_class([totals[1], *(row.revenue for row in rows)]),
            tail_class([totals[2], *(row.margin for row in rows)]),
        ],
        **_pager(visit, offset, len(rows), found.customers),
    }


def _cost_table(
    visit: Visit, offset: int, *, ascending: bool
) -> tuple[dict[str, Any], Sequence[str]]:
    period, scope = visit.period, Scope(visit.where)
    found = report(
        visit,
        scope,
        period.start,
        period.end,
        BY_CUSTOMER,
        limit=PAGE_SIZE,
        offset=offset,
        ascending=ascending,
    )
    groups = [group for group in found.groups if group.key != OTHER]
    keys = [group.key for group in groups]
    prior_total, prior = prior_costs(visit, scope, period.prior, BY_CUSTOMER, keys)
    total = Decimal(found.total_cost_exact)
    costs = [Decimal(group.total_cost_exact) for group in groups]
    largest = max(costs, default=ZERO)
    table = {
        "rows": [
            {
                "rank": count(offset + place),
                "customer": group.key,
                "name": visit.customer_names.get(group.key, ""),
                "href": visit.link_to_group(BY_CUSTOMER, group.key),
                "width": bar_width(cost, largest),
                "cost": amount(cost),
                "share": percent(cost, total),
                "change": change(cost, prior.get(group.key, ZERO)),
            }
            for place, (group, cost) in enumerate(zip(groups, costs, strict=True), 1)
        ],
        "total": [amount(total)],
        "total_change": change(total, prior_total),
        "tail": tail_class([amount(one) for one in [total, *costs]]),
        **_pager(visit, offset, len(groups), found.pagination.total),
    }
    return table, found.warnings or ()


def customer(visit: Visit) -> Page | Redirect:
    """Return the page ``/customer?id=…``: one customer."""
    if "id" not in visit.query:
        return Redirect(visit.link("/customers"))
    identifier = visit.query["id"]
    scope = Scope(visit.where, identifier)
    by = visit.by(BY_COST)
    found = break_down(visit, scope, by)
    counts = event_counts(visit, scope)
    period = visit.period
    total = Decimal(found.response.total_cost_exact)
    money = margins.ask(visit, customer=identifier)
    name = visit.customer_names.get(identifier, "")
    title = name or identifier or first_group(BY_CUSTOMER)
    revenue = money.margins.total.revenue if money and money.margins else ZERO
    is_unknown = not (name or any(counts) or revenue or visit.where)
    return Page(
        "customer.html",
        {
            **frame(visit, title),
            **period_controls(visit),
            "messages": [_unknown(visit, title)] if is_unknown else [],
            "identifier": identifier,
            "chips": filter_chips(visit),
            "warnings": [
                *overlap_warnings(visit),
                *worth_saying(found.response.warnings or ()),
            ],
            "notes": worth_saying(money.warnings) if money else (),
            "budget_notice": budget_notice(visit, identifier),
            "all_customers": visit.link("/customers"),
            "kpis": _kpis(visit, found, money, total),
            "chart": found.chart,
            "chart_name": f"Cost of {title} by {period.grain}",
            "chart_note": chart_note(visit, found.points),
            "legend": found.legend,
            "twin": found.twin,
            "dimensions": choices(visit, by, [BY_COST, *visit.dimensions]),
            "groups": found.ranking,
            "quality": quality_rows(visit, counts),
            "events": few_events(visit, identifier),
            "events_href": "",
        },
    )


def _unknown(visit: Visit, title: str) -> Message:
    return Message(
        "warn",
        f"{visit.period.label} has no event and no revenue of {title}. Check the id, "
        "or choose another period.",
    )


def _kpis(
    visit: Visit, found: Breakdown, money: margins.Money | None, total: Decimal
) -> list[Kpi]:
    cost = cost_kpi(visit, found)
    if money and money.margins:
        return [cost, *margins.margin_kpis(visit, money, money.margins, found.points)]
    period = visit.period
    everything = report(
        visit, Scope(visit.where), period.start, period.end, BY_COST, limit=1
    )
    share = percent(total, Decimal(everything.total_cost_exact))
    return [cost, Kpi("Share of all cost", "in this period", text=share or "–")]
