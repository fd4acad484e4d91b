"""Delete old events, slice by slice. Their rollups stay, and so does each total.

An event is deleted only if nothing needs it any more: its rollups hold it, its key is
forgotten, all metrics of its type have rollups, and its organization has no corrections
and no closed periods, which read events again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from outlay.server._records import MICROSECONDS_PER_HOUR
from outlay.server._storage.sql.deleted_events import set_retention

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from outlay.server._storage.sqlite.time_slice import TimeSlice

TABLES: Final = """
    -- How long events are kept, in microseconds.
    CREATE TABLE retention (
        namespace TEXT PRIMARY KEY,
        keep INTEGER NOT NULL
    );

    -- Events of a type before deleted_before may be gone, up to deleted_seq.
    CREATE TABLE deleted_events (
        namespace TEXT NOT NULL,
        type TEXT NOT NULL,
        deleted_before INTEGER NOT NULL,
        deleted_seq INTEGER NOT NULL,
        PRIMARY KEY (namespace, type)
    ) WITHOUT ROWID;
    """

_CHUNK: Final = 500  # events: some 5 ms
_PAUSE: Final = MICROSECONDS_PER_HOUR // 60  # between two looks for old events

_TYPES: Final = """
    SELECT DISTINCT event_type FROM costs
    WHERE namespace = ? AND event_type IS NOT NULL AND deleted_at IS NULL
"""
_IS_CORRECTED: Final = """
    SELECT EXISTS (SELECT 1 FROM entries WHERE namespace = :namespace)
    OR EXISTS (SELECT 1 FROM closed_periods WHERE namespace = :namespace)
"""
_OLD: Final = """
    SELECT seq FROM events WHERE namespace = ? AND type = ? AND at < ?
    AND seq <= ? AND received_at <= ? ORDER BY at LIMIT ?
"""

_Old: TypeAlias = tuple[str, str, int, int, int]
"""Organization, type, time before which events are old, last order and receipt."""


class EventRetention:
    """Deletes the events that no rule keeps. Thread safety: the commit thread.

    Args:
        connection: The writing connection.
        transaction: A context manager that commits, or rolls back and raises.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._connection = connection
        self._transaction = transaction
        self._next_at = 0

    def set(self, namespace: str, keep: int | None) -> None:
        """Set how long an organization's events are kept, in a transaction.

        Args:
            namespace: The organization.
            keep: The time in microseconds. None keeps them without a limit.
        """
        set_retention(self._connection, namespace, keep)
        self._next_at = 0

    def step(
        self,
        now: int,
        last_seq: int,
        received_before: int,
        has_rollups: Callable[[str, str], bool],
        time_slice: TimeSlice,
    ) -> bool:
        """Delete a slice. Return whether there may be more.

        Args:
            now: The time, in microseconds since 1970.
            last_seq: The last event that the rollups hold.
            received_before: The last time of receipt of an event whose key is
                forgotten, in microseconds since 1970.
            has_rollups: A function that returns whether all metrics of an organization
                and type have rollups.
            time_slice: The time of the slice.
        """
        if now < self._next_at:
            return False
        for namespace, keep in self._connection.execute(
            "SELECT namespace, keep FROM retention"
        ).fetchall():
            (is_corrected,) = self._connection.execute(
                _IS_CORRECTED, {"namespace": namespace}
            ).fetchone()
            if is_corrected:
                continue
            before = (now - keep) // MICROSECONDS_PER_HOUR * MICROSECONDS_PER_HOUR
            for (event_type,) in self._connection.execute(
                _TYPES, (namespace,)
            ).fetchall():
                if not has_rollups(namespace, event_type):
                    continue
                old = (namespace, event_type, before, last_seq, received_before)
                if self._delete(old, time_slice):
                    return True
        self._next_at = now + _PAUSE
        return False

    def _delete(self, old: _Old, time_slice: TimeSlice) -> bool:
        namespace, event_type, before, *_ = old
        rows = self._old_events(old)
        if not rows:
            return False
        with self._transaction():
            while rows:
                self._connection.execute(
                    "INSERT INTO deleted_events VALUES (?,?,?,?)"
                    " ON CONFLICT DO UPDATE SET"
                    " deleted_before = max(deleted_before, excluded.deleted_before),"
                    " deleted_seq = max(deleted_seq, excluded.deleted_seq)",
                    (namespace, event_type, before, max(seq for (seq,) in rows)),
                )
                self._connection.executemany("DELETE FROM events WHERE seq = ?", rows)
                if time_slice.is_over():
                    break
                rows = self._old_events(old)
        return True

    def _old_events(self, old: _Old) -> list[tuple[int]]:
        return self._connection.execute(_OLD, (*old, _CHUNK)).fetchall()
