"""Make the table of events of each day of receipt, and drop it when it is empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay.server._storage.postgres.locks import Lock, Locks

if TYPE_CHECKING:
    from outlay.server._storage.postgres.connecting import PostgresConnection


def existing_days(connection: PostgresConnection) -> set[int]:
    """Return the days that have their table."""
    rows = connection.execute(
        "SELECT substr(c.relname, 8)::int FROM pg_inherits i"
        " JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'events'::regclass"
    )
    return {day for (day,) in rows}


def make_day(connection: PostgresConnection, locks: Locks, day: int) -> None:
    """Make the table of a day, in the caller's transaction.

    It is made apart and attached then, because readers do not wait for that.
    """
    locks.take(connection, Lock.PARTITIONS)
    if day in existing_days(connection):
        return
    name = f"events_{day:d}"
    connection.execute(f"CREATE TABLE {name} (LIKE events INCLUDING ALL)")
    connection.execute(
        f"ALTER TABLE events ATTACH PARTITION {name}"
        f" FOR VALUES FROM ({day:d}) TO ({day + 1:d})"
    )


def empty_days(connection: PostgresConnection, before: int) -> list[int]:
    """Return the days before another one of which no event is left, oldest first."""
    old = sorted(day for day in existing_days(connection) if day < before)
    return [
        day
        for day in old
        if not connection.execute(
            "SELECT EXISTS (SELECT 1 FROM events WHERE day = ?)", (day,)
        ).fetchone()[0]
    ]


def drop_empty_day(connection: PostgresConnection, locks: Locks, day: int) -> None:
    """Drop the table of a day, if it has no events, in the caller's transaction.

    Appends and reads wait for it, and it waits 0.2 s for those under way.

    Raises:
        psycopg.errors.LockNotAvailable: Some took longer. It can be tried again.
    """
    locks.take(connection, Lock.PARTITIONS)
    if day not in existing_days(connection):
        return
    connection.execute("SET LOCAL lock_timeout = '200ms'")
    connection.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
    (has_events,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM events WHERE day = ?)", (day,)
    ).fetchone()
    if not has_events:
        connection.execute(f"DROP TABLE events_{day:d}")
