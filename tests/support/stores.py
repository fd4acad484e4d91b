"""The stores that the tests of the seam run over, and records for them."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from outlay.server._metering.metric import CompiledMetric, compile_metric
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
    Aggregation,
    ApiKey,
    CostMetric,
    Event,
)
from outlay.server._storage.opening import open_store
from outlay.server._storage.postgres.store import PostgresStore
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._wire.response_models import decode_data
from tests.support.memory_store import MemoryStore, Tables
from tests.support.postgres_server import empty_database, new_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outlay.server._settings import ServerSettings
    from outlay.server._storage.store import Store
    from outlay.server._wire.request_models import Window

HOUR: Final = MICROSECONDS_PER_HOUR
STORES_VARIABLE: Final = "OUTLAY_TEST_STORES"
"""The variable that lets the tests of the server run over PostgreSQL, and over
PostgreSQL with ClickHouse, as well."""

DEDUPE_WINDOW: Final = 24 * HOUR
START: Final = 490_000 * HOUR  # some hour of 2025
IDLE: Final = 1_000_000  # microseconds without an append, after which all is folded


class StoreLane(Protocol):
    """One kind of store, and the data of one test."""

    def open(self) -> Store:
        """Open the store. Close the one that was opened before, as a restart does."""
        ...

    def close(self) -> None:
        """Close the store, and delete the data."""
        ...


class SqliteLane:
    """SQLite, in a folder of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._store: SqliteStore | None = None

    def open(self) -> Store:
        """Open the file."""
        if self._store is not None:
            self._store.close()
        path = Path(self._folder.name) / "outlay.db"
        self._store = SqliteStore(path, dedupe_window=DEDUPE_WINDOW, durable=False)
        return self._store

    def close(self) -> None:
        """Close and delete the file."""
        if self._store is not None:
            self._store.close()
        self._folder.cleanup()


class MemoryLane:
    """The plain store in memory."""

    def __init__(self) -> None:
        self._tables = Tables()

    def open(self) -> Store:
        """Open the tables."""
        return MemoryStore(self._tables, dedupe_window=DEDUPE_WINDOW)

    def close(self) -> None:
        """Forget the tables."""
        self._tables = Tables()


_spare_databases: Final[list[str]] = []


def new_or_spare_database() -> str:
    """Return the URL of an empty database."""
    return _spare_databases.pop() if _spare_databases else new_database()


def spare_database(url: str) -> None:
    """Leave an empty database to a later test."""
    _spare_databases.append(url)


class _EmptiedStore(PostgresStore):
    """A store whose database is emptied when it is closed, for a later test."""

    def close(self) -> None:
        """Close the store, and delete the data."""
        super().close()
        empty_database(self._url)
        spare_database(self._url)


class PostgresLane:
    """PostgreSQL, in a database of its own, which a later test gets emptied."""

    def __init__(self) -> None:
        self._url = new_or_spare_database()
        self._store: PostgresStore | None = None

    def open(self) -> Store:
        """Open the database."""
        if self._store is not None:
            self._store.close()
        self._store = PostgresStore(self._url, dedupe_window=DEDUPE_WINDOW)
        return self._store

    def close(self) -> None:
        """Close the store, and empty the database."""
        if self._store is not None:
            self._store.close()
            empty_database(self._url)
        spare_database(self._url)


LANES: Final[dict[str, Callable[[], StoreLane]]] = {
    "sqlite": SqliteLane,
    "memory": MemoryLane,
    "postgres": PostgresLane,
}
"""Each kind of store, by name. Another engine adds its lane here."""


def _history_lane() -> StoreLane:
    # Few tests need ClickHouse, and its packages take a while to import.
    from tests.support.history_lane import HistoryLane  # noqa: PLC0415

    return HistoryLane()


ALL_LANES: Final[dict[str, Callable[[], StoreLane]]] = {
    **LANES,
    "history": _history_lane,
}
"""Each kind, and the one with ClickHouse, over which few tests run each time."""

EMBEDDED: Final = ("sqlite", "memory")
"""The kinds that a test can open a hundred times in a second."""


def _open_postgres(settings: ServerSettings) -> Store:
    window = settings.dedupe_window // timedelta(microseconds=1)
    return _EmptiedStore(new_or_spare_database(), dedupe_window=window)


def _open_history(settings: ServerSettings) -> Store:
    from tests.support.history_lane import EmptiedMovingStore  # noqa: PLC0415

    del settings  # its window is that of all tests of stores
    return EmptiedMovingStore()


OPENERS: Final[dict[str, Callable[[ServerSettings], Store]]] = {
    "sqlite": open_store,
    "memory": lambda settings: MemoryStore(
        Tables(), dedupe_window=settings.dedupe_window // timedelta(microseconds=1)
    ),
    **(
        {"postgres": _open_postgres, "history": _open_history}
        if STORES_VARIABLE in os.environ
        else {}
    ),
}
"""The function that opens each kind of store for a server, by name."""


@contextmanager
def opened(lane: str) -> Iterator[Store]:
    """Open an empty store of a kind."""
    one = ALL_LANES[lane]()
    try:
        yield one.open()
    finally:
        one.close()


def finish_background_work(store: Store, now: int = START + IDLE) -> None:
    """Let the store do all deferred work."""
    while store.do_background_work(now):
        pass


def make_event(key: str, **overrides: Any) -> Event:  # noqa: ANN401 - any field
    """Return an event of one unit at the start of the test's time."""
    data = overrides.pop("data", '{"amount":1}')
    fields: dict[str, Any] = {
        "id": f"evt_{key}",
        "namespace": "org_a",
        "key": key,
        "type": "cost.ai",
        "source": "tests",
        "subject": "cus_1",
        "external_subject": None,
        "external_id": None,
        "at": START,
        "data": data,
        "fields": decode_data(data),
    }
    return Event(**{**fields, **overrides})


def make_cost(cost_id: str = "cst_1", **overrides: Any) -> CostMetric:  # noqa: ANN401 - any field
    """Return a cost that sums the amounts of ``cost.ai``."""
    fields: dict[str, Any] = {
        "id": cost_id,
        "namespace": "org_a",
        "name": "AI",
        "unit_cost": Decimal(1),
        "currency": "USD",
        "product_id": "prod_1",
        "event_type": "cost.ai",
        "aggregation": Aggregation.SUM,
        "value_property": "$.amount",
        "group_by": {"provider": "$.provider"},
        "unit": None,
        "created_at": START,
        "updated_at": START,
    }
    return CostMetric(**{**fields, **overrides})


def make_key(number: int, namespace: str = "org_a", **fields: int) -> ApiKey:
    """Return an API key."""
    return ApiKey(
        bytes([number]) * 32,
        f"name {number}",
        namespace,
        frozenset("*"),
        START,
        f"key_{number}",
        f"hint{number}",
        **fields,
    )


def compiled(cost: CostMetric) -> CompiledMetric:
    """Return a cost that has an aggregation, compiled."""
    metric = compile_metric(cost)
    assert metric is not None
    return metric


def quantity(
    store: Store,
    cost: CostMetric,
    start: int = START,
    end: int = START + 10 * HOUR,
    *,
    window: Window | None = None,
    as_of: int | None = None,
) -> Decimal | None:
    """Return a cost's quantity over a period."""
    metric = compiled(cost)
    accumulator = metric.new_accumulator()
    with store.reading() as reader:
        for one in reader.contributions(metric, start, end, window=window, as_of=as_of):
            accumulator.add(one)
    return accumulator.result()
