"""`outlay.testing`: what the tests of other people's code ask."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import outlay
from outlay.testing import Costs, RecordingClient, recording
from tests.support.events import assert_conserved
from tests.support.unpriced import record

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def costs() -> Iterator[Costs]:
    """Return what is tracked, by a few events of two customers."""
    with recording() as recorded:
        yield recorded


def spend(amount: str, **facts: Any) -> None:  # noqa: ANN401 - of any fact
    """Track a cost as an application does."""
    outlay.track_cost("cost.ai", amount, **{"customer_id": "cus_1", **facts})


# The stand-in.


def test_recording_takes_the_place_of_the_default_client_for_a_while() -> None:
    """Code that configures when it starts, and closes, is tested as it is."""
    before = outlay.configure(shipping="none", durability="memory")
    try:
        with recording() as costs:
            assert outlay.configure(shipping="none") is costs.client
            spend("0.1")
            assert outlay.close().complete
            spend("0.2")
            assert outlay.default_client() is costs.client

        assert outlay.default_client() is before
        assert costs.total() == Decimal("0.3")
        assert before.stats().tracked == 0
    finally:
        outlay.close()


def test_the_place_is_given_back_after_an_error() -> None:
    """The next test must not record into the one that failed."""
    before = outlay.configure(shipping="none", durability="memory")
    try:
        with pytest.raises(KeyError), recording() as costs:
            raise KeyError

        assert outlay.default_client() is before
        with pytest.raises(outlay.ClosedError):
            costs.client.track_cost("cost.ai", 1)
    finally:
        outlay.close()


def test_recordings_nest() -> None:
    """A helper may record within a test that does."""
    with recording() as outer:
        with recording() as inner:
            spend("1")
        spend("2")

    assert [inner.total(), outer.total()] == [1, 2]


def test_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test does the same on every machine."""
    monkeypatch.setenv("OUTLAY_UNATTRIBUTED", "error")
    monkeypatch.setenv("OUTLAY_DURABILITY", "disk")

    with recording(source="urn:mine") as costs:
        outlay.track_cost("cost.ai", 1)

    assert costs.client.settings.durability == "memory"
    assert [event.source for event in costs.events] == ["urn:mine"]


def test_no_thread_is_started(costs: Costs) -> None:
    """A test leaves none behind, and waits for none."""
    before = {*threading.enumerate()}

    spend("1")

    assert {*threading.enumerate()} <= before
    assert outlay.flush().complete
    assert costs.total() == 1


def test_recorded_events_count_as_delivered_and_equal_keys_once(costs: Costs) -> None:
    """As they would at a server."""
    for _ in range(3):
        spend("1", operation_id="op")
    spend("1", operation_id="another")

    stats = outlay.stats()
    assert (stats.tracked, stats.delivered, stats.duplicates) == (4, 4, 2)
    assert_conserved(stats)
    assert costs.total() == len(costs.events) == 2


# Questions.


def test_every_fact_of_an_event_can_be_asked_for(costs: Costs) -> None:
    """By the name of the argument that said it."""
    facts: dict[str, Any] = {
        "provider": "acme",
        "operation": "summary",
        "region": "eu",
        "line": "input",
        "quantity": 3,
        "unit": "page",
        "provenance": "reported",
        "data": {"feature": "chat", "tags": ["a"]},
    }
    spend("0.5", operation_id=42, **facts)
    outlay.track_cost("cost.other", "0.25", customer_id="cus_2", operation_id=43)

    asked = {
        "customer": "cus_1",
        "customer_id": "cus_1",
        "type": "cost.ai",
        "event_type": "cost.ai",
        "operation_id": 42,
        "currency": "USD",
        **{name: value for name, value in facts.items() if name != "data"},
        **facts["data"],
    }
    for name, value in asked.items():
        if name != "currency":
            assert costs.total(**{name: value}) == Decimal("0.5"), name
        assert costs.total(**{name: "else"}) == 0, name
    assert costs.total(**asked) == Decimal("0.5")
    assert costs.total(operation_id="42") == Decimal("0.5")
    assert costs.total(currency="USD") == Decimal("0.75")


