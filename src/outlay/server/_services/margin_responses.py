"""Turn margins into the contract's response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay.server._metering.decimals import add, format_money, format_plain
from outlay.server._services.profitability import MarginQuery
from outlay.server._wire.response_models import (
    Pagination,
    ReportPeriod,
    format_instant,
    json_number,
)
from outlay.server._wire.revenue_models import (
    MarginTotals,
    ProfitabilityResponse,
    ProfitabilityRow,
    RateResponse,
    Trend,
)

if TYPE_CHECKING:
    from decimal import Decimal

    import msgspec

    from outlay.server._records import Rate
    from outlay.server._services.profitability import CustomerMargin, Margin, Margins
    from outlay.server._wire.revenue_models import ProfitabilityQuery


def margin_query(query: ProfitabilityQuery) -> MarginQuery:
    """Return the question of a request."""
    return MarginQuery(
        query.start,
        query.end,
        query.currency,
        query.sort,
        query.top_n,
        query.offset,
        query.bucket_width,
        as_of=query.as_of,
    )


def profitability_response(query: MarginQuery, found: Margins) -> ProfitabilityResponse:
    """Return the response of the margins that ``query`` asked for."""
    rows = [_row(row) for row in found.rows]
    if found.rest is not None:
        rows.append(_row(found.rest, is_other=True))
    return ProfitabilityResponse(
        found.currency,
        rows,
        found.warnings,
        period(query.start, query.end),
        period(*query.prior_period),
        _totals(found.total),
        [rate_response(rate) for rate in found.rates],
        Pagination(query.limit, query.offset, found.customers),
        format_plain(found.gross_cost),
        format_plain(add(found.total.cost, found.gross_cost.copy_negate())),
        None if found.prior is None else _totals(found.prior),
    )


def period(start: int, end: int) -> ReportPeriod:
    """Return the period ``start <= t < end``, in microseconds since 1970."""
    return ReportPeriod(format_instant(start), format_instant(end))


def rate_response(rate: Rate) -> RateResponse:
    """Return the response body of a rate."""
    return RateResponse(
        rate.from_currency,
        rate.to_currency,
        format_plain(rate.rate),
        format_instant(rate.valid_from),
        rate.source,
    )


def _row(row: CustomerMargin, *, is_other: bool = False) -> ProfitabilityRow:
    margin = row.current
    trend = None
    if row.trend is not None:
        values = [format_money(profit) for profit in row.trend]
        trend = Trend(values, _number(row.change))
    return ProfitabilityRow(
        row.customer,
        row.name,
        format_money(margin.revenue),
        format_money(margin.cost),
        format_money(margin.profit),
        _number(margin.percent),
        trend,
        format_plain(margin.revenue),
        format_plain(margin.cost),
        format_plain(margin.profit),
        is_other,
    )


def _totals(margin: Margin) -> MarginTotals:
    return MarginTotals(
        format_money(margin.revenue),
        format_money(margin.cost),
        format_money(margin.profit),
        _number(margin.percent),
        format_plain(margin.revenue),
        format_plain(margin.cost),
        format_plain(margin.profit),
    )


def _number(value: Decimal | None) -> msgspec.Raw | None:
    return None if value is None else json_number(value)
