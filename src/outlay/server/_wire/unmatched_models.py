"""Define the query and the response about events that no cost metric counts."""

from __future__ import annotations

from outlay.server._wire.request_models import Instant, PeriodQuery
from outlay.server._wire.response_models import ResponseModel


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
