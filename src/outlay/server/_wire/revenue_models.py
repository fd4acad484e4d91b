"""Define the bodies and queries of revenue, rates, customers and profitability."""

from __future__ import annotations

import re
from collections.abc import Sequence  # noqa: TC003 - pydantic reads it
from datetime import MAXYEAR, UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Self, TypeAlias

import msgspec
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from outlay.server._spelling import Spelling
from outlay.server._wire.request_models import (
    Currency,
    Instant,
    ListQuery,
    PeriodQuery,
    RequestModel,
    Text,
    exact_number,
    lower,
)
from outlay.server._wire.response_models import (
    Number,
    Pagination,
    ReportPeriod,
    ResponseModel,
    to_microseconds,
)

MAX_LINES: Final = 10_000
"""The most lines of revenue, rates or customers in one request."""

MAX_ROWS: Final = 100  # of profitability, in the contract

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _at_midnight(value: object) -> object:
    is_date = isinstance(value, str) and _DATE.fullmatch(value)
    return f"{value}T00:00:00Z" if is_date else value


Money: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(exact_number),
    WithJsonSchema({"type": ["string", "number"], "description": "Exact decimal."}),
]
DayOrInstant: TypeAlias = Annotated[Instant, BeforeValidator(_at_midnight)]
"""An instant, or a date, which stands for its midnight in UTC."""


def _known_month(value: str) -> str:
    month_bounds(value)
    return value


Month: TypeAlias = Annotated[
    str,
    Spelling(r"^\d{4}-(0[1-9]|1[0-2])$", "must be a month such as 2026-10"),
    AfterValidator(_known_month),
]
ImportId: TypeAlias = Annotated[Text, StringConstraints(max_length=255)]


# Requests.


class RevenueLineBody(RequestModel):
    """The revenue of one customer in one period.

    The period is a month in UTC, or ``from`` and ``to``. Of the lines with one
    ``source`` and ``key``, the last one counts. The default key is made of the
    customer, the period and the currency.
    """

    customer_id: Text
    amount: Money
    currency: Currency
    period: Month | None = None
    start: Annotated[Instant | None, Field(alias="from")] = None
    end: Annotated[Instant | None, Field(alias="to")] = None
    source: Text | None = None
    key: Text | None = None

    @model_validator(mode="after")
    def _has_one_period(self) -> Self:
        bounds = (self.start, self.end)
        if (self.period is None) == (bounds == (None, None)) or (
            self.period is None and None in bounds
        ):
            raise ValueError("pass period, such as 2026-10, or both from and to")
        start, end = self.bounds
        if start >= end:
            raise ValueError("'from' must be before 'to'")
        return self

    @property
    def bounds(self) -> tuple[int, int]:
        """The start and the end of the period, in microseconds since 1970."""
        if self.period is not None:
            return month_bounds(self.period)
        return self.start or 0, self.end or 0


class RevenueBody(RequestModel):
    """Lines of revenue, which count together or not at all.

    An import of more lines than one request takes has several parts. They have one
    ``importId``, and count when the part with ``isLast`` is stored.
    """

    lines: Annotated[Sequence[RevenueLineBody], Field(max_length=MAX_LINES)]
    source: Text = "import"
    import_id: ImportId | None = None
    part: Annotated[int, Field(ge=0, le=2**31)] = 0
    is_last: bool = True

    @model_validator(mode="after")
    def _parts_have_an_id(self) -> Self:
        if self.import_id is None and (self.part or not self.is_last):
            raise ValueError("an import with several parts needs importId")
        return self


class RevenueQuery(PeriodQuery, ListQuery):
    """The period of a list of lines, and the wanted page."""

    customer_id: Text | None = None
    as_of: Instant | None = None


class RateBody(RequestModel):
    """The price of one unit of the currency ``from`` in the currency ``to``."""

    from_currency: Annotated[Currency, Field(alias="from")]
    to_currency: Annotated[Currency, Field(alias="to")]
    rate: Annotated[Money, Field(gt=0)]
    valid_from: DayOrInstant
    source: Text

    @model_validator(mode="after")
    def _names_two_currencies(self) -> Self:
        if self.from_currency == self.to_currency:
            raise ValueError("'from' and 'to' must be two currencies")
        return self


class RatesBody(RequestModel):
    """Rates, which are stored together or not at all."""

    rates: Annotated[Sequence[RateBody], Field(max_length=MAX_LINES)]


class CustomerPath(RequestModel):
    """The id of a customer in a path. In it, a slash is ``%2F``."""

    id: Text


class CustomerBody(RequestModel):
    """The display name of the customer in the path."""

    name: Text


class NamedCustomerBody(RequestModel):
    """The display name of a customer."""

    id: Text
    name: Text


class CustomersBody(RequestModel):
    """Display names of customers, which are stored together or not at all."""

    customers: Annotated[Sequence[NamedCustomerBody], Field(max_length=MAX_LINES)]


class MarginSort(StrEnum):
    """The value that ranks customers, the largest first."""

    PROFIT = "profit"
    WORST = "worst"  # the smallest profit first
    COST = "cost"
    REVENUE = "revenue"


