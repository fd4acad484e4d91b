"""Define the bodies and queries of corrections and closed periods."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - pydantic reads it
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import Field, StringConstraints, model_validator

from outlay.server._wire.request_models import (
    FilterGroupBy,
    Instant,
    ListQuery,
    RequestModel,
    Text,
)
from outlay.server._wire.response_models import (
    Pagination,
    ReportPeriod,
    ResponseModel,
)
from outlay.server._wire.revenue_models import Money, Month  # noqa: TC001

MAX_EVENTS: Final = 1000
"""The most events that one request corrects."""

Reason: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class VoidBody(RequestModel):
    """The reason why an event does not count."""

    reason: Reason
    idempotency_key: Text | None = None


class AdjustBody(RequestModel):
    """The amount to add to what an event counts in one SUM metric."""

    cost_id: Text
    delta: Money
    reason: Reason
    idempotency_key: Text | None = None


class RevertBody(VoidBody):
    """The reason why a correction does not hold."""


class CorrectionsBody(RequestModel):
    """A correction of all events that a filter finds, the newest first.

    A request corrects at most 1000 events. ``nextCursor`` of its response continues.
    ``filterBy`` has texts of values in the data, by JSONPath.
    """

    kind: Literal["void", "adjust"]
    reason: Reason
    idempotency_key: Text
    types: Sequence[Text] | None = None
    customer_ids: Sequence[Text] | None = None
    start: Annotated[Instant | None, Field(alias="from")] = None
    end: Annotated[Instant | None, Field(alias="to")] = None
    filter_by: FilterGroupBy = Field(default_factory=dict)
    cost_id: Text | None = None
    delta: Money | None = None
    dry_run: bool = False
    cursor: Text | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        given = {self.cost_id is not None, self.delta is not None}
        if given != {self.kind == "adjust"}:
            raise ValueError("costId and delta belong to adjust, which needs both")
        if not (self.types or self.customer_ids or self.filter_by) and None in {
            self.start,
            self.end,
        }:
            raise ValueError(
                "name types, customerIds, filterBy, or both from and to, so that not "
                "every event is corrected"
            )
        return self


class CorrectionListQuery(ListQuery):
    """The wanted page of corrections."""

    event_id: Text | None = None


class PeriodBody(RequestModel):
    """The month to close, in UTC."""

    period: Month


# Responses.


class CorrectionResponse(ResponseModel, tag_field="object", tag="correction"):
    """A correction of an event."""

    id: str
    kind: str
    event_id: str
    reason: str
    idempotency_key: str
    created_at: str
    created_by: str
    cost_id: str | None = None
    delta: str | None = None
    reverts: str | None = None


class CorrectionList(ResponseModel, tag_field="object", tag="list"):
    """A page of corrections, newest first."""

    data: Sequence[CorrectionResponse]
    pagination: Pagination


class CorrectionsResponse(ResponseModel, tag_field="object", tag="corrections"):
    """The outcome of a correction of many events.

    Attributes:
        matched: The number of events that the filter found.
        corrected: The number of events that were corrected, or would be in a dry run.
        unchanged: The number of events that were void, or were corrected before with
            the same idempotency key.
    """

    dry_run: bool
    matched: int
    corrected: int
    unchanged: int
    next_cursor: str | None = None


class PeriodResponse(ResponseModel, tag_field="object", tag="closedPeriod"):
    """A closed period."""

    period: ReportPeriod
    closed_at: str
    closed_by: str


class PeriodList(ResponseModel, tag_field="object", tag="list"):
    """All closed periods, oldest first."""

    data: Sequence[PeriodResponse]
