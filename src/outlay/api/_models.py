"""Define what the service returns: metrics, totals, reports and margins.

Amounts are exact `Decimal`. Times are aware. Fields that the service adds later are
ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime  # noqa: TC003 - type hints of the options name it
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, TypedDict

from pydantic import (
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)
from pydantic.alias_generators import to_camel

CUSTOMER: Final = "customer"
"""The dimension that every cost metric has."""

SUBJECT: Final = "subject"
"""The name of `CUSTOMER` on the wire."""

DEFAULT_PRODUCT: Final = "prod_default"
"""The product of metrics that name none. Only the reference server knows it."""

Window: TypeAlias = Literal["MINUTE", "HOUR", "DAY", "MONTH"]
"""The length of the windows of a summary, in UTC. MONTH is an extension."""

ReportWindow: TypeAlias = Literal["HOUR", "DAY", "MONTH"]
"""The length of the windows of a report, in UTC."""

BucketWidth: TypeAlias = Literal["hour", "day", "week"]
"""The length of the windows of a trend, in UTC."""

ReportSort: TypeAlias = Literal["totalCost", "totalQuantity"]
"""The value that ranks the groups of a report."""


def _none_to_empty(value: object) -> object:
    return {} if value is None else value


class _Response(BaseModel):
    """Common rules: camelCase names on the wire, and unknown fields are ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True
    )


def exact(name: str) -> Any:  # noqa: ANN401 - pydantic's own type of a field
    """Return a field that prefers the exact text of an amount to its JSON number.

    The reference server repeats each amount as text, because some JSON readers know
    only binary floats. On other servers, the digits of the number are as exact.
    """
    return Field(validation_alias=AliasChoices(f"{name}Exact", name))


class MetricFields(TypedDict, total=False):
    """The optional fields of a new cost metric.

    Attributes:
        value_property: The JSONPath of the value that each event adds. Defaults to
            ``$.amount``. None for COUNT.
        aggregation: SUM, COUNT, AVG, MIN, MAX, UNIQUE_COUNT or LATEST. Defaults to SUM.
        unit_cost: The cost of one unit of the value. Defaults to 1: the value is money.
        currency: The currency, ISO 4217. Defaults to the setting ``currency``.
        unit: The unit of the value, such as ``page``. Defaults to none.
        group_by: The JSONPath of each dimension, or only the names of dimensions whose
            paths are ``$.name``. Defaults to none. Each metric has the customer.
        product_id: The product. Defaults to the default product of the reference
            server. The live service needs one of yours.
    """

    value_property: str | None
    aggregation: str
    unit_cost: Decimal | int | str
    currency: str
    unit: str | None
    group_by: Mapping[str, str] | Iterable[str] | None
    product_id: str


class MetricChanges(TypedDict, total=False):
    """The changes to a cost metric. Fields that are left out keep their values.

    None clears a field. A metric keeps its product.
    """

    name: str
    event_type: str | None
    value_property: str | None
    aggregation: str | None
    unit_cost: Decimal | int | str
    currency: str
    unit: str | None
    group_by: Mapping[str, str] | Iterable[str] | None


class SummaryOptions(TypedDict, total=False):
    """The optional arguments of a summary.

    Attributes:
        customer_id: The only customer who counts. Defaults to all.
        by: The dimensions that break the total down, such as ``customer``. Defaults to
            none.
        window: The length of the windows that break the total down. Defaults to none.
        where: The values that count, by dimension. Defaults to all.
        as_of: The instant whose state is read, aware. Defaults to the current state.
    """

    customer_id: str | None
    by: Sequence[str]
    window: Window | None
    where: Mapping[str, str | Sequence[str]] | None
    as_of: datetime | None


