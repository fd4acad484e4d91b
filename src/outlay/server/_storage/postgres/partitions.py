"""Make the tables of each day of receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._storage.postgres.locks import Lock, Locks

if TYPE_CHECKING:
    from outlay.server._storage.postgres.connecting import PostgresConnection

PARTITIONED: Final = ("events", "hours", "days")
"""The tables that have a partition for each day of receipt."""


def existing_days(connection: PostgresConnection) -> set[int]:
    """Return the days that have their tables."""
    rows = connection.execute(
        "SELECT substr(c.relname, 8)::int FROM pg_inherits i"
        " JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'events'::regclass"
    )
    return {day for (day,) in rows}


def make_day(connection: PostgresConnection, locks: Locks, day: int) -> None:
    """Make the tables of a day, in the caller's transaction.

    Each is made apart and attached then, because readers do not wait for that.
    """
    locks.take(connection, Lock.PARTITIONS)
    if day in existing_days(connection):
        return
    for table in PARTITIONED:
        name = f"{table}_{day:d}"
        connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
        connection.execute(
            f"ALTER TABLE {table} ATTACH PARTITION {name}"
            f" FOR VALUES FROM ({day:d}) TO ({day + 1:d})"
        )
