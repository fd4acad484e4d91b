"""Build the requests of the API, and read their responses. No input or output is here.

`outlay.api.Api` and `outlay.api.AsyncApi` send the same calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from outlay._model.money import to_exact_decimal
from outlay.api._models import (
    CUSTOMER,
    DEFAULT_PRODUCT,
    SUBJECT,
    Budget,
    BudgetPage,
    CostMetric,
    EventDetail,
    MetricPage,
    Product,
    ProductPage,
    Profitability,
    Report,
    StoredEventPage,
    Summary,
    UnmatchedTypes,
    Webhook,
    WebhookList,
    WebhookTest,
    paths_of,
)
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from outlay._model.settings import Settings
    from outlay.api._models import (
        BucketWidth,
        BudgetFields,
        EventFilters,
        MetricChanges,
        MetricFields,
        ReportOptions,
        SummaryOptions,
    )

Query: TypeAlias = "Mapping[str, str | Sequence[str]]"

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)

PAGE: Final = 100  # items a request, the most that the service allows

_BUDGETS: Final = "/v0/budgets"
_COSTS: Final = "/v0/costs"
_EVENTS: Final = "/v0/events"
_PRODUCTS: Final = "/v0/products"
_WEBHOOKS: Final = "/v0/webhooks"

# Numbers keep all of their digits in both directions.
decode: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and the function that reads its response.

    Attributes:
        method: The HTTP method.
        path: The path, encoded.
        read: The function that reads the body of a success. It raises ValueError for a
            body of another shape.
        query: The query's parameters.
        body: The JSON body, or None.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    query: Query = field(default_factory=dict)
    body: bytes | None = None


class CallBuilder:
    """Builds the calls for one organization."""

    def __init__(self, settings: Settings) -> None:
        self._namespace = settings.namespace
        self._currency = settings.currency

    # -- cost metrics

    def metrics(self, offset: int) -> Call[MetricPage]:
        """Return the call that lists cost metrics from ``offset`` on."""
        return Call("GET", _COSTS, _reader(MetricPage), self._page(offset))

    def metric(self, metric_id: str) -> Call[CostMetric]:
        """Return the call that reads a cost metric."""
        return Call("GET", _metric_path(metric_id), _reader(CostMetric))

    def create_metric(
        self, name: str, event_type: str, fields: MetricFields
    ) -> Call[CostMetric]:
        """Return the call that creates a cost metric."""
        definition = self.definition(name, event_type, fields)
        body = {"type": "metered", **_on_the_wire(definition, keep_none=False)}
        if self._namespace is not None:
            body["merchantId"] = self._namespace
        return Call("POST", _COSTS, _reader(CostMetric), body=_encode(body))

    def update_metric(self, metric_id: str, changes: MetricChanges) -> Call[CostMetric]:
        """Return the call that changes a cost metric."""
        fields: dict[str, Any] = {**changes}
        if changes.get("group_by") is not None:
            fields["group_by"] = paths_of(changes["group_by"])
        if "unit_cost" in changes:
            fields["unit_cost"] = _unit_cost(changes["unit_cost"])
        body = _encode(_on_the_wire(fields, keep_none=True))
        return Call("PATCH", _metric_path(metric_id), _reader(CostMetric), body=body)

    def delete_metric(self, metric_id: str) -> Call[None]:
        """Return the call that deletes a cost metric."""
        return Call("DELETE", _metric_path(metric_id), _read_nothing)

    def definition(
        self, name: str, event_type: str, fields: MetricFields
    ) -> dict[str, Any]:
        """Return all fields of a new cost metric, by the names of `CostMetric`."""
        aggregation = fields.get("aggregation", "SUM").upper()
        return {
            "name": name,
            "event_type": event_type,
            "aggregation": aggregation,
            "value_property": fields.get(
                "value_property", None if aggregation == "COUNT" else "$.amount"
            ),
            "unit_cost": _unit_cost(fields.get("unit_cost", 1)),
            "currency": fields.get("currency", self._currency).upper(),
            "unit": fields.get("unit"),
            "group_by": paths_of(fields.get("group_by")),
            "product_id": fields.get("product_id", DEFAULT_PRODUCT),
        }

    # -- products

    def products(self, offset: int) -> Call[ProductPage]:
        """Return the call that lists products from ``offset`` on."""
        return Call("GET", _PRODUCTS, _reader(ProductPage), self._page(offset))

    def create_product(self, name: str, description: str) -> Call[Product]:
        """Return the call that creates a product."""
        if self._namespace is None:
            raise ConfigError(
                "a product names its organization; pass namespace=, or set "
                "OUTLAY_NAMESPACE"
            )
        body = {
            "name": name,
            "description": description,
            "merchantId": self._namespace,
        }
        return Call("POST", _PRODUCTS, _reader(Product), body=_encode(body))

    # -- events, an extension of the reference server

    def events(
        self, filters: EventFilters, limit: int, cursor: str | None
    ) -> Call[StoredEventPage]:
        """Return the call that lists events after ``cursor``."""
        metric = filters.get("metric")
        query = _query(
            **_bounds(filters.get("start"), filters.get("end"), filters.get("as_of")),
            type=",".join(filters.get("event_types", ())) or None,
            subject=filters.get("customer_id"),
            costId=None if metric is None else metric_id(metric),
            filterGroupBy=_filter(metric, filters.get("where")),
            provenance=",".join(filters.get("provenance", ())) or None,
            idempotencyKey=filters.get("idempotency_key"),
            limit=limit,
            cursor=cursor,
        )
        return Call("GET", _EVENTS, _reader(StoredEventPage), query)

    def event(self, event_id: str) -> Call[EventDetail]:
        """Return the call that reads an event."""
        path = f"{_EVENTS}/{quote(event_id, safe='')}"
        return Call("GET", path, _reader(EventDetail))

    # -- totals

    def summary(
        self,
        metric: CostMetric | str,
        start: datetime,
        end: datetime,
        options: SummaryOptions,
    ) -> Call[Summary]:
        """Return the call that sums up a cost metric."""
        by = options.get("by", ())
        query = _query(
            **_bounds(start, end, options.get("as_of")),
            subject=options.get("customer_id"),
            groupBy=",".join(wire_name(metric, name) for name in by) or None,
            window=options.get("window"),
            filterGroupBy=_filter(metric, options.get("where")),
        )
        path = f"{_metric_path(metric_id(metric))}/summary"
        return Call("GET", path, partial(_read_summary, metric, by), query)

    def report(
        self,
        start: datetime,
        end: datetime,
        by: str,
        metrics: Sequence[CostMetric | str],
        options: ReportOptions,
    ) -> Call[Report]:
        """Return the call that reports several cost metrics."""
        descending = options.get("descending")
        empty_groups = options.get("empty_groups")
        query = _query(
            **_bounds(start, end, options.get("as_of")),
            groupBy=by,
            merchantId=self._namespace,
            costId=[metric_id(metric) for metric in metrics] or None,
            subject=options.get("customer_id"),
            filterGroupBy=_filter(None, options.get("where")),
            windowSize=options.get("window"),
            topN=options.get("top"),
            sort=options.get("sort"),
            sortDir=None if descending is None else ("asc", "desc")[descending],
            comparePriorPeriod=options.get("prior_period"),
            excludeEmpty=None if empty_groups is None else not empty_groups,
            currency=options.get("currency"),
            limit=options.get("limit"),
            offset=options.get("offset"),
        )
        return Call("GET", f"{_COSTS}/report", _reader(Report), query)

    def profitability(
        self,
        start: datetime,
        end: datetime,
        *,
        top: int,
        bucket_width: BucketWidth,
        currency: str | None,
        as_of: datetime | None,
    ) -> Call[Profitability]:
        """Return the call that compares revenue and cost by customer."""
        query = _query(
            **_bounds(start, end, as_of),
            merchantId=self._namespace,
            topN=top,
            bucketWidth=bucket_width,
            currency=currency,
        )
        return Call("GET", "/v0/profitability", _reader(Profitability), query)

    def unmatched(
        self, start: datetime, end: datetime, as_of: datetime | None
    ) -> Call[UnmatchedTypes]:
        """Return the call that lists the event types that no metric counts."""
        query = _query(**_bounds(start, end, as_of))
        return Call("GET", "/v0/unmatchedEvents", _reader(UnmatchedTypes), query)

    # -- budgets, an extension of the reference server

    def budgets(self, customer_id: str | None, offset: int) -> Call[BudgetPage]:
        """Return the call that lists budgets from ``offset`` on."""
        query = {**self._page(offset), **_query(customerId=customer_id)}
        return Call("GET", _BUDGETS, _reader(BudgetPage), query)

    def budget(self, budget_id: str) -> Call[Budget]:
        """Return the call that reads a budget."""
        return Call("GET", _path(_BUDGETS, budget_id), _reader(Budget))

    def set_budget(
        self,
        budget_id: str,
        name: str,
        limit: Decimal | int | str,
        fields: BudgetFields,
    ) -> Call[Budget]:
        """Return the call that creates or replaces a budget."""
        exact = to_exact_decimal(limit, allow_credits=True, field="limit")
        body = {"currency": self._currency, **fields, "name": name, "limit": exact}
        on_the_wire = {
            to_camel(key): value for key, value in body.items() if value is not None
        }
        path = _path(_BUDGETS, budget_id)
        return Call("PUT", path, _reader(Budget), body=_encode(on_the_wire))

    def delete_budget(self, budget_id: str) -> Call[None]:
        """Return the call that deletes a budget."""
        return Call("DELETE", _path(_BUDGETS, budget_id), _read_nothing)

    def webhooks(self) -> Call[WebhookList]:
        """Return the call that lists webhooks."""
        return Call("GET", _WEBHOOKS, _reader(WebhookList))

    def add_webhook(self, url: str) -> Call[Webhook]:
        """Return the call that adds a webhook."""
        return Call("POST", _WEBHOOKS, _reader(Webhook), body=_encode({"url": url}))

    def delete_webhook(self, webhook_id: str) -> Call[None]:
        """Return the call that deletes a webhook."""
        return Call("DELETE", _path(_WEBHOOKS, webhook_id), _read_nothing)

    def rotate_webhook(self, webhook_id: str) -> Call[Webhook]:
        """Return the call that gives a webhook a new secret."""
        path = f"{_path(_WEBHOOKS, webhook_id)}/rotate"
        return Call("POST", path, _reader(Webhook), body=b"{}")

    def test_webhook(self, webhook_id: str) -> Call[WebhookTest]:
        """Return the call that sends a test message."""
        path = f"{_path(_WEBHOOKS, webhook_id)}/test"
        return Call("POST", path, _reader(WebhookTest), body=b"{}")

    def _page(self, offset: int) -> Query:
        return _query(limit=PAGE, offset=offset, merchantId=self._namespace)


def metric_id(metric: CostMetric | str) -> str:
    """Return the id of a metric."""
    return metric if isinstance(metric, str) else metric.id


def has_definition(metric: CostMetric, definition: Mapping[str, Any]) -> bool:
    """Return whether a metric has these fields. The product does not matter."""
    return all(
        getattr(metric, name) == value
        for name, value in definition.items()
        if name != "product_id"
    )


def wire_name(metric: CostMetric | str | None, dimension: str) -> str:
    """Return the name of ``dimension`` on the wire."""
    own = metric.group_by if isinstance(metric, CostMetric) else ()
    return SUBJECT if dimension == CUSTOMER and CUSTOMER not in own else dimension


def _metric_path(identifier: str) -> str:
    return _path(_COSTS, identifier)


def _path(collection: str, identifier: str) -> str:
    return f"{collection}/{quote(identifier, safe='')}"


def _query(**parameters: object) -> Query:
    """Return the given parameters of a query as text. None means "not given"."""
    return {
        name: value if isinstance(value, list) else _query_text(value)
        for name, value in parameters.items()
        if value is not None
    }


def _query_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bounds(
    start: datetime | None, end: datetime | None, as_of: datetime | None
) -> dict[str, str]:
    """Return the parameters of a period, which may be open, and of its state.

    Raises:
        ConfigError: A time is not aware.
    """
    bounds = {}
    for name, parameter, moment in (
        ("start", "from", start),
        ("end", "to", end),
        ("as_of", "asOf", as_of),
    ):
        if moment is not None:
            bounds[parameter] = _instant(name, moment)
    return bounds


def _instant(name: str, moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ConfigError(
            f"{name}={moment!r} has no time zone; pass an aware datetime, such as "
            "datetime(2026, 11, 1, tzinfo=UTC)"
        )
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _filter(
    metric: CostMetric | str | None,
    where: Mapping[str, str | Sequence[str]] | None,
) -> str | None:
    """Return the values that count. A single value is in the contract's form."""
    if not where:
        return None
    return _encode(
        {wire_name(metric, name): _one_or_list(value) for name, value in where.items()}
    ).decode()


