"""A worker process of the demo: an application that tracks its costs.

The demo starts it with the arguments JOB START END PAUSE. It tracks the operations
START to END - 1 of the job. Halfway it waits for a line on standard input. After each
`track_cost` returns, it prints the operation's index. At the end of standard input it
delivers all events, prints counts of the client as JSON, and exits.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

import outlay

if TYPE_CHECKING:
    from collections.abc import Iterator

CUSTOMERS: Final = ("cus_amber", "cus_birch", "cus_cedar", "cus_dune")

_CLOSE_SECONDS: Final = 10.0


class OperationKind(NamedTuple):
    """A kind of operation: its metric, event type, providers, and the range of prices.

    A price is a whole number of units, from 1 to ``most``.
    """

    metric: str
    event_type: str
    providers: tuple[str, ...]
    unit: str
    most: int


KINDS: Final = (
    OperationKind(
        "inference", "cost.ai.inference", ("anthropic", "openai"), "0.00000315", 9000
    ),
    OperationKind("enrichment", "cost.enrichment", ("clearbit",), "0.0125", 4),
    # With so many digits, a sum of floats is wrong in the ninth place.
    OperationKind("compute", "cost.compute", ("aws",), "0.000000000012", 10**9),
)


class Operation(NamedTuple):
    """One billable operation."""

    operation_id: str
    event_type: str
    customer_id: str
    provider: str
    amount: Decimal


def operations(job: str, count: int) -> Iterator[Operation]:
    """Yield the operations of a job, which are the same in each run.

    A job that runs again after a crash repeats its operation ids. So does a real job
    whose ids come from a provider or a task queue.
    """
    rng = random.Random(job)  # noqa: S311 - a workload, not a secret
    for index in range(count):
        kind = rng.choice(KINDS)
        customer, provider = rng.choice(CUSTOMERS), rng.choice(kind.providers)
        price = rng.randint(1, kind.most) * Decimal(kind.unit)
        yield Operation(f"{job}-{index}", kind.event_type, customer, provider, price)


def main(job: str, start: str, end: str, pause: str) -> None:
    """Track, wait for the end of standard input, and deliver."""
    never = threading.Event()
    for index, operation in enumerate(operations(job, int(end))):
        if index < int(start):
            continue
        if index == int(end) // 2:
            sys.stdin.readline()
        outlay.track_cost(**operation._asdict())
        # Flushed: a line is in the file even if the process is killed right after.
        print(index, flush=True)
        never.wait(float(pause))
    sys.stdin.read()
    stats = outlay.close(_CLOSE_SECONDS).stats
    counts = {
        "recovered": stats.recovered,
        "retried": stats.retried,
        "undelivered": stats.tracked + stats.recovered - stats.delivered,
    }
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
