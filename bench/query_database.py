"""Build a large database of the server, much faster than through the server.

It has one metric, 1,000 customers, 10 providers and 90 days. The events go straight
into their table, and SQLite computes all rollups from them at the end. The caller
checks the total, so that a change of the tables cannot pass unnoticed.
"""

from __future__ import annotations

import random
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from outlay.server._records import Aggregation, CostMetric
from outlay.server._storage.buckets import Grain, buckets_of
from outlay.server._storage.cubes import (
    CUSTOMER,
    DETAIL,
    LABELS,
    TOTAL,
    WITH_THIRDS,
)
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._wire.response_models import to_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR: Final = 3_600_000_000  # microseconds
DAYS: Final = 90
START: Final = to_microseconds(datetime(2026, 1, 1, tzinfo=UTC))
CUSTOMERS: Final = 1000
PROVIDERS: Final = 10
METRIC: Final = CostMetric(
    "cst_1",
    "org_a",
    "AI",
    Decimal(1),
    "USD",
    "prod_1",
    "cost.ai",
    Aggregation.SUM,
    "$.amount",
    {"provider": "$.provider"},
    None,
    0,
    0,
)

_CHUNK: Final = 50_000  # events
_COLUMNS: Final = (
    "metric, cube, grain, bucket, customer, dimensions, events, skipped,"
    " other_currency, giga, ones, nano, atto, rank, value"
)
_DETAIL: Final = (
    f"INSERT INTO rollups ({_COLUMNS})"  # noqa: S608 - constants
    " SELECT :metric, :cube, 0, hour, 'cus_' || customer,"
    " '[\"provider-' || provider || '\"]', count(*), 0, 0, 0, 0,"
    " 1000 * sum(micros), 0, x'', NULL FROM facts"
    " GROUP BY hour, 'cus_' || customer, provider"
)
_COARSER: Final = (
    f"INSERT INTO rollups ({_COLUMNS})"  # noqa: S608 - constants
    " SELECT :metric, :cube, :grain, {bucket}, {customer}, {dimensions}, sum(events),"
    " 0, 0, 0, 0, sum(nano), 0, x'', NULL FROM rollups JOIN hours ON hour = bucket"
    " WHERE metric = :metric AND cube = :source AND grain = 0"
    " GROUP BY {bucket}, {customer}, {dimensions}"
)
_CUBES: Final = (
    (DETAIL, DETAIL, "customer", "dimensions"),
    (CUSTOMER, DETAIL, "customer", "''"),
    (LABELS, DETAIL, "''", "dimensions"),
    (TOTAL, LABELS, "''", "''"),
)


def build(path: Path, count: int) -> Decimal:
    """Create a database of ``count`` events, and return their total."""
    unfinished = path.with_suffix(".new")
    store = SqliteStore(unfinished, dedupe_window=HOUR, durable=False)
    store.add_cost(METRIC)
    while store.do_background_work(START):
        pass
    store.close()
    connection = sqlite3.connect(unfinished, isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -500000")
    connection.execute("BEGIN")
    connection.execute("CREATE TEMP TABLE facts (hour, customer, provider, micros)")
    total = sum(_insert(connection, chunk) for chunk in chunks(count))
    _roll_up(connection)
    connection.execute(
        "UPDATE progress SET folded_seq = :count, noted_seq = :count,"
        " forgotten_seq = :count",
        {"count": count},
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    unfinished.rename(path)
    return Decimal(total).scaleb(-6)


def chunks(count: int) -> Iterator[list[tuple[int, int, int, int, int]]]:
    """Yield events: number, instant, customer, provider, millionths."""
    draw = random.Random(1)  # noqa: S311 - the same events in each run
    step = DAYS * 24 * HOUR // count
    for first in range(1, count + 1, _CHUNK):
        yield [
            (
                number,
                START + (number - 1) * step,
                int(draw.random() * CUSTOMERS),
                int(draw.random() * PROVIDERS),
                1 + int(draw.random() * 999_999),
            )
            for number in range(first, min(first + _CHUNK, count + 1))
        ]


def _insert(
    connection: sqlite3.Connection, events: list[tuple[int, int, int, int, int]]
) -> int:
    connection.executemany(
        "INSERT INTO events (seq, id, namespace, key, type, source, subject, at,"
        " received_at, data) VALUES (?, ?, 'org_a', ?, 'cost.ai',"
        " 'https://api.myapp.com', ?, ?, ?, ?)",
        [
            (
                number,
                f"evt_{number:024x}",
                f"ok1_{number:040x}",
                f"cus_{customer}",
                at,
                at,
                f'{{"amount":0.{micros:06},"provider":"provider-{provider}"}}',
            )
            for number, at, customer, provider, micros in events
        ],
    )
    connection.executemany(
        "INSERT INTO facts VALUES (?, ?, ?, ?)",
        [
            (at // HOUR, customer, provider, micros)
            for _, at, customer, provider, micros in events
        ],
    )
    return sum(micros for *_, micros in events)


def _roll_up(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TEMP TABLE hours (hour INTEGER PRIMARY KEY, day, month, third)"
    )
    first = START // HOUR
    connection.executemany(
        "INSERT INTO hours VALUES (?, ?, ?, ?)",
        [buckets_of(hour) for hour in range(first, first + DAYS * 24)],
    )
    [(metric,)] = connection.execute("SELECT definition FROM costs")
    connection.execute(_DETAIL, {"metric": metric, "cube": DETAIL})
    for cube, source, customer, dimensions in _CUBES:
        for grain in Grain:
            if (cube, grain) == (DETAIL, Grain.HOUR):
                continue
            if grain is Grain.THIRD and cube not in WITH_THIRDS:
                continue
            connection.execute(
                _COARSER.format(
                    bucket=grain.name.lower(), customer=customer, dimensions=dimensions
                ),
                {"metric": metric, "cube": cube, "grain": grain, "source": source},
            )
