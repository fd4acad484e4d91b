"""Events per second that survive a power cut: group commit beside a sync for each.

The floor appends a frame to a file and syncs it, one thread, one event at a time.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from bench._measure import in_threads, show
from outlay import Client

THREADS = 32
CALLS = 300
FLOOR_CALLS = 300


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        floor = _floor(Path(folder))
    rows: list[tuple[object, ...]] = [
        ("write + fdatasync each", 1, f"{floor:,.0f}", "")
    ]
    for threads in (1, THREADS):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            rate = _track(Path(folder), threads)
        rows.append(
            ('durability="disk"', threads, f"{rate:,.0f}", f"{rate / floor:.1f}")
        )
    show(
        "Events on the disk before the call returns",
        ("", "threads", "events/s", "ratio"),
        rows,
    )


def _track(folder: Path, threads: int) -> float:
    client = Client(api_key="k", spill_dir=folder, shipping="none", durability="disk")

    def call(number: int) -> None:
        client.track_cost("cost.x", "0.1", customer_id="cus_1", operation_id=number)

    call(0)
    _, seconds = in_threads(threads, CALLS, call)
    client.close()
    return threads * CALLS / seconds


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
