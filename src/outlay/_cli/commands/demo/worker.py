"""A worker process of the demo: an application that tracks its costs.

The demo starts it with the arguments SEED JOB START END PAUSE. It tracks the operations
START to END - 1 of the job, and halfway waits for a line on standard input. After each
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
    from collections.abc import Callable

CUSTOMERS: Final = ("cus_amber", "cus_birch", "cus_cedar", "cus_dune")

_CLOSE_SECONDS: Final = 10.0


class OperationKind(NamedTuple):
    """A kind of operation: its metric, event type, providers, price and frequency."""

    metric: str
    event_type: str
    providers: tuple[str, ...]
    price: Callable[[random.Random], Decimal]
    weight: int


def _tokens(rng: random.Random) -> Decimal:
    return rng.randint(200, 9000) * Decimal("0.00000315")


def _lookup(rng: random.Random) -> Decimal:
    return rng.choice([Decimal("0.05"), Decimal("0.0125")])


def _seconds(rng: random.Random) -> Decimal:
    # With so many digits, a sum of floats is wrong in the ninth place.
    return rng.randint(1, 10**9) * Decimal("0.000000000012")


KINDS: Final = (
    OperationKind(
        "inference", "cost.ai.inference", ("anthropic", "openai"), _tokens, 3
    ),
    OperationKind("enrichment", "cost.enrichment", ("clearbit",), _lookup, 1),
    OperationKind("compute", "cost.compute", ("aws",), _seconds, 2),
)


class Operation(NamedTuple):
    """One billable operation."""

    operation_id: str
    event_type: str
    customer_id: str
    provider: str
    amount: Decimal


def operations(seed: int, job: str, count: int) -> list[Operation]:
    """Return the operations of a job. The same arguments give the same operations.

    A job that runs again after a crash therefore repeats its operation ids, as a real
    job does whose ids come from a provider or a task queue.
    """
    rng = random.Random(f"{seed}/{job}")  # noqa: S311 - a workload, not a secret
    made = []
    for index in range(count):
        kind = rng.choices(KINDS, [kind.weight for kind in KINDS])[0]
        customer, provider = rng.choice(CUSTOMERS), rng.choice(kind.providers)
        made.append(
            Operation(
                f"{job}-{index}", kind.event_type, customer, provider, kind.price(rng)
            )
        )
    return made


def main(arguments: list[str]) -> None:
    """Track, wait for the end of standard input, and deliver."""
    seed, job, start, end, pause = arguments
    never = threading.Event()
    for index, operation in enumerate(operations(int(seed), job, int(end))):
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
