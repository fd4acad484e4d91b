"""Events per second that each kind of store takes: durable, deduped and rolled up.

A writer is a process that appends batches of new keys, and does the deferred work, as
the commit thread of a server does. SQLite has one writer. All share this machine's
processors with the database. The floors copy the same rows with bare ``COPY`` into the
same tables with the same indexes, one commit a batch, without a look for the keys.

The last column is the processor time of the writers and of PostgreSQL for them, which
depends less on other work of the machine.

Run it with ``python -m bench.store_ingest 100000 1000000``. Ten million events take
some minutes a lane, and 20 GB of disk.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench._postgres import running_postgres
from bench._sizes import size_options
from bench.query_database import METRIC
from outlay.server._metering.metric import compile_metric
from outlay.server._records import Event
from outlay.server._storage.postgres.receipts import MICROSECONDS_PER_DAY, key_hash
from outlay.server._storage.postgres.store import PostgresStore
from outlay.server._storage.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier

    from outlay.server._storage.store import Store

_WINDOW: Final = MICROSECONDS_PER_DAY
_CUSTOMERS: Final = 1000
_PROVIDERS: Final = 10


class Lane(NamedTuple):
    """One line of the table.

    Attributes:
        engine: ``sqlite``, ``postgres``, or ``floor`` for bare rows.
        writers: The number of processes.
        batch: The events of one append.
    """

    engine: str
    writers: int
    batch: int


LANES: Final = (
    Lane("sqlite", 1, 1000),
    Lane("postgres", 1, 1000),
    Lane("floor", 1, 1000),
    Lane("postgres", 4, 1000),
    Lane("floor", 4, 1000),
    Lane("postgres", 4, 100),
    Lane("postgres", 4, 10_000),
)


def main() -> None:
    """Print a table for each number of events."""
    options = size_options(__doc__, __name__)
    for events in options.events:
        print(
            f"\n{'store':<10}{'writers':>8}{'batch':>8}{'events':>12}{'events/s':>11}"
            f"{'CPU ms/1,000':>14}"
        )
        for lane in LANES:
            took = _measure(lane, events)
            print(
                f"{lane.engine:<10}{lane.writers:>8}{lane.batch:>8,}{events:>12,}"
                f"{events / took.seconds:>11,.0f}"
                f"{1_000_000 * took.processor_seconds / events:>14,.1f}",
                flush=True,
            )


class Took(NamedTuple):
    """What the appends of all writers took.

    Attributes:
        seconds: The time from the first append to the last commit.
        processor_seconds: The processor time of the writers and their connections.
    """

    seconds: float
    processor_seconds: float


def _measure(lane: Lane, events: int) -> Took:
    """Measure one lane with a new database."""
    with tempfile.TemporaryDirectory() as folder:
        if lane.engine == "sqlite":
            return _run(lane, str(Path(folder) / "outlay.db"), events)
        with running_postgres() as server:
            return _run(lane, server.create_database(), events)


def _run(lane: Lane, place: str, events: int) -> Took:
    with closing(_opened(lane, place)) as store:
        store.add_cost(METRIC)
        while store.do_background_work(_now()):
            pass
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(lane.writers + 1)
    share = events // lane.writers
    processor_seconds = context.SimpleQueue()
    writers = [
        context.Process(
            target=_write,
            args=(lane, place, n * share, share, barrier, processor_seconds),
        )
        for n in range(lane.writers)
    ]
    for writer in writers:
        writer.start()
    barrier.wait()
    started = time.perf_counter()
    for writer in writers:
        writer.join()
    seconds = time.perf_counter() - started
    assert not any(writer.exitcode for writer in writers)
    if lane.engine != "floor":
        _check(lane, place, events)
    return Took(seconds, sum(processor_seconds.get() for _ in writers))


def _check(lane: Lane, place: str, events: int) -> None:
    """Check that the total is exact. The figure of a wrong total is worth nothing."""
    metric = compile_metric(METRIC)
    assert metric is not None
    with closing(_opened(lane, place)) as store, store.reading() as reader:
        found = metric.new_accumulator()
        for one in reader.contributions(metric, 0, 2 * _now()):
            found.add(one)
        assert found.result() == Decimal("0.0042") * events


def _opened(lane: Lane, place: str) -> Store:
    if lane.engine == "sqlite":
        return SqliteStore(Path(place), dedupe_window=_WINDOW)
    return PostgresStore(place, dedupe_window=_WINDOW)


def _write(  # noqa: PLR0917 - the arguments of a process
    lane: Lane,
    place: str,
    first: int,
    count: int,
    barrier: Barrier,
    processor_seconds: SimpleQueue[float],
) -> None:
    """Append a writer's share of the events."""
    with closing(_opened(lane, place)) as store:
        store.do_background_work(_now())
        barrier.wait()
        before = _processor_seconds(store)
        for start in range(first, first + count, lane.batch):
            events = [*_events(start, min(start + lane.batch, first + count))]
            if lane.engine == "floor":
                assert isinstance(store, PostgresStore)
                _copy(store, events)
            else:
                store.append(events, _now())
                store.do_background_work(_now())
        processor_seconds.put(_processor_seconds(store) - before)


def _processor_seconds(store: Store) -> float:
    """Return the processor time of this process, and of its connection's one.

    ``schedstat`` begins with nanoseconds on a processor (proc(5), 2026-11).
    """
    seconds = time.process_time()
    if isinstance(store, PostgresStore):
        connection = store._writer  # noqa: SLF001
        (process,) = connection.execute("SELECT pg_backend_pid()").fetchone()
        spent = Path(f"/proc/{process}/schedstat").read_text().split()[0]
        seconds += int(spent) / 1e9
    return seconds


def _events(first: int, end: int) -> Iterator[Event]:
    at = _now()
    for number in range(first, end):
        provider = f"provider-{number % _PROVIDERS}"
        yield Event(
            f"evt_{number:024x}",
            METRIC.namespace,
            f"ok1_{number:040x}",
            str(METRIC.event_type),
            "https://api.myapp.com",
            f"cus_{number % _CUSTOMERS}",
            None,
            None,
            at,
            f'{{"amount":0.0042,"provider":"{provider}"}}',
            {"amount": Decimal("0.0042"), "provider": provider},
        )


def _copy(store: PostgresStore, events: list[Event]) -> None:
    """Copy the rows that an append stores, without a look for the keys."""
    now = _now()
    day = now // MICROSECONDS_PER_DAY
    store._ensure_day(day)  # noqa: SLF001 - the floor of the same tables
    connection = store._writer  # noqa: SLF001
    connection.execute("BEGIN")
    (batch,) = connection.execute("SELECT nextval('batches')").fetchone()
    numbered = [*enumerate(events, (batch << 14) + 1)]
    with connection.raw.cursor().copy(
        b"COPY receipts (epoch, key_hash, received_at, seq) FROM STDIN"
    ) as copy:
        copy.write(
            "".join(
                f"0\t{key_hash(one.namespace, one.key)}\t{now}\t{seq}\n"
                for seq, one in numbered
            )
        )
    with connection.raw.cursor().copy(
        b"COPY events (day, seq, at, received_at, id, namespace, key, type, source,"
        b" subject, data) FROM STDIN"
    ) as copy:
        copy.write(
            "".join(
                f"{day}\t{seq}\t{one.at}\t{now}\t{one.id}\t{one.namespace}\t{one.key}"
                f"\t{one.type}\t{one.source}\t{one.subject}\t{one.data}\n"
                for seq, one in numbered
            )
        )
    connection.execute("COMMIT")


def _now() -> int:
    return time.time_ns() // 1000


if __name__ == "__main__":
    main()
