"""Posts per second, and the waits of posts, beside heavy work of the server.

Six clients ask for the distinct values of a long history, again and again, which the
server computes from the events. Then a metric of the same history is changed again and
again, so that the server folds it in the background. Run it on a quiet machine:

``python -m bench.server_contention``
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from bench.server_ingest import API_KEY, batch, running_server, single

if TYPE_CHECKING:
    from collections.abc import Iterator

_HISTORY: Final = 200  # batches of a thousand events
_CONNECTIONS: Final = 8
_SECONDS: Final = 10.0
_HEAVY_CLIENTS: Final = 6


def main() -> None:
    """Print a table of posts alone, beside heavy queries, and beside changes."""
    with running_server() as url:
        summed, distinct = _create(url, "SUM"), _create(url, "UNIQUE_COUNT")
        asyncio.run(_fill(url))
        print(
            f"{'posts, 8 at a time':<34}{'posts/s':>9}{'of alone':>10}"
            f"{'p50':>8}{'p99':>8}{'longest':>9} ms"
        )
        alone = 0.0
        numbers = iter(range(10**9))
        for name, path in (
            ("alone", ""),
            ("beside six heavy queries", f"/v0/costs/{distinct}/summary"),
            ("beside a metric that is changed", f"/v0/costs/{summed}"),
        ):
            waits = sorted(asyncio.run(_measure(url, numbers, path)))
            rate = len(waits) / _SECONDS
            alone = alone or rate
            last = len(waits) - 1
            p50, p99, longest = (
                1000 * waits[round(share * last)] for share in (0.5, 0.99, 1)
            )
            print(
                f"{name:<34}{rate:>9,.0f}{rate / alone:>10.0%}"
                f"{p50:>8.1f}{p99:>8.1f}{longest:>9.1f}"
            )


def _create(url: str, aggregation: str) -> str:
    body = {
        "type": "metered",
        "name": aggregation,
        "unitCost": 1,
        "currency": "USD",
        "productId": "prod_1",
        "eventType": "cost.ai.inference",
        "aggregation": aggregation,
        "valueProperty": "$.amount" if aggregation == "SUM" else "$.operation",
        "groupBy": {"provider": "$.provider"},
    }
    return str(_call(url, "POST", "/v0/costs", body)["id"])


def _call(url: str, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        url + path,
        None if body is None else json.dumps(body).encode(),
        {"authorization": f"Bearer {API_KEY}", "content-type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310 - as above
        return json.load(response)


async def _fill(url: str) -> None:
    async with _connected(url) as (reader, writer):
        for number in range(_HISTORY):
            await _post(reader, writer, batch(number, 1000))


async def _measure(url: str, numbers: Iterator[int], path: str) -> list[float]:
    """Return the wait of each post, in seconds."""
    ends_at = time.perf_counter() + _SECONDS
    load = asyncio.create_task(_load(url, path, ends_at)) if path else None
    waits: list[float] = []

    async def post_on() -> None:
        async with _connected(url) as (reader, writer):
            while time.perf_counter() < ends_at:
                start = time.perf_counter()
                await _post(reader, writer, single(10**6 + next(numbers)))
                waits.append(time.perf_counter() - start)

    await asyncio.gather(*[post_on() for _ in range(_CONNECTIONS)])
    if load is not None:
        await load
    return waits


async def _load(url: str, path: str, ends_at: float) -> None:
    is_query = path.endswith("/summary")
    count = _HEAVY_CLIENTS if is_query else 1
    call = _query_on if is_query else _change_on
    await asyncio.gather(
        *[asyncio.to_thread(call, url, path, ends_at) for _ in range(count)]
    )


def _query_on(url: str, path: str, ends_at: float) -> None:
    period = "?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z"
    while time.perf_counter() < ends_at:
        # A 503 says that it took too long, or that too many are waiting.
        with contextlib.suppress(urllib.error.HTTPError):
            _call(url, "GET", f"{path}{period}&groupBy=provider&window=MINUTE")


def _change_on(url: str, path: str, ends_at: float) -> None:
    paths, pause = ["$.operation", "$.provider"], threading.Event()
    while time.perf_counter() < ends_at:
        paths.reverse()
        _call(url, "PATCH", path, {"groupBy": {"provider": paths[0]}})
        pause.wait(1.0)


@contextlib.asynccontextmanager
async def _connected(url: str) -> Any:  # noqa: ANN401 - a pair of streams
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def _post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> None:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 202"), head
    length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
    await reader.readexactly(int(length))


if __name__ == "__main__":
    main()
