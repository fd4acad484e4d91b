"""Store everything in PostgreSQL: one ledger for any number of servers.

A unique index decides whether a key is new, in the transaction that stores the event.
So it does not matter which server an event reaches, or how often. A server keeps
nothing that another one needs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from functools import partial, wraps
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    NamedTuple,
    ParamSpec,
    TypeVar,
)

import psycopg
from psycopg.pq import TransactionStatus

from outlay.server._errors import DatabaseError, StoreUnavailableError
from outlay.server._metering.metric import CompiledMetric, compile_metric
from outlay.server._records import MICROSECONDS_PER_HOUR
from outlay.server._storage.combining import combine
from outlay.server._storage.postgres import (
    connecting,
    copy_tables,
    definitions,
    erasing,
    larger_grains,
    partitions,
    receipts,
    rollups,
)
from outlay.server._storage.postgres.claiming import PLACES, Claims, new_batch
from outlay.server._storage.postgres.history import (
    has_history,
    history_needed,
    history_state,
)
from outlay.server._storage.postgres.locks import Lock
from outlay.server._storage.postgres.receipts import MICROSECONDS_PER_DAY, key_hash
from outlay.server._storage.postgres.retention import delete_old_events
from outlay.server._storage.postgres.schema import open_ledger
from outlay.server._storage.postgres.texts import copy_field
from outlay.server._storage.postgres.views import PostgresViews
from outlay.server._storage.postgres.watching import Watcher
from outlay.server._storage.sql import ended_tokens
from outlay.server._storage.sql.budgets import SqlBudgetWriter
from outlay.server._storage.sql.catalog import (
    COST_COLUMNS,
    cost_of,
    insert_product,
    metrics_of_type,
    row_of_cost,
)
from outlay.server._storage.sql.corrections import SqlCorrectionWriter
from outlay.server._storage.sql.deleted_events import (
    deleted_before,
    events_deleted,
    set_retention,
)
from outlay.server._storage.sql.keys import SqlKeyWriter
from outlay.server._storage.sql.reconciliations import SqlReconciliationWriter
from outlay.server._storage.sql.revenue import SqlRevenueWriter
from outlay.server._storage.store import keep_all

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from contextlib import AbstractContextManager

    from outlay.server._records import (
        CostMetric,
        Event,
        IngestResult,
        Product,
        ReceivedEvent,
    )
    from outlay.server._storage.combining import Combined, MeteredEvent
    from outlay.server._storage.copy_store import Row
    from outlay.server._storage.postgres.connecting import PostgresConnection
    from outlay.server._storage.postgres.reader import PostgresReader
    from outlay.server._storage.store import Change, Moving, Review, Views

P = ParamSpec("P")
T = TypeVar("T")

_ATTEMPTS: Final = 5  # of a transaction that another one made fail
_STEP_MICROSECONDS: Final = 1_000_000  # between two looks for deferred work
_FIGURES_SECONDS: Final = 10.0  # for which the figures of the database stay the same
_SKEW_MICROSECONDS: Final = 1_000_000  # of a clock that is kept by NTP

_COPY_EVENTS: Final = (
    "COPY events (day, seq, at, received_at, id, namespace, key, type, source, subject,"
    " external_subject, external_id, data) FROM STDIN"
)
# The last statement reads what was committed before the lock was free. Nested loops
# find each key by one look into an index. The planner does not know how many keys are
# new, and would read whole tables at times.
_BEGIN_APPEND: Final = """
    BEGIN;
    SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off;
    SET LOCAL enable_seqscan = off;
    {share};
    SELECT registry, epoch,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, nextval('batches')
    FROM outlay_state
