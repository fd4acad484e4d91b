"""Read single events, and know their places: the part that both engines share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server._records import Event, ReceivedEvent
from outlay.server._storage.event_store import CursorError, EventFilter
from outlay.server._storage.sql.deleted_events import retention_of
from outlay.server._storage.sql.events import CUSTOMER_COLUMN, EVENT_COLUMNS
from outlay.server._storage.sql.unmatched_events import unmatched_types

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from outlay.server._records import Retention
    from outlay.server._storage.sql.connection import Connection

ROW_COLUMNS: Final = f"seq, received_at, {EVENT_COLUMNS}"
"""The columns of a row that `received_event` reads."""

SCANNED_ROWS: Final = 20_000
"""The most rows that one page reads: some 0.1 s."""

_CURSOR: Final = re.compile(r"(-?\d{1,20})_(\d{1,20})", re.ASCII)

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
    """The place of an event in pages: its time, and its order of receipt."""

    at: int
    seq: int

    @classmethod
    def from_cursor(cls, cursor: str) -> EventPlace:
        """Return the place that a cursor names.

        Raises:
            CursorError: No page has such a cursor.
        """
        found = _CURSOR.fullmatch(cursor)
        if found is None:
            raise CursorError("pass the nextCursor of the page before")
        return cls(int(found[1]), int(found[2]))

    def cursor(self) -> str:
        """Return the cursor of the page that begins before this place."""
        return f"{self.at}_{self.seq}"


class SqlEventReader:
    """Reads single events from one view."""

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
                condition, values = self._is_among(column, allowed)
                conditions.append(condition)
                wanted += values
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

    def unmatched_types(
        self, namespace: str, start: int, end: int, *, as_of: int | None = None
    ) -> dict[str, int]:
        """Return the number of events by type that no cost reads."""
        return unmatched_types(self._connection, namespace, start, end, as_of=as_of)

    def retention(self, namespace: str) -> Retention:
        """Return how long an organization's events are kept."""
        return retention_of(self._connection, namespace)

    def _is_among(
        self, column: str, allowed: Collection[str]
    ) -> tuple[str, Sequence[str]]:
        """Return the condition that a column has one of some values, and its values."""
        # NULL, because a list must not be empty in PostgreSQL.
        marks = ",".join(["NULL", *"?" * len(allowed)])
        return f"{column} IN ({marks})", sorted(allowed)

    def _types(self, namespace: str) -> list[str]:
        """Return the types of an organization's events."""
        rows = self._connection.execute(_TYPES, {"namespace": namespace})
        return [event_type for (event_type,) in rows]

    def _first_event(self, query: str, *parameters: str) -> ReceivedEvent | None:
        row = self._connection.execute(
            f"SELECT {ROW_COLUMNS} {query}", parameters
        ).fetchone()
        return None if row is None else received_event(row)


def received_event(row: Sequence[Any]) -> ReceivedEvent:
    """Return the event of a row of `ROW_COLUMNS`."""
    return ReceivedEvent(Event(*row[2:]), row[1])
