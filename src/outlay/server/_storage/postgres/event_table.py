"""Read single events from a ledger, by id and page by page.

A page is read backwards in the index by type and time. The events of several types are
merged. So a page reads a bounded number of rows, however many events there are.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server._storage.event_filter import event_matcher
from outlay.server._storage.event_store import EventFilter, EventPage
from outlay.server._storage.sql.event_table import (
    ROW_COLUMNS,
    SCANNED_ROWS,
    EventPlace,
    SqlEventReader,
    received_event,
)
from outlay.server._wire.response_models import FIRST_INSTANT, LAST_INSTANT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from outlay.server._records import ReceivedEvent

_FIRST_SLICE: Final = 128
_NEXT_SLICE: Final = 2048


class EventRow(NamedTuple):
    """A row of an event."""

    place: EventPlace
    received: ReceivedEvent


class PostgresEventReader(SqlEventReader):
    """Reads from one view."""

    def events(
        self, namespace: str, where: EventFilter, limit: int, cursor: str | None
    ) -> EventPage:
        """Return a page of events, the newest first."""
        before = EventPlace(LAST_INSTANT + 1 if where.end is None else where.end, 0)
        if cursor is not None:
            before = min(before, EventPlace.from_cursor(cursor))
        matches = event_matcher(where)
        last = LAST_INSTANT if where.as_of is None else where.as_of
        events: list[ReceivedEvent] = []
        rows = self._rows(namespace, where, before)
        for number, row in enumerate(rows, 1):
            if row.received.received_at <= last and matches(row.received.event):
                events.append(row.received)
            if len(events) == limit or number == SCANNED_ROWS:
                more = next(rows, None) is not None
                return EventPage(events, row.place.cursor() if more else None)
        return EventPage(events, None)

    def _rows(
        self, namespace: str, where: EventFilter, before: EventPlace
    ) -> Iterator[EventRow]:
        """Return the rows before a place, the newest first, of all wanted types."""
        types: Iterable[str] | None = where.types
        if types is None:
            types = self._types(namespace)
        start = FIRST_INSTANT if where.start is None else where.start
        return heapq.merge(
            *(self._of_type(namespace, each, start, before) for each in types),
            key=lambda row: row.place,
            reverse=True,
        )

    def _of_type(
        self, namespace: str, event_type: str, start: int, before: EventPlace
    ) -> Iterator[EventRow]:
        """Yield the rows of a type, in slices, because some are enough for a page."""
        limit = _FIRST_SLICE
        while True:
            rows = self._connection.execute(
                f"SELECT {ROW_COLUMNS} FROM events"
                " WHERE namespace = ? AND type = ? AND at >= ? AND at <= ?"
                " AND (at, seq) < (?, ?) ORDER BY at DESC, seq DESC LIMIT ?",
                (namespace, event_type, start, before.at, *before, limit),
            ).fetchall()
            found = [_row(row) for row in rows]
            yield from found
            if len(found) < limit:
                return
            before, limit = found[-1].place, _NEXT_SLICE


def _row(row: Sequence[Any]) -> EventRow:
    received = received_event(row)
    return EventRow(EventPlace(received.event.at, row[0]), received)
