"""The pages of all customers, and of one."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from outlay.server._dashboard.amounts import (
    amount,
    change,
    count,
    percent,
    tail_class,
)
from outlay.server._dashboard.breakdown import break_down, chart_note, choices, shown_of
from outlay.server._dashboard.charts import bar_width
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
    Page,
    Redirect,
    filter_chips,
    frame,
    overlap_warnings,
    period_controls,
)
from outlay.server._dashboard.visit import refused
from outlay.server._metering.decimals import ZERO
from outlay.server._services.ranking import OTHER
from outlay.server._services.report_scope import BY_COST, BY_CUSTOMER

if TYPE_CHECKING:
    from outlay.server._dashboard.visit import Visit
    from outlay.server._wire.response_models import ReportResponse

PAGE_SIZE: Final = 25

_SORTS: Final = {"cost": "Highest cost", "cheapest": "Lowest cost"}


def customers(visit: Visit) -> Page:
    """Return the page ``/customers``: customers, ranked."""
    period, scope = visit.period, Scope(visit.where)
    sort = visit.query.get("sort", "cost")
    if sort not in _SORTS:
        raise refused("sort", f"must be one of {', '.join(_SORTS)}")
    offset = (visit.page - 1) * PAGE_SIZE
    found = report(
        visit,
        scope,
        period.start,
        period.end,
        BY_CUSTOMER,
        limit=PAGE_SIZE,
        offset=offset,
        ascending=sort == "cheapest",
    )
    return Page(
        "customers.html",
        {
            **frame(visit, "Customers"),
            **period_controls(visit),
            "base_url": visit.base_url,
            "chips": filter_chips(visit),
            "warnings": [*overlap_warnings(visit), *(found.warnings or ())],
            "is_empty": not visit.has_events,
            "kept_period": [*period.query.items(), ("currency", visit.currency)],
            "sorts": [
                {"label": label, "href": visit.link(sort=one), "current": one == sort}
                for one, label in _SORTS.items()
            ],
            **_customer_table(visit, scope, found, offset),
        },
    )


def _customer_table(
    visit: Visit, scope: Scope, found: ReportResponse, offset: int
) -> dict[str, Any]:
    rows = [group for group in found.groups if group.key != OTHER]
    keys = [group.key for group in rows]
    prior_total, prior = prior_costs(
        visit, scope, visit.period.prior, BY_CUSTOMER, keys
    )
    total = Decimal(found.total_cost_exact)
    largest = max((Decimal(group.total_cost_exact) for group in rows), default=ZERO)
    last = offset + len(rows)
    return {
        "rows": [
            {
                "rank": count(offset + place),
                "label": group.key or first_group(BY_CUSTOMER),
                "href": visit.link_to_group(BY_CUSTOMER, group.key),
                "width": bar_width(Decimal(group.total_cost_exact), largest),
                "amount": amount(group.total_cost_exact),
                "share": percent(Decimal(group.total_cost_exact), total),
                "change": change(
                    Decimal(group.total_cost_exact), prior.get(group.key, ZERO)
                ),
            }
            for place, group in enumerate(rows, 1)
        ],
        "shown": shown_of(len(rows), found)
        if not offset
        else f"{count(offset + 1)}–{count(last)} of {count(found.pagination.total)}",
        "total": amount(total),
        "total_change": change(total, prior_total),
        "versus": f"vs {visit.period.prior.label}",
        "tail": tail_class(
            [amount(total), *(amount(g.total_cost_exact) for g in rows)]
        ),
        "previous_page": visit.link(page=str(visit.page - 1)) if offset else "",
        "next_page": visit.link(page=str(visit.page + 1))
        if last < found.pagination.total
        else "",
    }


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
    all_costs = report(
        visit, Scope(visit.where), period.start, period.end, BY_COST, limit=1
    )
    share = percent(total, Decimal(all_costs.total_cost_exact))
    title = identifier or first_group(BY_CUSTOMER)
    return Page(
        "customer.html",
        {
            **frame(visit, title),
            **period_controls(visit),
            "identifier": identifier,
            "chips": filter_chips(visit),
            "warnings": [*overlap_warnings(visit), *(found.response.warnings or ())],
            "all_customers": visit.link("/customers"),
            "kpis": [
                cost_kpi(visit, found),
                Kpi("Share of all cost", "in this period", text=share or "–"),
                Kpi("Events", "in this period", text=count(counts.events)),
            ],
            "chart": found.chart,
            "chart_name": f"Cost of {title} by {period.grain}",
            "chart_note": chart_note(visit, found.points),
            "legend": found.legend,
            "twin": found.twin,
            "dimensions": choices(visit, by, [BY_COST, *visit.dimensions]),
            "groups": found.ranking,
            "quality": quality_rows(counts),
        },
    )
