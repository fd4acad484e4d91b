"""Measure times and print tables for the benchmarks."""

from __future__ import annotations

import gc
import os
import statistics
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Quantiles(NamedTuple):
    """The median and the 99th percentile of call times, in nanoseconds."""

    p50: float
    p99: float


def quantiles(times: Sequence[int]) -> Quantiles:
    """Return the median and the 99th percentile of ``times``."""
    ordered = sorted(times)
    return Quantiles(statistics.median(ordered), ordered[len(ordered) * 99 // 100])


def time_calls(call: Callable[[int], object], numbers: Iterable[int]) -> list[int]:
    """Return the nanoseconds that ``call(number)`` took, for each number.

    They include the time to read the clock, which is equal in all variants.
    """
    clock = time.perf_counter_ns
    times = []
    for number in numbers:
        start = clock()
        call(number)
        times.append(clock() - start)
    return times


def in_threads(
    count: int, calls: int, call: Callable[[int], object]
) -> tuple[list[int], float]:
    """Run ``calls`` calls in each of ``count`` threads.

    Returns:
        The nanoseconds of all calls, and the seconds until the last thread ended.
    """
    results: list[list[int]] = []
    ready = threading.Barrier(count + 1)

    def run(first: int) -> None:
        ready.wait()
        results.append(time_calls(call, range(first, first + calls)))

    threads = [
        threading.Thread(target=run, args=(index * calls,)) for index in range(count)
    ]
    for thread in threads:
        thread.start()
    gc.collect()
    ready.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    return [each for result in results for each in result], elapsed


def as_deployed() -> dict[str, str]:
    """Return the environment of a program whose start is measured.

    Modules are compiled. The pydantic plugins of other installed packages are off.
    """
    unset = {"PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"}
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {**kept, "PYDANTIC_DISABLE_PLUGINS": "__all__"}


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for line in cells:
        first, *rest = (
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  " + "  ".join([first, *rest]))