class ReportOptions(TypedDict, total=False):
    """The optional arguments of a report.

    Attributes:
        customer_id: The only customer who counts. Defaults to all.
        where: The values that count, by dimension. Defaults to all.
        window: The length of the windows of the time series. Defaults to none.
        top: The number of groups that the time series names, 1 to 25. Defaults to 9.
        sort: The value that ranks the groups. Defaults to ``totalCost``.
        descending: Whether the largest group comes first. Defaults to True.
        prior_period: Whether to compare with the period before. Defaults to False.
        empty_groups: Whether groups without costs are shown. Defaults to True.
        currency: The currency of the report. Defaults to that of the metrics.
        limit: The number of groups of the page, 1 to 100. Defaults to 25.
        offset: The number of groups before the page. Defaults to 0.
        as_of: The instant whose state is read, aware. Defaults to the current state.
    """

    customer_id: str | None
    where: Mapping[str, str | Sequence[str]] | None
    window: ReportWindow | None
    top: int
    sort: ReportSort
    descending: bool
    prior_period: bool
    empty_groups: bool
    currency: str | None
    limit: int
    offset: int
    as_of: datetime | None


class EventFilters(TypedDict, total=False):
    """The wanted events. Each filter that is left out lets every event pass.

    Attributes:
        event_types: The event types.
        customer_id: The customer.
        start: The first instant, aware.
        end: The first instant that no longer counts, aware.
        metric: The cost metric that reads the events, or its id. It gives the names in
            ``where`` their meaning.
        where: The values that count, by dimension of ``metric``. Without a metric, by
            name in the data.
        provenance: The origins of amounts: ``reported``, ``priced`` or ``manual``.
        idempotency_key: The key.
        as_of: The instant whose state is read, aware. Defaults to the current state.
    """

    event_types: Sequence[str]
    customer_id: str | None
    start: datetime | None
    end: datetime | None
    metric: CostMetric | str | None
    where: Mapping[str, str | Sequence[str]] | None
    provenance: Sequence[str]
    idempotency_key: str | None
    as_of: datetime | None


class CostMetric(_Response):
    """A cost metric, which totals the events of one type.

    Attributes:
        id: The id, such as ``cst_1f``.
        name: The name for people.
        currency: The currency of the cost, ISO 4217.
        unit_cost: The cost of one unit, in major units of ``currency``.
        event_type: The type of the events that it totals. None: it totals none.
        aggregation: The way in which values become a quantity. None: there is none.
        value_property: The JSONPath of the value inside the data of an event.
        unit: The name of the unit, for people.
        group_by: The JSONPath of each dimension.
        product_id: The product to which the metric belongs.
        merchant_id: The organization.
        created_at: The time of its creation. None if the server does not report it.
        updated_at: The time of its last change. None for the same reason.
    """

    id: str
    name: str
    currency: str
    unit_cost: Decimal
    event_type: str | None = None
    aggregation: str | None = None
    value_property: str | None = None
    unit: str | None = None
    group_by: Annotated[dict[str, str], BeforeValidator(_none_to_empty)] = {}
    product_id: str = ""
    merchant_id: str = ""
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None

    @property
    def dimensions(self) -> list[str]:
        """The dimensions of the totals. `CUSTOMER` is always one."""
        return [*dict.fromkeys([CUSTOMER, *self.group_by])]

    def dimensions_among(self, names: Iterable[str]) -> list[str]:
        """Return the names that are dimensions of this metric."""
        return [name for name in names if name in self.dimensions]


class Pagination(_Response):
    """The position of a page in its list."""

    limit: int = 0
    offset: int = 0
    total: int


class MetricPage(_Response):
    """A page of cost metrics."""

    data: tuple[CostMetric, ...]
    pagination: Pagination


class Product(_Response):
    """A product, to which cost metrics belong."""

    id: str
    name: str
    description: str = ""
    merchant_id: str = ""


class ProductPage(_Response):
    """A page of products."""

    data: tuple[Product, ...]
    pagination: Pagination


class SummaryGroup(_Response):
    """The cost of one combination of dimension values.

    Attributes:
        dimensions: The value of each dimension, by the name that the call gave.
        quantity: The quantity. None if no event has a value to average.
        cost: The cost, in the summary's currency.
    """

    dimensions: dict[str, str]
    quantity: Decimal | None = None
    cost: Annotated[Decimal, exact("cost")]


