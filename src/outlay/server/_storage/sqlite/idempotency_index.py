"""Find the first event with an idempotency key.

Keys are digests, so that each belongs on another page of their table. A batch that
wrote its own keys would write nearly as many pages as it has events. So the newest keys
stay in memory, and are written many at a time, in the order of the table. Their events
are on disk, from which a restart reads them again.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import takewhile
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from outlay.server._records import Event
from outlay.server._storage.sql.events import EVENT_COLUMNS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._storage.sqlite.time_slice import TimeSlice

ScopedKey: TypeAlias = tuple[str, str]
"""Namespace and key."""

WRITE_BATCH: Final = 30_000
"""The number of keys: some 7 MB of memory."""

_CHUNK: Final = 500  # keys: some 3 ms

_encode_json: Final = msgspec.json.Encoder().encode


class IdempotencyIndex:
    """The keys that were received within the dedupe window.

    Thread safety: the commit thread.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
        *,
        write_batch: int,
    ) -> None:
        """Read the keys that were not written before the last stop.

        Args:
            connection: The writing connection.
            transaction: A context manager that commits, or rolls back and raises.
            write_batch: The number of keys that `write_pending` waits for.
        """
        self._connection = connection
        self._transaction = transaction
        self._write_batch = write_batch
        self._written_seq, self._expired_seq = connection.execute(
            "SELECT noted_seq, forgotten_seq FROM progress"
        ).fetchone()
        self._recent: dict[ScopedKey, int] = {
            (namespace, key): seq
            for namespace, key, seq in connection.execute(
                "SELECT namespace, key, seq FROM events WHERE seq > ? ORDER BY seq",
                (self._written_seq,),
            )
        }
        # Keys that are being written, slice by slice, and those that are left of them.
        self._writing: dict[ScopedKey, int] = {}
        self._left: list[ScopedKey] = []

    def find_first(
        self, events: Sequence[Event], cutoff: int
    ) -> dict[ScopedKey, Event]:
        """Return the events received after ``cutoff`` with a key of ``events``."""
        keys: defaultdict[str, list[str]] = defaultdict(list)
        seqs: list[int] = []
        for event in events:
            keys[event.namespace].append(event.key)
            scoped = event.namespace, event.key
            # Numbers begin at 1.
            if seq := self._recent.get(scoped) or self._writing.get(scoped):
                seqs.append(seq)
        for namespace, wanted in keys.items():
            rows = self._connection.execute(
                "SELECT seq FROM receipts WHERE namespace = ? AND key IN"
                " (SELECT value FROM json_each(?))",
                (namespace, _encode_json(wanted).decode()),
            )
            seqs += [seq for (seq,) in rows]
        return self._received(seqs, cutoff) if seqs else {}

    def _received(self, seqs: list[int], cutoff: int) -> dict[ScopedKey, Event]:
        rows = self._connection.execute(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE received_at > ? AND seq IN"  # noqa: S608 - a constant
            " (SELECT value FROM json_each(?))",
            (cutoff, _encode_json(seqs).decode()),
        )
        found = [Event(*row) for row in rows]
        return {(event.namespace, event.key): event for event in found}

    def add(self, events: Sequence[Event], start: int) -> None:
        """Add the keys of committed events, which are numbered from ``start``."""
        self._recent.update(
            ((event.namespace, event.key), seq)
            for seq, event in enumerate(events, start)
        )

    def write_pending(self, time_slice: TimeSlice) -> bool:
        """Write a slice of the keys in memory. Return whether there was one.

        It waits for many keys. They are written in the order of the table, so that
        neighbours share a page. A key of an unfinished round is written again after a
        restart, which changes nothing.
        """
        if not self._left:
            if len(self._recent) < self._write_batch:
                return False
            self._writing, self._recent = self._recent, {}
            self._left = sorted(self._writing, reverse=True)
        left = self._left.copy()
        last = max(self._writing.values())
        with self._transaction():
            while left:
                self._write(left[: -_CHUNK - 1 : -1])
                del left[-_CHUNK:]
                if time_slice.is_over():
                    break
            if not left:
                self._connection.execute("UPDATE progress SET noted_seq = ?", (last,))
        self._left = left
        if not left:
            self._written_seq = last
            self._writing = {}
        return True

    def _write(self, keys: list[ScopedKey]) -> None:
        self._connection.executemany(
            "INSERT INTO receipts (namespace, key, seq) VALUES (?, ?, ?)"
            # The dedupe window of the earlier event had ended.
            " ON CONFLICT DO UPDATE SET seq = excluded.seq",
            [(*key, self._writing[key]) for key in keys],
        )

    def expire(self, cutoff: int, time_slice: TimeSlice) -> bool:
        """Delete some keys of events received before ``cutoff``, oldest first.

        Returns:
            Whether there may be more.
        """
        last = self._expired_seq
        expired = self._expired_after(last, cutoff)
        if not expired:
            return False
        with self._transaction():
            while expired:
                # By seq too, because a later event may have the key now.
                self._connection.executemany(
                    "DELETE FROM receipts WHERE seq = ? AND namespace = ? AND key = ?",
                    expired,
                )
                last = expired[-1][0]
                if time_slice.is_over():
                    break
                expired = self._expired_after(last, cutoff)
            self._connection.execute("UPDATE progress SET forgotten_seq = ?", (last,))
        self._expired_seq = last
        return True

    def _expired_after(self, seq: int, cutoff: int) -> list[tuple[int, str, str]]:
        """Return the next written keys whose events came before ``cutoff``."""
        rows = self._connection.execute(
            "SELECT seq, namespace, key, received_at FROM events"
            " WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (seq, self._written_seq, _CHUNK),
        )
        # Lazily, because the first row is usually too young, and ends the reading.
        expired = [row[:3] for row in takewhile(lambda row: row[3] <= cutoff, rows)]
        rows.close()
        return expired
