"""Define the bodies of responses, and of the events that are read on the hot path.

Responses leave absent fields out, because strict clients refuse null. Every instant has
an offset. Every decimal is a JSON number with all of its digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import msgspec

from outlay.server._metering.decimals import format_plain, parse_number

if TYPE_CHECKING:
    from decimal import Decimal

_NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - its text is followed by "Z"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TOO_FINE: Final = re.compile(r"(\.\d{6})\d+")
_LEAP_SECOND: Final = re.compile(r"([Tt ]\d\d:\d\d):60(?:\.\d+)?")
_MICROSECOND: Final = timedelta(microseconds=1)

FIRST_INSTANT: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST_INSTANT: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The first and the last instant of a datetime, in microseconds since 1970."""

# Raw is encoded verbatim. An encoder of Decimal would choose exponents itself.
Number: TypeAlias = Annotated[
    msgspec.Raw,
    msgspec.Meta(extra_json_schema={"type": "number", "description": "Exact decimal."}),
]

JsonObject: TypeAlias = Annotated[
    msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})
]
_JsonEvent: TypeAlias = Annotated[
    msgspec.Raw,
    msgspec.Meta(extra_json_schema={"$ref": "#/components/schemas/EventBody"}),
]


# The limits of these texts are checked elsewhere, with better messages.
_Text: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        extra_json_schema={
            "minLength": 1,
            "maxLength": 255,
            "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$",
        }
    ),
]
_ExternalId: TypeAlias = Annotated[
    str,
    msgspec.Meta(extra_json_schema={"pattern": "^[a-zA-Z0-9_-]{1,255}$"}),
]