class SummaryWindow(_Response):
    """The cost of one window of time, ``window_start <= t < window_end``."""

    window_start: AwareDatetime
    window_end: AwareDatetime
    quantity: Decimal | None = None
    cost: Annotated[Decimal, exact("cost")]


class Summary(_Response):
    """The totals of a cost metric over a period.

    Attributes:
        total: The total. None if no event has a value to average.
        quantity: The quantity. None for the same reason.
        currency: The currency of all amounts.
        events: The number of counted events. None if the server does not report it.
        excluded: The number of matching events without a usable value.
        other_currency: The number of excluded events that are in another currency.
        groups: The totals by dimension, if the call named dimensions.
        time_series: The totals by window, if the call named a window.
    """

    total: Annotated[Decimal | None, exact("totalCost")]
    quantity: Annotated[Decimal | None, exact("totalQuantity")] = None
    currency: str = ""
    events: int | None = None
    excluded: int = 0
    other_currency: int = 0
    groups: tuple[SummaryGroup, ...] = ()
    time_series: tuple[SummaryWindow, ...] = ()


class PriorPeriod(_Response):
    """The cost of a group in the period of the same length before.

    Attributes:
        cost: The cost, in the report's currency.
        change_percent: The change since then. None if the group cost nothing.
    """

    cost: Annotated[Decimal, exact("cost")]
    change_percent: Decimal | None = None


class ReportGroup(_Response):
    """The totals of one group of a report.

    Attributes:
        key: The metric's id, the customer, or the dimension's value.
        label: A name for people.
        total: The cost, in the report's currency.
        quantity: The quantity.
        percent_of_total: The share of the total, from 0 to 100.
        is_other: Whether it stands for all groups after the page.
        unit: The unit of the quantity. None without one unit for all.
        prior_period: The period before, if the call asked for it.
    """

    key: str
    label: str
    total: Annotated[Decimal, exact("totalCost")]
    quantity: Annotated[Decimal, exact("totalQuantity")]
    percent_of_total: Decimal
    is_other: bool
    unit: str | None = None
    prior_period: PriorPeriod | None = None


class ReportPoint(_Response):
    """The costs of one window by the group's key."""

    window_start: AwareDatetime
    window_end: AwareDatetime
    groups: dict[str, Decimal]


class Report(_Response):
    """The totals of several cost metrics over a period, ranked by group.

    Attributes:
        currency: The currency of all amounts, ISO 4217.
        group_by: The kind of the groups, as the call named it.
        total: The sum over all groups, shown or not.
        quantity: The quantity over all groups.
        groups: The groups of the page.
        time_series: The costs by window, if the call named a window.
        available_dimensions: The dimensions of the one metric of the report.
        pagination: The page, and the number of groups.
        warnings: The metrics and events that the report excludes, and why.
    """

    currency: str
    group_by: str
    total: Annotated[Decimal, exact("totalCost")]
    quantity: Annotated[Decimal, exact("totalQuantity")]
    groups: tuple[ReportGroup, ...]
    time_series: tuple[ReportPoint, ...] = ()
    available_dimensions: tuple[str, ...] = ()
    pagination: Pagination
    warnings: tuple[str, ...] = ()


class Trend(_Response):
    """The profit of one customer by window.

    Attributes:
        values: The profit of each window, oldest first.
        period_change: The change in percent over the period, or None.
    """

    values: tuple[Decimal, ...]
    period_change: Decimal | None = None


class ProfitabilityRow(_Response):
    """The revenue, cost and profit of one customer.

    Attributes:
        customer_id: The customer. The live service names the last row ``other``.
        customer_name: The customer's name for people, or ''.
        revenue: The revenue, in the currency of the response.
        cost: The costs, in the same currency.
        profit: The revenue without the costs.
        margin_percent: The profit in percent of the revenue. None without revenue.
        trend: The profit by window. None if the server does not report it.
        is_other: Whether it stands for all customers after the first ones.
    """

    customer_id: str
    customer_name: str = ""
    revenue: Annotated[Decimal, exact("netRevenue")]
    cost: Annotated[Decimal, exact("totalCost")]
    profit: Annotated[Decimal, exact("profit")]
    margin_percent: Annotated[Decimal | None, Field(alias="marginPct")] = None
    trend: Trend | None = None
    is_other: bool = False


