"""What the demo's customers do: operations that cost money, the same for each seed."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

CUSTOMERS: Final = ("cus_amber", "cus_birch", "cus_cedar", "cus_dune")


class Kind(NamedTuple):
    """A kind of operation.

    Attributes:
        metric: name of the cost metric that counts it.
        event_type: of its events.
        providers: who may do it.
        price: draws what one operation costs.
    """

    metric: str
    event_type: str
    providers: tuple[str, ...]
    price: Callable[[random.Random], Decimal]


def _tokens(rng: random.Random) -> Decimal:
    return rng.randint(200, 9000) * Decimal("0.00000315")


def _lookup(rng: random.Random) -> Decimal:
    return rng.choice([Decimal("0.05"), Decimal("0.0125")])


def _seconds(rng: random.Random) -> Decimal:
    # Sub-nanodollar digits: a sum of floats would be wrong in the ninth place already.
    return rng.randint(1, 10**9) * Decimal("0.000000000012")


KINDS: Final = (
    Kind("inference", "cost.ai.inference", ("anthropic", "openai"), _tokens),
    Kind("enrichment", "cost.enrichment", ("clearbit",), _lookup),
    Kind("compute", "cost.compute", ("aws",), _seconds),
)
_WEIGHTS: Final = (3, 1, 2)


class Operation(NamedTuple):
    """One billable operation, as a worker tracks and reports it."""

    operation_id: str
    event_type: str
    customer_id: str
    provider: str
    amount: Decimal


def operations(seed: int, job: str, count: int) -> list[Operation]:
    """Return the operations of a job; the same arguments give the same ones.

    So a job that is run again after a crash repeats its operation ids, as a real one
    does whose ids come from the provider or a task queue.
    """
    rng = random.Random(f"{seed}/{job}")  # noqa: S311 - a workload, not a secret
    made = []
    for index in range(count):
        kind = rng.choices(KINDS, _WEIGHTS)[0]
        operation = Operation(
            f"{job}-{index}",
            kind.event_type,
            rng.choice(CUSTOMERS),
            rng.choice(kind.providers),
            kind.price(rng),
        )
        made.append(operation)
    return made
