"""Read costs from a server, and create cost metrics on it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from pydantic import (
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from outlay._model.settings import is_loopback
from outlay.errors import RejectedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from outlay._model.settings import Settings

CUSTOMER: Final = "customer"
"""The dimension that every cost metric has."""

_SUBJECT: Final = "subject"
"""The name of `CUSTOMER` on the wire."""

DEFAULT_PRODUCT: Final = "prod_default"
"""The product of metrics that name none. The reference server knows it."""

UNAUTHORIZED_REMEDY: Final = (
    "type: export OUTLAY_API_KEY=<key>, with the key that 'outlay serve' printed at "
    "its first start"
)

_PAGE: Final = 100  # metrics a request, the most that the service allows


class _Wire(BaseModel):
    """Common rules: camelCase names on the wire, and unknown fields are ignored."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True
    )


def _none_to_empty(value: object) -> object:
    return {} if value is None else value


class CostMetric(_Wire):
    """A cost metric, which totals the events of one type."""

    id: str
    name: str
    currency: str
    unit_cost: Decimal
    event_type: str | None = None
    aggregation: str | None = None
    value_property: str | None = None
    unit: str | None = None
    group_by: Annotated[dict[str, str], BeforeValidator(_none_to_empty)] = {}

    @property
    def dimensions(self) -> list[str]:
        """The dimensions of the totals. `CUSTOMER` is always one."""
        return [*dict.fromkeys([CUSTOMER, *self.group_by])]

    def dimensions_among(self, names: Iterable[str]) -> list[str]:
        """Return the names that are dimensions of this metric."""
        return [name for name in names if name in self.dimensions]

    def wire_name(self, dimension: str) -> str:
        """Return the name of ``dimension`` on the wire."""
        if dimension == CUSTOMER and CUSTOMER not in self.group_by:
            return _SUBJECT
        return dimension


class _Pagination(_Wire):
    total: int


class _MetricList(_Wire):
    data: tuple[CostMetric, ...]
    pagination: _Pagination


# The reference server repeats each amount as a string, because some JSON readers know
# only binary floats. On other servers, the digits of the number are as exact.
_TOTAL: Final = AliasChoices("totalCostExact", "totalCost")
_SHARE: Final = AliasChoices("costExact", "cost")


class SummaryGroup(_Wire):
    """The cost of one combination of dimension values."""

    dimensions: dict[str, str]
    cost: Annotated[Decimal, Field(validation_alias=_SHARE)]


class SummaryWindow(_Wire):
    """The cost of one window of time."""

    window_start: AwareDatetime
    window_end: AwareDatetime
    cost: Annotated[Decimal, Field(validation_alias=_SHARE)]


class Summary(_Wire):
    """The totals of a cost metric over a period.

    Attributes:
        total: The total. None if no event has a value to average.
        events: The number of counted events. None if the server does not report it.
        excluded: The number of matching events without a usable value.
        groups: The totals by dimension, if the request named dimensions.
        time_series: The totals by window, if the request named a window.
    """

    total: Annotated[Decimal | None, Field(validation_alias=_TOTAL)]
    events: int | None = None
    excluded: int = 0
    groups: tuple[SummaryGroup, ...] = ()
    time_series: tuple[SummaryWindow, ...] = ()


class NewMetric(_Wire):
    """A cost metric to create; see `CostMetric`.

    Attributes:
        value_property: The JSONPath of the value that each event adds.
        unit_cost: The cost of one unit of the value. 1 if the value is money.
        group_by: The JSONPath of each dimension.
        product_id: The product of the metric. The service requires one.
    """

    type: str = "metered"
    name: str
    event_type: str
    value_property: str = "$.amount"
    aggregation: str = "SUM"
    currency: str = "USD"
    unit_cost: Decimal = Decimal(1)
    unit: str | None = None
    group_by: dict[str, str] | None = None
    product_id: str = DEFAULT_PRODUCT


ModelT = TypeVar("ModelT", bound=BaseModel)

