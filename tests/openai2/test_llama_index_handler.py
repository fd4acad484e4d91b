"""LlamaIndex's event handler, alone and beside captured clients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI, OpenAIResponses

import outlay
from outlay.integrations.llama_index import OutlayEventHandler
from outlay.testing import recording
from tests.docs.blocks import blocks
from tests.frameworks.concurrently import CUSTOMERS, assert_each_paid, overlapping
from tests.frameworks.fake_providers import gpt_4o

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders

KINDS = [OpenAI, OpenAIResponses]


@pytest.fixture(params=[False, True], ids=["alone", "beside captured clients"])
def costs(request: pytest.FixtureRequest) -> Iterator[Costs]:
    """Return what is tracked, with and without captured clients below."""
    dispatcher: Any = get_dispatcher()
    handler = OutlayEventHandler()
    with recording() as recorded:
        if request.param:
            outlay.instrument()
        dispatcher.add_event_handler(handler)
        yield recorded
        dispatcher.event_handlers.remove(handler)
        outlay.uninstrument()
    assert not recorded.unpriced


@pytest.mark.parametrize("kind", KINDS)
def test_calls_belong_to_the_customer_in_the_tags(
    kind: type[OpenAI], providers: FakeProviders, costs: Costs
) -> None:
    """At the same time, each counted once."""

    async def ask(number: int) -> None:
        model = kind(model="gpt-4o")
        with instrument_tags({"outlay_customer_id": f"cus_{number}"}):
            await model.acomplete(f"cus_{number}")
            await model.achat([ChatMessage(f"cus_{number}")])

    overlapping(providers, ask)

    assert_each_paid(costs, gpt_4o, calls=2)


@pytest.mark.usefixtures("providers")
def test_streams_are_counted_when_they_were_read(costs: Costs) -> None:
    """By the usage in the last part, which OpenAI sends if it is asked to."""
    model = OpenAI(
        model="gpt-4o", additional_kwargs={"stream_options": {"include_usage": True}}
    )
    for number in CUSTOMERS:
        with instrument_tags({"outlay_customer_id": f"cus_{number}"}):
            assert list(model.stream_chat([ChatMessage(f"cus_{number}")]))

    assert_each_paid(costs, gpt_4o)


@pytest.mark.usefixtures("providers")
def test_the_code_on_the_page_runs() -> None:
    """Readers copy what they see. The usual environment does not have the package."""
    page = Path(__file__).parents[2] / "docs" / "integrations" / "llama-index.md"
    [block] = [each for each in blocks(page) if each.language == "python"]
    dispatcher: Any = get_dispatcher()

    with recording() as costs:
        exec(compile(block.text, block.name, "exec"), {"__name__": "__main__"})  # noqa: S102 - the page is in this repository
    dispatcher.event_handlers.pop()

    costs.assert_total(gpt_4o(1), customer="cus_123")


@pytest.mark.usefixtures("providers")
def test_a_call_changes_nothing_for_the_code_after_it(costs: Costs) -> None:
    """The customer in the tags ends with the call."""
    with instrument_tags({"outlay_customer_id": "cus_1"}):
        OpenAI(model="gpt-4o").complete("cus_1")
        outlay.track_cost("cost.a", "1", operation_id="after")

    [event] = costs.events_where(type="cost.a")
    assert event.subject == "unattributed"
