"""Milliseconds that the same questions take over each kind of store.

Each store has the same events: one metric, 1,000 customers, 10 providers and 90 days,
received as they happened. It is the time of the clock, because PostgreSQL works in
processes of its own.

Run it with ``python -m bench.store_queries 100000 1000000``. PostgreSQL takes four
minutes for each million events, to store them and to add them up as a server does.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import query_database
from bench._postgres import running_postgres
from bench._sizes import size_options
from bench.query_database import DAYS, HOUR, METRIC, START
from outlay.server._records import ApiKey, Event, ReceivedEvent
from outlay.server._run import rare_garbage_collection
from outlay.server._services.report import ReportService
from outlay.server._services.summary import SummaryService
from outlay.server._storage.postgres.store import PostgresStore
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._wire.request_models import ReportQuery, SummaryQuery
from outlay.server._wire.response_models import format_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from outlay.server._storage.store import Store

_ROUNDS: Final = 20
_BATCH: Final = 5000
_KEY: Final = ApiKey(b"", "bench", "org_a", frozenset("*"), 0)
_END: Final = START + DAYS * 24 * HOUR
_WHOLE: Final = {"from": format_instant(START), "to": format_instant(_END)}


def main() -> None:
    """Print a table for each number of events."""
    options = size_options(__doc__, __name__)
    for count in options.events:
        print(
            f"\n{count:,} events\n{'question':<32}{'SQLite':>10}{'PostgreSQL':>12} ms"
        )
        with _on_sqlite(count) as one, _on_postgres(count) as other:
            asked = [_questions(one), _questions(other)]
            with rare_garbage_collection():
                for name in asked[0]:
                    assert asked[0][name]() == asked[1][name](), name
                    times = [_milliseconds(each[name]) for each in asked]
                    print(f"{name:<32}{times[0]:>10.1f}{times[1]:>12.1f}", flush=True)


@contextmanager
def _on_sqlite(count: int) -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queries.db"
        query_database.build(path, count)
        with closing(SqliteStore(path, dedupe_window=HOUR, durable=False)) as store:
            yield store


@contextmanager
def _on_postgres(count: int) -> Iterator[Store]:
    with running_postgres() as server:
        url = server.create_database()
        with closing(PostgresStore(url, dedupe_window=HOUR)) as store:
            store.add_cost(METRIC)
            for batch in _batches(count):
                store.import_events(batch, _END)
                while store.do_background_work(batch[-1].received_at):
                    pass
            while store.do_background_work(_END):
                pass
            store._writer.execute("VACUUM ANALYZE")  # noqa: SLF001 - autovacuum's work
            yield store


def _batches(count: int) -> Iterator[Sequence[ReceivedEvent]]:
    """Yield the events of `query_database`."""
    for chunk in query_database.chunks(count):
        for start in range(0, len(chunk), _BATCH):
            yield [_event(*one) for one in chunk[start : start + _BATCH]]


def _event(
    number: int, at: int, customer: int, provider: int, micros: int
) -> ReceivedEvent:
    amount = f"0.{micros:06}"
    label = f"provider-{provider}"
    event = Event(
        f"evt_{number:024x}",
        METRIC.namespace,
        f"ok1_{number:040x}",
        str(METRIC.event_type),
        "https://api.myapp.com",
        f"cus_{customer}",
        None,
        None,
        at,
        f'{{"amount":{amount},"provider":"{label}"}}',
        {"amount": Decimal(amount), "provider": label},
    )
    return ReceivedEvent(event, at)


def _questions(store: Store) -> dict[str, Callable[[], object]]:
    summaries, reports = SummaryService(store), ReportService(store, "USD")

    def summary(**rest: Any) -> Callable[[], object]:  # noqa: ANN401
        query = SummaryQuery.model_validate({**_WHOLE, **rest})
        return lambda: summaries.summarize(_KEY, METRIC.id, query)

    def report(**rest: Any) -> Callable[[], object]:  # noqa: ANN401
        query = ReportQuery.model_validate(
            {**_WHOLE, "groupBy": "customer", "costId": (METRIC.id,), **rest}
        )
        return lambda: reports.report(_KEY, query)

    one_day = {
        "from": format_instant(START + 40 * 24 * HOUR),
        "to": format_instant(START + 41 * 24 * HOUR),
    }
    return {
        "total": summary(),
        "by customer": report(),
        "one customer by day": summary(subject="cus_7", window="DAY"),
        "one provider by customer": report(filterGroupBy='{"provider":"provider-3"}'),
        "one day by customer": report(**one_day),
    }


def _milliseconds(ask: Callable[[], object]) -> float:
    took = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - start))
    return statistics.median(took)


if __name__ == "__main__":
    main()