"""
_LAST_SEQ: Final = (
    f"SELECT CASE WHEN is_called THEN last_value * {PLACES} + {PLACES - 1} ELSE 0 END"
    " FROM batches"
)


class _ActiveMetric(NamedTuple):
    """A metric that is not deleted, and the number of its definition."""

    definition: int
    metric: CompiledMetric


class _ConflictError(StoreUnavailableError):
    """Another transaction is the reason. A retry helps."""


def _retried(
    step: Callable[Concatenate[PostgresStore, P], T],
) -> Callable[Concatenate[PostgresStore, P], T]:
    """Repeat a step that another transaction made fail."""

    @wraps(step)
    def repeated(store: PostgresStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(_ATTEMPTS - 1):
            try:
                return step(store, *args, **kwargs)
            except _ConflictError:
                continue
        return step(store, *args, **kwargs)

    return repeated


class PostgresStore(
    SqlRevenueWriter,
    SqlCorrectionWriter,
    SqlBudgetWriter,
    SqlReconciliationWriter,
    SqlKeyWriter,
):
    """Stores everything in one schema of a PostgreSQL database.

    Thread safety: as `_storage.store.Store`. Any number of servers may use a database.

    Args:
        url: The URL of the database.
        dedupe_window: The time for which a key is remembered, in microseconds. All
            servers of a database need the same.
        follows_clock: Whether the clock of the database decides about times of receipt,
            if the server's differs by more than a second. Defaults to False.

    Raises:
        DatabaseError: The database cannot be used. The message says what to do.
    """

    def __init__(
        self, url: str, *, dedupe_window: int, follows_clock: bool = False
    ) -> None:
        self._url = url
        self._dedupe_window = dedupe_window
        self._follows_clock = follows_clock
        self._writer, self._locks = open_ledger(url)
        self._watcher = Watcher(url)
        self._views = self._open_views()
        self._registry = -1
        self._days: set[int] = set()
        self._active: Mapping[tuple[str, str], Sequence[_ActiveMetric]] = {}
        self._erasures: Sequence[erasing.Job] = ()
        self._offset: int | None = None
        self._stepped_at: int | None = None
        self._has_more = False
        self._emptied_on: int | None = None
        self._added_before: int | None = None
        self._due_cubes: list[tuple[int, int]] = []
        self._read_figures = (float("-inf"), (0, 0))
        try:
            self._check_history()
            self._connected()
            self._watcher.start()
        except StoreUnavailableError as error:
            self._writer.close()
            raise DatabaseError(str(error)) from None
        except psycopg.Error as error:
            self._writer.close()
            raise connecting.unusable(url, error) from None

    def close(self) -> None:
        """Close all connections. No thread may be writing or reading."""
        self._watcher.stop()
        self._views.close()
        self._writer.close()

    # -- reading, from any thread

    def has_metric_for(self, namespace: str, event_type: str) -> bool:
        """Return whether some cost reads events of this type."""
        return self._watcher.knows(namespace, event_type)

    def stored_bytes(self) -> int:
        """Return the bytes of the database. They are some seconds old."""
        return self._figures()[0]

    def unfolded(self) -> int:
        """Return the number of deltas that are in no rollup. It is some seconds old."""
        return self._figures()[1]

    def _figures(self) -> tuple[int, int]:
        """Return the bytes of the database, and the number of deltas.

        Metrics must be readable while PostgreSQL is down. They have the last ones then.
        """
        read_at, figures = self._read_figures
        if time.monotonic() - read_at > _FIGURES_SECONDS:
            with suppress(StoreUnavailableError), self._views.reading() as reader:
                figures = reader.database_bytes(), reader.count_deltas()
            self._read_figures = (time.monotonic(), figures)
        return figures

    def moving(self) -> Moving | None:
        """Return None, because no day moves."""
        return None

    def version(self) -> int:
        """Return a number that changes soon after each commit, of any program."""
        return hash(self._watcher.snapshot)

    def access_version(self) -> int:
        """Return a number that changes with each key or token that begins or ends."""
        return hash(self._watcher.version)

    def reading(self) -> AbstractContextManager[PostgresReader]:
        """Open a consistent view. It contains everything that was stored before."""
        return self._views.reading()

    def reopener(self) -> Callable[[], Views]:
        """Return a function that opens the ledger for reading, in another process."""
        return partial(PostgresViews, self._url)

    def _open_views(self) -> PostgresViews:
        return PostgresViews(self._url)

    def _check_history(self) -> None:
        """Check that this store reads all events, in a transaction or without one.

        Raises:
            StoreUnavailableError: Some are in ClickHouse.
        """
        if history_state(self._writer) is not None:
            raise history_needed(self._url)

    # -- events, in the commit thread

    @_retried
    def append(self, events: Sequence[Event], now: int) -> list[IngestResult]:
        """Store ``events``, the first with each key, and return a result for each."""
        if not events:
            return []
        at = self._received_at(now)
        self._ensure_day(at // MICROSECONDS_PER_DAY)
        with self._appending() as (registry, epoch, clock, batch):
            if self._follows_clock and abs(clock - at) > _SKEW_MICROSECONDS:
                at = self._set_clock(clock, now)
            if registry != self._registry:
                self._read_registry(registry)
            events = erasing.renamed(events, self._erasures)
            claims = Claims(self._writer, epoch, at - self._dedupe_window, at)
            fresh = claims.make(events, batch)
            self._write(fresh, at)
            return claims.results(events)

    def _write(self, fresh: Sequence[tuple[int, Event]], now: int) -> None:
        """Store new events, with all that follows from them."""
        if not fresh:
            return
        day = now // MICROSECONDS_PER_DAY
        with self._copying_events(_event_lines(fresh, day, now)):
            # PostgreSQL stores the events meanwhile.
            deltas = self._deltas(fresh)
        self._insert_late(fresh, now)
        rollups.write_deltas(self._writer, deltas)

    @contextmanager
    def _copying_events(self, lines: Iterable[str]) -> Iterator[None]:
        """Send rows of `_event_lines`. They are stored when the block ends."""
        with self._writer.raw.cursor().copy(_COPY_EVENTS.encode()) as copy:
            copy.write("".join(lines))
            yield

    def _deltas(self, fresh: Iterable[tuple[int, Event]]) -> list[str]:
        """Return what events add to each metric."""
        by_type: defaultdict[tuple[str, str], list[MeteredEvent]] = defaultdict(list)
        for seq, event in fresh:
            by_type[event.namespace, event.type].append(
                (seq, event.at, event.customer, event.fields)
            )
        lines: list[str] = []
        for key, metered in by_type.items():
            for definition, metric in self._active.get(key, ()):
                if metric.can_roll_up:
                    combined: Combined = {}
                    combine(metric, combined, metered)
                    lines += rollups.delta_lines(definition, metric, combined)
        return lines

    # -- events and records of another store

    @_retried
    def import_events(self, events: Sequence[ReceivedEvent], now: int) -> None:
        """Store events that another store received, after all others."""
        for day in {_day_of(one) for one in events}:
            self._ensure_day(day)
        with self._appending() as (registry, epoch, *_):
            if registry != self._registry:
                self._read_registry(registry)
            numbered = [*zip(self._new_places(len(events)), events, strict=True)]
            lines = (
                line
                for seq, one in numbered
                for line in _event_lines(
                    [(seq, one.event)], _day_of(one), one.received_at
                )
            )
            with self._copying_events(lines):
                deltas = self._deltas((seq, one.event) for seq, one in numbered)
            rollups.write_deltas(self._writer, deltas)
            # As the ring does, a quarter longer than the window.
            since = now - self._dedupe_window * 5 // 4
            remembered = {
                key_hash(one.event.namespace, one.event.key): (one.received_at, seq)
                for seq, one in numbered
                if one.received_at > since
            }
            receipts.note(self._writer, remembered, epoch=epoch)

    def _new_places(self, count: int) -> Iterator[int]:
        """Yield the next orders of receipt."""
        for start in range(0, count, PLACES - 1):
            batch = new_batch(self._writer)
            for place in range(min(PLACES - 1, count - start)):
                yield batch * PLACES + place + 1

    def import_records(self, records: Iterable[tuple[str, Row]]) -> None:
        """Store the records of another store, all or none."""
        with self._redefining():
            self._grow("keys")
            (last,) = self._writer.execute(_LAST_SEQ).fetchone()
            copy_tables.insert_records(self._writer, records, last)

    def _received_at(self, now: int) -> int:
        """Return the time of the ledger, if this server's clock is wrong."""
        if not self._follows_clock:
            return now
        if self._offset is None:
            with self._in_transaction():
                self._offset = _clock_offset(self._writer, now)
        return now + self._offset

    def _set_clock(self, clock: int, now: int) -> int:
        """Follow the clock of the ledger, because one of both was set.

        Raises:
            _ConflictError: The day has no tables yet. The next try makes them.
        """
        self._offset = clock - now
        if clock // MICROSECONDS_PER_DAY not in self._days:
            raise _ConflictError("the clock of this server was set; send it again")
        return clock

    def _ensure_day(self, day: int) -> None:
        """Make the tables of a day, unless they exist."""
        if day in self._days:
            return
        with self._in_transaction():
            partitions.make_day(self._writer, self._locks, day)
        self._days.add(day)

    def _read_registry(self, registry: int) -> None:
        """Read again what decides about arriving events, in a transaction."""
        active: defaultdict[tuple[str, str], list[_ActiveMetric]] = defaultdict(list)
        rows = self._writer.execute(
            f"SELECT definition, {COST_COLUMNS} FROM costs"
            " WHERE deleted_at IS NULL AND event_type IS NOT NULL ORDER BY number"
        )
        for definition, *columns in rows:
            cost = cost_of(columns)
            metric = compile_metric(cost)
            if metric is not None and cost.event_type is not None:
                key = cost.namespace, cost.event_type
                active[key].append(_ActiveMetric(definition, metric))
        self._active = dict(active)
        self._erasures = erasing.running_jobs(self._writer)
        SqlCorrectionWriter._load_closed(self)  # noqa: SLF001 - of this class
        self._registry = registry

    def _load_closed(self) -> None:
        """Leave it to the next append, which reads all of the registry again."""

    # -- deferred work, in the commit thread

    def do_background_work(self, now: int) -> bool:
        """Do one slice of the work that is due, the most urgent first."""
        is_due = (
            self._has_more
            or self._stepped_at is None
            or not 0 <= now - self._stepped_at < _STEP_MICROSECONDS
        )
        if not is_due:
            return False
        self._has_more = False
        self._offset = None
        received_at = self._received_at(now)
        with self._in_transaction():
            if self._locks.try_take(self._writer, Lock.UPKEEP):
                self._has_more = self._step(received_at)
        if not self._has_more:
            self._stepped_at = now
        return self._has_more

    def _step(self, now: int) -> bool:
        return (
            self._turn_ring(now)
            or rollups.fold(self._writer)
            or self._catch_up()
            or definitions.delete_ended(self._writer)
            or self._add_hours(now)
            or self._change_events(now)
        )

    def _catch_up(self) -> bool:
        """Fold a slice of the events that a new definition lacks."""
        has_more = definitions.catch_up(self._writer)
        if has_more:
            self._added_before = None
        return has_more

    def _add_hours(self, now: int) -> bool:
        """Add a slice of the hours that are over to larger grains."""
        hour = now // MICROSECONDS_PER_HOUR
        if self._added_before != hour:
            self._added_before = hour
            self._due_cubes = larger_grains.due_cubes(self._writer, hour)
        if not self._due_cubes:
            return False
        if not larger_grains.add_hours(self._writer, *self._due_cubes[-1], hour):
            self._due_cubes.pop()
        return True

    def _change_events(self, now: int) -> bool:
        """Rename or delete events, unless the one who moves days does it for both."""
        if has_history(self._writer):
            return False
        return (
            self._erase()
            or delete_old_events(self._writer, now, now - self._dedupe_window)
            or self._drop_empty_day(now)
        )

    def _drop_empty_day(self, now: int) -> bool:
        """Drop the table of a day of which retention left nothing, if there is one."""
        today = now // MICROSECONDS_PER_DAY
        if self._emptied_on == today:
            return False
        self._emptied_on = today  # Also if a read is in the way. Tomorrow is early.
        oldest = (now - self._dedupe_window) // MICROSECONDS_PER_DAY - 1
        days = partitions.empty_days(self._writer, oldest)
        if days:
            partitions.drop_empty_day(self._writer, self._locks, days[0])
            self._emptied_on = None
        return bool(days)

    def _turn_ring(self, now: int) -> bool:
        (since,) = self._writer.execute(
            "SELECT epoch_since FROM outlay_state"
        ).fetchone()
        if since > now - self._dedupe_window // 4:
            return False
        self._locks.take(self._writer, Lock.APPENDS)
        return receipts.turn(self._writer, self._dedupe_window, now)

    def _erase(self) -> bool:
        jobs = erasing.running_jobs(self._writer)
        if not jobs:
            return False
        if erasing.step(self._writer, self._locks, jobs[0]):
            self._grow("registry")
        return True

    # -- costs, products and keys, in the commit thread

    @_retried
    def add_cost(self, cost: CostMetric, review: Review = keep_all) -> None:
        """Store a new cost. It reads earlier events as well."""
        with self._redefining():
            self._replace_costs(cost, review)
            self._insert_cost(cost)

    def _replace_costs(self, cost: CostMetric, review: Review) -> None:
        """Delete the costs that a cost of a new type of event replaces."""
        metrics = metrics_of_type(self._writer, cost.namespace, cost.event_type)
        for cost_id in review([one for one in metrics if one.id != cost.id]):
            self._delete_cost(cost_id, cost.updated_at)

    @_retried
    def add_first_costs(self, costs: Iterable[CostMetric]) -> bool:
        """Store costs, unless the store ever had a cost or an event."""
        costs = [*costs]
        with self._redefining():
            (has_any,) = self._writer.execute(
                "SELECT EXISTS (SELECT 1 FROM costs) OR EXISTS (SELECT 1 FROM events)"
                " OR EXISTS (SELECT 1 FROM moved_types)"
            ).fetchone()
            if not has_any:
                for cost in costs:
                    self._insert_cost(cost)
        return not has_any

    @_retried
    def change_cost(
        self,
        namespace: str,
        cost_id: str,
        change: Change,
        review: Review = keep_all,
    ) -> CostMetric | None:
        """Change a cost. It is folded again only if its quantities change."""
        with self._redefining():
            found = self._find_cost(namespace, cost_id)
            if found is None:
                return None
            definition, old = found
            new = change(old)
            if new.event_type != old.event_type:
                self._replace_costs(new, review)
            marks = ",".join("?" * len(row_of_cost(new)))
            self._writer.execute(
                f"UPDATE costs SET ({COST_COLUMNS}) = ROW ({marks})"
                " WHERE definition = ?",
                (*row_of_cost(new), definition),
            )
            if not new.has_same_quantities(old):
                deleted = deleted_before(self._writer, namespace, old.event_type)
                if deleted is not None:
                    raise events_deleted(deleted[0])
                self._end_definition(definition)
                self._writer.execute(
                    "UPDATE costs SET definition = nextval('definitions'), cutoff = ?,"
                    " folded_day = ?, folded_seq = ? WHERE definition = ?",
                    (*self._place_of(new), definition),
                )
        return new

    @_retried
    def delete_cost(self, namespace: str, cost_id: str, now: int) -> bool:
        """Delete a cost. Its events stay."""
        with self._redefining():
            found = self._find_cost(namespace, cost_id)
            if found is None or found[1].billable is not None:
                return False
            self._delete_cost(cost_id, now)
        return True

    def _insert_cost(self, cost: CostMetric) -> None:
        values = (*row_of_cost(cost), *self._place_of(cost))
        self._writer.execute(
            f"INSERT INTO costs ({COST_COLUMNS}, cutoff, folded_day, folded_seq)"
            f" VALUES ({','.join('?' * len(values))})",
            values,
        )

    def _place_of(self, cost: CostMetric) -> tuple[int, int | None, int | None]:
        """Return the last event before a definition, and where its folding begins."""
        self._check_history()
        (last,) = self._writer.execute(_LAST_SEQ).fetchone()
        metric = compile_metric(cost)
        (has_events,) = self._writer.execute(
            "SELECT EXISTS (SELECT 1 FROM events WHERE namespace = ? AND type = ?)",
            (cost.namespace, cost.event_type),
        ).fetchone()
        lags = has_events and metric is not None and metric.can_roll_up
        return (last, 0, 0) if lags else (last, None, None)

    def _find_event(self, namespace: str, event_id: str) -> tuple[int, Event] | None:
        """Return an event, after its order of receipt."""
        found = super()._find_event(namespace, event_id)
        if found is None:
            self._check_history()
        return found

    def _delete_cost(self, cost_id: str, now: int) -> None:
        (definition,) = self._writer.execute(
            "UPDATE costs SET deleted_at = ? WHERE id = ? RETURNING definition",
            (now, cost_id),
        ).fetchone()
        self._end_definition(definition)

    def _end_definition(self, definition: int) -> None:
        """Let deferred work delete the rollups of a definition."""
        self._writer.execute("INSERT INTO ended_definitions VALUES (?)", (definition,))

    def _find_cost(self, namespace: str, cost_id: str) -> tuple[int, CostMetric] | None:
        """Return a cost that is not deleted, and its definition."""
        row = self._writer.execute(
            f"SELECT definition, {COST_COLUMNS} FROM costs"
            " WHERE id = ? AND namespace = ? AND deleted_at IS NULL",
            (cost_id, namespace),
        ).fetchone()
        return None if row is None else (row[0], cost_of(row[1:]))

    @_retried
    def add_product(self, product: Product) -> None:
        """Store a product, unless its id exists."""
        with self._transaction():
            insert_product(self._writer, product)

    @_retried
    def end_token(self, digest: bytes, until: int, now: int) -> bool:
        """Note that a token is not valid any more. Return whether it was before."""
        with self._changing_keys():
            return ended_tokens.insert_token(self._writer, digest, until, now)

    @_retried
    def begin_erasure(
        self, namespace: str, customer: str, pseudonym: str, now: int
    ) -> str:
        """Begin to replace a customer's id by a pseudonym."""
        with self._redefining():
            (last,) = self._writer.execute(_LAST_SEQ).fetchone()
            return erasing.begin(
                self._writer, namespace, customer, pseudonym, now=now, last_seq=last
            )

    @_retried
    def set_retention(self, namespace: str, keep: int | None) -> None:
        """Set how long an organization's events are kept."""
        with self._transaction():
            set_retention(self._writer, namespace, keep)

    # Steps of the shared parts, which another transaction may make fail as well.
    add_revenue = _retried(SqlRevenueWriter.add_revenue)
    put_rates = _retried(SqlRevenueWriter.put_rates)
    put_customers = _retried(SqlRevenueWriter.put_customers)
    correct = _retried(SqlCorrectionWriter.correct)
    close_period = _retried(SqlCorrectionWriter.close_period)
    begin_reconciliation = _retried(SqlReconciliationWriter.begin_reconciliation)
    add_matches = _retried(SqlReconciliationWriter.add_matches)
    withdraw_reconciliation = _retried(SqlReconciliationWriter.withdraw_reconciliation)
    add_key = _retried(SqlKeyWriter.add_key)
    add_first_key = _retried(SqlKeyWriter.add_first_key)
    revoke_key = _retried(SqlKeyWriter.revoke_key)
    rotate_key = _retried(SqlKeyWriter.rotate_key)
    note_key_uses = _retried(SqlKeyWriter.note_key_uses)

    # -- transactions

    @property
    def _connection(self) -> PostgresConnection:  # type: ignore[override]
        """The connection that writes."""
        return self._writer

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Change records beside the events, one of all servers at a time."""
        self._stepped_at = None
        with self._in_transaction():
            self._locks.take(self._writer, Lock.WRITES)
            yield

    @contextmanager
    def _redefining(self) -> Iterator[None]:
        """Change what decides about arriving events. No append is under way meanwhile.

        Each append before is committed, and each one after reads the change.
        """
        with self._transaction():
            self._locks.take(self._writer, Lock.APPENDS)
            yield
            self._grow("registry")
        self._noticed()

    @contextmanager
    def _changing_keys(self) -> Iterator[None]:
        with self._transaction():
            yield
            self._grow("keys")
        self._noticed()

    def _noticed(self) -> None:
        """Let this server see its own change at once."""
        self._watcher.changed_here()
        with suppress(psycopg.Error):  # it is stored, and the watcher tries again
            self._watcher.check()

    def _grow(self, counter: str) -> None:
        """Let all servers notice a change, in its transaction."""
        self._writer.execute(f"UPDATE outlay_state SET {counter} = {counter} + 1")

    @contextmanager
    def _appending(self) -> Iterator[tuple[int, int, int, int]]:
        """Append in a transaction. Nothing that decides about events changes meanwhile.

        Yields:
            The registry, the epoch, the time and a batch number, all of the ledger.
        """
        share = self._locks.sharing(Lock.APPENDS)
        with self._in_transaction(_BEGIN_APPEND.format(share=share)) as state:
            yield state.fetchone()

    @contextmanager
    def _in_transaction(self, begin: str = "BEGIN") -> Iterator[Any]:
        """Commit at the end of the block, or roll back and raise its error.

        Args:
            begin: The statements that begin the transaction.

        Yields:
            The cursor at the result of the last statement.
        """
        is_committing = False
        try:
            self._ensure_connected()
            yield connecting.last_result(self._writer.execute(begin))
            is_committing = True
            self._writer.execute("COMMIT")
        except BaseException as error:
            is_broken = self._roll_back()
            if isinstance(error, psycopg.Error):
                is_known = not (is_committing and is_broken)
                problem = connecting.unwritable(error, is_outcome_known=is_known)
                if isinstance(error, psycopg.errors.CheckViolation):
                    # The table of the day was dropped. The next try makes it.
                    self._days = set()
                    problem = _ConflictError(str(problem))
                elif connecting.is_conflict(error):
                    problem = _ConflictError(str(problem))
                raise problem from error
            raise

    def _roll_back(self) -> bool:
        """End a failed transaction. Return whether the connection is broken."""
        raw = self._writer.raw
        if raw.closed or raw.info.transaction_status == TransactionStatus.UNKNOWN:
            return True
        try:
            self._writer.execute("ROLLBACK")
        except psycopg.Error:
            self._writer.close()
            return True
        return False

    def _ensure_connected(self) -> None:
        """Connect again, if PostgreSQL was restarted or another one took over."""
        if self._writer.is_usable:
            return
        self._writer.close()
        self._writer = connecting.connect(self._url)
        self._connected()

    def _connected(self) -> None:
        """Forget what may differ in another database with the same URL."""
        self._registry = -1
        self._days = partitions.existing_days(self._writer)
        self._offset = None


def _event_lines(
    events: Sequence[tuple[int, Event]], day: int, now: int
) -> Iterator[str]:
    """Yield new events as rows of COPY."""
    for seq, event in events:
        yield (
            f"{day}\t{seq}\t{event.at}\t{now}\t{event.id}"
            f"\t{copy_field(event.namespace)}\t{copy_field(event.key)}"
            f"\t{copy_field(event.type)}\t{copy_field(event.source)}"
            f"\t{copy_field(event.subject)}\t{copy_field(event.external_subject)}"
            f"\t{copy_field(event.external_id)}\t{copy_field(event.data)}\n"
        )


def _day_of(received: ReceivedEvent) -> int:
    """Return the day of receipt, in days since 1970."""
    return received.received_at // MICROSECONDS_PER_DAY


def _clock_offset(connection: PostgresConnection, now: int) -> int:
    """Return the microseconds by which the database is ahead of a server.

    A difference that NTP allows counts as none.
    """
    (there,) = connection.execute(
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    ).fetchone()
    offset = int(there) - now
    return offset if abs(offset) > _SKEW_MICROSECONDS else 0
