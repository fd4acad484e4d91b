"""Read and write all records of a SQLite file in the form of `RECORDS`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from msgspec.structs import astuple

from outlay.server._records import Event, ReceivedEvent
from outlay.server._storage.copy_store import RECORDS
from outlay.server._storage.sql.events import EVENT_COLUMNS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from outlay.server._storage.copy_store import Row

_COMPLETE: Final = "SELECT number FROM revenue_imports WHERE completed_at IS NOT NULL"
_LINES: Final = (
    "(SELECT *, row_number() OVER (ORDER BY number) AS place FROM revenue_lines"  # noqa: S608 - a constant
    f" WHERE import IN ({_COMPLETE}))"
)

# What differs from "the columns of the table of this name, in order of insertion".
_EXPRESSIONS: Final = {
    ("entries", "correction"): (
        "(SELECT id FROM corrections WHERE number = entries.correction)"
    ),
    ("webhook_messages", "webhook"): (
        "(SELECT id FROM webhooks WHERE number = webhook_messages.webhook)"
    ),
    ("revenue_lines", "import"): (
        "(SELECT id FROM revenue_imports WHERE number = l.import)"
    ),
    ("revenue_lines", "replaces"): (
        f"(SELECT place FROM {_LINES} WHERE number = l.replaces)"  # noqa: S608 - a constant
    ),
}
_SOURCES: Final = {
    "budgets": "budgets ORDER BY namespace, id",
    "passed_thresholds": (
        "passed_thresholds ORDER BY namespace, budget, revision, start_at, percent"
    ),
    "webhook_messages": (
        "webhook_messages ORDER BY namespace, created_at, message_id, attempts"
    ),
    "api_keys": "api_keys ORDER BY created_at, id",
    "closed_periods": "closed_periods ORDER BY namespace, start_at",
    "customers": "customers ORDER BY namespace, id",
    "products": "products ORDER BY rowid",
    "retention": "retention ORDER BY namespace",
    "revenue_imports": (
        "revenue_imports WHERE completed_at IS NOT NULL ORDER BY number"
    ),
    "revenue_lines": f"{_LINES} AS l ORDER BY number",
}
_SPECIAL_INSERTS: Final = {
    "entries": (
        "INSERT INTO entries (correction, seq, namespace, type, event_id, event_at,"
        " customer, data, effective_at, created_at, sign, cost_id, delta, closed_start)"
        " VALUES ((SELECT number FROM corrections WHERE id = ?1),"
        " (SELECT seq FROM events WHERE id = ?4 AND namespace = ?2),"
        " ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
    ),
    "webhook_messages": (
        "INSERT INTO webhook_messages (webhook, attempts, created_at, message_id,"
        " message, namespace, budget) VALUES"
        " ((SELECT number FROM webhooks WHERE id = ?1 AND namespace = ?6),"
        " ?2, ?3, ?4, ?5, ?6, ?7)"
    ),
    # The file had no line before, so that a line's number is its place.
    "revenue_lines": (
        "INSERT INTO revenue_lines (import, namespace, key, customer, start_at, end_at,"
        " amount, currency, source, replaces) VALUES"
        " ((SELECT number FROM revenue_imports WHERE id = ?1 AND namespace = ?2),"
        " ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
    ),
}


class SqliteCopyReader:
    """Reads from the connection of a `SqliteReader`."""

    _connection: sqlite3.Connection

    def obstacle(self) -> str | None:
        """Return why this store cannot be copied as a whole, or None."""
        erasures, deleted = self._connection.execute(
            "SELECT (SELECT count(*) FROM erasures),"
            " (SELECT count(*) FROM deleted_events)"
        ).fetchone()
        if erasures:
            return (
                "an erasure is running; start its server, wait until 'outlay erase' "
                "lists none, and stop the server again"
            )
        if deleted:
            return (
                "retention has deleted events, and totals by hour are all that is left "
                "of them; copy a backup from before"
            )
        return None

    def count_received(self, upto: str | None = None) -> int:
        """Return the number of events, or of those up to one."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM events"
            " WHERE ?1 IS NULL OR seq <= (SELECT seq FROM events WHERE id = ?1)",
            (upto,),
        ).fetchone()
        return int(count)

    def last_received(self) -> str | None:
        """Return the id of the event that was received last."""
        row = self._connection.execute(
            "SELECT id FROM events ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        return None if row is None else str(row[0])

    def received(self, after: str | None, limit: int) -> list[ReceivedEvent]:
        """Return the next events in the order of receipt."""
        rows = self._connection.execute(
            f"SELECT received_at, {EVENT_COLUMNS} FROM events WHERE seq >"  # noqa: S608 - a constant
            " coalesce((SELECT seq FROM events WHERE id = ?), 0) ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [ReceivedEvent(Event(*event), at) for at, *event in rows]

    def records(self, kind: str) -> Iterator[Row]:
        """Yield the rows of a kind of records, the oldest first."""
        columns = ", ".join(
            _EXPRESSIONS.get((kind, name), name) for name in RECORDS[kind]
        )
        source = _SOURCES.get(kind, f"{kind} ORDER BY number")
        yield from self._connection.execute(f"SELECT {columns} FROM {source}")  # noqa: S608 - constants


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
    for kind, rows in groupby(records, key=lambda record: record[0]):
        connection.executemany(_insert(kind), (row for _, row in rows))
    connection.execute(
        "UPDATE progress SET last_definition ="
        " (SELECT coalesce(max(definition), 0) FROM costs)"
    )


def _insert(kind: str) -> str:
    if kind in _SPECIAL_INSERTS:
        return _SPECIAL_INSERTS[kind]
    columns = RECORDS[kind]
    more = ""
    values = ", ".join("?" for _ in columns)
    if kind == "costs":
        # Background work folds all events into its rollups.
        more = ", folded_seq, definition"
        values += (
            ", CASE WHEN ?14 IS NULL THEN 0 END,"
            " (SELECT coalesce(max(definition), 0) + 1 FROM costs)"
        )
    return f"INSERT INTO {kind} ({', '.join(columns)}{more}) VALUES ({values})"  # noqa: S608 - constants
