"""Read single events from a ledger, by id and page by page.

A page is read backwards in the index by type and time. The events of several types are
merged. So a page reads a bounded number of rows, however many events there are.
"""

from __future__ import annotations

import heapq
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server._records import Event, ReceivedEvent
from outlay.server._storage.event_filter import event_matcher
from outlay.server._storage.event_store import CursorError, EventFilter, EventPage
from outlay.server._storage.sql.events import CUSTOMER_COLUMN, EVENT_COLUMNS
from outlay.server._wire.response_models import FIRST_INSTANT, LAST_INSTANT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from outlay.server._storage.sql.connection import Connection

SCANNED_ROWS: Final = 20_000
"""The most rows that one page reads: some 0.1 s."""

_FIRST_SLICE: Final = 128
_NEXT_SLICE: Final = 2048
_CURSOR: Final = re.compile(r"(-?\d{1,20})_(\d{1,20})", re.ASCII)
_COLUMNS: Final = f"seq, received_at, {EVENT_COLUMNS}"

# Jumps from type to type in the index, instead of reading all of an organization.
_TYPES: Final = """
    WITH RECURSIVE found(type) AS (
        SELECT min(type) FROM events WHERE namespace = :namespace
        UNION ALL
        SELECT (SELECT min(type) FROM events
                WHERE namespace = :namespace AND type > found.type)
        FROM found WHERE found.type IS NOT NULL
    )
    SELECT type FROM found WHERE type IS NOT NULL
"""


class EventPlace(NamedTuple):
    """The place of an event: its time, and its order of receipt."""

    at: int
    seq: int


class EventRow(NamedTuple):
    """A row of an event."""

    place: EventPlace
    received: ReceivedEvent


class PostgresEventReader:
    """Reads from one view."""

    _connection: Connection

    def event(self, namespace: str, event_id: str) -> ReceivedEvent | None:
        """Return the event with this id."""
        return self._first_event(
            "FROM events WHERE id = ? AND namespace = ?", event_id, namespace
        )

    def count_events(self, namespace: str, where: EventFilter) -> int:
        """Return the number of wanted events."""
        if where.values:
            raise NotImplementedError("values are in the data, which is not read here")
        conditions = ["namespace = ?"]
        wanted: list[str | int] = [namespace]
        for column, allowed in (
            ("type", where.types),
            (CUSTOMER_COLUMN, where.customers),
        ):
            if allowed is not None:
                # NULL, because a list must not be empty in PostgreSQL.
                marks = ",".join(["NULL", *"?" * len(allowed)])
                conditions.append(f"{column} IN ({marks})")
                wanted += sorted(allowed)
        for condition, value in (
            ("at >= ?", where.start),
            ("at < ?", where.end),
            ("received_at <= ?", where.as_of),
            ("key = ?", where.key),
            ("external_id = ?", where.external_id),
            ("external_subject = ?", where.external_subject),
        ):
            if value is not None:
                conditions.append(condition)
                wanted.append(value)
        (count,) = self._connection.execute(
            f"SELECT count(*) FROM events WHERE {' AND '.join(conditions)}",
            wanted,
        ).fetchone()
        return int(count)

    def events(
        self, namespace: str, where: EventFilter, limit: int, cursor: str | None
    ) -> EventPage:
        """Return a page of events, the newest first."""
        before = EventPlace(LAST_INSTANT + 1 if where.end is None else where.end, 0)
        if cursor is not None:
            before = min(before, _place(cursor))
        matches = event_matcher(where)
        last = LAST_INSTANT if where.as_of is None else where.as_of
        events: list[ReceivedEvent] = []
        rows = self._rows(namespace, where, before)
        for number, row in enumerate(rows, 1):
            if row.received.received_at <= last and matches(row.received.event):
                events.append(row.received)
            if len(events) == limit or number == SCANNED_ROWS:
                more = next(rows, None) is not None
                return EventPage(events, _cursor(row.place) if more else None)
        return EventPage(events, None)

    def _rows(
        self, namespace: str, where: EventFilter, before: EventPlace
    ) -> Iterator[EventRow]:
        """Return the rows before a place, the newest first, of all wanted types."""
        types: Iterable[str] | None = where.types
        if types is None:
            found = self._connection.execute(_TYPES, {"namespace": namespace})
            types = [event_type for (event_type,) in found]
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
                f"SELECT {_COLUMNS} FROM events"
                " WHERE namespace = ? AND type = ? AND at >= ? AND at <= ?"
                " AND (at, seq) < (?, ?) ORDER BY at DESC, seq DESC LIMIT ?",
                (namespace, event_type, start, before.at, *before, limit),
            ).fetchall()
            found = [_row(row) for row in rows]
            yield from found
            if len(found) < limit:
                return
            before, limit = found[-1].place, _NEXT_SLICE

    def _first_event(self, query: str, *parameters: str) -> ReceivedEvent | None:
        row = self._connection.execute(
            f"SELECT {_COLUMNS} {query}",
            parameters,
        ).fetchone()
        return None if row is None else _row(row).received


def _row(row: Sequence[Any]) -> EventRow:
    seq, received_at, *columns = row
    event = Event(*columns)
    return EventRow(EventPlace(event.at, seq), ReceivedEvent(event, received_at))


def _cursor(place: EventPlace) -> str:
    return f"{place.at}_{place.seq}"


def _place(cursor: str) -> EventPlace:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise CursorError("pass the nextCursor of the page before")
    return EventPlace(int(found[1]), int(found[2]))
