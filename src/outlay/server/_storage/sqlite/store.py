"""Store everything in one SQLite file, in WAL mode, synced before it is accepted.

Background work folds events into the rollups (`folding`). Readers add the events that
a metric's rollups do not hold yet. So every result is exact at any moment, and lagging
only makes it slower.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec.structs import astuple

from outlay.server._errors import StoreUnavailableError
from outlay.server._storage.deduping import ingest_result
from outlay.server._storage.sql import ended_tokens
from outlay.server._storage.sql.budgets import SqlBudgetWriter
from outlay.server._storage.sql.catalog import insert_product
from outlay.server._storage.sql.corrections import SqlCorrectionWriter
from outlay.server._storage.sql.keys import SqlKeyWriter
from outlay.server._storage.sql.reconciliations import SqlReconciliationWriter
from outlay.server._storage.sql.revenue import SqlRevenueWriter
from outlay.server._storage.sqlite import copy_tables
from outlay.server._storage.sqlite import schema as _schema
from outlay.server._storage.sqlite.checkpoints import Checkpoints
from outlay.server._storage.sqlite.cost_table import CostTable
from outlay.server._storage.sqlite.erasing import Erasures
from outlay.server._storage.sqlite.file_lock import FileLock
from outlay.server._storage.sqlite.folding import Folding
from outlay.server._storage.sqlite.idempotency_index import (
    WRITE_BATCH,
    IdempotencyIndex,
)
from outlay.server._storage.sqlite.retention import EventRetention
from outlay.server._storage.sqlite.time_slice import SLICE_SECONDS, TimeSlice
from outlay.server._storage.sqlite.views import SqliteViews
from outlay.server._storage.store import keep_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from outlay.server._records import (
        CostMetric,
        Event,
        IngestResult,
        Product,
        ReceivedEvent,
    )
    from outlay.server._storage.copy_store import Row
    from outlay.server._storage.sqlite.reader import SqliteReader
    from outlay.server._storage.store import Change, Moving, Review, Views

_INSERT_EVENT: Final = (
    "INSERT INTO events (seq, received_at, id, namespace, key, type, source, subject,"
    " external_subject, external_id, at, data) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
)


class SqliteStore(
    SqlRevenueWriter,
    SqlCorrectionWriter,
    SqlBudgetWriter,
    SqlReconciliationWriter,
    SqlKeyWriter,
):
    """Stores everything in one SQLite file.

    Thread safety: as `_storage.store.Store`. Another process may read the file. A
    second server on the file is refused.

    Args:
        path: The database file, created on first use.
        dedupe_window: The time for which a key is remembered, in microseconds.
        durable: Whether commits are synced. Defaults to True. A file that is deleted
            with the process needs no sync.
        write_batch: The number of keys that are written together.
        slice_seconds: The time of a slice of background work.

    Raises:
        DatabaseError: The file cannot be used. The message says what to do.
    """

    _connection: sqlite3.Connection

    def __init__(
        self,
        path: Path,
        *,
        dedupe_window: int,
        durable: bool = True,
        write_batch: int = WRITE_BATCH,
        slice_seconds: float = SLICE_SECONDS,
    ) -> None:
        self._path = path
        self._slice_seconds = slice_seconds
        self._dedupe_window = dedupe_window
        self._file_lock = FileLock(path)
        try:
            self._connection = _schema.open_writer(path, durable=durable)
        except BaseException:
            self._file_lock.release()
            raise
        self._checkpoints = Checkpoints(path, self._connection, durable=durable)
        try:
            self._read_state(write_batch)
        except sqlite3.Error as error:
            self._connection.close()
            self._file_lock.release()
            raise _schema.unusable(path, error) from error
        self._checkpoints.start()

    def _read_state(self, write_batch: int) -> None:
        """Read what the store keeps in memory."""
        self._seq = self._one("SELECT coalesce(max(seq), 0) FROM events")
        self._index = IdempotencyIndex(
            self._connection, self._transaction, write_batch=write_batch
        )
        self._folding = Folding(self._connection, self._transaction)
        self._costs = CostTable(self._connection)
        self._erasures = Erasures(
            self._connection, self._transaction, self._checkpoints.truncate
        )
        self._retention = EventRetention(self._connection, self._transaction)
        self._owed_seconds = 0.0  # to the work on earlier events
        self._load_closed()
        self._views = SqliteViews(self._path)
        self._watching = _schema.open_reader(self._path)

    def close(self) -> None:
        """Release the file. No thread may be writing or reading."""
        self._checkpoints.close()
        self._views.close()
        self._watching.close()
        # The file alone is whole then, so that it can be copied.
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        self._file_lock.release()

    # -- reading, from any thread

    def has_metric_for(self, namespace: str, event_type: str) -> bool:
        """Return whether some cost reads events of this type."""
        return self._folding.metrics.count(namespace, event_type)

    def stored_bytes(self) -> int:
        """Return the bytes of the file and its log."""
        paths = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(path.stat().st_size for path in paths if path.exists())

    def unfolded(self) -> int:
        """Return the number of events that no rollup on disk has."""
        return self._seq - self._folding.folded_seq

    def moving(self) -> Moving | None:
        """Return None, because no day moves."""
        return None

    def version(self) -> int:
        """Return a number that changes with each commit."""
        (version,) = self._watching.execute("PRAGMA data_version").fetchone()
        return int(version)

    def access_version(self) -> int:
        """Return a number that changes with each key or token that begins or ends."""
        [(version,)] = self._watching.execute(
            "SELECT access_version FROM progress"
        ).fetchall()
        return int(version)

    def reading(self) -> AbstractContextManager[SqliteReader]:
        """Open a consistent view. It contains everything that was stored before."""
        return self._views.reading()

    def reopener(self) -> Callable[[], Views]:
        """Return a function that opens the file for reading, in another process."""
        return partial(SqliteViews, self._path)

    # -- events, in the commit thread

    def append(self, events: Sequence[Event], now: int) -> list[IngestResult]:
        """Store ``events``, the first with each key, and return a result for each."""
        self._folding.ensure_valid()
        events = self._erasures.rename(events)
        start = self._seq + 1
        try:
            with self._transaction():
                first = self._index.find_first(events, now - self._dedupe_window)
                results = [ingest_result(first, event) for event in events]
                fresh = [result.event for result in results if not result.duplicate]
                self._insert(fresh, start, now)
                self._insert_late(enumerate(fresh, start), now)
                self._folding.add(fresh, start, now)
        except BaseException:
            self._folding.invalidate()
            raise
        self._seq += len(fresh)
        self._index.add(fresh, start)
        return results

    def import_events(self, events: Sequence[ReceivedEvent], now: int) -> None:
        """Store events that another store received, after all others."""
        del now  # background work forgets the keys before the window
        self._folding.ensure_valid()
        plain = [one.event for one in events]
        start = self._seq + 1
        try:
            with self._transaction():
                copy_tables.insert_events(self._connection, events, start)
                self._folding.add(plain, start, events[0].received_at if events else 0)
        except BaseException:
            self._folding.invalidate()
            raise
        self._seq += len(events)
        self._index.add(plain, start)

    def import_records(self, records: Iterable[tuple[str, Row]]) -> None:
        """Store the records of another store, all or none."""
        with self._folded():
            copy_tables.insert_records(self._connection, records)
        self._folding.metrics.load_all()
        self._load_closed()

    def _insert(self, events: list[Event], start: int, now: int) -> None:
        self._connection.executemany(
            _INSERT_EVENT,
            [
                # In the order of the columns. The last field is the decoded data.
                (seq, now, *astuple(event)[:-1])
                for seq, event in enumerate(events, start)
            ],
        )

    # -- in the background, in the commit thread

    def do_background_work(self, now: int) -> bool:
        """Do one slice of the work that is due.

        Many events make work that keeps up with them due all the time. So the work on
        earlier events has as much time, if it needs that.
        """
        self._checkpoints.copy_rest()
        self._folding.ensure_valid()
        started = time.monotonic()
        if self._owed_seconds > 0 and self._catch_up(now):
            self._owed_seconds -= time.monotonic() - started
            return True
        if self._keep_up(now):
            self._owed_seconds = time.monotonic() - started
            return True
        return self._owed_seconds <= 0 and self._catch_up(now)

    def _keep_up(self, now: int) -> bool:
        """Write what the newest events left in memory, once it is much."""
        if self._folding.is_due(now):
            self._folding.fold(self._seq)
            return True
        return self._index.write_pending(TimeSlice(self._slice_seconds))

    def _catch_up(self, now: int) -> bool:
        """Do a slice of the work on earlier events, the most urgent first."""
        time_slice = TimeSlice(self._slice_seconds)
        received_before = now - self._dedupe_window
        if (
            self._folding.catch_up(time_slice)
            or self._folding.delete_ended(time_slice)
            or self._erasures.step(time_slice)
            or self._index.expire(received_before, time_slice)
        ):
            return True
        # The last event stays, because the next one is numbered after it.
        last = min(self._folding.folded_seq, self._seq - 1)
        has_rollups = self._folding.metrics.can_roll_up
        return self._retention.step(now, last, received_before, has_rollups, time_slice)

    # -- costs, products and keys, in the commit thread

    def add_cost(self, cost: CostMetric, review: Review = keep_all) -> None:
        """Store a new cost. It reads earlier events as well."""
        with self._folded():
            self._costs.add(cost, review)
        self._folding.metrics.load(cost.namespace, cost.event_type)

    def add_first_costs(self, costs: Iterable[CostMetric]) -> bool:
        """Store costs, unless the store ever had a cost or an event."""
        with self._folded():
            if self._seq or self._one("SELECT count(*) FROM costs"):
                return False
            added = [*costs]
            for cost in added:
                self._costs.add(cost)
        for cost in added:
            self._folding.metrics.load(cost.namespace, cost.event_type)
        return True

    def change_cost(
        self,
        namespace: str,
        cost_id: str,
        change: Change,
        review: Review = keep_all,
    ) -> CostMetric | None:
        """Change a cost. It is folded again only if its quantities change."""
        with self._folded():
            found = self._costs.change(namespace, cost_id, change, review)
        if found is None:
            return None
        for event_type in dict.fromkeys(one.event_type for one in found):
            self._folding.metrics.load(namespace, event_type)
        return found[1]

    def delete_cost(self, namespace: str, cost_id: str, now: int) -> bool:
        """Delete a cost. Its events stay."""
        with self._folded():
            deleted = self._costs.delete(namespace, cost_id, now)
        if deleted is None:
            return False
        self._folding.metrics.load(namespace, deleted.event_type)
        return True

    def add_product(self, product: Product) -> None:
        """Store a product, unless its id exists."""
        with self._transaction():
            insert_product(self._connection, product)

    def end_token(self, digest: bytes, until: int, now: int) -> bool:
        """Note that a token is not valid any more. Return whether it was before."""
        with self._transaction():
            return ended_tokens.insert_token(self._connection, digest, until, now)

    def begin_erasure(
        self, namespace: str, customer: str, pseudonym: str, now: int
    ) -> str:
        """Begin to replace a customer's id by a pseudonym."""
        # From here on, no event in memory has the id.
        with self._folded():
            used = self._erasures.begin(namespace, customer, pseudonym, now, self._seq)
        self._erasures.committed()
        return used

    def set_retention(self, namespace: str, keep: int | None) -> None:
        """Set how long an organization's events are kept."""
        with self._transaction():
            self._retention.set(namespace, keep)

    # -- plumbing

    def _changing_keys(self) -> AbstractContextManager[None]:
        """Return a transaction. There is no other server."""
        return self._transaction()

    def _redefining(self) -> AbstractContextManager[None]:
        """Return a transaction. There is no other writer."""
        return self._transaction()

    @contextmanager
    def _folded(self) -> Iterator[None]:
        """Return a transaction in which no event waits in memory for a fold."""
        self._folding.ensure_valid()
        with self._transaction():
            self._folding.write(self._seq)
            yield
        self._folding.forget(self._seq)

    def _one(self, query: str) -> int:
        [(value,)] = self._connection.execute(query).fetchall()
        return int(value)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit at the end of the block, or roll back and raise its error."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            # A failed COMMIT leaves the transaction open. A full disk may end it.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                remedy = "send it again"
                if _schema.is_damage(error):
                    remedy = _schema.DAMAGE_REMEDY
                raise StoreUnavailableError(
                    f"the database failed to write ({error}); nothing of this request "
                    f"was accepted; {remedy}"
                ) from error
            raise
        self._checkpoints.committed()
