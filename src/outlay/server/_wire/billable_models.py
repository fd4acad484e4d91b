"""Define the bodies and queries about billable metrics and their meters."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from pydantic import BeforeValidator, Field

from outlay.server._wire.request_models import (
    AnyCaseAggregation,
    EventType,
    FilterGroupBy,
    GroupBy,
    Instant,
    JsonPath,
    ListQuery,
    LongText,
    MetricPatch,
    Names,
    PeriodQuery,
    ProductId,
    RequestModel,
    Text,
    ValueProperty,
    upper,
)
from outlay.server._wire.response_models import Number, Pagination, ResponseModel


class BillableMetricCreate(RequestModel):
    """A new billable metric. It counts the events of one type, without a price."""

    name: Text
    description: LongText
    unit: Text
    merchant_id: Text
    event_type: EventType
    aggregation: AnyCaseAggregation
    value_property: ValueProperty = None
    group_by: GroupBy | None = None
    event_from: Instant | None = None
    product_id: ProductId | None = None
    item_id: Text | None = None


class BillableMetricPatch(MetricPatch):
    """Changes to a billable metric. Null clears an optional field."""

    name: Text = Field(default_factory=str)
    description: LongText = Field(default_factory=str)
    unit: Text = Field(default_factory=str)
    event_type: EventType = Field(default_factory=str)
    value_property: JsonPath | None = None
    group_by: GroupBy | None = None
    event_from: Instant | None = None
    item_id: Text | None = None


class BillableMetricListQuery(ListQuery):
    """The wanted page of a list of billable metrics."""

    merchant_id: Text
    product_id: str | None = None
    item_id: str | None = None


class MeterQuery(PeriodQuery):
    """The period of a meter, and its breakdown."""

    subject: Text | None = None
    window_size: Annotated[
        Literal["MINUTE", "HOUR", "DAY", "MONTH"] | None, BeforeValidator(upper)
    ] = None
    filter_group_by: FilterGroupBy = Field(default_factory=dict)
    group_by: Names = ()
    group_limit: Annotated[int, Field(ge=1, le=500)] = 100
    group_offset: Annotated[int, Field(ge=0, le=100_000)] = 0
    as_of: Instant | None = None


class BillableMetricResponse(ResponseModel, tag_field="object", tag="billableMetric"):
    """A billable metric. The contract demands ``itemId``, which may be null."""

    id: str
    name: str
    description: str
    unit: str
    merchant_id: str
    aggregation: str
    product_id: str
    item_id: str | None
    created_at: str
    updated_at: str
    event_type: str | None = None
    value_property: str | None = None
    group_by: dict[str, str] | None = None
    event_from: str | None = None


class BillableMetricList(ResponseModel, tag_field="object", tag="list"):
    """A page of billable metrics, oldest first."""

    data: list[BillableMetricResponse]
    pagination: Pagination


class MeterWindow(ResponseModel):
    """The quantity of one window, ``windowStart <= t < windowEnd``."""

    window_start: str
    window_end: str
    value: Number


class MeterGroup(ResponseModel):
    """The quantity of one combination of dimension values."""

    group_by: dict[str, str]
    value: Number
    event_count: int


class MeterResponse(ResponseModel, tag_field="object", tag="meter"):
    """The quantity of a billable metric in a period.

    With windows and groups, both lists have an entry for each group and window, in the
    same order. ``totalValue`` is of all groups.
    """

    billable_metric_id: str
    total_value: Number
    windowed_values: list[MeterWindow] | msgspec.UnsetType = msgspec.UNSET
    grouped_values: list[MeterGroup] | msgspec.UnsetType = msgspec.UNSET
    group_count: int | msgspec.UnsetType = msgspec.UNSET
