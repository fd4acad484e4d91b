"""Read single events from SQLite, by id, by key, and page by page.

A page is read backwards in the index by type and time. The events of several types are
merged. A page reads a bounded number of rows, even if few of many events are wanted.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from outlay.server._records import Event, ReceivedEvent
from outlay.server._storage.event_filter import event_matcher
from outlay.server._storage.event_store import CursorError, EventFilter, EventPage
from outlay.server._storage.sql.events import CUSTOMER_COLUMN, EVENT_COLUMNS
from outlay.server._wire.response_models import FIRST_INSTANT, LAST_INSTANT

if TYPE_CHECKING:
    import sqlite3

SCANNED_ROWS: Final = 20_000
"""The most rows that one page reads: some 0.1 s."""

_ALL: Final = EventFilter()
_CURSOR: Final = re.compile(r"(-?\d{1,20})_(\d{1,20})", re.ASCII)
_COLUMNS: Final = f"seq, received_at, {EVENT_COLUMNS}"
_NEWEST_FIRST: Final = " ORDER BY at DESC, seq DESC"
_IN_PERIOD: Final = (
    "FROM events WHERE namespace = ? AND type = ? AND at >= ? AND (at, seq) < (?, ?)"
)

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


class _Place(NamedTuple):
    """The place of an event: its time, and its order of receipt."""

    at: int
    seq: int


class _Period(NamedTuple):
    """The part of an organization's events that a page is in."""

    namespace: str
    start: int
    before: _Place


_Row: TypeAlias = Sequence[Any]
"""A row of `_COLUMNS`."""


class SqliteEventReader:
    """Reads from the connection of a `SqliteReader`."""

    _connection: sqlite3.Connection

    def event(self, namespace: str, event_id: str) -> ReceivedEvent | None:
        """Return the event with this id."""
        return self._first(
            "FROM events WHERE id = ? AND namespace = ?", event_id, namespace
        )

    def event_of_key(self, namespace: str, key: str) -> ReceivedEvent | None:
        """Return the event that an idempotency key stands for within its window."""
        # The newest keys are not in the table of receipts yet.
        return self._first(
            "FROM events WHERE namespace = ? AND key = ?"
            " AND seq > (SELECT noted_seq FROM progress) ORDER BY seq DESC LIMIT 1",
            namespace,
            key,
        ) or self._first(
            "FROM events WHERE seq ="
            " (SELECT seq FROM receipts WHERE namespace = ? AND key = ?)",
            namespace,
            key,
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
                conditions.append(f"{column} IN (SELECT value FROM json_each(?))")  # noqa: S608 - constants of this function
                wanted.append(msgspec.json.encode(sorted(allowed)).decode())
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
            f"SELECT count(*) FROM events WHERE {' AND '.join(conditions)}",  # noqa: S608 - constants of this function
            wanted,
        ).fetchone()
        return int(count)

    def events(
        self, namespace: str, where: EventFilter, limit: int, cursor: str | None
    ) -> EventPage:
        """Return a page of events, the newest first."""
        before = _Place(LAST_INSTANT + 1 if where.end is None else where.end, 0)
        if cursor is not None:
            before = min(before, _place(cursor))
        start = FIRST_INSTANT if where.start is None else where.start
        period = _Period(namespace, start, before)
        types = self._types(namespace) if where.types is None else [*where.types]
        last = self._last_scanned(period, types) if _is_narrow(where) else None
        sources = [self._of_type(period, each, last, where) for each in types]
        rows = _newest_first(sources)
        matches = event_matcher(where) if _needs_event(where) else None
        events: list[ReceivedEvent] = []
        for row in rows:
            received = _received(row)
            if matches is None or matches(received.event):
                events.append(received)
                if len(events) == limit:
                    is_more = last is not None or next(rows, None) is not None
                    return EventPage(
                        events, _cursor(_place_of(row)) if is_more else None
                    )
        return EventPage(events, None if last is None else _cursor(last))

    def _types(self, namespace: str) -> list[str]:
        rows = self._connection.execute(_TYPES, {"namespace": namespace})
        return [event_type for (event_type,) in rows]

    def _last_scanned(self, period: _Period, types: Sequence[str]) -> _Place | None:
        """Return the place of the oldest row that a page reads. None means all rows.

        It is found in the index alone. All types are read up to the same place, so
        that the next page begins there.
        """
        share = max(SCANNED_ROWS // max(len(types), 1), 1)
        places = [
            _Place(*row)
            for each in types
            for row in self._connection.execute(
                f"SELECT at, seq {_IN_PERIOD}{_NEWEST_FIRST} LIMIT 1 OFFSET ?",
                (period.namespace, each, period.start, *period.before, share - 1),
            )
        ]
        return max(places, default=None)

    def _of_type(
        self,
        period: _Period,
        event_type: str,
        last: _Place | None,
        where: EventFilter,
    ) -> Iterator[_Row]:
        """Return the rows of a type, the newest first, down to the place ``last``."""
        # SQLite finds the first row of a time in the index, but not that of a place.
        oldest = last or _Place(period.start, 0)
        wanted: list[str | int] = [*oldest]
        conditions = " AND (at, seq) >= (?, ?)"
        if where.as_of is not None:
            conditions += " AND received_at <= ?"
            wanted.append(where.as_of)
        if where.customers is not None:
            conditions += f" AND {CUSTOMER_COLUMN} IN (SELECT value FROM json_each(?))"  # noqa: S608 - a constant
            wanted.append(msgspec.json.encode(sorted(where.customers)).decode())
        return self._connection.execute(
            f"SELECT {_COLUMNS} {_IN_PERIOD}{conditions}{_NEWEST_FIRST}",
            (period.namespace, event_type, oldest.at, *period.before, *wanted),
        )

    def _first(self, query: str, *parameters: str) -> ReceivedEvent | None:
        row = self._connection.execute(
            f"SELECT {_COLUMNS} {query}",
            parameters,
        ).fetchone()
        return None if row is None else _received(row)


_place_values: Final = itemgetter(_COLUMNS.split(", ").index("at"), 0)


def _place_of(row: _Row) -> _Place:
    return _Place(*_place_values(row))


def _received(row: _Row) -> ReceivedEvent:
    return ReceivedEvent(Event(*row[2:]), row[1])


def _newest_first(sources: Sequence[Iterator[_Row]]) -> Iterator[_Row]:
    """Return the rows of all sources in the order of each, the newest first."""
    if len(sources) == 1:
        return sources[0]  # A merge would take half of the time of an export.
    return heapq.merge(*sources, key=_place_values, reverse=True)


def _needs_event(where: EventFilter) -> bool:
    """Return whether a filter has a condition that the statement does not check."""
    unchecked = where._replace(
        types=None, customers=None, start=None, end=None, as_of=None
    )
    return unchecked != _ALL


def _is_narrow(where: EventFilter) -> bool:
    """Return whether a filter may match few of many rows."""
    if where.customers is not None or where.as_of is not None:
        return True
    return bool(where.values)


def _cursor(place: _Place) -> str:
    return f"{place.at}_{place.seq}"


def _place(cursor: str) -> _Place:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise CursorError("pass the nextCursor of the page before")
    return _Place(int(found[1]), int(found[2]))