# Numbers keep all of their digits in both directions.
_decode: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class ServerApi:
    """Reads costs from a server. Use as a context manager.

    Every method raises `RejectedError` if the server refuses, and `UnavailableError` if
    it does not respond or asks to come back later.

    Thread safety: Any thread may call any method.
    """

    def __init__(self, settings: Settings) -> None:
        self._base_url = settings.base_url
        self._namespace = settings.namespace
        headers = {"accept": "application/json", "content-type": "application/json"}
        if settings.api_key is not None:
            key = settings.api_key.get_secret_value()
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            headers=headers,
            timeout=settings.timeout,
            trust_env=not is_loopback(settings.base_url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def metrics(self) -> list[CostMetric]:
        """Return all cost metrics, in the server's order."""
        metrics: list[CostMetric] = []
        while True:
            query = {"limit": str(_PAGE), "offset": str(len(metrics))}
            if self._namespace is not None:
                query["merchantId"] = self._namespace
            page = self._call(_MetricList, "GET", "/v0/costs", query=query)
            metrics += page.data
            if not page.data or len(metrics) >= page.pagination.total:
                return metrics

    def create_metric(self, metric: NewMetric) -> CostMetric:
        """Create a cost metric. It also counts earlier events."""
        fields = metric.model_dump(by_alias=True, exclude_none=True)
        if self._namespace is not None:
            fields["merchantId"] = self._namespace
        return self._call(CostMetric, "POST", "/v0/costs", body=_encode(fields))

    def delete_metric(self, metric: CostMetric) -> None:
        """Delete a cost metric. Its events stay on the server."""
        self._request("DELETE", f"/v0/costs/{quote(metric.id, safe='')}")

    def summary(
        self,
        metric: CostMetric,
        start: datetime,
        end: datetime,
        *,
        by: Sequence[str] = (),
        window: str | None = None,
        where: Mapping[str, Sequence[str]] | None = None,
    ) -> Summary:
        """Return the totals of a metric for ``start <= t < end``.

        Args:
            metric: The metric.
            start: The start of the period, aware.
            end: The end of the period, aware.
            by: The dimensions that break the total down.
            window: MINUTE, HOUR, DAY or MONTH to break the total down by time. If
                None, it is not.
            where: The values that count, by dimension. Events with other values do
                not count.
        """
        query = {"from": start.isoformat(), "to": end.isoformat()}
        if by:
            query["groupBy"] = ",".join(map(metric.wire_name, by))
        if window is not None:
            query["window"] = window
        if where:
            query["filterGroupBy"] = _encode(
                {
                    metric.wire_name(name): values[0]
                    if len(values) == 1
                    else list(values)
                    for name, values in where.items()
                }
            ).decode()
        path = f"/v0/costs/{quote(metric.id, safe='')}/summary"
        return self._call(Summary, "GET", path, query=query)

    def _call(
        self,
        model: type[ModelT],
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> ModelT:
        response = self._request(method, path, query=query, body=body)
        try:
            return model.model_validate(_decode(response.content))
        except (msgspec.DecodeError, ValidationError) as error:
            raise RejectedError(
                f"{self._base_url} is not a cost service; check OUTLAY_BASE_URL",
                status=response.status_code,
            ) from error

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> httpx.Response:
        try:
            response = self._client.request(
                method, self._base_url + path, params=query, content=body
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnavailableError(
                f"no response from {self._base_url} ({error}); start the server, or "
                "set OUTLAY_BASE_URL",
                sent=not isinstance(error, httpx.ConnectError),
            ) from error
        if not response.is_success:
            raise _error_for(response)
        return response


_LATER: Final = frozenset({408, 425, 429})  # and all of 5xx


def _error_for(response: httpx.Response) -> RejectedError | UnavailableError:
    """Return the error of a response that is no success."""
    try:
        body = _decode(response.content)
    except msgspec.DecodeError:  # HTML of a proxy, or nothing
        body = {}
    status = response.status_code
    message = f"HTTP {status}: {body.get('message') or response.reason_phrase}"
    if status in _LATER or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return UnavailableError(message, sent=True)
    if status == httpx.codes.UNAUTHORIZED:
        message += f"; {UNAUTHORIZED_REMEDY}"
    return RejectedError(message, status=status, code=str(body.get("error", "")))