class Profitability(_Response):
    """The revenue, the costs and the profit of customers.

    Attributes:
        currency: The currency of all amounts, ISO 4217.
        rows: The customers, the most profitable first.
        warnings: The parts that the figures leave out, with the reasons.
    """

    currency: str
    rows: tuple[ProfitabilityRow, ...]
    warnings: tuple[str, ...] = ()


class UnmatchedType(_Response):
    """An event type that no cost metric counts, and its events in the period."""

    event_type: str
    events: int


class UnmatchedTypes(_Response):
    """The event types of a period that no cost metric counts."""

    data: tuple[UnmatchedType, ...]


class StoredEvent(_Response):
    """An event on the server, as it was sent.

    Attributes:
        customer_id: The customer: the subject, or else your own id.
        data: The data, with exact decimals.
        received_at: The time of receipt.
        provenance: The origin of the amount, if the event names it.
    """

    id: str
    type: str
    source: str
    timestamp: AwareDatetime
    idempotency_key: str
    received_at: AwareDatetime
    data: dict[str, Any]
    subject: str | None = None
    external_subject: str | None = None
    external_id: str | None = None
    provenance: str | None = None

    @property
    def customer_id(self) -> str:
        """The customer of the cost."""
        return self.subject or self.external_subject or ""


class StoredEventPage(_Response):
    """A page of events."""

    data: tuple[StoredEvent, ...]
    next_cursor: str | None = None


class EventReceipt(_Response):
    """The proof of an event's receipt.

    Attributes:
        idempotency_key: The event's key.
        received_at: The time of receipt.
        key_ends_at: The time until which the server takes the key for a duplicate.
    """

    idempotency_key: str
    received_at: AwareDatetime
    key_ends_at: AwareDatetime


class EventUse(_Response):
    """The part of one cost metric that an event is.

    Attributes:
        cost_id: The metric's id.
        name: The metric's name for people.
        currency: The metric's currency, ISO 4217.
        excluded: The reason for which the event does not count, or None.
        quantity: The quantity of the event alone, before its corrections. None if the
            metric does not add up.
        cost: The cost of the event alone, before its corrections. None for the same
            reason.
    """

    cost_id: str
    name: str
    currency: str
    excluded: str | None = None
    quantity: Decimal | None = None
    cost: Annotated[Decimal | None, exact("cost")] = None


class EventCorrection(_Response):
    """A correction of an event.

    Attributes:
        kind: ``void``, ``adjust`` or ``revert``.
        event_id: The event that it corrects.
        reason: The reason that its author gave.
        created_by: The name of the API key that made it.
        cost_id: The metric that an adjustment changes.
        delta: The signed amount that an adjustment adds to the metric's value.
        reverts: The id of the correction that this one takes back.
    """

    id: str
    kind: str
    event_id: str
    reason: str
    created_at: AwareDatetime
    created_by: str
    cost_id: str | None = None
    delta: Decimal | None = None
    reverts: str | None = None


class EventDetail(_Response):
    """An event, its receipt, the origin of its price, and what it counts for.

    Attributes:
        price: The price list that the amount is from, if the event names it.
        counts: The metrics that read the event.
        corrections: The newest 100 corrections of the event, the newest first.
    """

    event: StoredEvent
    receipt: EventReceipt
    counts: tuple[EventUse, ...]
    corrections: tuple[EventCorrection, ...] = ()
    provenance: str | None = None
    price: dict[str, Any] | None = None


BudgetPeriod: TypeAlias = Literal["day", "week", "month"]
"""The length of the periods of a budget."""


