"""Run servers for benchmarks of the client, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY: Final = "sk_test_bench"

_REFERENCE: Final = """
import sys
from pathlib import Path
from outlay.server import ServerSettings, serve
settings = ServerSettings(port=0, database=Path(sys.argv[1]), api_key=sys.argv[2])
serve(settings, on_start=lambda started: print(started.url, flush=True))
"""

# It accepts everything and does nothing else, so that the client is measured.
_SINK: Final = """
import asyncio, re, uvloop

LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)

def answer(path, body):
    if path == b"/v0/events":
        return b'{"object":"event"}'
    count = body.count(b'"idempotencyKey":')
    return (
        b'{"object":"batchEvents","successful":[],"failed":[],"summary":'
        b'{"total":%d,"successful":%d,"failed":0}}' % (count, count)
    )

class Sink(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.received = transport, bytearray()

    def data_received(self, data):
        self.received += data
        while (head := self.received.find(b"\\r\\n\\r\\n")) >= 0:
            size = int(LENGTH.search(self.received, 0, head)[1])
            end = head + 4 + size
            if len(self.received) < end:
                return
            path = bytes(self.received[: self.received.index(b" HTTP")]).split()[1]
            body = answer(path, self.received[head + 4 : end])
            self.transport.write(
                b"HTTP/1.1 202 Accepted\\r\\ncontent-type: application/json\\r\\n"
                b"content-length: %d\\r\\n"
                b"outlay-batch: /v0/events/batch; max=1000\\r\\n\\r\\n%b"
                % (len(body), body)
            )
            del self.received[:end]

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()

uvloop.run(main())
"""


@contextlib.contextmanager
def reference_server() -> Iterator[str]:
    """Run the reference server on a new database, and yield its URL.

    One cost metric with three dimensions reads ``cost.ai.inference``.
    """
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder) / "bench.db")
        with _running(_REFERENCE, database, KEY) as url:
            _create_cost(url)
            yield url


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """Run a server that accepts everything immediately, and yield its URL."""
    with _running(_SINK) as url:
        yield url


@contextlib.contextmanager
def _running(program: str, *arguments: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def _create_cost(url: str) -> None:
    names = ("provider", "operation", "region")
    response = httpx.post(
        f"{url}/v0/costs",
        headers={"authorization": f"Bearer {KEY}"},
        json={
            "type": "metered",
            "name": "Inference",
            "unitCost": 1,
            "currency": "USD",
            "productId": "prod_bench",
            "eventType": "cost.ai.inference",
            "aggregation": "SUM",
            "valueProperty": "$.amount",
            "groupBy": {name: f"$.{name}" for name in names},
        },
    )
    response.raise_for_status()
