"""CPU of an operation, and of a tracked function, above tracking by hand.

The time is that of the calling thread alone, so that other programs on the machine
disturb little; each variant's best of several rounds counts.

Run it with ``python -m bench.functions``.
"""

from __future__ import annotations

import itertools
import time
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import outlay
from bench._measure import show

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS: Final = 7
CALLS: Final = 4000

TYPE: Final = "cost.ai.inference"


def work(job: str) -> str:
    """Do what is tracked, which takes no time."""
    return job


def by_hand(job: str) -> None:
    """Track with one call."""
    work(job)
    outlay.track_cost(
        TYPE, "0.05", provider="acme", operation_id=job, customer_id="cus_1"
    )


def in_operation(job: str) -> None:
    """Track as the one cost of an operation."""
    with outlay.operation(
        TYPE, provider="acme", operation_id=job, customer_id="cus_1"
    ) as op:
        work(job)
        op.add("0.05")


tracked: Final = outlay.track_call(
    TYPE, amount="0.05", provider="acme", operation_id="job", customer_id="cus_1"
)(work)

with_callbacks: Final = outlay.track_call(
    TYPE,
    amount=lambda result: "0.05" if result else None,
    provider="acme",
    operation_id=lambda job: job,
    customer_id=lambda job: "cus_1" if job else None,
)(work)

VARIANTS: Final[dict[str, Callable[[str], object]]] = {
    "track_cost by hand": by_hand,
    "operation, one add": in_operation,
    "track_call, constants and an argument": tracked,
    "track_call, three callbacks": with_callbacks,
}


def cpu_of(call: Callable[[str], object], names: itertools.count[int]) -> float:
    """Return how many microseconds of CPU one call takes, of many."""
    jobs = [f"job-{next(names)}" for _ in range(CALLS)]
    began = time.thread_time()
    for job in jobs:
        call(job)
    return (time.thread_time() - began) / CALLS * 1e6


def main() -> None:
    """Compare the variants, in turns."""
    names = itertools.count()
    best = dict.fromkeys(VARIANTS, float("inf"))
    with TemporaryDirectory() as folder:
        outlay.configure(shipping="none", journal_dir=folder)
        for _ in range(ROUNDS):
            for name, call in VARIANTS.items():
                best[name] = min(best[name], cpu_of(call, names))
        outlay.close(0)
    floor = best["track_cost by hand"]
    show(
        "functions and operations: CPU of one call",
        ("variant", "µs", "above by hand"),
        [(name, f"{us:.1f}", f"{us - floor:.1f}") for name, us in best.items()],
    )


if __name__ == "__main__":
    main()
