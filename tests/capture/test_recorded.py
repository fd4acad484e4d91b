"""`outlay.testing` records captured calls, too."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import outlay
from tests.capture.test_openai_chat import ASKED, COMPLETION, client
from tests.support.stainless import answer
from tests.support.unpriced import record

if TYPE_CHECKING:
    import openai
    import pytest

    from outlay.testing import Costs


def ask(chat: openai.OpenAI, customer: str) -> None:
    """Call a provider as an application does, for a customer."""
    with outlay.attribute(customer_id=customer, feature="chat"):
        chat.chat.completions.create(**ASKED)


def test_captured_calls_are_costs_like_all_others(costs: Costs) -> None:
    """The provider's package is the real one; its answer is the test's."""
    ask(outlay.instrument(client()), "cus_1")

    costs.assert_total("0.00325", customer="cus_1", provider="openai", feature="chat")
    assert costs.unpriced == []
    assert [event.data["provenance"] for event in costs.events] == ["priced"]


def test_captured_calls_without_a_price_are_told_apart(
    costs: Costs, caplog: pytest.LogCaptureFixture
) -> None:
    """In production they would wait for one: a test should notice."""
    unknown = {**COMPLETION, "model": "gpt-unheard-of"}

    ask(outlay.instrument(client(lambda _: answer(unknown))), "cus_1")
    caplog.clear()

    (one,) = costs.unpriced
    assert one.event.subject == "cus_1"
    assert one.event.data["model"] == "gpt-unheard-of"
    assert "amount" not in one.event.data
    assert "gpt-unheard-of" in one.message
    assert costs.events == []
    costs.assert_total(0)
    costs.client.close()
    assert outlay.stats().unpriced == 1
    assert caplog.text == ""  # they are recorded, not lost


def test_what_was_tracked_can_be_forgotten(costs: Costs) -> None:
    """A test arranges first, and asks for what follows."""
    chat = outlay.instrument(client())
    for amount in ("1", "2"):
        costs.clear()
        outlay.track_cost("cost.ai", amount, customer_id="cus_1", operation_id="op")
        ask(chat, "cus_2")
        if amount == "1":
            record(costs.client)

    assert costs.total(customer="cus_1") == 2
    assert costs.total(customer="cus_2") == Decimal("0.00325")
    assert costs.unpriced == []
