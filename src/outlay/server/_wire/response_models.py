"""Bodies on the wire: what is read on the hot path, and everything that is answered.

Answers leave absent fields out (strict clients refuse null), carry offsets on every
instant, and write every decimal as a JSON number with all of its digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import msgspec

from outlay.server._metering.decimals import format_plain, parse_number

if TYPE_CHECKING:
    from decimal import Decimal

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

FIRST_INSTANT: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST_INSTANT: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""What a datetime can hold, in microseconds since 1970."""

# Encoded verbatim, hence Raw: an encoder of Decimal would choose exponents itself.
Number: TypeAlias = Annotated[
    msgspec.Raw,
    msgspec.Meta(extra_json_schema={"type": "number", "description": "Exact decimal."}),
]

_JsonObject: TypeAlias = Annotated[
    msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})
]
_JsonEvent: TypeAlias = Annotated[
    msgspec.Raw,
    msgspec.Meta(extra_json_schema={"$ref": "#/components/schemas/EventBody"}),
]


class _Body(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    """Common wire rules: camelCase names, absent instead of null."""


class EventBody(_Body):
    """One cost event, as posted."""

    type: str
    source: str
    data: _JsonObject
    subject: str | None = None
    external_subject: str | None = None
    namespace: str | None = None
    timestamp: datetime | None = None
    idempotency_key: str | None = None
    external_id: str | None = None


class BatchBody(_Body):
    """Several events; each is read on its own, so that one cannot spoil the rest."""

    events: list[_JsonEvent]


class EventResponse(_Body, tag_field="object", tag="event"):
    """An accepted event, or the first one with its key."""

    id: str
    type: str
    source: str
    namespace: str
    timestamp: str
    idempotency_key: str
    subject: str | None = None
    external_subject: str | None = None
    external_id: str | None = None


class BatchFailure(_Body):
    """One event of a batch that was refused, as a single post would have been."""

    index: int
    status: int
    error: str
    message: str
    code: str | None = None
    idempotency_key: str | None = None


class BatchCounts(_Body):
    """How many events of a batch fared how; duplicates are successful too."""

    total: int
    successful: int
    failed: int
    duplicates: int


class BatchResponse(_Body, tag_field="object", tag="batchEvents"):
    """What became of each event of a batch, in the order given."""

    successful: Sequence[EventResponse]
    failed: Sequence[BatchFailure]
    summary: BatchCounts


class CostResponse(_Body, tag_field="object", tag="cost"):
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


class ProductResponse(_Body, tag_field="object", tag="product"):
    """A product."""

    id: str
    name: str
    description: str
    merchant_id: str
    metadata: Mapping[str, str]
    created_at: str
    updated_at: str


class Pagination(_Body):
    """Which part of a list this is."""

    limit: int
    offset: int
    total: int


class CostList(_Body, tag_field="object", tag="list"):
    """A page of costs, oldest first."""

    data: Sequence[CostResponse]
    pagination: Pagination


class ProductList(_Body, tag_field="object", tag="list"):
    """A page of products, oldest first."""

    data: Sequence[ProductResponse]
    pagination: Pagination


class SummaryGroup(_Body):
    """The share of one combination of dimension values."""

    dimensions: Mapping[str, str]
    quantity: Number
    cost: Number
    cost_exact: str


class SummaryPoint(_Body):
    """The share of one window of time, ``windowStart <= t < windowEnd``."""

    window_start: str
    window_end: str
    quantity: Number
    cost: Number
    cost_exact: str


class SummaryResponse(_Body, tag_field="object", tag="cost"):
    """What a cost comes to over a period.

    Null totals: there is nothing to take an average or extreme of. The fields named
    exact, events and excluded are this server's own additions.
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


class ReportPeriod(_Body):
    """The period asked for, ``from <= t < to``."""

    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")


class ReportRange(_Body):
    """The first and the last instant at which there is an event; both included."""

    first: str = msgspec.field(name="from")
    last: str = msgspec.field(name="to")


class PriorPeriod(_Body):
    """What a group came to in the period before, and by how much that changed.

    No change is given for a group that came to nothing.
    """

    cost: Number
    change_percent: Number | None
    cost_exact: str


class ReportGroup(_Body):
    """What one group comes to, or all that are not shown (``isOther``)."""

    key: str
    label: str
    total_cost: Number
    total_quantity: Number
    percent_of_total: Number
    is_other: bool
    total_cost_exact: str
    unit: str | None = None
    prior_period: PriorPeriod | None = None


class ReportPoint(_Body):
    """The costs of one window of time by group, ``windowStart <= t < windowEnd``."""

    window_start: str
    window_end: str
    groups: Mapping[str, Number]


class ReportResponse(_Body, tag_field="object", tag="cost_report"):
    """What costs come to over a period, group by group.

    The fields named exact are this server's own additions.
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
    cost_range: ReportRange | msgspec.UnsetType | None = msgspec.UNSET


class HealthResponse(_Body):
    """The server is up, and can read its database."""

    status: str


encode: Final = msgspec.json.Encoder().encode
decode_event: Final = msgspec.json.Decoder(EventBody).decode
decode_batch: Final = msgspec.json.Decoder(BatchBody).decode
decode_data: Final = msgspec.json.Decoder(
    dict[str, Any], float_hook=parse_number
).decode
"""Decodes a JSON object; its numbers become int or exact Decimal."""


def json_number(value: Decimal) -> msgspec.Raw:
    """Return ``value`` as a JSON number with all of its digits."""
    return msgspec.Raw(format_plain(value).encode())


def to_microseconds(moment: datetime) -> int:
    """Return ``moment`` in microseconds since 1970; without an offset it is UTC.

    Raises:
        OverflowError: it lies outside of the years 1 to 9999 in UTC.
    """
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    at = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if not FIRST_INSTANT <= at <= LAST_INSTANT:
        raise OverflowError
    return at


def from_microseconds(at: int) -> datetime:
    """Return the aware UTC datetime of ``at`` microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=at)


def format_instant(at: int) -> str:
    """Return ``at`` microseconds since 1970 as RFC 3339 in UTC.

    In milliseconds, as the contract's examples, unless that would lose digits.
    """
    timespec = "microseconds" if at % 1000 else "milliseconds"
    return from_microseconds(at).replace(tzinfo=None).isoformat(timespec=timespec) + "Z"