def _one_or_list(value: str | Sequence[str]) -> str | list[str]:
    if isinstance(value, str):
        return value
    return value[0] if len(value) == 1 else list(value)


def _unit_cost(value: Decimal | int | str) -> Decimal:
    # The service refuses a negative one, and says so.
    return to_exact_decimal(value, allow_credits=True, field="unit_cost")


_WIRE_NAMES: Final = {
    name: field.alias or name for name, field in CostMetric.model_fields.items()
}


def _on_the_wire(fields: Mapping[str, Any], *, keep_none: bool) -> dict[str, Any]:
    return {
        _WIRE_NAMES[name]: value
        for name, value in fields.items()
        if keep_none or (value is not None and value != {})
    }


def _reader(model: type[ModelT]) -> Callable[[bytes], ModelT]:
    return lambda content: model.model_validate(decode(content))


def _read_nothing(_: bytes) -> None:
    return None


def _read_summary(
    metric: CostMetric | str, by: Sequence[str], content: bytes
) -> Summary:
    """Read a summary, and name its dimensions as the call did."""
    summary = Summary.model_validate(decode(content))
    names = {wire_name(metric, name): name for name in by}
    groups = tuple(
        group.model_copy(
            update={
                "dimensions": {
                    names.get(name, name): value
                    for name, value in group.dimensions.items()
                }
            }
        )
        for group in summary.groups
    )
    return summary.model_copy(update={"groups": groups})
