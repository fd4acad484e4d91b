"""Define the bodies of requests and responses about retention."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from outlay.server._wire.request_models import RequestModel
from outlay.server._wire.response_models import ResponseModel

MIN_DAYS: Final = 2  # longer than a dedupe window, in which events are looked up
MAX_DAYS: Final = 36_500


class RetentionChange(RequestModel):
    """How long the events of the organization are kept."""

    event_days: Annotated[int | None, Field(ge=MIN_DAYS, le=MAX_DAYS)]
    """The days. Null keeps them without a limit."""


class RetentionResponse(ResponseModel, tag_field="object", tag="retention"):
    """How long the events of the organization are kept. Absent means without a limit.

    Events before ``deletedBefore`` may be gone. Totals of full hours are not.
    """

    event_days: int | None = None
    deleted_before: str | None = None
