"""Events per second that the reference server accepts, over real HTTP.

The server runs in a process of its own, with a durable database on disk and one cost
metric with three dimensions. The client is this process. It uses raw sockets and
ready-made requests, so that it needs little time beside the server. The floors keep the
same rows in a bare SQLite table, without keys, rollups or HTTP.

Run it with ``python -m bench.server_ingest``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

API_KEY: Final = "sk_test_bench"
_CUSTOMERS: Final = 500
_PROVIDERS: Final = ("anthropic", "openai", "bedrock")
_REGIONS: Final = ("us-east-1", "eu-west-1", "ap-south-1", "eu-north-1")

_SERVER: Final = """
import sys
from pathlib import Path
from outlay.server import ServerSettings, serve
settings = ServerSettings(port=0, database=Path(sys.argv[1]), api_key=sys.argv[2])
serve(settings, on_start=lambda started: print(started.url, flush=True))
"""


def main() -> None:
    """Print a table of events per second, batch and single, beside the floors."""
    print(f"{'path':<34}{'events':>9}{'events/s':>11}{'x floor':>9}")
    floors = {}
    for size, events in ((1000, 200_000), (1, 5000)):
        floors[size] = events / _insert_bare(events, size)
        name = f"floor: bare SQLite, {size} in a commit"
        print(f"{name:<34}{events:>9,}{floors[size]:>11,.0f}")
    for load in _loads():
        rate = load.events / _measure(load.requests, load.connections)
        beside = rate / floors[load.size]
        print(f"{load.name:<34}{load.events:>9,}{rate:>11,.0f}{beside:>9.2f}")


class _Load(NamedTuple):
    """Requests to measure.

    Attributes:
        name: What they are.
        size: The events of each request.
        requests: All of them.
        connections: The number of requests under way.
    """

    name: str
    size: int
    requests: list[bytes]
    connections: int

    @property
    def events(self) -> int:
        """The number of events in all requests."""
        return self.size * len(self.requests)


def _loads() -> Iterator[_Load]:
    batches = [batch(number, 1000) for number in range(200)]
    for connections in (1, 4):
        name = f"batches of 1000, {connections} at a time"
        yield _Load(name, 1000, batches, connections)
    singles = [single(number) for number in range(20_000)]
    for connections in (1, 8, 32):
        name = f"single posts, {connections} at a time"
        yield _Load(name, 1, singles, connections)


def _event(number: int) -> bytes:
    return msgspec.json.encode(
        {
            "type": "cost.ai.inference",
            "source": "https://api.myapp.com",
            "subject": f"cus_{number % _CUSTOMERS}",
            "data": {
                "amount": 0.0042,
                "provider": _PROVIDERS[number % len(_PROVIDERS)],
                "operation": "document-extraction",
                "region": _REGIONS[number % len(_REGIONS)],
            },
            "timestamp": "2026-01-01T12:00:00.123Z",
            "idempotencyKey": f"ok1_{number:040x}",
        }
    )


def batch(number: int, size: int) -> bytes:
    """Return a request that posts ``size`` events of their own keys."""
    events = b",".join(_event(number * size + offset) for offset in range(size))
    return _request("/v0/events/batch", b'{"events":[%b]}' % events)


def single(number: int) -> bytes:
    """Return a request that posts one event."""
    return _request("/v0/events", _event(number))


def _request(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"authorization: Bearer {API_KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _measure(requests: Sequence[bytes], connections: int) -> float:
    with running_server() as url:
        _create_cost(url)
        start = time.perf_counter()
        asyncio.run(_post_all(url, requests, connections))
        return time.perf_counter() - start


def _insert_bare(events: int, size: int) -> float:
    """Return the seconds that SQLite takes to keep the same rows, synced."""
    rows = [
        (
            number,
            f"evt_{number:024x}",
            "org_local",
            f"ok1_{number:040x}",
            f"cus_{number % _CUSTOMERS}",
            _event(number).decode(),
        )
        for number in range(events)
    ]
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT, namespace TEXT,"
            " key TEXT, subject TEXT, data TEXT)"
        )
        start = time.perf_counter()
        for first in range(0, events, size):
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
                rows[first : first + size],
            )
            connection.execute("COMMIT")
        seconds = time.perf_counter() - start
        connection.close()
    return seconds


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """Run a server in a process of its own, and return its URL."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(Path(folder) / "bench.db"), API_KEY],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.wait()
            process.stdout.close()


def _create_cost(url: str) -> None:
    cost = {
        "name": "inference",
        "eventType": "cost.ai.inference",
        "valueProperty": "$.amount",
        "groupBy": {
            "provider": "$.provider",
            "operation": "$.operation",
            "region": "$.region",
        },
    }
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        f"{url}/v0/costMetrics",
        msgspec.json.encode(cost),
        {"authorization": f"Bearer {API_KEY}", "content-type": "application/json"},
    )
    urllib.request.urlopen(request).close()  # noqa: S310 - our own loopback address


async def _post_all(url: str, requests: Sequence[bytes], connections: int) -> None:
    host, port = url.removeprefix("http://").split(":")
    # All connections share one iterator. A free one takes the next request.
    rest = iter(requests)
    await asyncio.gather(
        *itertools.starmap(_post_some, [(host, int(port), rest)] * connections)
    )


async def _post_some(host: str, port: int, rest: Iterator[bytes]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    for request in rest:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 202"), head
        length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
        await reader.readexactly(int(length))
    writer.close()
    await writer.wait_closed()


if __name__ == "__main__":
    main()
