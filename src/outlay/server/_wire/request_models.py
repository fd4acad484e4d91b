"""Validate the bodies and queries of requests other than ingest.

Bodies are decoded with exact decimals first, and validated here as Python values. A
JSON float would lose digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from outlay.server._metering.decimals import to_countable
from outlay.server._metering.jsonpath import PathError, compile_path
from outlay.server._records import Aggregation
from outlay.server._spelling import CURRENCY, Spelling
from outlay.server._wire.response_models import parse_instant, to_microseconds

CUSTOMER_DIMENSION: Final = "subject"
"""The dimension that every cost has: the customer."""

MAX_LIST: Final = 100  # the contract's largest page

# The contract's limits of a report.
MAX_TOP: Final = 25
MAX_DIMENSIONS: Final = 50  # of a metric; each makes posts slower
MAX_FILTER_CHARS: Final = 4096
MAX_FILTER_KEYS: Final = 5

_PATH_PATTERN: Final = r"^\$(\.[a-zA-Z0-9_]+)+$"
_SPACE_BEFORE_OFFSET: Final = re.compile(r" (\d\d:\d\d)$")


def upper(value: object) -> object:
    """Return text in capitals, and other values as they are."""
    return value.upper() if isinstance(value, str) else value


def lower(value: object) -> object:
    """Return text in small letters, and other values as they are."""
    return value.lower() if isinstance(value, str) else value


def exact_number(value: object) -> Decimal:
    """Return the exact number of a JSON number or a decimal string.

    Raises:
        ValueError: The value is neither.
    """
    number = to_countable(value)
    if number is None:
        raise ValueError("must be a number such as 1 or 0.000001")
    return number


def _path(value: str) -> str:
    try:
        compile_path(value)
    except PathError as error:
        raise ValueError(str(error)) from None
    return value


def _instant(value: object) -> int:
    # A '+' that was not escaped in a query arrives as a space.
    text = _SPACE_BEFORE_OFFSET.sub(r"+\1", str(value))
    try:
        return to_microseconds(parse_instant(text))
    except ValueError:
        raise ValueError(
            "must be an RFC 3339 instant such as 2026-01-01T00:00:00Z"
        ) from None


def _event_type(value: str) -> str:
    if "*" in value:
        raise ValueError(
            "must be one event type without '*'; create a metric for each type"
        )
    return value


def _dimension_name(value: str) -> str:
    if "," in value:
        raise ValueError("must hold no comma, because queries separate names by it")
    return value


def _fits_aggregation(path: str | None, others: ValidationInfo) -> str | None:
    check_value_property(others.data.get("aggregation"), path)
    return path


Text: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    Spelling(r"^[^\x00-\x1f\x7f]*$", "must hold no control characters"),
]
LongText: TypeAlias = Annotated[str, StringConstraints(max_length=10_000)]
EventType: TypeAlias = Annotated[Text, AfterValidator(_event_type)]
JsonPath: TypeAlias = Annotated[
    str,
    AfterValidator(_path),
    WithJsonSchema(
        {
            "type": "string",
            "description": "JSONPath (RFC 9535) that finds at most one value; "
            f"portable ones match {_PATH_PATTERN}",
        }
    ),
]
# Validated if it is absent, too, because some aggregations need it.
ValueProperty: TypeAlias = Annotated[
    JsonPath | None, AfterValidator(_fits_aggregation), Field(validate_default=True)
]
Currency: TypeAlias = Annotated[
    str,
    BeforeValidator(upper),
    CURRENCY,
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z]{3}$"}),
]
AnyCaseAggregation: TypeAlias = Annotated[Aggregation, BeforeValidator(upper)]
UnitCost: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(exact_number),
    Field(ge=0),
    WithJsonSchema({"type": "number", "minimum": 0}),
]
GroupBy: TypeAlias = Annotated[
    dict[Annotated[Text, AfterValidator(_dimension_name)], JsonPath],
    Field(max_length=MAX_DIMENSIONS),
]
ProductId: TypeAlias = Annotated[
    str,
    Spelling(
        "^prod_[a-zA-Z0-9]+$",
        "must be 'prod_' and then letters and digits, such as prod_ai",
    ),
]
Instant: TypeAlias = Annotated[
    int,
    BeforeValidator(_instant),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def known_zone(name: str) -> str:
    """Return the IANA name of a time zone as it is.

    Raises:
        ValueError: There is no such time zone.
    """
    if name not in available_timezones():
        raise ValueError(
            "must be the IANA name of a time zone, such as Europe/Berlin or UTC"
        )
    return str(ZoneInfo(name))


class RequestModel(BaseModel):
    """Common rules: camelCase names, and unknown fields are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


class CostCreate(RequestModel):
    """A new cost metric."""

    type: Literal["metered"]
    name: Text
    unit_cost: UnitCost
    currency: Currency
    product_id: ProductId
    event_type: EventType
    aggregation: AnyCaseAggregation
    value_property: ValueProperty = None
    group_by: GroupBy | None = None
    unit: Text | None = None
    merchant_id: Text | None = None


class CostMetricCreate(RequestModel):
    """A new cost metric in the older form, in which each unit costs 1."""

    name: Text
    event_type: EventType
    aggregation: AnyCaseAggregation = Aggregation.SUM
    value_property: ValueProperty = None
    currency: Currency | None = None
    group_by: GroupBy | None = None


