"""A worker process of the demo: an application that tracks its costs.

The demo starts it with the arguments JOB START END PAUSE. It tracks the operations
START to END - 1 of the job. Halfway it waits for a line on standard input. After each
`track_cost` returns, it writes the operation's index as a line. At the end of standard
input it delivers all events, writes the client's stats as JSON, and exits.
"""

from __future__ import annotations

import json
import os
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
    unit: Decimal
    most: int

    def price(self, rng: random.Random) -> Decimal:
        """Return the price of one operation."""
        return rng.randint(1, self.most) * self.unit


KINDS: Final = (
    OperationKind(
        "inference",
        "cost.ai.inference",
        ("anthropic", "openai"),
        Decimal("0.00000315"),
        9000,
    ),
    OperationKind("enrichment", "cost.enrichment", ("clearbit",), Decimal("0.0125"), 4),
    # With so many digits, a sum of floats is wrong in the ninth place.
    OperationKind(
        "compute", "cost.compute", ("aws",), Decimal("0.000000000012"), 10**9
    ),
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
        yield Operation(
            f"{job}-{index}", kind.event_type, customer, provider, kind.price(rng)
        )


def main(arguments: list[str]) -> None:
    """Track, wait for the end of standard input, and deliver."""
    job, start, end, pause = arguments
    never = threading.Event()
    for index, operation in enumerate(operations(job, int(end))):
        if index < int(start):
            continue
        if index == int(end) // 2:
            sys.stdin.readline()
        outlay.track_cost(**operation._asdict())
        _write(str(index))
        never.wait(float(pause))
    sys.stdin.read()
    _write(json.dumps(outlay.close(_CLOSE_SECONDS).stats._asdict()))


def _write(line: str) -> None:
    # Unbuffered: the line is out even if the process is killed right after.
    os.write(sys.stdout.fileno(), line.encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
