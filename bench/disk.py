"""Events per second that survive a power cut: group commit beside a sync for each.

The floor appends a frame to a file and syncs it, one thread, one event at a time.

A thread waits for its own event, so a sync serves as many events as there are threads,
at most: with 32 of them no group commit can be more than 32 times the floor, as far as
it is the disk that takes the time. That is shown on a disk that is slow by simulation:
each sync waits five milliseconds before it begins.

Run it with ``python -m bench.disk``.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench._measure import in_threads, quantiles, show
from outlay import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import FileDescriptorLike

THREADS: Final = (1, 8, 32, 64, 128)
EVENTS: Final = 12_800
FLOOR_CALLS: Final = 200
SIMULATED_SECONDS: Final = 0.005


def main() -> None:
    """Measure and print."""
    for name, seconds in (
        ("this disk", 0.0),
        ("5 ms more a sync: simulated", SIMULATED_SECONDS),
    ):
        with _syncs(seconds) as counted:
            _show(name, counted)


def _show(name: str, syncs: list[float]) -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        floor = _floor(Path(folder))
    rows: list[tuple[object, ...]] = [
        ("write + fdatasync each", 1, f"{floor:,.0f}", "1.0", "1.0", "")
    ]
    for threads in THREADS:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            rows.append(_row(Path(folder), threads, floor, syncs))
    show(
        f"Events on the disk before the call returns ({name})",
        ("", "threads", "events/s", "ratio", "events a sync", "p50 ms"),
        rows,
    )


def _row(
    folder: Path, threads: int, floor: float, syncs: list[float]
) -> tuple[object, ...]:
    client = Client(api_key="k", journal_dir=folder, shipping="none", durability="disk")

    def call(number: int) -> None:
        client.track_cost("cost.x", "0.1", customer_id="cus_1", operation_id=number)

    call(0)
    syncs.clear()
    calls = EVENTS // max(threads, THREADS[1] * 4)
    times, seconds = in_threads(threads, calls, call)
    shared = len(times) / len(syncs)
    client.close()
    rate = len(times) / seconds
    return (
        'durability="disk"',
        threads,
        f"{rate:,.0f}",
        f"{rate / floor:.1f}",
        f"{shared:.1f}",
        f"{quantiles(times).p50 / 1e6:.2f}",
    )


@contextlib.contextmanager
def _syncs(wait: float) -> Iterator[list[float]]:
    """Have each sync of a file wait so many seconds first; yields when they began."""
    fdatasync, never = os.fdatasync, threading.Event()
    began: list[float] = []

    def counted(fd: FileDescriptorLike) -> None:
        began.append(time.perf_counter())
        if wait:
            never.wait(wait)
        fdatasync(fd)

    os.fdatasync = counted
    try:
        yield began
    finally:
        os.fdatasync = fdatasync


def _floor(folder: Path) -> float:
    descriptor = os.open(folder / "floor", os.O_CREAT | os.O_WRONLY)
    started = time.perf_counter()
    for _ in range(FLOOR_CALLS):
        os.write(descriptor, bytes(350))
        os.fdatasync(descriptor)
    os.close(descriptor)
    return FLOOR_CALLS / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
