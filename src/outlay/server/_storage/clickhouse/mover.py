"""Move days that are over from the ledger to ClickHouse. Any server may do it.

A day is copied as a whole, counted, and deleted from the ledger slice by slice. The
transaction that deletes a slice also notes its place. So each view of the ledger sees
an event either in its tables or before that place, and never in both or in neither.
Killed anywhere, the next mover goes on from what is committed.
"""

from __future__ import annotations

import logging
import threading
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._errors import DatabaseError, ServerError
from outlay.server._records import Event
from outlay.server._storage.clickhouse.connection import Connection
from outlay.server._storage.clickhouse.days import (
    Contents,
    DayDiffersError,
    MovedEvent,
    check_day,
    contents,
    write_day,
)
from outlay.server._storage.clickhouse.erasing import erase_next
from outlay.server._storage.clickhouse.late_metrics import fold_day
from outlay.server._storage.clickhouse.moved_ranges import NOTE_DAY
from outlay.server._storage.clickhouse.retention import delete_next
from outlay.server._storage.clickhouse.schema import migrate
from outlay.server._storage.postgres import connecting, partitions
from outlay.server._storage.postgres.history import Place
from outlay.server._storage.postgres.locks import Lock, Locks
from outlay.server._storage.postgres.receipts import MICROSECONDS_PER_DAY as DAY
from outlay.server._storage.sql.events import EVENT_COLUMNS
from outlay.server._storage.store import Moving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from outlay.server._storage.postgres.connecting import PostgresConnection

log: Final = logging.getLogger("outlay.server")

_PAUSE_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_CHECK_EVERY: Final = DAY // 24
_LONGEST_READ: Final = DAY // 4


# The current day is looked at first. Each other day needs a look into one index.
_MOVING: Final = """
    SELECT h.day, (
        SELECT count(*) FROM generate_series(
            greatest(h.day, (SELECT min(day) FROM events)), ?) AS d (day)
        WHERE EXISTS (SELECT 1 FROM events e WHERE e.day = d.day)
    ) FROM (SELECT coalesce(max(day), 0) AS day FROM history) h
"""


class _StoppedError(ServerError):
    """The server ends. The next mover goes on."""


class _Progress(NamedTuple):
    """How far days are moved, as the table ``history`` has it."""

    place: Place
    copied_day: int | None
    moved: int


