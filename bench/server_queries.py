"""Milliseconds of CPU that summaries and reports take, in databases of growing size.

Each database has one metric, 1,000 customers, 10 providers and 90 days. Time
of the CPU does not depend on what else the machine does.

Run it with ``python -m bench.server_queries 100000 1000000``.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay.server._records import Aggregation, ApiKey, CostMetric, Event
from outlay.server._services.report import ReportService
from outlay.server._services.summary import SummaryService
from outlay.server._storage.sqlite_store import SqliteStore
from outlay.server._wire.request_models import ReportQuery, SummaryQuery
from outlay.server._wire.response_models import format_instant, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Callable

_HOUR: Final = 3_600_000_000
_DAYS: Final = 90
_START: Final = to_microseconds(datetime(2026, 1, 1, tzinfo=UTC))
_CUSTOMERS: Final = 1000
_PROVIDERS: Final = tuple(f"provider-{number}" for number in range(10))
_ROUNDS: Final = 40
_BATCH: Final = 5000
_KEY: Final = ApiKey(b"", "bench", "org_a", frozenset("*"), 0)
_METRIC: Final = CostMetric(
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


def main() -> None:
    """Print a table of milliseconds for each size."""
    for count in [int(text) for text in sys.argv[1:]] or [100_000]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.db"
            store = SqliteStore(path, dedupe_window=_HOUR, durable=False)
            start = time.thread_time()
            _fill(store, count)
            seconds = time.thread_time() - start
            size = path.stat().st_size // 2**20
            rate = f"{count / seconds:,.0f} events per second of CPU"
            print(f"\n{count:,} events, {size:,} MiB, {rate}")
            print(f"{'query':<44}{'median':>9}{'p95':>9} ms")
            for name, ask in _queries(store).items():
                _measure(name, ask)
            store.close()


def _fill(store: SqliteStore, count: int) -> None:
    store.add_cost(_METRIC)
    while store.do_background_work(_START):
        pass
    draw = random.Random(1)  # noqa: S311 - the same events in each run
    step = _DAYS * 24 * _HOUR // count
    for first in range(0, count, _BATCH):
        events = [
            _event(number, _START + number * step, draw)
            for number in range(first, min(first + _BATCH, count))
        ]
        store.append(events, events[-1].at)
        store.do_background_work(events[-1].at)
    while store.do_background_work(_START + 2 * _DAYS * 24 * _HOUR):
        pass


def _event(number: int, at: int, draw: random.Random) -> Event:
    amount = Decimal(draw.randrange(1, 10**6)).scaleb(-6)
    fields: dict[str, Any] = {"amount": amount, "provider": draw.choice(_PROVIDERS)}
    text = msgspec.json.encode(
        {**fields, "amount": msgspec.Raw(format(amount, "f").encode())}
    )
    return Event(
        f"evt_{number:024x}",
        "org_a",
        f"ok1_{number:040x}",
        "cost.ai",
        "https://api.myapp.com",
        f"cus_{draw.randrange(_CUSTOMERS)}",
        None,
        None,
        at,
        text.decode(),
        fields,
    )


def _queries(store: SqliteStore) -> dict[str, Callable[[], object]]:
    draw = random.Random(2)  # noqa: S311 - the same queries in each run
    summaries, reports = SummaryService(store), ReportService(store, "USD")

    def period(unit: int) -> dict[str, str]:
        length = _DAYS * 24 * _HOUR // unit
        first, last = sorted(draw.sample(range(length + 1), 2))
        return {
            "from": format_instant(_START + first * unit),
            "to": format_instant(_START + last * unit),
        }

    whole = {
        "from": format_instant(_START),
        "to": format_instant(_START + _DAYS * 24 * _HOUR),
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
        "total, any hours": summary(_HOUR),
        "total, any minutes": summary(_HOUR // 60),
        "by day": summary(window="DAY"),
        "by hour": summary(window="HOUR"),
        "by provider, by day": summary(groupBy="provider", window="DAY"),
        "by provider, any hours": summary(_HOUR, groupBy="provider"),
        "one customer, by provider, any hours": summary(
            _HOUR, subject="cus_7", groupBy="provider"
        ),
        "one customer, by hour": summary(subject="cus_7", window="HOUR"),
        "one provider, by day": summary(
            filterGroupBy='{"provider":"provider-3"}', window="DAY"
        ),
        "report by customer": report(groupBy="customer"),
        "report by customer, any days": report(24 * _HOUR, groupBy="customer"),
        "report by customer, any hours": report(_HOUR, groupBy="customer"),
        "report by customer, prior period": report(
            24 * _HOUR, groupBy="customer", comparePriorPeriod=True
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