class MetricPatch(RequestModel):
    """Changes to a metric of either kind."""

    def changes(self) -> dict[str, Any]:
        """Return the given fields by their Python names."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        if given.get("group_by", {}) is None:
            given["group_by"] = {}
        return given


class CostPatch(MetricPatch):
    """Changes to a cost. Null clears an optional field, absent fields stay."""

    # By a factory, because the description must not call these values defaults.
    name: Text = Field(default_factory=str)
    unit_cost: UnitCost = Field(default_factory=Decimal)
    currency: Currency = Field(default_factory=str)
    unit: Text | None = None
    aggregation: AnyCaseAggregation | None = None
    event_type: EventType | None = None
    value_property: JsonPath | None = None
    group_by: GroupBy | None = None


class ProductCreate(RequestModel):
    """A new product."""

    name: Text
    description: LongText
    merchant_id: Text
    metadata: dict[str, str] = {}


class ListQuery(RequestModel):
    """The wanted page of a list."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIST)] = 10
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0
    merchant_id: str | None = None


class CostListQuery(ListQuery):
    """The wanted page of a list of costs."""

    product_id: str | None = None


class Window(StrEnum):
    """The length of the windows of a time series, aligned to UTC."""

    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"
    MONTH = "MONTH"


def _split_names(value: object) -> object:
    """Split a comma-separated list."""
    if isinstance(value, str):
        return tuple(name for name in value.split(",") if name)
    return value


Names: TypeAlias = Annotated[
    tuple[str, ...], BeforeValidator(_split_names), WithJsonSchema({"type": "string"})
]
"""Names that are separated by commas."""


def _parse_filter(value: object) -> object:
    """Decode a JSON object of a dimension's name to its wanted value or values."""
    if not isinstance(value, str):
        return value
    try:
        wanted = msgspec.json.decode(value, type=dict[str, str | list[str]])
    except (msgspec.DecodeError, RecursionError):
        raise ValueError(
            'must be a JSON object of texts such as {"provider":"anthropic"}'
        ) from None
    return {
        name: frozenset([texts] if isinstance(texts, str) else texts)
        for name, texts in wanted.items()
    }


FilterGroupBy: TypeAlias = Annotated[
    Mapping[str, frozenset[str]],
    BeforeValidator(_parse_filter),
    WithJsonSchema({"type": "string", "contentMediaType": "application/json"}),
]


class PeriodQuery(RequestModel):
    """A request about a period, ``from <= time < to``."""

    start: Annotated[Instant, Field(alias="from")]
    end: Annotated[Instant, Field(alias="to")]

    @field_validator("end")
    @classmethod
    def _runs_forward(cls, end: int, others: ValidationInfo) -> int:
        return check_end(end, others)


class SummaryQuery(PeriodQuery):
    """The period of a summary, and its breakdown."""

    other_names: ClassVar = ("windowSize",)  # of parameters, see `_window_size`

    subject: Text | None = None
    group_by: Names = ()
    window: Annotated[Window | None, BeforeValidator(upper)] = None
    filter_group_by: FilterGroupBy = {}
    as_of: Instant | None = None

    @model_validator(mode="before")
    @classmethod
    def _window_size(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Accept the parameter's name in reports and meters."""
        if "windowSize" in values and "window" not in values:
            return {**values, "window": values["windowSize"]}
        return values


class ReportSort(StrEnum):
    """The value that ranks the groups of a report."""

    TOTAL_COST = "totalCost"
    TOTAL_QUANTITY = "totalQuantity"


class SortDirection(StrEnum):
    """The end of the ranking that comes first."""

    ASC = "asc"
    DESC = "desc"


def _limit_length(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_FILTER_CHARS:
        raise ValueError(f"has at most {MAX_FILTER_CHARS} characters")
    return value


def _limit_keys(value: Mapping[str, frozenset[str]]) -> Mapping[str, frozenset[str]]:
    if len(value) > MAX_FILTER_KEYS:
        raise ValueError(f"names at most {MAX_FILTER_KEYS} dimensions")
    return value


class ReportQuery(PeriodQuery):
    """The costs and the period of a report, its groups, and the wanted page."""

    group_by: Text
    merchant_id: str | None = None
    cost_id: tuple[str, ...] = ()
    subject: Text | None = None
    filter_group_by: Annotated[
        FilterGroupBy,
        BeforeValidator(_limit_length),
        AfterValidator(_limit_keys),
        WithJsonSchema(
            {
                "type": "string",
                "contentMediaType": "application/json",
                "maxLength": MAX_FILTER_CHARS,
            }
        ),
    ] = {}
    top_n: Annotated[int, Field(ge=1, le=MAX_TOP)] = 9
    compare_prior_period: bool = False
    exclude_empty: bool = False
    window_size: Annotated[
        Literal["HOUR", "DAY", "MONTH"] | None, BeforeValidator(upper)
    ] = None
    sort: ReportSort = ReportSort.TOTAL_COST
    sort_dir: SortDirection = SortDirection.DESC
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_LIST)] = 25
    currency: Currency | None = None
    as_of: Instant | None = None


def check_end(end: int, others: ValidationInfo) -> int:
    """Return the end of a period.

    Raises:
        ValueError: It is not after the start, which was validated before.
    """
    start = others.data.get("start")
    if start is not None and start >= end:
        raise ValueError("must be after 'from'")
    return end


def check_value_property(
    aggregation: Aggregation | None, value_property: str | None
) -> None:
    """Refuse an aggregation that lacks its value's path.

    Raises:
        ValueError: The aggregation needs a path.
    """
    needed = aggregation not in {
        None,
        Aggregation.COUNT,
        Aggregation.UNIQUE_COUNT,
    }
    if needed and value_property is None:
        raise ValueError(f"{aggregation} needs valueProperty, such as $.amount")
