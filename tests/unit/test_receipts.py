"""What `track_cost` answers, as a value to keep, compare and pass on."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from outlay import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay import Receipt


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A client that only keeps."""
    with Client(journal_dir=tmp_path, shipping="none") as client:
        yield client


def track(
    client: Client, operation_id: str | None = "job-42", *, customer_id: str = "c"
) -> Receipt:
    """Track a cost of that operation."""
    return client.track_cost(
        "cost.a", "1", customer_id=customer_id, operation_id=operation_id
    )


def test_a_receipt_is_equal_to_one_that_says_the_same(client: Client) -> None:
    """Whatever the client remembers of earlier events."""
    one, same, other = track(client), track(client), track(client, "job-43")
    with Client(durability="memory", shipping="none") as elsewhere:
        volatile = track(elsewhere)

    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same, other, volatile}) == 3
    assert one != one.idempotency_key


@pytest.mark.parametrize("operation_id", ["job-42", None], ids=["derived", "random"])
def test_a_receipt_survives_pickling(client: Client, operation_id: str | None) -> None:
    """A worker process may return it to its parent."""
    receipt = track(client, operation_id)

    copy = pickle.loads(pickle.dumps(receipt))  # noqa: S301 - our own

    assert copy == receipt
    assert copy.idempotency_key == receipt.idempotency_key
    assert copy.durable


def test_a_receipt_shows_its_key(client: Client) -> None:
    """It is what the server's answer and the journal commands name."""
    receipt = track(client)

    assert repr(receipt) == (
        f"Receipt(idempotency_key={receipt.idempotency_key!r}, durable=True)"
    )


def test_a_key_does_not_change_while_others_are_tracked(client: Client) -> None:
    """It is derived when it is asked for, from what was known then."""
    receipt = track(client)
    expected = receipt.idempotency_key
    late = track(client)
    for number in range(100):
        track(client, f"job-{number}", customer_id=f"cus_{number}")

    assert late.idempotency_key == expected
