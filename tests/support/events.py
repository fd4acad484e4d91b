"""Events to track, and what they come to."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outlay import Client, Stats

EVENT_TYPE = "cost.ai.inference"

Batching: TypeAlias = Literal["never", "auto", "always"]


def payload(number: int, *, event_type: str = EVENT_TYPE, padding: int = 0) -> bytes:
    """Return a request body such as `track_cost` makes; equal numbers, equal keys."""
    return json.dumps(
        {
            "type": event_type,
            "source": "urn:test",
            "subject": "cus_1",
            "data": {"amount": 0.01, "padding": "x" * padding},
            "timestamp": "2026-01-01T12:00:00.000Z",
            "idempotencyKey": f"key-{number}",
        },
        separators=(",", ":"),
    ).encode()


def amount_of(number: int) -> Decimal:
    """Return an amount that tells which events a total is made of."""
    return Decimal("0.001") * number + Decimal("1e-9")


def total_of(numbers: Iterable[int]) -> Decimal:
    """Return what the events ``numbers`` come to."""
    return sum(map(amount_of, numbers), Decimal(0))


def track(client: Client, number: int, *, event_type: str = EVENT_TYPE) -> str:
    """Track event ``number`` and return its key."""
    receipt = client.track_cost(
        event_type,
        amount_of(number),
        customer_id="cus_1",
        operation_id=f"op-{number}",
        provider="anthropic",
    )
    return receipt.idempotency_key


def assert_conserved(stats: Stats) -> None:
    """Check that every event is in exactly one place."""
    places = (
        stats.delivered
        + stats.pending
        + stats.parked
        + stats.dead
        + stats.quarantined
        + sum(stats.dropped.values())
        + stats.damaged
    )

    assert stats.tracked + stats.recovered == places, stats
    assert stats.pending >= 0, stats
