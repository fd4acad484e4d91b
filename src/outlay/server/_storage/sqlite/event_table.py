"""Read single events from SQLite, by id, by key, and page by page.

A page is read backwards in the index by type and time. The events of several types are
merged. A page reads a bounded number of rows, even if few of many events are wanted.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from outlay.server._storage.event_filter import event_matcher
from outlay.server._storage.event_store import EventFilter, EventPage
from outlay.server._storage.sql.event_table import (
    ROW_COLUMNS,
    SCANNED_ROWS,
    EventPlace,
    SqlEventReader,
    received_event,
)
from outlay.server._storage.sql.events import CUSTOMER_COLUMN
from outlay.server._wire.response_models import FIRST_INSTANT, LAST_INSTANT

if TYPE_CHECKING:
    import sqlite3

    from outlay.server._records import ReceivedEvent

_ALL: Final = EventFilter()
_NEWEST_FIRST: Final = " ORDER BY at DESC, seq DESC"
_IN_PERIOD: Final = (
    "FROM events WHERE namespace = ? AND type = ? AND at >= ? AND (at, seq) < (?, ?)"
)


class _Period(NamedTuple):
    """The part of an organization's events that a page is in."""

    namespace: str
    start: int
    before: EventPlace


_Row: TypeAlias = Sequence[Any]
"""A row of `ROW_COLUMNS`."""


class SqliteEventReader(SqlEventReader):
    """Reads from the connection of a `SqliteReader`."""

    _connection: sqlite3.Connection

    def event_of_key(self, namespace: str, key: str) -> ReceivedEvent | None:
        """Return the event that an idempotency key stands for within its window."""
        # The newest keys are not in the table of receipts yet.
        return self._first_event(
            "FROM events WHERE namespace = ? AND key = ?"
            " AND seq > (SELECT noted_seq FROM progress) ORDER BY seq DESC LIMIT 1",
            namespace,
            key,
        ) or self._first_event(
            "FROM events WHERE seq ="
            " (SELECT seq FROM receipts WHERE namespace = ? AND key = ?)",
            namespace,
            key,
        )

    def _is_among(
        self, column: str, allowed: Collection[str]
    ) -> tuple[str, Sequence[str]]:
        # One parameter, because SQLite has a limit of parameters.
        values = msgspec.json.encode(sorted(allowed)).decode()
        return f"{column} IN (SELECT value FROM json_each(?))", [values]  # noqa: S608 - a constant

    def events(
        self, namespace: str, where: EventFilter, limit: int, cursor: str | None
    ) -> EventPage:
        """Return a page of events, the newest first."""
        before = EventPlace(LAST_INSTANT + 1 if where.end is None else where.end, 0)
        if cursor is not None:
            before = min(before, EventPlace.from_cursor(cursor))
        start = FIRST_INSTANT if where.start is None else where.start
        period = _Period(namespace, start, before)
        types = self._types(namespace) if where.types is None else [*where.types]
        last = self._last_scanned(period, types) if _is_narrow(where) else None
        sources = [self._of_type(period, each, last, where) for each in types]
        rows = _newest_first(sources)
        matches = event_matcher(where) if _needs_event(where) else None
        events: list[ReceivedEvent] = []
        for row in rows:
            received = received_event(row)
            if matches is None or matches(received.event):
                events.append(received)
                if len(events) == limit:
                    is_more = last is not None or next(rows, None) is not None
                    return EventPage(
                        events, _place_of(row).cursor() if is_more else None
                    )
        return EventPage(events, None if last is None else last.cursor())

    def _last_scanned(self, period: _Period, types: Sequence[str]) -> EventPlace | None:
        """Return the place of the oldest row that a page reads. None means all rows.

        It is found in the index alone. All types are read up to the same place, so
        that the next page begins there.
        """
        share = max(SCANNED_ROWS // max(len(types), 1), 1)
        places = [
            EventPlace(*row)
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
        last: EventPlace | None,
        where: EventFilter,
    ) -> Iterator[_Row]:
        """Return the rows of a type, the newest first, down to the place ``last``."""
        # SQLite finds the first row of a time in the index, but not that of a place.
        oldest = last or EventPlace(period.start, 0)
        wanted: list[str | int] = [*oldest]
        conditions = " AND (at, seq) >= (?, ?)"
        if where.as_of is not None:
            conditions += " AND received_at <= ?"
            wanted.append(where.as_of)
        if where.customers is not None:
            condition, values = self._is_among(CUSTOMER_COLUMN, where.customers)
            conditions += f" AND {condition}"
            wanted += values
        return self._connection.execute(
            f"SELECT {ROW_COLUMNS} {_IN_PERIOD}{conditions}{_NEWEST_FIRST}",
            (period.namespace, event_type, oldest.at, *period.before, *wanted),
        )


_place_values: Final = itemgetter(ROW_COLUMNS.split(", ").index("at"), 0)


def _place_of(row: _Row) -> EventPlace:
    return EventPlace(*_place_values(row))


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
