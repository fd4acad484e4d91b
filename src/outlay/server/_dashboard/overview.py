"""The first page: the totals of a period, its cost over time, and what is behind it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from outlay.server._dashboard import margins
from outlay.server._dashboard.amounts import amount, change, count, percent
from outlay.server._dashboard.breakdown import (
    Breakdown,
    break_down,
    chart_note,
    choices,
)
from outlay.server._dashboard.budgets import budget_notice
from outlay.server._dashboard.charts import sparkline
from outlay.server._dashboard.events import READ as READ_EVENTS
from outlay.server._dashboard.figures import EventCounts, Scope, event_counts, report
from outlay.server._dashboard.pages import (
    Kpi,
    Page,
    filter_chips,
    frame,
    overlap_warnings,
    period_controls,
    worth_saying,
)
from outlay.server._dashboard.periods import local
from outlay.server._services.report_scope import BY_COST, BY_CUSTOMER

if TYPE_CHECKING:
    from outlay.server._dashboard.visit import Visit


def overview(visit: Visit) -> Page:
    """Return the page ``/``."""
    scope = Scope(visit.where)
    by = visit.by(BY_COST, BY_CUSTOMER)
    found = break_down(visit, scope, by)
    quality = quality_rows(visit, event_counts(visit, scope))
    if visit.period.is_running:
        quality.append(duplicate_row(visit))
    money = margins.ask(visit, totals_only=True)
    groupings = [BY_COST, BY_CUSTOMER, *visit.dimensions]
    return Page(
        "overview.html",
        {
            **frame(visit, "Overview"),
            **period_controls(visit),
            "base_url": visit.base_url,
            "chips": filter_chips(visit),
            "warnings": [
                *overlap_warnings(visit),
                *worth_saying(found.response.warnings or ()),
            ],
            "notes": worth_saying(money.warnings) if money else (),
            "budget_notice": budget_notice(visit),
            "is_empty": not visit.has_events,
            "kpis": _kpis(visit, scope, found, money),
            "chart": found.chart,
            "chart_name": f"Cost by {visit.period.grain}",
            "chart_note": chart_note(visit, found.points),
            "legend": found.legend,
            "twin": found.twin,
            "dimensions": choices(visit, by, groupings),
            "groups": found.ranking,
            "quality": quality,
            "events_href": visit.link_to_events(None) if visit.may(READ_EVENTS) else "",
        },
    )


def _kpis(
    visit: Visit, scope: Scope, found: Breakdown, money: margins.Money | None
) -> list[Kpi]:
    cost = cost_kpi(visit, found)
    if money and money.margins:
        return [cost, *margins.margin_kpis(visit, money, money.margins, found.points)]
    period = visit.period
    customers = report(visit, scope, period.start, period.end, BY_CUSTOMER, limit=1)
    number = count(customers.pagination.total)
    return [cost, Kpi("Customers with cost", "in this period", text=number)]


def cost_kpi(visit: Visit, found: Breakdown) -> Kpi:
    """Return the total cost, beside the prior period's."""
    period = visit.period
    total = Decimal(found.response.total_cost_exact)
    prior = change(total, found.prior_total)
    return Kpi(
        "Cost",
        f"{prior.text} vs {period.prior.label}",
        amount=amount(total),
        spark=sparkline(
            [point.total for point in found.points], unfinished=period.is_running
        ),
        spark_words=f"Cost by {period.grain}",
    )


class QualityRow(NamedTuple):
    """A number of events behind the figures of a page, with the page about them."""

    label: str
    href: str
    events: str
    share: str | None
    note: str


def quality_rows(visit: Visit, counts: EventCounts) -> list[QualityRow]:
    """Return the rows about the events behind the figures of a page."""
    whole = Decimal(counts.events)

    def row(label: str, events: int, note: str, place: str = "") -> QualityRow:
        href = visit.link("/data-health") + place if place else ""
        share = percent(Decimal(events), whole)
        return QualityRow(label, href, count(events), share, note)

    no_value = counts.excluded - counts.other_currency
    return [
        row(
            "Counted", counts.events - counts.excluded, "their amounts are in the total"
        ),
        row(
            "Unpriced",
            no_value,
            "excluded: the amount is missing, or is no number",
            "#unpriced",
        ),
        row(
            "Other currency",
            counts.other_currency,
            "excluded: never added",
            "#excluded",
        ),
    ]


def duplicate_row(visit: Visit) -> QualityRow:
    """Return the row about events that arrived more than once.

    A repeated event is not stored, so that no period has a number of them. The row says
    since when they are counted, and only stands beside a period that is not over.
    """
    log = visit.core.ingest.activity
    activity = log.of(visit.key.namespace)
    stored = activity.accepted + activity.duplicates
    began = local(log.started_at, visit.period.zone)
    return QualityRow(
        "Duplicates",
        visit.link("/data-health") + "#duplicates",
        count(activity.duplicates),
        percent(Decimal(activity.duplicates), Decimal(stored)),
        f"counted once; of all since {began.day} {began:%b, %H:%M}",
    )
