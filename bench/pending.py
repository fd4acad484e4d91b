"""A million events that wait: what they cost in memory, in time, and at the next start.

One process tracks them while the server is down, and dies. The next one finds them:
measured is how long from its start until its first batch is on the wire.

Memory is shown twice: the process's own (``RssAnon``), and with the pages
of mapped files (``RssFile``), which are the system's to take back.

Run it with ``python -m bench.pending [events]``.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench._measure import as_deployed, show

EVENTS: Final = 1_000_000
_STEPS: Final = 8  # of the curve of memory
_TIMED: Final = 20_000  # calls, with nothing pending and with everything
_MIB: Final = 1024 * 1024

_PROGRAM: Final = """
import json, os, re, signal, sys, threading, time
from bench._measure import quantiles, time_calls
import outlay

total, steps, timed = map(int, sys.argv[1:])
client = outlay.Client()
tried = threading.Event()

def call(number):
    client.track_cost(
        "cost.ai.inference", "0.0042", customer_id="cus_123",
        operation_id=f"job-{number:08d}", provider="anthropic",
        operation="document-extraction", region="us-east-1",
    )

def say(**facts):
    print(json.dumps(facts), flush=True)

def memory():
    status = open("/proc/self/status").read()
    return {
        name: int(re.search(rf"^{name}:\\s+(\\d+) kB", status, re.MULTILINE)[1]) * 1024
        for name in ("RssAnon", "RssFile")
    }

call(0)
client.flush(1)  # the shipper's thread is there, with all that it imports
empty = quantiles(time_calls(call, range(1, timed))).p50
say(pending=client.stats().pending, **memory())
done = timed
for step in range(1, steps + 1):
    until = total * step // steps
    last = step == steps
    for number in range(done, until - timed * last):
        call(number)
    if last:
        full = quantiles(time_calls(call, range(until - timed, until))).p50
    done = max(done, until)
    say(pending=client.stats().pending, **memory())
say(empty=empty, full=full, journal=client.stats().journal_bytes)
os.kill(os.getpid(), signal.SIGKILL)
"""

_HEIR: Final = "import outlay; outlay.Client(batching='always'); input()"


def main(events: int = EVENTS) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        variables = {
            **as_deployed(),
            "OUTLAY_JOURNAL_DIR": folder,
            "OUTLAY_API_KEY": "k",
            "OUTLAY_BASE_URL": f"http://127.0.0.1:{_free_port()}",
        }
        *curve, times = _fill(events, variables)
        _seconds_to_first_batch(variables)  # warm: modules are compiled
        starts = [_seconds_to_first_batch(variables) for _ in range(5)]
    _show_memory(curve, events)
    _show_times(times, starts, events)


def _fill(events: int, variables: dict[str, str]) -> list[dict[str, Any]]:
    arguments = map(str, (events, _STEPS, min(_TIMED, events // 10)))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM, *arguments],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # that the server is down
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    return [json.loads(line) for line in done.stdout.splitlines()]


def _seconds_to_first_batch(variables: dict[str, str]) -> float:
    """Return seconds from the start of a process to its first request's last byte."""
    port = int(variables["OUTLAY_BASE_URL"].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as server:
        started = time.perf_counter()
        adopter = subprocess.Popen(
            [sys.executable, "-c", _HEIR],
            env=variables,
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        connection, _ = server.accept()
        with connection:
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            head, _, body = received.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            assert length is not None
            left = int(length[1]) - len(body)
            while left > 0:
                left -= len(connection.recv(left))
            seconds = time.perf_counter() - started
            adopter.kill()  # without a response, so that the next finds as much
            adopter.communicate()
    assert head.startswith(b"POST /v0/events/batch ")
    return seconds


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _show_memory(curve: list[dict[str, int]], events: int) -> None:
    first = curve[0]
    rows = [
        (
            f"{point['pending']:,}",
            *(
                f"{(point[name] - first[name]) / _MIB:+.1f}"
                for name in ("RssAnon", "RssFile")
            ),
        )
        for point in curve
    ]
    show(
        f"Memory with {events:,} events pending, growth in MiB (goal: at most 48)",
        ("pending", "own", "mapped files"),
        rows,
    )


def _show_times(times: dict[str, float], starts: list[float], events: int) -> None:
    ratio = times["full"] / times["empty"]
    show(
        "Time with everything pending",
        ("", "", "goal"),
        [
            ("journal, MiB", f"{times['journal'] / _MIB:,.0f}", ""),
            ("track_cost p50, nothing pending, µs", f"{times['empty'] / 1e3:.2f}", ""),
            (f"with {events:,}, µs", f"{times['full'] / 1e3:.2f}", ""),
            ("ratio", f"{ratio:.2f}", "about 1"),
            (
                "start to first batch, s",
                f"{statistics.median(starts):.2f}",
                "at most 1",
            ),
        ],
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