class BucketWidth(StrEnum):
    """The length of the steps of a trend, aligned to UTC. A week starts on Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


class ProfitabilityQuery(PeriodQuery):
    """The period of a comparison of revenue and cost, and the wanted page."""

    merchant_id: str | None = None
    top_n: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 10
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0
    sort: Annotated[MarginSort, BeforeValidator(lower)] = MarginSort.PROFIT
    currency: Currency | None = None
    bucket_width: Annotated[BucketWidth, BeforeValidator(lower)] = BucketWidth.DAY
    as_of: Instant | None = None


# Responses.


class RevenueReplacement(ResponseModel):
    """A line that the import replaced."""

    key: str
    source: str
    customer_id: str
    period: ReportPeriod
    currency: str
    amount: str
    replaced_amount: str
    replaced_currency: str
    replaced_customer_id: str
    replaced_period: ReportPeriod


class RevenueImportResponse(ResponseModel, tag_field="object", tag="revenueImport"):
    """The outcome of an import, or of one of its parts.

    ``replacements`` names the first 100 replaced lines of a complete import.
    """

    import_id: str
    is_complete: bool
    next_part: int
    added: int
    replaced: int
    unchanged: int
    replacements: Sequence[RevenueReplacement]
    warnings: Sequence[str]


class RevenueLineResponse(ResponseModel, tag_field="object", tag="revenueLine"):
    """A line of revenue, with its history."""

    key: str
    source: str
    customer_id: str
    period: ReportPeriod
    amount: str
    currency: str
    import_id: str
    received_at: str
    received_by: str
    is_current: bool


class RevenueList(ResponseModel, tag_field="object", tag="list"):
    """A page of lines of revenue, newest first."""

    data: Sequence[RevenueLineResponse]
    pagination: Pagination


class RateResponse(ResponseModel, tag_field="object", tag="rate"):
    """A rate between two currencies."""

    from_currency: str = msgspec.field(name="from")
    to_currency: str = msgspec.field(name="to")
    rate: str
    valid_from: str
    source: str


class RateList(ResponseModel, tag_field="object", tag="list"):
    """All current rates, ordered by pair and first valid instant."""

    data: Sequence[RateResponse]


class RatesStored(ResponseModel, tag_field="object", tag="rateUpdate"):
    """Counts of the rates of a request."""

    stored: int
    unchanged: int


class CustomerResponse(ResponseModel, tag_field="object", tag="customer"):
    """A customer with a display name."""

    id: str
    name: str
    created_at: str
    updated_at: str


class CustomerList(ResponseModel, tag_field="object", tag="list"):
    """A page of customers, ordered by id."""

    data: Sequence[CustomerResponse]
    pagination: Pagination


class CustomersStored(ResponseModel, tag_field="object", tag="customerUpdate"):
    """The number of customers that were named."""

    stored: int


class MarginTotals(ResponseModel):
    """Revenue, cost and the difference. ``marginPct`` is null without revenue."""

    net_revenue: str
    total_cost: str
    profit: str
    margin_pct: Number | None
    net_revenue_exact: str
    total_cost_exact: str
    profit_exact: str


class Trend(ResponseModel):
    """The profit of each bucket, and the change since the prior period in percent.

    The change is null if the prior profit is 0.
    """

    values: Sequence[str]
    period_change: Number | None


class ProfitabilityRow(ResponseModel):
    """The revenue and the cost of one customer, or of all others (``isOther``)."""

    customer_id: str
    customer_name: str
    net_revenue: str
    total_cost: str
    profit: str
    margin_pct: Number | None
    trend: Trend | None
    net_revenue_exact: str
    total_cost_exact: str
    profit_exact: str
    is_other: bool = False


class ProfitabilityResponse(
    ResponseModel, tag_field="object", tag="profitability_summary"
):
    """Revenue beside cost, by customer.

    A customer with only one of them is a row as well. The fields after ``warnings``,
    ``…Exact`` and ``isOther`` are additions of this server. ``priorTotal`` is absent if
    the prior period needs a missing rate.
    """

    currency: str
    rows: Sequence[ProfitabilityRow]
    warnings: Sequence[str]
    period: ReportPeriod
    prior_period: ReportPeriod
    total: MarginTotals
    rates: Sequence[RateResponse]
    pagination: Pagination
    gross_cost_exact: str
    corrections_exact: str
    prior_total: MarginTotals | None = None


def month_bounds(month: str) -> tuple[int, int]:
    """Return the start and the end of a month such as 2026-10, in UTC.

    Both are in microseconds since 1970.

    Raises:
        ValueError: The month is outside the years 1 to 9998.
    """
    year, number = int(month[:4]), int(month[5:])
    if not 1 <= year < MAXYEAR:
        raise ValueError("must be in the years 1 to 9998")
    following = (year + 1, 1) if number == _DECEMBER else (year, number + 1)
    start = datetime(year, number, 1, tzinfo=UTC)
    return to_microseconds(start), to_microseconds(datetime(*following, 1, tzinfo=UTC))


_DECEMBER: Final = 12
