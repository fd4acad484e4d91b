"""The store on SQLite: one file, in WAL mode, synced before anything is accepted.

Rollups are folded in the transaction that keeps the events. A cost that is created or
redefined later starts *behind*: it is folded bit by bit in `keep_up`, and until then
readers add the raw events that its rollups do not hold yet. So every answer is exact
at any moment; being behind only makes it slower.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from contextlib import contextmanager
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
)
from outlay.server._storage import schema as _schema
from outlay.server._storage.file_lock import FileLock
from outlay.server._storage.idempotency_index import WRITE_BATCH, IdempotencyIndex
from outlay.server._storage.rollups import add_to_rollups
from outlay.server._storage.sqlite_reader import (
    COST_COLUMNS,
    READING_COLUMNS,
    SqliteReader,
    contributions_from_rows,
    cost_of,
    row_of_cost,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FOLDED_AT_ONCE: Final = 2000  # events; some 40 ms, which waiting posts can bear

_INSERT_EVENT: Final = (
    "INSERT INTO events (seq, received_at, id, namespace, key, type, source, subject,"
    " external_subject, external_id, at, data) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
)
_encode_json: Final = msgspec.json.Encoder().encode


class _ActiveMetric(NamedTuple):
    """A live cost: its row number and its meter."""

    number: int
    meter: CompiledMetric


class SqliteStore:
    """Keeps everything in one SQLite file.

    Thread safety: as `_storage.store.Store`. Another process may read the file. A
    second server on the file is refused.

    Args:
        path: the database file, created on first use.
        dedupe_window: microseconds for which a key is remembered.
        durable: False forgoes syncing, for files that do not outlive the process.
        write_batch: keys that are remembered until they are written together.

    Raises:
        DatabaseError: the file cannot be used; the message says what to do.
    """

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
        self._seq = self._one("SELECT coalesce(max(seq), 0) FROM events")
        self._receipts = IdempotencyIndex(
            self._connection, self._transaction, write_batch=write_batch
        )
        # Both are replaced as a whole, never changed: other threads read _live.
        self._active: dict[tuple[str, str], tuple[_ActiveMetric, ...]] = {}
        self._lagging: dict[int, int] = {}  # cost number to folded_seq
        self._load_costs()
        self._idle_readers: list[SqliteReader] = []  # guarded by _readers_lock
        self._readers_lock = threading.Lock()

    def close(self) -> None:
        """Release the file; nobody may be writing or reading."""
        with self._readers_lock:
            readers, self._idle_readers = self._idle_readers, []
        for reader in readers:
            reader.close()
        self._connection.close()
        self._file_lock.release()

    # -- reading, from any thread

    def has_metric_for(self, namespace: str, event_type: str) -> bool:
        """Say whether some cost reads events of this type."""
        return (namespace, event_type) in self._active

    @contextmanager
    def reading(self) -> Iterator[SqliteReader]:
        """Open a consistent view; it sees all that was written before."""
        try:
            reader = self._idle_reader()
            try:
                with reader.snapshot():
                    yield reader
            finally:
                with self._readers_lock:
                    self._idle_readers.append(reader)
        except sqlite3.Error as error:
            raise StoreUnavailableError(
                f"the database cannot be read ({error})"
            ) from error

    def _idle_reader(self) -> SqliteReader:
        with self._readers_lock:
            if self._idle_readers:
                return self._idle_readers.pop()
        return SqliteReader(_schema.open_reader(self._path))

    # -- events, in the writer's thread

    def append(self, events: Sequence[Event], now: int) -> list[IngestResult]:
        """Keep ``events``, first receipt wins, and return one receipt for each."""
        with self._transaction():
            first = self._receipts.find_first(events, now - self._dedupe_window)
            receipts = [_receipt(first, event) for event in events]
            fresh = [receipt.event for receipt in receipts if not receipt.duplicate]
            start = self._seq + 1
            self._insert(fresh, start, now)
            self._add_to_active_rollups(fresh, start)
        # After the commit, so that a rolled back append leaves no trace.
        self._seq += len(fresh)
        self._receipts.add(fresh, start)
        return receipts

    def _insert(self, events: list[Event], start: int, now: int) -> None:
        self._connection.executemany(
            _INSERT_EVENT,
            [
                # In the order of the columns; the last field is data, decoded.
                (seq, now, *astuple(event)[:-1])
                for seq, event in enumerate(events, start)
            ],
        )

    # -- rollups, in the writer's thread

    def _add_to_active_rollups(self, events: list[Event], start: int) -> None:
        """Fold new events into every cost that is not behind."""
        by_type: defaultdict[tuple[str, str], list[tuple[int, Event]]]
        by_type = defaultdict(list)
        for seq, event in enumerate(events, start):
            by_type[event.namespace, event.type].append((seq, event))
        for name, numbered in by_type.items():
            for number, meter in self._active.get(name, ()):
                if number not in self._lagging:
                    add_to_rollups(
                        self._connection,
                        number,
                        meter,
                        [
                            meter.contribution(
                                seq, event.at, event.customer, event.fields
                            )
                            for seq, event in numbered
                        ],
                    )

    def do_background_work(self, now: int) -> bool:
        """Note receipts, fold events into a cost that is behind, or forget receipts."""
        if self._receipts.write_pending():
            return True
        if self._lagging:
            self._catch_up(*next(iter(self._lagging.items())))
            return True
        return self._receipts.expire(now - self._dedupe_window)

    def _catch_up(self, number: int, folded: int) -> None:
        meter = self._meter(number)
        upto = min(folded + _FOLDED_AT_ONCE, self._seq)
        rows = self._connection.execute(
            f"SELECT {READING_COLUMNS} FROM events NOT INDEXED"  # noqa: S608 - a constant
            " WHERE seq > ? AND seq <= ? AND namespace = ? AND type = ?",
            (folded, upto, meter.cost.namespace, meter.cost.event_type),
        )
        current = upto >= self._seq
        with self._transaction():
            add_to_rollups(
                self._connection, number, meter, contributions_from_rows(meter, rows)
            )
            self._connection.execute(
                "UPDATE costs SET folded_seq = ? WHERE number = ?",
                (None if current else upto, number),
            )
        behind = {**self._lagging, number: upto}
        if current:
            del behind[number]
        self._lagging = behind

    # -- costs, products and keys, in the writer's thread

    def add_cost(self, cost: CostMetric) -> None:
        """Keep a new cost; it reads earlier events as well."""
        with self._transaction():
            self._connection.execute(
                f"INSERT INTO costs ({COST_COLUMNS}, folded_seq)"  # noqa: S608 - a constant
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,0)",
                row_of_cost(cost),
            )
        self._load_costs()

    def replace_cost(self, cost: CostMetric) -> None:
        """Keep a changed cost under its id; folds again only if it counts anew."""
        with self._transaction():
            number, old = self._numbered(cost.id)
            self._connection.execute(
                f"UPDATE costs SET ({COST_COLUMNS}) = (?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - a constant
                " WHERE number = ?",
                (*row_of_cost(cost), number),
            )
            if not cost.has_same_quantities(old):
                self._connection.execute(
                    "UPDATE costs SET folded_seq = 0 WHERE number = ?", (number,)
                )
                self._drop_rollups(number)
        self._load_costs()

    def delete_cost(self, cost: CostMetric, now: int) -> None:
        """Hide a cost; its events stay."""
        with self._transaction():
            number, _ = self._numbered(cost.id)
            self._connection.execute(
                "UPDATE costs SET deleted_at = ?, folded_seq = 0 WHERE number = ?",
                (now, number),
            )
            self._drop_rollups(number)
        self._load_costs()

    def add_product(self, product: Product) -> None:
        """Keep a product, unless its id is there."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO products (id, namespace, name, description, metadata,"
                " created_at, updated_at) VALUES (?,?,?,?,?,?,?)"
                " ON CONFLICT DO NOTHING",
                (
                    product.id,
                    product.namespace,
                    product.name,
                    product.description,
                    _encode_json(product.metadata).decode(),
                    product.created_at,
                    product.updated_at,
                ),
            )

    def add_key(self, key: ApiKey) -> None:
        """Keep an API key."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO api_keys (digest, name, namespace, permissions,"
                " created_at) VALUES (?,?,?,?,?)",
                (
                    key.digest,
                    key.name,
                    key.namespace,
                    _encode_json(sorted(key.permissions)).decode(),
                    key.created_at,
                ),
            )

    def _load_costs(self) -> None:
        live: defaultdict[tuple[str, str], list[_ActiveMetric]] = defaultdict(list)
        behind: dict[int, int] = {}
        rows = self._connection.execute(
            f"SELECT number, folded_seq, {COST_COLUMNS} FROM costs"  # noqa: S608 - a constant
            " WHERE deleted_at IS NULL"
        )
        for number, folded, *columns in rows:
            cost = cost_of(columns)
            meter = compile_metric(cost)
            if meter is None or cost.event_type is None:
                continue
            live[cost.namespace, cost.event_type].append(_ActiveMetric(number, meter))
            if folded is not None:
                behind[number] = folded
        self._active = {name: tuple(metered) for name, metered in live.items()}
        self._lagging = behind

    def _meter(self, number: int) -> CompiledMetric:
        return next(
            live.meter
            for several in self._active.values()
            for live in several
            if live.number == number
        )

    def _numbered(self, cost_id: str) -> tuple[int, CostMetric]:
        number, *columns = self._connection.execute(
            f"SELECT number, {COST_COLUMNS} FROM costs WHERE id = ?",  # noqa: S608 - a constant
            (cost_id,),
        ).fetchone()
        return number, cost_of(columns)

    def _drop_rollups(self, number: int) -> None:
        self._connection.execute("DELETE FROM rollups WHERE cost = ?", (number,))

    # -- plumbing

    def _one(self, query: str) -> int:
        (value,) = self._connection.execute(query).fetchone()
        return int(value)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit on leaving, or roll back and raise what went wrong."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            # A failed COMMIT leaves the transaction open; a full disk may end it.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreUnavailableError(
                    f"the database did not take the write ({error}); nothing of this "
                    "request was accepted"
                ) from error
            raise


def _receipt(first: dict[tuple[str, str], Event], event: Event) -> IngestResult:
    """Return the receipt of ``event``, which is the first with its key if none was."""
    earlier = first.setdefault((event.namespace, event.key), event)
    if earlier is event:
        return IngestResult(event)
    return IngestResult(
        earlier, duplicate=True, conflict=not _is_same_event(earlier, event)
    )


def _is_same_event(left: Event, right: Event) -> bool:
    """Compare what callers say; id, time of receipt and default time are ours."""
    return (
        left.type == right.type
        and left.source == right.source
        and left.subject == right.subject
        and left.external_subject == right.external_subject
        and left.data == right.data
    )
