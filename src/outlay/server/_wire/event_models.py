"""Define the queries and the responses about single events."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
)

from outlay.server._wire.correction_models import (
    CorrectionResponse,  # noqa: TC001 - msgspec reads it
)
from outlay.server._wire.request_models import (
    FilterGroupBy,
    Instant,
    Names,
    PeriodQuery,
    RequestModel,
    Text,
    check_end,
)
from outlay.server._wire.response_models import (
    JsonObject,
    Number,
    Pagination,
    ResponseModel,
)

MAX_PAGE: Final = 200  # the contract's largest page of events
MAX_OFFSET: Final = 10_000  # events that are read and left out
_MAX_CURSOR_CHARS: Final = 100


class _Period(RequestModel):
    """A period without a need for either end."""

    start: Annotated[Instant | None, Field(alias="from")] = None
    end: Annotated[Instant | None, Field(alias="to")] = None

    @field_validator("end")
    @classmethod
    def _runs_forward(cls, end: int | None, others: ValidationInfo) -> int | None:
        return None if end is None else check_end(end, others)


class EventQuery(_Period):
    """The wanted events, and the page."""

    type: Names = ()
    subject: Text | None = None
    cost_id: Text | None = None
    filter_group_by: FilterGroupBy = Field(default_factory=dict)
    provenance: Names = ()
    idempotency_key: Text | None = None
    as_of: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    cursor: Annotated[str | None, Field(max_length=_MAX_CURSOR_CHARS)] = None


class EventRecord(ResponseModel, tag_field="object", tag="event"):
    """A stored event, as it was sent."""

    id: str
    type: str
    source: str
    namespace: str
    timestamp: str
    idempotency_key: str
    data: JsonObject
    received_at: str
    subject: str | None = None
    external_subject: str | None = None
    external_id: str | None = None
    provenance: str | None = None


class EventPageResponse(ResponseModel, tag_field="object", tag="list"):
    """A page of events, the newest first. The last page has no ``nextCursor``.

    A page may have fewer events than its limit, or none, and still a ``nextCursor``:
    the server reads a bounded number of events for each page.
    """

    data: list[EventRecord]
    next_cursor: str | None = None


class EventReceipt(ResponseModel):
    """The proof of an event's receipt.

    A further event with the same key is a duplicate until ``keyEndsAt``.
    """

    idempotency_key: str
    received_at: str
    key_ends_at: str


class EventUse(ResponseModel):
    """The part of one cost metric that an event is.

    ``excluded`` is the reason for which the event does not count. The quantity and the
    cost are those of the event alone, before its corrections.
    """

    cost_id: str
    name: str
    currency: str
    excluded: str | None = None
    quantity: Number | None = None
    cost: Number | None = None
    cost_exact: str | None = None


class EventDetail(ResponseModel, tag_field="object", tag="eventDetail"):
    """A stored event, its receipt, the origin of its price, and what it counts for.

    ``corrections`` has the newest 100 corrections of the event, the newest first.
    """

    event: EventRecord
    receipt: EventReceipt
    counts: list[EventUse]
    corrections: list[CorrectionResponse]
    provenance: str | None = None
    price: JsonObject | None = None


class MeterEventQuery(PeriodQuery):
    """The wanted raw events of a billable metric, and the page."""

    subject: Text | None = None
    external_id: Text | None = None
    external_subject: Text | None = None
    as_of: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 20
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET)] = 0


class MeterEvent(ResponseModel, tag_field="object", tag="meterEvent"):
    """A raw event in the contract's shape. An unlinked event has the subject ''."""

    id: str
    type: str
    source: str
    subject: str
    time: str
    idempotency_key: str
    data: JsonObject
    external_id: str | None = None
    external_subject: str | None = None


class MeterEventList(ResponseModel, tag_field="object", tag="list"):
    """A page of raw events, the newest first."""

    billable_metric_id: str
    events: list[MeterEvent]
    pagination: Pagination


class UnmatchedQuery(PeriodQuery):
    """The period, ``from <= time < to``."""

    as_of: Instant | None = None


class UnmatchedType(ResponseModel):
    """An event type without a cost metric, and its events in the period."""

    event_type: str
    events: int


class UnmatchedList(ResponseModel, tag_field="object", tag="list"):
    """The event types without a cost metric."""

    data: list[UnmatchedType]
