"""Milliseconds of CPU that summaries and reports take, in databases of growing size.

Each database has one metric, 1,000 customers, 10 providers and 90 days. Time
of the CPU depends little on what else the machine does. Garbage is collected as in the
server's process.

Run it with ``python -m bench.server_queries 100000 1000000``. With ``--keep FOLDER`` it
keeps each database, and later runs read it again. The one of ten million events takes
some minutes and 4 GiB.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import query_database
from bench._sizes import size_options
from bench.query_database import DAYS, HOUR, START
from outlay.server._records import ApiKey
from outlay.server._run import rare_garbage_collection
from outlay.server._services.report import ReportService
from outlay.server._services.summary import SummaryService
from outlay.server._storage.buckets import Grain
from outlay.server._storage.cubes import CUSTOMER, TOTAL
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._wire.request_models import ReportQuery, SummaryQuery
from outlay.server._wire.response_models import format_instant

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS: Final = 40
_KEY: Final = ApiKey(b"", "bench", "org_a", frozenset("*"), 0)


def main() -> None:
    """Print a table of milliseconds for each size."""
    options = size_options(__doc__, __name__, keeps_databases=True)
    for count in options.events:
        with tempfile.TemporaryDirectory() as folder:
            _measure_all(count, options.keep or Path(folder))


def _measure_all(count: int, folder: Path) -> None:
    path = folder / f"queries-{count}.db"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        total = query_database.build(path, count)
    else:
        total = None
    store = SqliteStore(path, dedupe_window=HOUR, durable=False)
    try:
        size = path.stat().st_size // 2**20
        print(f"\n{count:,} events, {size:,} MiB")
        queries = _queries(store)
        found = queries["total"]()
        assert total in {None, Decimal(found.total_cost_exact or 0)}, found
        print(f"{'query':<44}{'median':>9}{'p95':>9} ms")
        with rare_garbage_collection():
            for name, ask in {**queries, **_floors(path)}.items():
                _measure(name, ask)
    finally:
        store.close()


def _floors(path: Path) -> dict[str, Callable[[], Any]]:
    """Return bare statements that read the rollups of the queries above them."""
    connection = sqlite3.connect(path)
    read = (
        "SELECT sum(events), sum(giga), sum(ones), sum(nano), sum(atto) FROM rollups"
        " WHERE metric = (SELECT definition FROM costs) AND cube = ? AND grain = ?"
        " GROUP BY "
    )

    def select(cube: int, grain: int, by: str) -> Callable[[], object]:
        return lambda: connection.execute(read + by, (cube, grain)).fetchall()

    return {
        "floor: total of the months": select(TOTAL, Grain.MONTH, "metric"),
        "floor: total of each hour": select(TOTAL, Grain.HOUR, "bucket"),
        "floor: each customer, from months": select(CUSTOMER, Grain.MONTH, "customer"),
    }


def _queries(store: SqliteStore) -> dict[str, Callable[[], Any]]:
    draw = random.Random(2)  # noqa: S311 - the same queries in each run
    summaries, reports = SummaryService(store), ReportService(store, "USD")

    def period(unit: int) -> dict[str, str]:
        length = DAYS * 24 * HOUR // unit
        first, last = sorted(draw.sample(range(length + 1), 2))
        return {
            "from": format_instant(START + first * unit),
            "to": format_instant(START + last * unit),
        }

    whole = {
        "from": format_instant(START),
        "to": format_instant(START + DAYS * 24 * HOUR),
    }

    def summary(unit: int | None = None, **rest: Any) -> Callable[[], object]:  # noqa: ANN401
        return lambda: summaries.summarize(
            _KEY,
            "cst_1",
            SummaryQuery.model_validate({**(period(unit) if unit else whole), **rest}),
        )

    def report(unit: int | None = None, **rest: Any) -> Callable[[], object]:  # noqa: ANN401
        return lambda: reports.report(
            _KEY,
            ReportQuery.model_validate({**(period(unit) if unit else whole), **rest}),
        )

    return {
        "total": summary(),
        "total, any hours": summary(HOUR),
        "total, any minutes": summary(HOUR // 60),
        "by day": summary(window="DAY"),
        "by hour": summary(window="HOUR"),
        "by provider, by day": summary(groupBy="provider", window="DAY"),
        "by provider, any hours": summary(HOUR, groupBy="provider"),
        "one customer, by provider, any hours": summary(
            HOUR, subject="cus_7", groupBy="provider"
        ),
        "one customer, by hour": summary(subject="cus_7", window="HOUR"),
        "one provider, by day": summary(
            filterGroupBy='{"provider":"provider-3"}', window="DAY"
        ),
        "report by customer": report(groupBy="customer"),
        "report by customer, any days": report(24 * HOUR, groupBy="customer"),
        "report by customer, any hours": report(HOUR, groupBy="customer"),
        "report by customer, prior period": report(
            24 * HOUR, groupBy="customer", comparePriorPeriod=True
        ),
        "report by customer, by day": report(groupBy="customer", windowSize="DAY"),
        "report by customer, by month": report(groupBy="customer", windowSize="MONTH"),
        "report by provider, by day": report(
            groupBy="provider", windowSize="DAY", costId=("cst_1",)
        ),
        "report of one provider by customer": report(
            groupBy="customer",
            filterGroupBy='{"provider":"provider-3"}',
            costId=("cst_1",),
        ),
    }


def _measure(name: str, ask: Callable[[], object]) -> None:
    took: list[float] = []
    for _ in range(_ROUNDS):
        start = time.thread_time()
        ask()
        took.append(1000 * (time.thread_time() - start))
    p95 = statistics.quantiles(took, n=20)[-1]
    print(f"{name:<44}{statistics.median(took):>9.1f}{p95:>9.1f}")


if __name__ == "__main__":
    main()
