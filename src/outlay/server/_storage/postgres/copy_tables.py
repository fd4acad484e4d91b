"""Read and write all events and records of a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._records import Event, ReceivedEvent
from outlay.server._storage.postgres.partitions import existing_days
from outlay.server._storage.sql import copy_tables
from outlay.server._storage.sql.copy_tables import SqlCopyReader
from outlay.server._storage.sql.events import EVENT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from outlay.server._storage.copy_store import Row
    from outlay.server._storage.postgres.connecting import PostgresConnection

# The days with the next events. Each index knows the order of one day only, and the
# clock of a server may have gone back to the day before.
_NEXT_DAYS: Final = """
    SELECT d.day, e.seq FROM unnest((:days)::int[]) AS d (day)
    CROSS JOIN LATERAL (
        SELECT seq FROM events WHERE day = d.day AND seq > :after ORDER BY seq LIMIT 1
    ) AS e
    ORDER BY e.seq LIMIT 2
"""
_OF_DAY: Final = (
    f"SELECT seq, received_at, {EVENT_COLUMNS} FROM events"
    " WHERE day = :day AND seq > :after AND seq < :end ORDER BY seq LIMIT :limit"
)
_NO_END: Final = 2**63 - 1


class PostgresCopyReader(SqlCopyReader):
    """Reads from the connection of a `PostgresReader`."""

    _connection: PostgresConnection

    def count_received(self, upto: str | None = None) -> int:
        """Return the number of events, or of those up to one."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM events WHERE seq <= ?",
            (_NO_END if upto is None else self._seq_of(upto),),
        ).fetchone()
        return int(count)

    def received(self, after: str | None, limit: int) -> list[ReceivedEvent]:
        """Return the next events in the order of receipt."""
        days = sorted(existing_days(self._connection))
        last = self._seq_of(after)
        found: list[ReceivedEvent] = []
        while len(found) < limit:
            following = self._connection.execute(
                _NEXT_DAYS, {"days": days, "after": last}
            ).fetchall()
            if not following:
                break
            rows = self._connection.execute(
                _OF_DAY,
                {
                    "day": following[0][0],
                    "after": last,
                    "end": following[1][1] if len(following) > 1 else _NO_END,
                    "limit": limit - len(found),
                },
            ).fetchall()
            last = rows[-1][0]
            found += [ReceivedEvent(Event(*event), at) for _, at, *event in rows]
        return found

    def _seq_of(self, event_id: str | None) -> int:
        """Return an event's order of receipt, or 0 if there is no such event."""
        row = self._connection.execute(
            "SELECT seq FROM events WHERE id = ?", (event_id,)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def _record_rows(self, query: str) -> Iterator[Row]:
        yield from self._connection.stream(query)


def insert_records(
    connection: PostgresConnection, records: Iterable[tuple[str, Row]], last_seq: int
) -> None:
    """Insert rows of `RECORDS` into a ledger that has all events, and no records.

    Args:
        connection: The connection, in a transaction.
        records: The rows, by kind.
        last_seq: The order of receipt of the last event.
    """
    # A copy that was interrupted has used numbers, and a line's number is its place.
    connection.execute("ALTER TABLE revenue_lines ALTER COLUMN number RESTART")
    copy_tables.insert_records(
        connection,
        records,
        # Background work folds all events into the rollups.
        {
            "cutoff": str(last_seq),
            "folded_day": "CASE WHEN :deleted_at IS NULL THEN 0 END",
            "folded_seq": "CASE WHEN :deleted_at IS NULL THEN 0 END",
        },
    )
