"""Define the query of exports."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, ValidationInfo, field_validator

from outlay.server._wire.request_models import Instant, RequestModel, Text, check_end

MAX_ROWS: Final = 10_000
"""The most rows of a page, of which a page of totals may have some more."""


class ExportDataset(StrEnum):
    """The kind of the exported rows."""

    EVENTS = "events"
    TOTALS = "totals"
    FOCUS = "focus"


class ExportFormat(StrEnum):
    """The format of the exported rows."""

    CSV = "csv"
    JSONL = "jsonl"


class ExportQuery(RequestModel):
    """The period of an export, its rows and its format.

    A response has one page. The header ``Outlay-Next-Cursor`` continues it, and is
    absent after the last page. Only the first page of CSV has the names of columns.
    """

    start: Annotated[Instant, Field(alias="from")]
    end: Annotated[Instant, Field(alias="to")]
    dataset: ExportDataset = ExportDataset.EVENTS
    format: ExportFormat = ExportFormat.CSV
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = MAX_ROWS
    cursor: Text | None = None
    subject: Text | None = None
    as_of: Instant | None = None

    @field_validator("end")
    @classmethod
    def _runs_forward(cls, end: int, others: ValidationInfo) -> int:
        return check_end(end, others)
