"""Store everything in one SQLite file, in WAL mode, synced before it is accepted.

The newest events wait in memory until a transaction folds many of them into the
rollups. A metric that is created or redefined later lags: background work folds the
earlier events slice by slice. Readers add the events that a metric's rollups do not
hold yet. So every result is exact at any moment, and lagging only makes it slower.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec.structs import astuple

from outlay.server._errors import StoreUnavailableError
from outlay.server._metering.metric import CompiledMetric, compile_metric
from outlay.server._records import (
    ApiKey,
    CostMetric,
    Event,
    IngestResult,
    Product,
    ReceivedEvent,
)
from outlay.server._storage.combining import combine
from outlay.server._storage.deduping import ingest_result
from outlay.server._storage.sql import keys as key_table
from outlay.server._storage.sql.budgets import SqlBudgetWriter
from outlay.server._storage.sql.catalog import (
    COST_COLUMNS,
    cost_of,
    insert_product,
    metrics_of_type,
    row_of_cost,
)
from outlay.server._storage.sql.corrections import SqlCorrectionWriter
from outlay.server._storage.sql.deleted_events import deleted_before, events_deleted
from outlay.server._storage.sql.events import EVENT_COLUMNS, READING_COLUMNS
from outlay.server._storage.sql.revenue import SqlRevenueWriter
from outlay.server._storage.sqlite import copy_tables
from outlay.server._storage.sqlite import schema as _schema
from outlay.server._storage.sqlite.checkpoints import Checkpoints
from outlay.server._storage.sqlite.erasing import Erasures
from outlay.server._storage.sqlite.file_lock import FileLock
from outlay.server._storage.sqlite.idempotency_index import (
    WRITE_BATCH,
    IdempotencyIndex,
)
from outlay.server._storage.sqlite.pending_rollups import PendingRollups
from outlay.server._storage.sqlite.retention import EventRetention
from outlay.server._storage.sqlite.rollups import STAGING, add_to_rollups
from outlay.server._storage.sqlite.views import SqliteViews
from outlay.server._storage.store import keep_all
from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from outlay.server._storage.combining import Combined, MeteredEvent
    from outlay.server._storage.copy_store import Row
    from outlay.server._storage.sqlite.reader import SqliteReader
    from outlay.server._storage.store import Change, Moving, Review, Views

_CATCH_UP_BATCH: Final = 500  # events; some 15 ms, for which posts can wait
_DELETE_BATCH: Final = 5000  # rows of rollups; some 10 ms
_FOLD_MICROSECONDS: Final = 1_000_000  # after which even a single event is folded

_INSERT_EVENT: Final = (
    "INSERT INTO events (seq, received_at, id, namespace, key, type, source, subject,"
    " external_subject, external_id, at, data) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
)
_encode_json: Final = msgspec.json.Encoder().encode


class _ActiveMetric(NamedTuple):
    """A metric that is not deleted, and the number of its definition."""

    number: int
    metric: CompiledMetric


class SqliteStore(SqlRevenueWriter, SqlCorrectionWriter, SqlBudgetWriter):
    """Stores everything in one SQLite file.

    Thread safety: as `_storage.store.Store`. Another process may read the file. A
    second server on the file is refused.

    Args:
        path: The database file, created on first use.
        dedupe_window: The time for which a key is remembered, in microseconds.
        durable: Whether commits are synced. Defaults to True. A file that is deleted
            with the process needs no sync.
        write_batch: The number of keys that are written together.

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
    ) -> None:
        self._path = path
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
        self._connection.execute(STAGING)
        self._seq = self._one("SELECT coalesce(max(seq), 0) FROM events")
        self._folded = self._one("SELECT folded_seq FROM progress")
        self._index = IdempotencyIndex(
            self._connection, self._transaction, write_batch=write_batch
        )
        # Other threads look up keys. Each change of a key is a single operation.
        self._active: dict[tuple[str, str], tuple[_ActiveMetric, ...]] = {}
        self._lagging: dict[int, int] = {}  # folded_seq by the metric's definition
        self._pending = PendingRollups()
        self._pending_since = 0
        self._erasures = Erasures(
            self._connection, self._transaction, self._checkpoints.truncate
        )
        self._retention = EventRetention(self._connection, self._transaction)
        self._load_all_costs()
        self._load_closed()
        self._read_pending()
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
        return (namespace, event_type) in self._active

    def stored_bytes(self) -> int:
        """Return the bytes of the file and its log."""
        paths = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(path.stat().st_size for path in paths if path.exists())

    def unfolded(self) -> int:
        """Return the number of events that no rollup on disk has."""
        return self._seq - self._folded

    def moving(self) -> Moving | None:
        """Return None, because no day moves."""
        return None

    def version(self) -> int:
        """Return a number that changes with each commit."""
        (version,) = self._watching.execute("PRAGMA data_version").fetchone()
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
        self._ensure_pending()
        events = self._erasures.rename(events)
        start = self._seq + 1
        try:
            with self._transaction():
                first = self._index.find_first(events, now - self._dedupe_window)
                results = [ingest_result(first, event) for event in events]
                fresh = [result.event for result in results if not result.duplicate]
                self._insert(fresh, start, now)
                self._insert_late(enumerate(fresh, start), now)
                self._add_pending(fresh, start, now)
        except BaseException:
            self._pending_is_valid = False
            raise
        self._seq += len(fresh)
        self._index.add(fresh, start)
        return results

    def import_events(self, events: Sequence[ReceivedEvent], now: int) -> None:
        """Store events that another store received, after all others."""
        del now  # background work forgets the keys before the window
        self._ensure_pending()
        plain = [one.event for one in events]
        start = self._seq + 1
        try:
            with self._transaction():
                copy_tables.insert_events(self._connection, events, start)
                self._add_pending(plain, start, events[0].received_at if events else 0)
        except BaseException:
            self._pending_is_valid = False
            raise
        self._seq += len(events)
        self._index.add(plain, start)

    def import_records(self, records: Iterable[tuple[str, Row]]) -> None:
        """Store the records of another store, all or none."""
        with self._transaction():
            copy_tables.insert_records(self._connection, records)
        self._load_all_costs()
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

    # -- rollups, in the commit thread

    def _add_pending(self, events: Sequence[Event], start: int, now: int) -> None:
        """Combine events for each metric that does not lag."""
        by_type: defaultdict[tuple[str, str], list[MeteredEvent]] = defaultdict(list)
        for seq, event in enumerate(events, start):
            by_type[event.namespace, event.type].append(
                (seq, event.at, event.customer, event.fields)
            )
        for key, metered in by_type.items():
            for number, metric in self._active.get(key, ()):
                if number not in self._lagging:
                    self._pending.add(number, metric, metered)
        if not self._pending.events:
            self._pending_since = now
        self._pending.events += len(events)

    def _ensure_pending(self) -> None:
        """Combine the events on disk again, if the last append failed."""
        if not self._pending_is_valid:
            self._read_pending()

    def _read_pending(self) -> None:
        """Combine the events on disk that are not folded."""
        self._pending = PendingRollups()
        rows = self._connection.execute(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE seq > ? ORDER BY seq",  # noqa: S608 - a constant
            (self._folded,),
        )
        events = [Event(*row) for row in rows]
        for event in events:
            event.fields = decode_data(event.data)
        self._add_pending(events, self._folded + 1, 0)
        self._pending_is_valid = True

    def do_background_work(self, now: int) -> bool:
        """Do one slice of the work that is due, the most urgent first."""
        self._checkpoints.copy_rest()
        self._ensure_pending()
        is_old = not 0 <= now - self._pending_since < _FOLD_MICROSECONDS
        if self._pending.is_full or (self._pending.events and is_old):
            with self._transaction():
                self._write_folded()
            self._forget_pending()
            return True
        if self._index.write_pending():
            return True
        if self._lagging:
            self._catch_up(*next(iter(self._lagging.items())))
            return True
        received_before = now - self._dedupe_window
        if (
            self._delete_ended()
            or self._erasures.step()
            or self._index.expire(received_before)
        ):
            return True
        # The last event stays, because the next one is numbered after it.
        last = min(self._folded, self._seq - 1)
        return self._retention.step(now, last, received_before, self._has_rollups)

    def _has_rollups(self, namespace: str, event_type: str) -> bool:
        """Return whether all metrics of a type have rollups."""
        found = self._active.get((namespace, event_type), ())
        return all(metric.can_roll_up for _, metric in found)

    def _write_folded(self) -> None:
        """Add all pending events to the rollups, in the caller's transaction."""
        self._pending.write(self._connection)
        self._connection.execute("UPDATE progress SET folded_seq = ?", (self._seq,))

    def _forget_pending(self) -> None:
        """Release the events that a committed transaction folded."""
        self._folded = self._seq
        self._pending = PendingRollups()

    def _catch_up(self, number: int, folded: int) -> None:
        """Fold a slice of the events that a lagging metric lacks."""
        metric = self._metric(number)
        upto = min(folded + _CATCH_UP_BATCH, self._seq)
        is_current = upto >= self._seq
        combined: Combined = {}
        if metric.can_roll_up:
            combine(metric, combined, self._events_between(metric.cost, folded, upto))
        else:
            is_current = True
        with self._transaction():
            if is_current:
                # The rollups of all current metrics hold the same events.
                self._write_folded()
            add_to_rollups(self._connection, number, metric, combined)
            self._connection.execute(
                "UPDATE costs SET folded_seq = ? WHERE definition = ?",
                (None if is_current else upto, number),
            )
        lagging = {**self._lagging, number: upto}
        if is_current:
            self._forget_pending()
            del lagging[number]
        self._lagging = lagging

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

    def _delete_ended(self) -> bool:
        """Delete some rollups of ended definitions. Return whether there are more."""
        row = self._connection.execute(
            "SELECT definition FROM ended_definitions LIMIT 1"
        ).fetchone()
        if row is None:
            return False
        with self._transaction():
            deleted = self._connection.execute(
                "DELETE FROM rollups WHERE (metric, cube, grain, bucket, customer,"
                " dimensions) IN (SELECT metric, cube, grain, bucket, customer,"
                " dimensions FROM rollups WHERE metric = ? LIMIT ?)",
                (*row, _DELETE_BATCH),
            ).rowcount
            deleted += self._connection.execute(
                "DELETE FROM wide_sums WHERE rowid IN"
                " (SELECT rowid FROM wide_sums WHERE metric = ? LIMIT ?)",
                (*row, _DELETE_BATCH),
            ).rowcount
            if not deleted:
                self._connection.execute(
                    "DELETE FROM ended_definitions WHERE definition = ?", row
                )
        return True

    # -- costs, products and keys, in the commit thread

    def add_cost(self, cost: CostMetric, review: Review = keep_all) -> None:
        """Store a new cost. It reads earlier events as well."""
        with self._transaction():
            self._replace_costs(cost, review)
            self._insert_cost(cost)
        self._load_costs(cost.namespace, cost.event_type)

    def _replace_costs(self, cost: CostMetric, review: Review) -> None:
        """Delete the costs that a cost of a new type of event replaces."""
        metrics = metrics_of_type(self._connection, cost.namespace, cost.event_type)
        for cost_id in review([one for one in metrics if one.id != cost.id]):
            self._delete_cost(cost_id, cost.updated_at)

    def add_first_costs(self, costs: Iterable[CostMetric]) -> bool:
        """Store costs, unless the store ever had a cost or an event."""
        with self._transaction():
            if self._seq or self._one("SELECT count(*) FROM costs"):
                return False
            added = [*costs]
            for cost in added:
                self._insert_cost(cost)
        for cost in added:
            self._load_costs(cost.namespace, cost.event_type)
        return True

    def change_cost(
        self,
        namespace: str,
        cost_id: str,
        change: Change,
        review: Review = keep_all,
    ) -> CostMetric | None:
        """Change a cost. It is folded again only if its quantities change."""
        with self._transaction():
            found = self._find_cost(namespace, cost_id)
            if found is None:
                return None
            definition, old = found
            new = change(old)
            if new.event_type != old.event_type:
                self._replace_costs(new, review)
            self._connection.execute(
                f"UPDATE costs SET ({COST_COLUMNS}) = (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - a constant
                " WHERE definition = ?",
                (*row_of_cost(new), definition),
            )
            if not new.has_same_quantities(old):
                self._check_events_are_left(old)
                self._end_definition(definition)
                self._connection.execute(
                    "UPDATE costs SET folded_seq = 0, definition = ?"
                    " WHERE definition = ?",
                    (self._new_definition(), definition),
                )
        for event_type in dict.fromkeys((old.event_type, new.event_type)):
            self._load_costs(namespace, event_type)
        return new

    def _check_events_are_left(self, cost: CostMetric) -> None:
        """Refuse to compute quantities again whose events are deleted."""
        found = deleted_before(self._connection, cost.namespace, cost.event_type)
        if found is not None:
            raise events_deleted(found[0])

    def delete_cost(self, namespace: str, cost_id: str, now: int) -> bool:
        """Delete a cost. Its events stay."""
        with self._transaction():
            found = self._find_cost(namespace, cost_id)
            if found is None or found[1].billable is not None:
                return False
            self._delete_cost(cost_id, now)
        self._load_costs(namespace, found[1].event_type)
        return True

    def _insert_cost(self, cost: CostMetric) -> None:
        self._connection.execute(
            f"INSERT INTO costs ({COST_COLUMNS}, folded_seq, definition)"  # noqa: S608 - a constant
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,?)",
            (*row_of_cost(cost), self._new_definition()),
        )

    def _delete_cost(self, cost_id: str, now: int) -> None:
        (definition,) = self._connection.execute(
            "UPDATE costs SET deleted_at = ? WHERE id = ? RETURNING definition",
            (now, cost_id),
        ).fetchone()
        self._end_definition(definition)

    def _new_definition(self) -> int:
        return self._one(
            "UPDATE progress SET last_definition = last_definition + 1"
            " RETURNING last_definition"
        )

    def _end_definition(self, definition: int) -> None:
        """Let background work delete the rollups of a definition."""
        self._connection.execute(
            "INSERT INTO ended_definitions VALUES (?)", (definition,)
        )

    def _find_cost(self, namespace: str, cost_id: str) -> tuple[int, CostMetric] | None:
        """Return a cost that is not deleted, and its definition."""
        row = self._connection.execute(
            f"SELECT definition, {COST_COLUMNS} FROM costs"  # noqa: S608 - a constant
            " WHERE id = ? AND namespace = ? AND deleted_at IS NULL",
            (cost_id, namespace),
        ).fetchone()
        return None if row is None else (row[0], cost_of(row[1:]))

    def add_product(self, product: Product) -> None:
        """Store a product, unless its id exists."""
        with self._transaction():
            insert_product(self._connection, product)

    def add_key(self, key: ApiKey) -> None:
        """Store an API key."""
        with self._transaction():
            key_table.insert_key(self._connection, key)

    def add_first_key(self, key: ApiKey) -> bool:
        """Store an API key, unless there is one already. Return whether it did."""
        with self._transaction():
            if self._one("SELECT count(*) FROM api_keys"):
                return False
            key_table.insert_key(self._connection, key)
        return True

    def revoke_key(self, key_id: str, now: int) -> None:
        """Revoke an API key."""
        with self._transaction():
            key_table.set_revoked(self._connection, key_id, now)

    def rotate_key(self, key_id: str, successor: ApiKey, expires_at: int) -> None:
        """Store a key that replaces another, which expires then."""
        with self._transaction():
            key_table.insert_key(self._connection, successor)
            key_table.shorten_life(self._connection, key_id, expires_at)

    def begin_erasure(
        self, namespace: str, customer: str, pseudonym: str, now: int
    ) -> str:
        """Begin to replace a customer's id by a pseudonym."""
        self._ensure_pending()
        with self._transaction():
            # From here on, no event in memory has the id.
            self._write_folded()
            used = self._erasures.begin(namespace, customer, pseudonym, now, self._seq)
        self._forget_pending()
        self._erasures.committed()
        return used

    def set_retention(self, namespace: str, keep: int | None) -> None:
        """Set how long an organization's events are kept."""
        with self._transaction():
            self._retention.set(namespace, keep)

    def note_key_uses(self, digests: Collection[bytes], now: int) -> None:
        """Note the last use of keys."""
        with self._transaction():
            key_table.set_used(self._connection, digests, now)

    def _load_all_costs(self) -> None:
        rows = self._connection.execute(
            "SELECT DISTINCT namespace, event_type FROM costs WHERE deleted_at IS NULL"
        )
        for namespace, event_type in rows.fetchall():
            self._load_costs(namespace, event_type)

    def _load_costs(self, namespace: str, event_type: str | None) -> None:
        """Read the metrics of one event type again."""
        if event_type is None:
            return
        key = (namespace, event_type)
        lagging = {**self._lagging}
        ended = {active.number for active in self._active.get(key, ())}
        for number in ended:
            lagging.pop(number, None)
        rows = self._connection.execute(
            f"SELECT definition, folded_seq, {COST_COLUMNS} FROM costs"  # noqa: S608 - a constant
            " WHERE namespace = ? AND event_type = ? AND deleted_at IS NULL"
            " ORDER BY number",
            key,
        )
        found: list[_ActiveMetric] = []
        for number, folded, *columns in rows:
            metric = compile_metric(cost_of(columns))
            if metric is None:
                continue
            found.append(_ActiveMetric(number, metric))
            ended.discard(number)
            if folded is not None:
                lagging[number] = folded
        for number in ended:
            self._pending.drop(number)
        if found:
            self._active[key] = tuple(found)
        else:
            self._active.pop(key, None)
        self._lagging = lagging

    def _metric(self, number: int) -> CompiledMetric:
        return next(
            active.metric
            for several in self._active.values()
            for active in several
            if active.number == number
        )

    # -- plumbing

    def _redefining(self) -> AbstractContextManager[None]:
        """Return a transaction. There is no other writer."""
        return self._transaction()

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
