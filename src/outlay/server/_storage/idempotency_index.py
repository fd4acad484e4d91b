"""Which event an idempotency key stands for.

Keys are digests: each lands on another page of their table, so a batch that noted its
own would write nearly as many pages as it has events. So the newest are remembered in
memory, and noted many at a time, in the order of the table. Their events are on disk,
and say them again after a restart.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import takewhile
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from outlay.server._records import Event
from outlay.server._storage.sqlite_reader import EVENT_COLUMNS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

ScopedKey: TypeAlias = tuple[str, str]
"""Namespace and key."""

NOTED_AT_ONCE: Final = 30_000
"""Keys: some 7 MB of memory, and a tenth of a second of the writer's thread."""

_FORGOTTEN_AT_ONCE: Final = 5000

_encode_json: Final = msgspec.json.Encoder().encode


class IdempotencyIndex:
    """Knows the keys received within the dedupe window.

    Thread safety: the writer's thread.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
        *,
        noted_at_once: int,
    ) -> None:
        """Read what was not noted before the last stop.

        Args:
            connection: the writer's.
            transaction: commits on leaving, or rolls back and raises.
            noted_at_once: how many keys are remembered before `note` writes them.
        """
        self._connection = connection
        self._transaction = transaction
        self._noted_at_once = noted_at_once
        self._noted_seq, self._forgotten_seq = connection.execute(
            "SELECT noted_seq, forgotten_seq FROM progress"
        ).fetchone()
        self._recent: dict[ScopedKey, int] = {
            (namespace, key): seq
            for namespace, key, seq in connection.execute(
                "SELECT namespace, key, seq FROM events WHERE seq > ? ORDER BY seq",
                (self._noted_seq,),
            )
        }

    def find_first(
        self, events: Sequence[Event], cutoff: int
    ) -> dict[ScopedKey, Event]:
        """Return the events received after ``cutoff`` that have a key of these."""
        keys: defaultdict[str, list[str]] = defaultdict(list)
        seqs: list[int] = []
        for event in events:
            keys[event.namespace].append(event.key)
            if (seq := self._recent.get((event.namespace, event.key))) is not None:
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
        """Take in the keys of events that were committed, numbered from ``start``."""
        self._recent.update(
            ((event.namespace, event.key), seq)
            for seq, event in enumerate(events, start)
        )

    def write_pending(self) -> bool:
        """Note the keys that are remembered, if there are enough."""
        if len(self._recent) < self._noted_at_once:
            return False
        last = max(self._recent.values())
        with self._transaction():
            self._connection.execute(
                "INSERT INTO receipts (namespace, key, seq)"
                " SELECT namespace, key, seq FROM events WHERE seq > ? AND seq <= ?"
                " ORDER BY namespace, key, seq"
                # The window of the earlier one had ended.
                " ON CONFLICT DO UPDATE SET seq = excluded.seq",
                (self._noted_seq, last),
            )
            self._connection.execute("UPDATE progress SET noted_seq = ?", (last,))
        self._noted_seq = last
        self._recent = {}
        return True

    def expire(self, cutoff: int) -> bool:
        """Drop what was noted of events received before ``cutoff``, oldest first.

        Returns whether there may be more.
        """
        rows = self._connection.execute(
            "SELECT seq, namespace, key, received_at FROM events"
            " WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (self._forgotten_seq, self._noted_seq, _FORGOTTEN_AT_ONCE),
        )
        # Lazily: mostly the first row is too young, and nothing more is read.
        over = [row[:3] for row in takewhile(lambda row: row[3] <= cutoff, rows)]
        rows.close()
        if not over:
            return False
        forgotten = over[-1][0]
        with self._transaction():
            # seq too: the key may stand for a later event by now.
            self._connection.executemany(
                "DELETE FROM receipts WHERE seq = ? AND namespace = ? AND key = ?", over
            )
            self._connection.execute(
                "UPDATE progress SET forgotten_seq = ?", (forgotten,)
            )
        self._forgotten_seq = forgotten
        return len(over) == _FORGOTTEN_AT_ONCE
