"""Events per second from the first call to the last acknowledgement.

Beside a bare httpx loop that posts the same bytes to the same server, one after the
other: no journal, no retries, nothing survives a crash. Against a sink, which shows the
client's own cost, and against the reference server, which stores what it acknowledges.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx

from bench._measure import show
from bench._servers import KEY, reference_server, sink
from outlay import Client
from outlay._journal.frames import SEGMENT_HEADER_BYTES, Frame, read_frame
from outlay._journal.segments import open_file

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

SINGLES = 4_000
BATCHED = 100_000
BATCH = 1_000


def main() -> None:
    """Measure and print."""
    rows: list[tuple[object, ...]] = []
    for name, server in (("sink", sink), ("reference server", reference_server)):
        rows += _compare(name, server, "never", SINGLES)
        rows += _compare(name, server, "always", BATCHED)
    show(
        "Shipping, first call to last acknowledgement "
        "(goal: single at least 0.9 x the loop; batches at least 60,000 events/s)",
        ("server", "mode", "client", "events", "events/s"),
        rows,
    )


def _compare(
    name: str,
    server: Callable[[], contextlib.AbstractContextManager[str]],
    batching: Literal["never", "always"],
    count: int,
) -> list[tuple[object, ...]]:
    mode = "single" if batching == "never" else f"batches of {BATCH:,}"
    bodies = _bodies(count + (1 if batching == "never" else BATCH))
    with server() as url:
        loop = _bare_loop(url, bodies, 1 if batching == "never" else BATCH)
    with server() as url:
        ours = _outlay(url, batching, count)
    return [
        (name, mode, "bare httpx loop", f"{count:,}", f"{loop:,.0f}"),
        (name, mode, "outlay", f"{count:,}", f"{ours:,.0f}"),
        (name, mode, "ratio", "", f"{ours / loop:.2f}"),
    ]


def _track_all(client: Client, count: int) -> None:
    for number in range(count):
        client.track_cost(
            "cost.ai.inference",
            "0.0042",
            customer_id=f"cus_{number % 100}",
            operation_id=f"job-{number}",
            provider="anthropic",
            operation="document-extraction",
            region="us-east-1",
        )


def _outlay(url: str, batching: Literal["never", "always"], count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        client = Client(
            base_url=url, api_key=KEY, journal_dir=folder, batching=batching, linger=0
        )
        client.track_cost(  # warm: imports, thread, connection
            "cost.ai.inference", 0, customer_id="cus_0", operation_id="warm"
        )
        assert client.flush(10).complete
        started = time.perf_counter()
        _track_all(client, count)
        report = client.flush(120)
        elapsed = time.perf_counter() - started
        assert report.complete
        assert report.stats.delivered == count + 1, report
        client.close()
    return count / elapsed


def _bare_loop(url: str, bodies: list[bytes], size: int) -> float:
    path = f"{url}/v0/events"
    requests = bodies
    if size > 1:
        path += "/batch"
        requests = [
            b'{"events":[%b]}' % b",".join(bodies[first : first + size])
            for first in range(0, len(bodies), size)
        ]
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    with httpx.Client(headers=headers, timeout=60) as client:
        client.post(path, content=requests.pop())  # warm, as the client is
        started = time.perf_counter()
        for body in requests:
            assert client.post(path, content=body).status_code == 202
        return len(requests) * size / (time.perf_counter() - started)


def _bodies(count: int) -> list[bytes]:
    """Return what the client would send, read from its own journal."""
    with tempfile.TemporaryDirectory() as folder:
        client = Client(api_key=KEY, journal_dir=folder, shipping="none")
        _track_all(client, count)
        client.close()
        bodies = []
        for path in sorted(Path(folder).glob("*/*/*.seg")):
            memory = open_file(path)
            offset = SEGMENT_HEADER_BYTES
            while isinstance(
                frame := read_frame(memory, offset, len(memory), final=True), Frame
            ):
                bodies.append(frame.payload)
                offset = frame.end
    assert len(bodies) == count
    return bodies


if __name__ == "__main__":
    main()
