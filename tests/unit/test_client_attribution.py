"""The customer of a cost: the call's, the running code's, or none."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import pytest

import outlay
from outlay._capture.observation import Observation
from outlay._capture.recorder import Recorder
from outlay._model.attribution import UNATTRIBUTED, Attribution
from outlay.testing import RecordingClient
from tests.support.events import assert_conserved

if TYPE_CHECKING:
    from pathlib import Path

KEY: Final = "f6f1c1d05c0f4f9e8a1d2b3c4d5e6f70"
EMAIL: Final = "ada@example.com"

OBSERVED: Final = Observation(
    provider="acme", event_type="cost.a", operation_id="op", amount=Decimal(1)
)


def test_a_call_takes_what_it_does_not_say_from_the_running_code() -> None:
    """One line at the top of a request handler attributes all that happens in it."""
    client = RecordingClient()

    with outlay.attribute(
        customer_id="cus_1", operation="summary", region="eu", feature="chat"
    ):
        client.track_cost("cost.a", 1, operation_id=1)

    (event,) = client.recorded()
    assert event.subject == "cus_1"
    assert event.data == {
        "operation": "summary",
        "region": "eu",
        "provenance": "manual",
        "amount": 1,
        "operationId": "1",
        "feature": "chat",
    }


def test_what_a_call_says_goes_before_the_running_code() -> None:
    """The call knows best; what it leaves open is still filled in."""
    client = RecordingClient()

    with outlay.attribute(customer_id="cus_1", region="eu", feature="chat", tier=1):
        client.track_cost(
            "cost.a", 1, customer_id="cus_2", region="us", data={"feature": "mail"}
        )

    (event,) = client.recorded()
    assert event.subject == "cus_2"
    assert event.data["region"] == "us"
    assert (event.data["feature"], event.data["tier"]) == ("mail", 1)


@pytest.mark.parametrize("wrong", [["feature"], "feature", 7], ids=repr)
def test_wrong_data_is_refused_inside_a_scope_as_outside(wrong: object) -> None:
    """Merging must not raise something of its own."""
    client = RecordingClient()

    with (
        outlay.attribute(customer_id="cus_1", feature="chat"),
        pytest.raises(outlay.InvalidEventError, match="data="),
    ):
        client.track_cost("cost.a", 1, data=wrong)  # type: ignore[arg-type] # on purpose


# Unattributed costs.


def test_a_cost_of_nobody_is_tracked_in_a_bucket(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The money is spent: better in a bucket that can be looked into than lost."""
    client = RecordingClient()

    for number in range(3):
        client.track_cost("cost.a", 1, operation_id=number)

    assert client.costs.total(customer="unattributed") == 3
    assert caplog.text.count("no customer was given") == 1


def test_the_bucket_has_a_name_of_ones_choice() -> None:
    """It must not be a customer's."""
    client = RecordingClient(unattributed_customer_id="cus_nobody")

    client.track_cost("cost.a", 1, operation_id=1)

    assert client.costs.total(customer="cus_nobody") == 1


def test_a_cost_of_nobody_can_be_an_error() -> None:
    """Where every cost must have an owner, the mistake shows where it is made."""
    client = RecordingClient(unattributed="error")

    with pytest.raises(outlay.InvalidEventError, match=r"customer_id.*attribute"):
        client.track_cost("cost.a", 1, operation_id=1)

    assert client.stats().tracked == 0
    client.track_cost("cost.a", 1, customer_id="cus_1", operation_id=1)
    assert client.stats().tracked == 1


def test_a_cost_of_nobody_can_be_dropped_and_is_counted() -> None:
    """Given up deliberately, and never silently."""
    told: list[tuple[outlay.CostEvent, str]] = []
    client = RecordingClient(
        unattributed="drop", on_drop=lambda event, reason: told.append((event, reason))
    )

    receipt = client.track_cost("cost.a", "0.5", operation_id=1)

    stats = client.stats()
    assert client.recorded() == []
    assert stats.dropped == {"unattributed": 1}
    assert_conserved(stats)
    ((event, reason),) = told
    assert reason == "unattributed"
    assert event.data["amount"] == Decimal("0.5")
    assert event.idempotency_key == receipt.idempotency_key


