"""Define the query and the response about events that no cost metric counts."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from outlay.server._wire.request_models import Instant, RequestModel
from outlay.server._wire.response_models import ResponseModel


class UnmatchedQuery(RequestModel):
    """The period, ``from <= time < to``."""

    start: Annotated[Instant, Field(alias="from")]
    end: Annotated[Instant, Field(alias="to")]
    as_of: Instant | None = None

    @model_validator(mode="after")
    def _runs_forward(self) -> Self:
        if self.start >= self.end:
            raise ValueError("'from' must be before 'to'")
        return self


class UnmatchedType(ResponseModel):
    """An event type without a cost metric, and its events in the period."""

    event_type: str
    events: int


class UnmatchedList(ResponseModel, tag_field="object", tag="list"):
    """The event types without a cost metric."""

    data: list[UnmatchedType]
