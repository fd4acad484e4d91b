"""Track a share of the operations of `scripts.scale`, as one process of an application.

It waits for a line on standard input before the second half.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import outlay

if TYPE_CHECKING:
    from collections.abc import Iterable

CUSTOMERS: Final = ("cus_ada", "cus_bob", "cus_eve", "cus_joe", "cus_kim")
_DELIVERY_SECONDS: Final = 300.0


def amount_of(number: int) -> Decimal:
    """Return the cost of an operation. No two operations cost the same."""
    return Decimal(number + 1).scaleb(-9)


def customer_of(number: int) -> str:
    """Return the customer of an operation."""
    return CUSTOMERS[number % len(CUSTOMERS)]


def track(numbers: Iterable[int]) -> None:
    """Track operations."""
    for number in numbers:
        outlay.track_cost(
            "cost.ai.inference",
            amount_of(number),
            customer_id=customer_of(number),
            operation_id=f"operation-{number}",
            provider="example",
        )


def main() -> int:
    """Track the operations from the first argument to the second, without it.

    The third is the first one of another process. A part of its operations is tracked
    here as well, as a job that is run again elsewhere.
    """
    first, end, other = map(int, sys.argv[1:])
    middle = (first + end) // 2
    track(range(first, middle))
    sys.stdin.readline()
    track(range(middle, end))
    track(range(other, other + (end - first) // 20))
    result = outlay.close(_DELIVERY_SECONDS)
    if not result.complete:
        print(result.message, file=sys.stderr)
    return 0 if result.complete else 1


if __name__ == "__main__":
    sys.exit(main())