def test_a_closed_client_refuses_nobodys_costs_as_any_other() -> None:
    """A drop would hide that nothing is tracked any more."""
    client = RecordingClient(unattributed="drop")
    client.close()

    with pytest.raises(outlay.ClosedError):
        client.track_cost("cost.a", 1, operation_id=1)


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_an_observed_cost_of_nobody_is_dropped_and_never_raises(policy: str) -> None:
    """The call that was watched did nothing wrong."""
    client = RecordingClient(unattributed=policy)  # type: ignore[arg-type] # a choice

    Recorder.for_client(client).record(OBSERVED, UNATTRIBUTED)

    assert client.recorded() == []
    assert client.stats().dropped == {"unattributed": 1}


def test_an_observed_cost_belongs_to_whom_it_was_observed_for() -> None:
    """A stream may end in code that belongs to another customer."""
    client = RecordingClient()

    with outlay.attribute(customer_id="cus_consumer", feature="export", region="eu"):
        Recorder.for_client(client).record(OBSERVED, Attribution(customer_id="cus_1"))

    (event,) = client.recorded()
    assert event.subject == "cus_1"
    assert not {"feature", "region"} & event.data.keys()


# Customers that must not be named.


def test_customer_ids_can_be_replaced_by_keyed_digests() -> None:
    """HMAC-SHA-256, its first 160 bits: written down, so that a report can be read."""
    client = RecordingClient(hash_customer_ids=KEY)

    client.track_cost("cost.a", 1, customer_id=EMAIL, operation_id=1)

    # printf ada@example.com | openssl dgst -sha256 -hmac f6f1c1d0…
    pseudonym = "hc1_5560f59f0ce2092218c6eda71383d237597a30ac"
    (event,) = client.recorded()
    assert event.subject == pseudonym == client.subject_for(EMAIL)
    assert client.subject_for(pseudonym) == pseudonym


def test_the_idempotency_key_does_not_give_the_customer_away() -> None:
    """A key made of the plain id could be tried out with a list of addresses."""
    plain, hashed = RecordingClient(), RecordingClient(hash_customer_ids=KEY)

    receipts = [
        client.track_cost("cost.a", 1, customer_id=EMAIL, operation_id=1)
        for client in (plain, hashed)
    ]

    assert receipts[0].idempotency_key != receipts[1].idempotency_key
    again = RecordingClient().track_cost(
        "cost.a", 1, customer_id=hashed.subject_for(EMAIL), operation_id=1
    )
    assert again.idempotency_key == receipts[1].idempotency_key


def test_no_byte_of_a_hashed_customer_or_of_the_key_reaches_the_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is never written cannot leak."""
    with outlay.Client(
        journal_dir=tmp_path, shipping="none", hash_customer_ids=KEY
    ) as client:
        client.track_cost("cost.a", 1, customer_id=EMAIL)
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*.*"))

    assert client.subject_for(EMAIL).encode() in kept
    assert EMAIL.encode() not in kept
    assert KEY.encode() not in kept
    assert EMAIL not in caplog.text
    assert KEY not in caplog.text + repr(client.settings)


def test_the_bucket_keeps_its_name() -> None:
    """It is no person, and must be found in reports."""
    client = RecordingClient(hash_customer_ids=KEY)

    client.track_cost("cost.a", 1, operation_id=1)

    assert client.costs.total(customer="unattributed") == 1


@pytest.mark.parametrize("key", ["too-short", " " * 20], ids=["short", "blank"])
def test_a_key_that_could_be_guessed_is_refused_and_not_shown(key: str) -> None:
    """Its digests would be as good as the ids."""
    with pytest.raises(outlay.ConfigError, match="openssl rand") as caught:
        RecordingClient(hash_customer_ids=key)

    assert key not in str(caught.value)