def test_none_asks_for_what_is_not_there(costs: Costs) -> None:
    """A cost without a line is one, too."""
    spend("1", line="input")
    spend("2")

    assert costs.total(line=None) == 2
    assert costs.total(provider=None) == 3
    assert costs.events_where(customer=None) == []


def test_lines_are_in_the_order_in_which_they_were_tracked(costs: Costs) -> None:
    """So that a test can compare them with what the code did."""
    for number in (3, 1, 2):
        spend("1", operation_id=number, provider="acme")
    spend("1", operation_id=4)

    found = [line.data["operationId"] for line in costs.events_where(provider="acme")]
    assert found == ["3", "1", "2"]


def test_totals_are_exact(costs: Costs) -> None:
    """To the last digit, whatever the application's decimal context."""
    for amount in ("0.1", "0.2", "1e-40", "1e40"):
        spend(amount)

    assert costs.total() == Decimal(f"1{'0' * 40}.3{'0' * 38}1")
    assert RecordingClient().costs.total() == 0


def test_customers_are_asked_for_by_their_own_ids_where_ids_are_hashed() -> None:
    """The test's author knows no digests."""
    with recording(hash_customer_ids="f6f1c1d05c0f4f9e8a1d2b3c") as costs:
        spend("1", customer_id="ada@example.com")

    assert costs.events[0].subject.startswith("hc1_")
    assert costs.total(customer="ada@example.com") == 1


def test_currencies_do_not_add_up(costs: Costs) -> None:
    """One euro and one dollar are not two of anything."""
    spend("1")
    spend("1", data={"currency": "EUR"})

    with pytest.raises(outlay.ConfigError, match=r"EUR and USD .*currency='EUR'"):
        costs.total()
    with pytest.raises(outlay.ConfigError):
        costs.assert_total(2)
    assert costs.total(currency="EUR") == costs.total(currency="USD") == 1


# assert_total.


@pytest.mark.parametrize("expected", ["0.30", Decimal("0.3"), 0.3], ids=repr)
def test_a_right_total_passes(costs: Costs, expected: str | Decimal | float) -> None:
    """Amounts are taken as `track_cost` takes them."""
    spend("0.1")
    spend("0.2")

    costs.assert_total(expected)


def test_a_wrong_total_shows_what_was_tracked_and_what_was_counted(
    costs: Costs,
) -> None:
    """The reader of the failure need not run the test again with prints."""
    spend("0.0042", operation_id="msg_1", provider="anthropic", line="input")
    spend("0.3", customer_id="cus_22", operation_id="job")
    record(costs.client, 7)

    unknown = "unpriced: unknown_provider"
    with pytest.raises(AssertionError) as caught:
        costs.assert_total("0.0123", customer="cus_1", provider="anthropic")

    assert str(caught.value).splitlines() == [
        "the costs (customer='cus_1', provider='anthropic') sum to 0.0042, not 0.0123",
        "   customer  type             provider   line   operation id  amount",
        "*  cus_1     cost.ai          anthropic  input  msg_1         0.0042",
        "   cus_22    cost.ai          -          -      job           0.3",
        f"   cus_1     cost.enrichment  acme       -      req_7         {unknown}",
    ]


def test_a_total_of_nothing_says_that_nothing_was_tracked(costs: Costs) -> None:
    """The most common mistake: the code under test has a client of its own."""
    costs.assert_total(0)
    with pytest.raises(AssertionError, match=r"\(all\).*0, not 1\nnothing was tracked"):
        costs.assert_total(1)
    assert str(costs) == "nothing was tracked"
    assert repr(costs) == "<Costs events=0 unpriced=0>"


def test_an_expectation_that_is_no_amount_is_refused(costs: Costs) -> None:
    """It could never be met."""
    with pytest.raises(outlay.InvalidEventError, match="expected='much'"):
        costs.assert_total("much")


def test_credits_can_be_expected() -> None:
    """Where they are allowed, a total may be negative."""
    with recording(allow_credits=True) as costs:
        spend("-1")

    costs.assert_total(-1)
