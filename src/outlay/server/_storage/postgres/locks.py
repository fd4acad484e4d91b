"""Take the advisory locks that keep servers apart. Each ends with its transaction."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from outlay.server._storage.postgres.connecting import PostgresConnection

_OURS: Final = 0x6F75_7400  # "out", so that other programs' locks differ


class Lock(IntEnum):
    """What a lock protects.

    Attributes:
        MIGRATION: The tables.
        APPENDS: Costs, closed periods, erasures and the ring. Appends share it.
        WRITES: The records beside the events, which one transaction at a time changes.
        UPKEEP: Deltas and rollups.
        PARTITIONS: The partitions of days.
        HISTORY: The days that move to ClickHouse.
    """

    MIGRATION = 0
    APPENDS = 1
    WRITES = 2
    UPKEEP = 3
    PARTITIONS = 4
    HISTORY = 5


class Locks:
    """The locks of one schema of one database. Immutable."""

    def __init__(self, connection: PostgresConnection) -> None:
        # Two ledgers in one database must not wait for each other.
        (schema,) = connection.execute(
            "SELECT current_schema()::regnamespace::oid::bigint"
        ).fetchone()
        self._schema = int(schema)

    def take(self, connection: PostgresConnection, lock: Lock) -> None:
        """Wait for a lock, and keep it until the transaction ends."""
        connection.execute(f"SELECT pg_advisory_xact_lock({self.number(lock)})")

    def sharing(self, lock: Lock) -> str:
        """Return the statement that shares a lock, when no transaction has it alone."""
        return f"SELECT pg_advisory_xact_lock_shared({self.number(lock)})"

    def try_take(self, connection: PostgresConnection, lock: Lock) -> bool:
        """Take a lock if it is free. Return whether it was."""
        (taken,) = connection.execute(
            f"SELECT pg_try_advisory_xact_lock({self.number(lock)})"
        ).fetchone()
        return bool(taken)

    def number(self, lock: Lock) -> int:
        """Return the number of a lock in PostgreSQL."""
        return (_OURS + lock) << 32 | self._schema