class ResponseModel(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    """Common rules: camelCase names, and absent fields instead of null."""


class EventBody(ResponseModel):
    """One cost event, as posted."""

    type: _Text
    source: _Text
    data: JsonObject
    subject: _Text | None = None
    external_subject: _ExternalId | None = None
    namespace: str | None = None
    timestamp: datetime | None = None
    idempotency_key: _Text | None = None
    external_id: _ExternalId | None = None


class UndatedEventBody(ResponseModel):
    """The same, with its timestamp as text."""

    type: str
    source: str
    data: JsonObject
    subject: str | None = None
    external_subject: str | None = None
    namespace: str | None = None
    timestamp: str | None = None
    idempotency_key: str | None = None
    external_id: str | None = None


class BatchBody(ResponseModel):
    """Several events. Each is decoded alone, so that one cannot spoil the rest."""

    events: list[_JsonEvent]


class EventResponse(ResponseModel, tag_field="object", tag="event"):
    """An accepted event, or the first event with its key."""

    id: str
    type: str
    source: str
    namespace: str
    timestamp: str
    idempotency_key: str
    subject: str | None = None
    external_subject: str | None = None
    external_id: str | None = None


class BatchFailure(ResponseModel):
    """One refused event of a batch. A single post would be refused alike."""

    index: int
    status: int
    error: str
    message: str
    code: str | None = None
    idempotency_key: str | None = None


class BatchCounts(ResponseModel):
    """Counts of a batch by outcome. Duplicates count as successful."""

    total: int
    successful: int
    failed: int
    duplicates: int


class BatchResponse(ResponseModel, tag_field="object", tag="batchEvents"):
    """The outcome of each event of a batch, in the order of the batch."""

    successful: Sequence[EventResponse]
    failed: Sequence[BatchFailure]
    summary: BatchCounts


class CostResponse(ResponseModel, tag_field="object", tag="cost"):
    """A cost metric. Its unit cost is a string in plain notation."""

    id: str
    type: str
    name: str
    currency: str
    unit_cost: str
    product_id: str
    merchant_id: str
    created_at: str
    updated_at: str
    unit: str | None = None
    aggregation: str | None = None
    event_type: str | None = None
    value_property: str | None = None
    group_by: Mapping[str, str] | None = None


class ProductResponse(ResponseModel, tag_field="object", tag="product"):
    """A product."""

    id: str
    name: str
    description: str
    merchant_id: str
    metadata: Mapping[str, str]
    created_at: str
    updated_at: str


class Pagination(ResponseModel):
    """The position of a page in its list."""

    limit: int
    offset: int
    total: int


class CostList(ResponseModel, tag_field="object", tag="list"):
    """A page of costs, oldest first."""

    data: Sequence[CostResponse]
    pagination: Pagination


class ProductList(ResponseModel, tag_field="object", tag="list"):
    """A page of products, oldest first."""

    data: Sequence[ProductResponse]
    pagination: Pagination


class SummaryGroup(ResponseModel):
    """The quantity and cost of one combination of dimension values."""

    dimensions: Mapping[str, str]
    quantity: Number
    cost: Number
    cost_exact: str


class SummaryPoint(ResponseModel):
    """The quantity and cost of one window, ``windowStart <= t < windowEnd``."""

    window_start: str
    window_end: str
    quantity: Number
    cost: Number
    cost_exact: str


class ReportPeriod(ResponseModel):
    """The period of a report, ``from <= t < to``."""

    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")


class ClosedAdjustment(ResponseModel):
    """The part of a cost that belongs to a closed period, and counts in this one."""

    period: ReportPeriod
    cost_exact: str


class SummaryResponse(ResponseModel, tag_field="object", tag="cost"):
    """The quantity and cost of a metric in a period.

    Totals are null if there is no value to average or compare. The fields ``…Exact``,
    ``events``, ``excluded`` and ``otherCurrency`` are additions of this server.
    ``excluded`` counts the events of another currency as well. The cost is net:
    ``grossCostExact`` is without corrections, and ``correctionsExact`` the difference.
    """

    id: str
    name: str
    type: str
    currency: str
    total_cost: Number | None
    total_quantity: Number | None
    events: int
    excluded: int
    total_cost_exact: str | None = None
    total_quantity_exact: str | None = None
    event_type: str | None = None
    unit: str | None = None
    groups: Sequence[SummaryGroup] | None = None
    time_series: Sequence[SummaryPoint] | None = None
    other_currency: int = 0
    gross_cost_exact: str | None = None
    corrections_exact: str | None = None
    closed_adjustments: Sequence[ClosedAdjustment] | None = None


class ReportRange(ResponseModel):
    """The times of the first and of the last event."""

    first: str = msgspec.field(name="from")
    last: str = msgspec.field(name="to")


class PriorPeriod(ResponseModel):
    """The cost of a group in the prior period, and the change since then.

    The change is null for a group that cost nothing.
    """

    cost: Number
    change_percent: Number | None
    cost_exact: str


class ReportGroup(ResponseModel):
    """The totals of one group, or of all groups after the page (``isOther``)."""

    key: str
    label: str
    total_cost: Number
    total_quantity: Number
    percent_of_total: Number
    is_other: bool
    total_cost_exact: str
    unit: str | None = None
    prior_period: PriorPeriod | None = None
    corrections_exact: str | None = None


class ReportPoint(ResponseModel):
    """The costs of one window by group, ``windowStart <= t < windowEnd``."""

    window_start: str
    window_end: str
    groups: Mapping[str, Number]


class ReportResponse(ResponseModel, tag_field="object", tag="cost_report"):
    """The totals of costs in a period, by group.

    The fields ``…Exact`` are additions of this server.
    """

    currency: str
    period: ReportPeriod
    group_by: str
    total_cost: Number
    total_quantity: Number
    groups: Sequence[ReportGroup]
    time_series: Sequence[ReportPoint]
    available_dimensions: Sequence[str]
    pagination: Pagination
    group_count: int
    empty_group_count: int
    total_cost_exact: str
    total_quantity_exact: str
    warnings: Sequence[str] | None = None
    gross_cost_exact: str | None = None
    corrections_exact: str | None = None
    cost_range: ReportRange | msgspec.UnsetType | None = msgspec.UNSET


class HealthResponse(ResponseModel):
    """The server runs, and can read its database."""

    status: str


class MovingResponse(ResponseModel):
    """How far days of receipt are moved to ClickHouse.

    Attributes:
        waiting_days: The number of days that could be there, and are not.
        is_failing: Whether the last attempt failed. The log of the server says why.
        moved_until: The first instant of receipt that is not there. None if no day was
            moved yet.
    """

    waiting_days: int
    is_failing: bool
    moved_until: str | None = None


class ReadyResponse(ResponseModel):
    """The server takes events.

    Attributes:
        status: The word ``ready``.
        store: The kind of the store, such as ``PostgreSQL``.
        unfolded_rows: The rows that deferred work has yet to fold into totals.
        history: How far days are moved, if the server has a history.
    """

    status: str
    store: str
    unfolded_rows: int
    history: MovingResponse | msgspec.UnsetType = msgspec.UNSET


class VersionResponse(ResponseModel):
    """The version of the server."""

    version: str


encode: Final = msgspec.json.Encoder().encode
decode_event: Final = msgspec.json.Decoder(EventBody).decode
decode_undated_event: Final = msgspec.json.Decoder(UndatedEventBody).decode
decode_batch: Final = msgspec.json.Decoder(BatchBody).decode
decode_data: Final = msgspec.json.Decoder(
    dict[str, Any], float_hook=parse_number
).decode
"""Decodes a JSON object. Its numbers become int or exact Decimal."""


def json_number(value: Decimal) -> msgspec.Raw:
    """Return ``value`` as a JSON number with all of its digits."""
    return msgspec.Raw(format_plain(value).encode())


def parse_instant(text: str) -> datetime:
    """Return the instant of an RFC 3339 text, truncated to microseconds.

    The decoder would round, and move an event to the next month. A leap second is the
    last microsecond before the next minute.

    Raises:
        ValueError: The text is not RFC 3339.
    """
    text = _TOO_FINE.sub(r"\1", text)
    return msgspec.convert(_LEAP_SECOND.sub(r"\1:59.999999", text), datetime)


def to_microseconds(moment: datetime) -> int:
    """Return ``moment`` in microseconds since 1970. Without an offset it is UTC.

    Raises:
        ValueError: It lies outside the years 1 to 9999 in UTC.
    """
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    at = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if not FIRST_INSTANT <= at <= LAST_INSTANT:
        raise ValueError("must be in the years 1 to 9999 in UTC")
    return at


def midnight(day: date, zone: tzinfo) -> int:
    """Return the first instant of ``day`` in ``zone``, in microseconds since 1970."""
    return to_microseconds(datetime(day.year, day.month, day.day, tzinfo=zone))


def from_microseconds(at: int) -> datetime:
    """Return the aware UTC datetime of ``at`` microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=at)


def format_instant(at: int) -> str:
    """Return ``at`` microseconds since 1970 as RFC 3339 in UTC.

    The precision is milliseconds, as in the contract's examples, unless that would
    lose digits.
    """
    timespec = "microseconds" if at % 1000 else "milliseconds"
    return (_NAIVE_EPOCH + timedelta(microseconds=at)).isoformat(
        timespec=timespec
    ) + "Z"