class BudgetFields(TypedDict, total=False):
    """The optional fields of a budget.

    Attributes:
        currency: The currency of the costs that count. Defaults to the setting
            ``currency``.
        period: Defaults to ``month``. A week begins on Monday.
        time_zone: The IANA name of the zone in which periods begin. Defaults to UTC.
        customer_id: The customer whose costs count. Defaults to all.
        dimensions: The value that a cost must have, by dimension. Defaults to none.
        thresholds: The percentages of the limit that are reported. Defaults to 80 and
            100.
    """

    currency: str
    period: BudgetPeriod
    time_zone: str
    customer_id: str | None
    dimensions: Mapping[str, str]
    thresholds: Sequence[int]


class BudgetWindow(_Response):
    """The period of a budget's state. The end itself does not count."""

    start: Annotated[AwareDatetime, Field(alias="from")]
    end: Annotated[AwareDatetime, Field(alias="to")]


class ThresholdPassed(_Response):
    """A threshold that the costs reached, when, and the costs at that time."""

    percent: int
    passed_at: AwareDatetime
    spent: Decimal


class BudgetState(_Response):
    """The costs of a budget in its current period.

    Attributes:
        period: The current period.
        spent: The costs of the period, exact, in the budget's currency.
        remaining: The limit without the costs. Below zero if the costs are higher.
        share: The costs in percent of the limit, rounded to hundredths.
        passed: The thresholds that were passed in the period.
        warnings: The cost metrics that do not count, and why.
    """

    period: BudgetWindow
    spent: Decimal
    remaining: Decimal
    share: Annotated[Decimal, Field(alias="sharePct")]
    passed: tuple[ThresholdPassed, ...]
    warnings: tuple[str, ...] = ()


class Budget(_Response):
    """A limit for the costs of a period, and its state."""

    id: str
    name: str
    limit: Decimal
    currency: str
    period: BudgetPeriod
    time_zone: str
    customer_id: str | None = None
    dimensions: Mapping[str, str]
    thresholds: tuple[int, ...]
    created_at: AwareDatetime
    updated_at: AwareDatetime
    state: BudgetState


class BudgetPage(_Response):
    """A page of budgets."""

    data: tuple[Budget, ...]
    pagination: Pagination


class Webhook(_Response):
    """An address that receives messages about budgets.

    Attributes:
        id: The id.
        url: The address.
        status: ``ok``, ``failing`` or ``disabled``.
        waiting_messages: The number of messages that are not delivered yet.
        failures: The number of failed attempts in a row.
        created_at: The time of its creation.
        last_error: The reason of the last failure. None after a success.
        failing_since: The time of the first failure in a row. None after a success.
        delivered_at: The time of the last delivery. None if there was none.
        next_attempt_at: The time of the next attempt. None if none is planned.
        disabled_at: The time at which it was disabled. None if it is not.
        old_secret_ends_at: The time until which the secret before signs as well. Each
            earlier one ends a day after its own replacement.
        secret: The secret of the signatures. Only a new webhook or secret shows it.
    """

    id: str
    url: str
    status: str
    waiting_messages: int = 0
    failures: int = 0
    created_at: AwareDatetime
    last_error: str | None = None
    failing_since: AwareDatetime | None = None
    delivered_at: AwareDatetime | None = None
    next_attempt_at: AwareDatetime | None = None
    disabled_at: AwareDatetime | None = None
    old_secret_ends_at: AwareDatetime | None = None
    secret: Annotated[str | None, Field(repr=False)] = None


class WebhookList(_Response):
    """All webhooks, oldest first."""

    data: tuple[Webhook, ...]


class WebhookTest(_Response):
    """The outcome of a test message."""

    message_id: str
    delivered: bool
    error: str | None = None


def paths_of(group_by: Mapping[str, str] | Iterable[str] | None) -> dict[str, str]:
    """Return the JSONPath of each dimension."""
    if group_by is None:
        return {}
    if isinstance(group_by, Mapping):
        return dict(group_by)
    return {name: f"$.{name}" for name in group_by}
