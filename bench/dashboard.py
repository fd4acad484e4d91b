"""Milliseconds of CPU that the server takes for each page of the dashboard.

Each database has one metric, 1,000 customers with revenue, 10 providers and 90 days.
The pages are those of its last two months, without the network. Time of the CPU does
not depend on what else the machine does. Garbage is collected as in the server's
process. The last column is the growth of the p95 since the first database.

Run it with ``python -m bench.dashboard 100000 10000000``. With ``--keep FOLDER`` it
keeps each database, and shares it with ``bench.server_queries``.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from bench import query_database
from bench._sizes import size_options
from bench.query_database import CUSTOMERS
from outlay.server import ServerSettings
from outlay.server._app import app_for
from outlay.server._core import ServerCore
from outlay.server._records import RevenueLine
from outlay.server._run import rare_garbage_collection
from outlay.server._storage.revenue_store import RevenuePart
from outlay.server._wire.response_models import to_microseconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

_KEY: Final = "sk_test_bench"
_ROUNDS: Final = 60  # of each page, in turn over the months
_NOW: Final = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)
_MONTHS: Final = ("2026-02", "2026-03")
_STARTS: Final = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4)]
_PAGES: Final = {
    "overview": "/",
    "overview, by customer": "/?by=customer",
    "overview, one provider": "/?where.provider=provider-3",
    "overview, Berlin": "/?tz=Europe/Berlin",
    "customers by cost": "/customers",
    "customers by worst margin": "/customers?sort=worst",
    "customers by cost, page 30": "/customers?page=30",
    "customers, any 70 days": "/customers?from=2026-01-10&to=2026-03-20",
    "customers of one provider": "/customers?where.provider=provider-3",
    "one customer": "/customer?id=cus_7",
    "events": "/events",
    "events of one customer": "/events?id=cus_7",
    "cost metrics": "/cost-metrics",
    "data health": "/data-health",
}


class _Clock:
    """Stands at the end of the events."""

    def now_ns(self) -> int:
        return int(_NOW.timestamp()) * 1_000_000_000

    def now_ms(self) -> int:
        return int(_NOW.timestamp()) * 1000

    def monotonic(self) -> float:
        return time.monotonic()


def main() -> None:
    """Print a table of milliseconds for each size."""
    options = size_options(__doc__, __name__, keeps_databases=True)
    first: dict[str, float] = {}
    for count in options.events:
        with tempfile.TemporaryDirectory() as folder:
            path = (options.keep or Path(folder)) / f"queries-{count}.db"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                query_database.build(path, count)
            asyncio.run(_measure_all(count, path, first))


async def _measure_all(count: int, path: Path, first: dict[str, float]) -> None:
    settings = ServerSettings(database=path, api_key=_KEY, namespace="org_a")
    core = ServerCore(settings, _Clock())
    app = app_for(core, ())
    async with _running(app):
        await core.commits.run(lambda: _add_revenue(core))
        with rare_garbage_collection():
            await _measure_pages(app, count, first)


async def _measure_pages(app: ASGIApp, count: int, first: dict[str, float]) -> None:
    print(f"\n{count:,} events, {CUSTOMERS:,} customers")
    print(f"{'page':<30}{'median':>8}{'p95':>8} ms{'growth':>8}{'KiB':>6}")
    for name, address in _PAGES.items():
        took, size = await _measure(app, address)
        p95 = statistics.quantiles(took, n=20)[-1]
        growth = p95 / first.setdefault(name, p95)
        print(
            f"{name:<30}{statistics.median(took):>8.1f}{p95:>8.1f}   "
            f"{growth:>8.2f}{size / 1024:>6.1f}"
        )


@asynccontextmanager
async def _running(app: ASGIApp) -> AsyncIterator[None]:
    """Start an application, and stop it at the end, as a server does."""
    messages: asyncio.Queue[Any] = asyncio.Queue()
    replies: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    life = asyncio.ensure_future(app(scope, messages.get, replies.put))
    await messages.put({"type": "lifespan.startup"})
    reply = await replies.get()
    assert reply["type"] == "lifespan.startup.complete", reply
    try:
        yield
    finally:
        await messages.put({"type": "lifespan.shutdown"})
        await life


async def _measure(app: ASGIApp, address: str) -> tuple[list[float], int]:
    """Return the milliseconds of each request, and the largest compressed size."""
    took: list[float] = []
    largest = 0
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://127.0.0.1",
        headers={"authorization": f"Bearer {_KEY}"},
    ) as client:
        for place in range(_ROUNDS + 1):
            url = httpx.URL(address)
            if "from" not in url.params:
                month = _MONTHS[place % len(_MONTHS)]
                url = url.copy_set_param("month", month)
            start = time.process_time()
            request = client.build_request("GET", url)
            response = await client.send(request, stream=True)
            body = [chunk async for chunk in response.aiter_raw()]
            if place:  # the first one fills caches
                took.append(1000 * (time.process_time() - start))
            assert response.status_code == 200, response
            largest = max(largest, sum(map(len, body)))
    return took, largest


def _add_revenue(core: ServerCore) -> None:
    """Give each customer a line of revenue in each month, as a subscription does."""
    lines = [
        RevenueLine(
            f"in_{month}_{customer}",
            f"cus_{customer}",
            to_microseconds(start),
            to_microseconds(end),
            Decimal(100 + customer % 300) / 8,
            "USD",
            "billing",
        )
        for month, (start, end) in enumerate(pairwise(_STARTS))
        for customer in range(CUSTOMERS)
    ]
    part = RevenuePart("org_a", "bench", 0, is_last=True, digest=b"bench", lines=lines)
    core.store.add_revenue(part, core.now(), "bench")


if __name__ == "__main__":
    main()
