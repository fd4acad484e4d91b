"""Define the query of exports."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from outlay.server._wire.request_models import Instant, PeriodQuery, Text

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


class ExportQuery(PeriodQuery):
    """The period of an export, its rows and its format.

    A response has one page. The header ``Outlay-Next-Cursor`` continues it, and is
    absent after the last page. Only the first page of CSV has the names of columns.
    """

    dataset: ExportDataset = ExportDataset.EVENTS
    format: ExportFormat = ExportFormat.CSV
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = MAX_ROWS
    cursor: Text | None = None
    subject: Text | None = None
    as_of: Instant | None = None
