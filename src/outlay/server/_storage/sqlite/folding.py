"""Fold events into the rollups: the newest ones, and those that a metric lacks.

The newest events wait in memory until a transaction folds many of them. A metric that
is created or redefined later lags: its earlier events are folded slice by slice, and
its later ones as those of all metrics. So its lag only shrinks. The rollups of an ended
definition are deleted in slices, too.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from outlay.server._records import CostMetric, Event
from outlay.server._storage.combining import combine
from outlay.server._storage.sql.events import EVENT_COLUMNS, READING_COLUMNS
from outlay.server._storage.sqlite.active_metrics import ActiveMetrics, Lag
from outlay.server._storage.sqlite.pending_rollups import PendingRollups
from outlay.server._storage.sqlite.rollups import STAGING, add_to_rollups
from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._storage.combining import Combined, MeteredEvent
    from outlay.server._storage.sqlite.time_slice import TimeSlice

_CATCH_UP_CHUNK: Final = 50  # events; some 3 ms
_DELETE_CHUNK: Final = 1000  # rows of rollups; some 3 ms
# The age at which even a single event is folded. Single posts of a second would make a
# fold for which others wait some 80 ms.
_FOLD_MICROSECONDS: Final = 500_000


class Folding:
    """Keeps the rollups, in the background. Thread safety: the commit thread.

    Args:
        connection: The writing connection.
        transaction: A context manager that commits, or rolls back and raises.

    Attributes:
        metrics: The metrics that have rollups. They are loaded.
        folded_seq: The last event that was folded with those of all metrics.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._connection = connection
        self._transaction = transaction
        connection.execute(STAGING)
        self.metrics = ActiveMetrics(connection)
        self.metrics.load_all()
        [(folded,)] = connection.execute("SELECT folded_seq FROM progress").fetchall()
        self.folded_seq = int(folded)
        self._pending_since = 0
        self._read_pending()

    # -- the newest events

    def add(self, events: Sequence[Event], start: int, now: int) -> None:
        """Combine new events for each metric.

        Args:
            events: The events, in order of receipt.
            start: The number of the first one.
            now: The time, in microseconds since 1970.
        """
        by_type: defaultdict[tuple[str, str], list[MeteredEvent]] = defaultdict(list)
        for seq, event in enumerate(events, start):
            by_type[event.namespace, event.type].append(
                (seq, event.at, event.customer, event.fields)
            )
        for key, metered in by_type.items():
            for number, metric in self.metrics.of_type(*key):
                self._pending.add(number, metric, metered)
        if not self._pending.events:
            self._pending_since = now
        self._pending.events += len(events)

    def invalidate(self) -> None:
        """Note that the events in memory may not be those on disk."""
        self._is_valid = False

    def ensure_valid(self) -> None:
        """Combine the events on disk again, if it is needed."""
        if not self._is_valid:
            self._read_pending()

    def is_due(self, now: int) -> bool:
        """Return whether the events in memory are many, or old."""
        is_old = not 0 <= now - self._pending_since < _FOLD_MICROSECONDS
        return self._pending.is_full or bool(self._pending.events and is_old)

    def fold(self, last_seq: int) -> None:
        """Add all events in memory to the rollups. The last one has this number."""
        with self._transaction():
            self.write(last_seq)
        self.forget(last_seq)

    def write(self, last_seq: int) -> None:
        """Do the same in the caller's transaction. Call `forget` after it."""
        self._pending.write(self._connection)
        self._connection.execute("UPDATE progress SET folded_seq = ?", (last_seq,))

    def forget(self, last_seq: int) -> None:
        """Release the events that a committed transaction folded."""
        self.folded_seq = last_seq
        self._pending = PendingRollups()

    def _read_pending(self) -> None:
        """Combine the events on disk that are not folded."""
        self._pending = PendingRollups()
        rows = self._connection.execute(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE seq > ? ORDER BY seq",  # noqa: S608 - a constant
            (self.folded_seq,),
        )
        events = [Event(*row) for row in rows]
        for event in events:
            event.fields = decode_data(event.data)
        self.add(events, self.folded_seq + 1, 0)
        self._is_valid = True

    # -- definitions that begin and end

    def catch_up(self, time_slice: TimeSlice) -> bool:
        """Fold a slice of the events that a metric lacks. Return whether one lagged."""
        found = next(iter(self.metrics.lagging.items()), None)
        if found is None:
            return False
        number, (folded, since) = found
        metric = self.metrics.definition(number)
        with self._transaction():
            while metric.can_roll_up and folded < since:
                upto = min(folded + _CATCH_UP_CHUNK, since)
                combined: Combined = {}
                events = self._events_between(metric.cost, folded, upto)
                combine(metric, combined, events)
                add_to_rollups(self._connection, number, metric, combined)
                folded = upto
                if time_slice.is_over():
                    break
            is_current = folded == since or not metric.can_roll_up
            self._connection.execute(
                "UPDATE costs SET folded_seq = ? WHERE definition = ?",
                (None if is_current else folded, number),
            )
        if is_current:
            del self.metrics.lagging[number]
        else:
            self.metrics.lagging[number] = Lag(folded, since)
        return True

    def _events_between(
        self, cost: CostMetric, after: int, upto: int
    ) -> Iterator[MeteredEvent]:
        rows = self._connection.execute(
            f"SELECT {READING_COLUMNS} FROM events NOT INDEXED"  # noqa: S608 - a constant
            " WHERE seq > ? AND seq <= ? AND namespace = ? AND type = ?",
            (after, upto, cost.namespace, cost.event_type),
        )
        for seq, at, customer, data in rows:
            yield seq, at, customer, decode_data(data)

    def delete_ended(self, time_slice: TimeSlice) -> bool:
        """Delete some rollups of ended definitions. Return whether there are more."""
        row = self._connection.execute(
            "SELECT definition FROM ended_definitions LIMIT 1"
        ).fetchone()
        if row is None:
            return False
        (number,) = row
        with self._transaction():
            while self._delete_rollups(number):
                if time_slice.is_over():
                    break
            else:
                self._connection.execute(
                    "DELETE FROM ended_definitions WHERE definition = ?", row
                )
        return True

    def _delete_rollups(self, number: int) -> int:
        """Delete a chunk of a definition's rollups. Return the number of rows."""
        deleted = self._connection.execute(
            "DELETE FROM rollups WHERE (metric, cube, grain, bucket, customer,"
            " dimensions) IN (SELECT metric, cube, grain, bucket, customer,"
            " dimensions FROM rollups WHERE metric = ? LIMIT ?)",
            (number, _DELETE_CHUNK),
        ).rowcount
        deleted += self._connection.execute(
            "DELETE FROM wide_sums WHERE rowid IN"
            " (SELECT rowid FROM wide_sums WHERE metric = ? LIMIT ?)",
            (number, _DELETE_CHUNK),
        ).rowcount
        return deleted
