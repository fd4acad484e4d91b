"""What 100,000 events cost an application that ships, or leaves that to an agent.

The CPU time of the application's whole process, from its start to its end, less that
of one that tracks a single event: imports are no matter of events. Against a sink,
so that what is measured is the client. And what an agent costs that has nothing to do.
"""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench._measure import show
from bench._servers import KEY, sink
from outlay import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS: Final = 3
WRITERS: Final = (1, 10, 100)
IDLE_SECONDS: Final = 10.0


class _Kind(NamedTuple):
    """A way to run the application."""

    name: str
    shipping: str
    batching: str
    events: int


# One request an event takes long: fewer, and the result is scaled.
_KINDS: Final = (
    _Kind("tracking alone", "none", "auto", 100_000),
    _Kind("agent", "agent", "always", 100_000),
    _Kind("thread, batches", "thread", "always", 100_000),
    _Kind("thread, one by one", "thread", "never", 10_000),
)

_SEGMENT_BYTES: Final = 65536  # of writers that hardly write

_APPLICATION: Final = """
import resource, sys, time
import outlay
count = int(sys.argv[1])
client = outlay.default_client()
started = time.perf_counter()
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
tracked = time.perf_counter() - started
report = client.close(120)
assert report.stats.tracked == count, report
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, tracked)
"""


def main() -> None:
    """Measure and print."""
    show(
        "What 100,000 events cost an application (goal: agent = tracking alone)",
        ("shipping", "CPU s", "ratio", "tracking took s"),
        _compare(),
    )
    idle = [(writers, f"{_idle_share(writers):.2%}") for writers in WRITERS]
    show(
        "An agent with nothing to do (goal: below 1 % of a core with 100 writers)",
        ("idle writers", "of a core"),
        idle,
    )


def _compare() -> list[tuple[object, ...]]:
    cpu: dict[_Kind, list[float]] = {kind: [] for kind in _KINDS}
    took: dict[_Kind, list[float]] = {kind: [] for kind in _KINDS}
    with sink() as url:
        # In turns, so that what else the machine does meets all alike.
        for _ in range(ROUNDS):
            for kind in _KINDS:
                base, _ = _run(url, kind, 1)
                used, tracked = _run(url, kind, kind.events)
                cpu[kind].append((used - base) * 100_000 / kind.events)
                took[kind].append(tracked * 100_000 / kind.events)
    floor = statistics.median(cpu[_KINDS[0]])
    return [
        (
            kind.name,
            f"{(used := statistics.median(cpu[kind])):.2f}",
            f"{used / floor:.1f}",
            f"{statistics.median(took[kind]):.2f}",
        )
        for kind in _KINDS
    ]


def _run(url: str, kind: _Kind, count: int) -> tuple[float, float]:
    """Return the CPU seconds of an application, and the seconds that tracking took."""
    with tempfile.TemporaryDirectory() as folder:
        variables = _variables(url, folder)
        variables |= {
            "OUTLAY_SHIPPING": kind.shipping,
            "OUTLAY_BATCHING": kind.batching,
        }
        agent = contextlib.nullcontext()
        with _agent(variables) if kind.shipping == "agent" else agent:
            ran = subprocess.run(
                [sys.executable, "-c", _APPLICATION, str(count)],
                env=variables,
                check=True,
                capture_output=True,
                text=True,
            )
    used, tracked = map(float, ran.stdout.split())
    return used, tracked


def _idle_share(writers: int) -> float:
    """Return which share of a core an agent takes for ``writers`` that do nothing."""
    with sink() as url, tempfile.TemporaryDirectory() as folder:
        clients = [
            Client(
                base_url=url,
                api_key=KEY,
                journal_dir=folder,
                shipping="agent",
                segment_bytes=_SEGMENT_BYTES,
            )
            for _ in range(writers)
        ]
        for number, client in enumerate(clients):
            client.track_cost(
                "cost.ai.inference", "1", customer_id="c", operation_id=number
            )
        with _agent(_variables(url, folder)) as agent:
            for client in clients:
                assert client.flush(30).complete
            _pause(3.0)  # until it looks once a second only
            before = _cpu_seconds(agent)
            _pause(IDLE_SECONDS)
            share = (_cpu_seconds(agent) - before) / IDLE_SECONDS
        for client in clients:
            client.close()
    return share


@contextlib.contextmanager
def _agent(variables: dict[str, str]) -> Iterator[int]:
    """Run an agent, and yield its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "outlay", "agent"],
        env=variables,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def _variables(url: str, folder: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OUTLAY_")}
    return {
        **inherited,
        "OUTLAY_BASE_URL": url,
        "OUTLAY_API_KEY": KEY,
        "OUTLAY_JOURNAL_DIR": folder,
    }


def _cpu_seconds(pid: int) -> float:
    """Return what a process's threads have used so far. Linux only, in nanoseconds."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def _pause(seconds: float) -> None:
    select.select([], [], [], seconds)


if __name__ == "__main__":
    main()
