"""Export events and totals as text, page by page."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._services.export_rows import (
    EVENT_COLUMNS,
    TOTAL_COLUMNS,
    TotalKind,
    encode_json_lines,
    event_page,
    total_page,
    total_rows,
)
from outlay.server._services.focus import FOCUS_COLUMNS, FOCUS_DIMENSIONS, focus_rows
from outlay.server._services.invoiced_costs import InvoicedCosts
from outlay.server._storage.event_store import CursorError
from outlay.server._wire.export_models import ExportDataset, ExportFormat
from outlay.server._wire.problems import FieldError, invalid_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outlay.server._services.export_rows import Row, RowPage
    from outlay.server._storage.store import Reader, Views
    from outlay.server._wire.export_models import ExportQuery

_COLUMNS: Final = {
    ExportDataset.EVENTS: EVENT_COLUMNS,
    ExportDataset.TOTALS: TOTAL_COLUMNS,
    ExportDataset.FOCUS: FOCUS_COLUMNS,
}


class ExportPage(NamedTuple):
    """A page of an export, as text, and the cursor of the next one or None."""

    body: bytes
    cursor: str | None


class ExportService:
    """Exports events and totals. Thread safety: any thread.

    Memory is bounded by the page, whatever the size of the export.

    Args:
        store: The store, for reading.
        default_currency: The currency of events that name none.
        now: The source of the time, in microseconds since 1970.
    """

    def __init__(
        self, store: Views, default_currency: str, now: Callable[[], int]
    ) -> None:
        self._store = store
        self._default_currency = default_currency
        self._now = now

    def page(self, namespace: str, query: ExportQuery) -> ExportPage:
        """Return a page of an export.

        Raises:
            HttpProblem: 400, because the cursor is not one of this export.
        """
        try:
            with self._store.reading() as reader:
                page = self._rows(reader, namespace, query)
        except CursorError as error:
            raise invalid_fields(
                [FieldError("cursor", str(error), "INVALID_CURSOR")]
            ) from None
        columns = _COLUMNS[query.dataset]
        if query.format is ExportFormat.CSV:
            header = [columns] if query.cursor is None else []
            return ExportPage(_csv([*header, *page.rows]), page.cursor)
        return ExportPage(_json_lines(columns, page.rows), page.cursor)

    def _rows(self, reader: Reader, namespace: str, query: ExportQuery) -> RowPage:
        if query.dataset is ExportDataset.EVENTS:
            return event_page(reader, namespace, query)
        if query.dataset is ExportDataset.FOCUS:
            invoiced = InvoicedCosts(reader, namespace, self._default_currency, query)
            kind = TotalKind(focus_rows, FOCUS_DIMENSIONS, invoiced.split)
        else:
            kind = TotalKind(total_rows, {})
        return total_page(reader, namespace, query, kind, self._now())


def _csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _json_lines(columns: Sequence[str], rows: Sequence[Row]) -> bytes:
    return encode_json_lines([dict(zip(columns, row, strict=True)) for row in rows])