class HistoryMover:
    """Moves days, with connections of its own. Thread safety: one thread at a time.

    Args:
        url: The URL of the ledger.
        clickhouse_url: The URL of ClickHouse.
        dedupe_window: The time for which a key is remembered, in microseconds.
        stopping: An event that ends the copying of a day early. Defaults to none.
        slice_events: The events that leave the ledger in one transaction. Deferred
            work waits for it: some 0.2 s for 20,000, the default.
        longest_read: The time after which no view is left that sees the moved rows of
            a day, in microseconds. Defaults to six hours.
    """

    def __init__(
        self,
        url: str,
        clickhouse_url: str,
        dedupe_window: int,
        stopping: threading.Event | None = None,
        *,
        slice_events: int = 20_000,
        longest_read: int = _LONGEST_READ,
    ) -> None:
        self._url = url
        self._clickhouse = Connection(clickhouse_url)
        self._keep = dedupe_window + DAY
        self._stopping = stopping or threading.Event()
        self._slice_events = slice_events
        self._longest_read = longest_read
        self._ledger: PostgresConnection | None = None
        self._is_prepared = False
        self._checked_at: int | None = None

    def close(self) -> None:
        """Close all connections."""
        self._close_ledger()
        self._clickhouse.close()

    def step(self, now: int | None = None) -> bool:
        """Do one slice of what is due. Return whether there may be more.

        Args:
            now: The time, in microseconds since 1970. Defaults to that of the ledger.

        Raises:
            DayDiffersError: ClickHouse has not exactly the events of the ledger.
            DatabaseError: ClickHouse has the days of another ledger, or cannot be used.
            HistoryUnavailableError: ClickHouse does not respond.
            StoreUnavailableError: PostgreSQL does not respond.
        """
        try:
            return self._step(self._now() if now is None else now)
        except connecting.LedgerError as error:
            self._close_ledger()
            raise connecting.unwritable(error, is_outcome_known=False) from error

    def moving(self) -> Moving:
        """Return how far days are moved.

        Raises:
            StoreUnavailableError: PostgreSQL does not respond.
        """
        try:
            last = (self._now() - self._keep) // DAY - 1
            day, waiting = self._open().execute(_MOVING, (last,)).fetchone()
        except connecting.LedgerError as error:
            self._close_ledger()
            raise connecting.unreadable(error) from error
        return Moving(day * DAY if day else None, waiting, None)

    def _step(self, now: int) -> bool:
        ledger = self._open()
        if not self._is_prepared:
            migrate(self._clickhouse)
            self._identify(ledger)
            self._is_prepared = True
        try:
            with self._exclusive(ledger) as is_ours:
                return is_ours and self._do_next(ledger, now)
        except DayDiffersError:
            # The rest of the day is copied again. What moved is checked then.
            ledger.execute("UPDATE history SET copied_day = NULL")
            raise

    def _do_next(self, ledger: PostgresConnection, now: int) -> bool:
        self._check_counts(ledger, now)
        progress = _progress(ledger)
        return (
            erase_next(ledger, self._locks, self._clickhouse)
            or fold_day(ledger, self._locks, self._clickhouse, progress.place)
            or self._move_next(ledger, progress, now)
            or self._empty(ledger, now)
            or delete_next(
                ledger,
                self._locks,
                self._clickhouse,
                now=now,
                window=self._keep - DAY,
                longest_read=self._longest_read,
            )
        )

    def _move_next(
        self, ledger: PostgresConnection, progress: _Progress, now: int
    ) -> bool:
        """Copy a day, move a slice of it, or finish it. Return whether it did."""
        place = progress.place
        day = progress.copied_day
        if day is None and place.seq:
            # Its copy was found to differ. The rest is copied again.
            self._copy(ledger, place.day, progress)
            return True
        if day is None:
            (day,) = ledger.execute(
                "SELECT min(day) FROM events WHERE day >= ? AND (day, seq) > (?, ?)"
                " AND day <= ?",
                (place.day, *place, (now - self._keep) // DAY - 1),
            ).fetchone()
            if day is None:
                return False
            self._copy(ledger, day, progress)
            return True
        after = place.seq if day == place.day else 0
        (upto,) = ledger.execute(
            "SELECT max(seq) FROM (SELECT seq FROM events WHERE day = ? AND seq > ?"
            " ORDER BY seq LIMIT ?) s",
            (day, after, self._slice_events),
        ).fetchone()
        if upto is None:
            self._finish(ledger, day, progress.moved, now)
        else:
            self._move(ledger, day, after, upto)
        return True

    def _copy(self, ledger: PostgresConnection, day: int, progress: _Progress) -> None:
        """Copy a day that is over, or its rest. It still counts in the ledger."""
        after = progress.place.seq if day == progress.place.day else 0
        if after:
            moved = contents(self._clickhouse, day, upto=after)
            if moved.events != progress.moved:
                raise _lost(self._clickhouse, day, moved.events, progress.moved)
        rows = ledger.stream(
            f"SELECT seq, received_at, {EVENT_COLUMNS} FROM events"
            f" WHERE day = {day:d} AND seq > {after:d}"
        )
        written = write_day(
            self._clickhouse, day, self._until_stopped(rows), after=after
        )
        ledger.execute(NOTE_DAY, (day,))
        ledger.execute("UPDATE history SET copied_day = ?", (day,))
        log.info(
            "copied %d events of day %d to %s", written.events, day, self._clickhouse
        )

    def _until_stopped(self, rows: Iterator[Sequence[Any]]) -> Iterator[MovedEvent]:
        for seq, received_at, *event in rows:
            if self._stopping.is_set():
                raise _StoppedError("the server ends; the day is copied later")
            yield MovedEvent(seq, received_at, Event(*event))

    def _move(
        self, ledger: PostgresConnection, day: int, after: int, upto: int
    ) -> None:
        """Delete a slice of a copied day from the ledger, and note its place."""
        # Deferred work reads events, too, and must not meet half of a move.
        self._locks.take(ledger, Lock.UPKEEP)
        count, total = ledger.execute(
            "WITH gone AS (DELETE FROM events WHERE day = ? AND seq > ? AND seq <= ?"
            " RETURNING seq) SELECT count(*), sum(seq) FROM gone",
            (day, after, upto),
        ).fetchone()
        wanted = Contents(count, int(total))
        check_day(self._clickhouse, day, wanted, after=after, upto=upto)
        ledger.execute(
            "UPDATE history SET day = ?, seq = ?, moved = moved + ?",
            (day, upto, count),
        )

    def _finish(
        self, ledger: PostgresConnection, day: int, moved: int, now: int
    ) -> None:
        """Note that all events of a day are moved."""
        ledger.execute(
            "INSERT INTO moved_days (day, events, moved_at) VALUES (?,?,?)",
            (day, moved, now),
        )
        ledger.execute(
            "UPDATE history SET day = ?, seq = 0, moved = 0, copied_day = NULL",
            (day + 1,),
        )
        log.info("moved day %d to %s", day, self._clickhouse)

    def _empty(self, ledger: PostgresConnection, now: int) -> bool:
        """Give the room of a moved day back. Return whether there was one."""
        (day,) = ledger.execute(
            "SELECT min(day) FROM moved_days WHERE NOT is_emptied AND moved_at < ?",
            (now - self._longest_read,),
        ).fetchone()
        if day is None:
            return False
        partitions.drop_empty_day(ledger, self._locks, day)
        ledger.execute("UPDATE moved_days SET is_emptied = true WHERE day = ?", (day,))
        return True

    def _identify(self, ledger: PostgresConnection) -> None:
        """Check that ClickHouse has the days of this ledger, or none yet.

        Raises:
            DatabaseError: It has those of another one.
        """
        ledger.execute(
            "INSERT INTO history (id) VALUES (?) ON CONFLICT (one) DO NOTHING",
            (str(uuid.uuid4()),),
        )
        ours, day = ledger.execute("SELECT id, day FROM history").fetchone()
        table = f"{self._clickhouse.database}.ledger"
        found = {row[0] for row in self._clickhouse.rows(f"SELECT id FROM {table}")}
        if not found and not day:
            self._clickhouse.insert("ledger", ["id"], [[ours]])
        elif found != {ours}:
            raise DatabaseError(
                f"{self._clickhouse} does not have the days of this ledger; name the "
                "database that its servers used before, or an empty one if days were "
                "never moved"
            )

    def _check_counts(self, ledger: PostgresConnection, now: int) -> None:
        """Check, now and then, that ClickHouse still has each moved day.

        Raises:
            DayDiffersError: It has lost some.
        """
        at = self._checked_at
        if at is not None and 0 <= now - at < _CHECK_EVERY:
            return
        rows = self._clickhouse.rows(
            f"SELECT day, count() FROM {self._clickhouse.database}.events GROUP BY day"
        )
        there = {day: int(count) for day, count in rows}
        moved = ledger.execute(
            "SELECT day, events FROM moved_days WHERE NOT is_changing ORDER BY day"
        )
        for day, events in moved.fetchall():
            if there.get(day, 0) != events:
                raise _lost(self._clickhouse, day, there.get(day, 0), events)
        self._checked_at = now

    def _now(self) -> int:
        """Return the time of the ledger, in microseconds since 1970."""
        (now,) = (
            self._open()
            .execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
            .fetchone()
        )
        return int(now)

    def _open(self) -> PostgresConnection:
        if self._ledger is None or not self._ledger.is_usable:
            self._close_ledger()
            self._ledger = connecting.connect(self._url)
            self._locks = Locks(self._ledger)
        return self._ledger

    def _close_ledger(self) -> None:
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()

    @contextmanager
    def _exclusive(self, ledger: PostgresConnection) -> Iterator[bool]:
        """Begin a transaction, and yield whether no other server is moving."""
        ledger.execute("BEGIN")
        try:
            yield self._locks.try_take(ledger, Lock.HISTORY)
        except BaseException:
            if not ledger.raw.closed:
                ledger.execute("ROLLBACK")
            raise
        ledger.execute("COMMIT")


def _progress(ledger: PostgresConnection) -> _Progress:
    day, seq, copied_day, moved = ledger.execute(
        "SELECT day, seq, copied_day, moved FROM history"
    ).fetchone()
    return _Progress(Place(day, seq), copied_day, moved)


def _lost(clickhouse: Connection, day: int, there: int, moved: int) -> DayDiffersError:
    return DayDiffersError(
        f"{clickhouse} has {there} of {moved} events of day {day}, which the ledger "
        "has moved there; restore ClickHouse from a replica or a backup; no further "
        "day is moved until then"
    )


class MoverThread:
    """Runs a mover in the background, and logs what it cannot do.

    Args:
        mover: The mover.
        stopping: The event that the mover stops at.

    Attributes:
        moving: How far days were moved after the last step without more to do.
    """

    def __init__(self, mover: HistoryMover, stopping: threading.Event) -> None:
        self._mover = mover
        self._stopping = stopping
        self.moving = Moving(None, 0, None)
        self._thread = threading.Thread(
            # A daemon, because a ClickHouse that hangs must not keep the process.
            target=self._run,
            name="outlay-history",
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread soon. A transaction that is cut short changed nothing."""
        self._stopping.set()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            problem: str | None = None
            try:
                if self._mover.step():
                    continue
            except _StoppedError:
                break
            except ServerError as error:
                problem = str(error)
                log.warning("no day was moved: %s", error)
            except Exception as error:
                problem = f"{type(error).__name__}; see the log"
                log.exception("no day was moved; it is tried again")
            self._look(problem)
            self._stopping.wait(_PAUSE_SECONDS)
        self._mover.close()

    def _look(self, problem: str | None) -> None:
        """Note how far days are moved, and why they do not."""
        with suppress(ServerError):
            self.moving = self._mover.moving()
        self.moving = self.moving._replace(problem=problem)
