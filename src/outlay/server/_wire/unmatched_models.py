"""Define the query and the response about events that no cost metric counts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from outlay.server._wire.request_models import Instant, RequestModel, check_end
from outlay.server._wire.response_models import ResponseModel


class UnmatchedQuery(RequestModel):
    """The period, ``from <= time < to``."""

    start: Annotated[Instant, Field(alias="from")]
    end: Annotated[Instant, Field(alias="to")]
    as_of: Instant | None = None

    @field_validator("end")
    @classmethod
    def _runs_forward(cls, end: int, others: ValidationInfo) -> int:
        return check_end(end, others)


class UnmatchedType(ResponseModel):
    """An event type without a cost metric, and its events in the period."""

    event_type: str
    events: int


class UnmatchedList(ResponseModel, tag_field="object", tag="list"):
    """The event types without a cost metric."""

    data: list[UnmatchedType]
