"""Read and write all events and records of a SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import astuple

from outlay.server._records import Event, ReceivedEvent
from outlay.server._storage.sql import copy_tables
from outlay.server._storage.sql.copy_tables import SqlCopyReader
from outlay.server._storage.sql.events import EVENT_COLUMNS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from outlay.server._storage.copy_store import Row

# Background work folds all events into the rollups of a new definition.
_OF_COSTS: Final = {
    "folded_seq": "CASE WHEN :deleted_at IS NULL THEN 0 END",
    "since_seq": "(SELECT folded_seq FROM progress)",
    "definition": "(SELECT coalesce(max(definition), 0) + 1 FROM costs)",
}


class SqliteCopyReader(SqlCopyReader):
    """Reads from the connection of a `SqliteReader`."""

    _connection: sqlite3.Connection

    def count_received(self, upto: str | None = None) -> int:
        """Return the number of events, or of those up to one."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM events"
            " WHERE ?1 IS NULL OR seq <= (SELECT seq FROM events WHERE id = ?1)",
            (upto,),
        ).fetchone()
        return int(count)

    def received(self, after: str | None, limit: int) -> list[ReceivedEvent]:
        """Return the next events in the order of receipt."""
        rows = self._connection.execute(
            f"SELECT received_at, {EVENT_COLUMNS} FROM events WHERE seq >"  # noqa: S608 - a constant
            " coalesce((SELECT seq FROM events WHERE id = ?), 0) ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [ReceivedEvent(Event(*event), at) for at, *event in rows]


def insert_events(
    connection: sqlite3.Connection, events: Iterable[ReceivedEvent], start: int
) -> None:
    """Insert received events, numbered from ``start``."""
    connection.executemany(
        f"INSERT INTO events (seq, received_at, {EVENT_COLUMNS})"  # noqa: S608 - a constant
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        [
            # In the order of the columns. The last field is the decoded data.
            (seq, one.received_at, *astuple(one.event)[:-1])
            for seq, one in enumerate(events, start)
        ],
    )


def insert_records(
    connection: sqlite3.Connection, records: Iterable[tuple[str, Row]]
) -> None:
    """Insert rows of `RECORDS` into a file that has all events, and no records."""
    copy_tables.insert_records(connection, records, _OF_COSTS)
    connection.execute(
        "UPDATE progress SET last_definition ="
        " (SELECT coalesce(max(definition), 0) FROM costs)"
    )
