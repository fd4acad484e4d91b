"""LlamaIndex's model of OpenAI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI, OpenAIResponses

from tests.frameworks.concurrently import assert_each_paid, in_tasks, in_threads
from tests.frameworks.fake_providers import gpt_4o

if TYPE_CHECKING:
    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders

KINDS = [OpenAI, OpenAIResponses]


@pytest.mark.parametrize("kind", KINDS)
def test_calls_in_threads(
    kind: type[OpenAI], providers: FakeProviders, costs: Costs
) -> None:
    """Completions and chats, plain and streamed."""
    model = kind(model="gpt-4o")

    def ask(number: int) -> None:
        model.complete(f"cus_{number}")
        model.chat([ChatMessage(f"cus_{number}")])
        list(model.stream_chat([ChatMessage(f"cus_{number}")]))

    in_threads(providers, ask)

    assert_each_paid(costs, gpt_4o, calls=3)


@pytest.mark.parametrize("kind", KINDS)
def test_calls_in_tasks(
    kind: type[OpenAI], providers: FakeProviders, costs: Costs
) -> None:
    """Completions and chats, plain and streamed."""

    async def ask(number: int) -> None:
        model = kind(model="gpt-4o")
        await model.acomplete(f"cus_{number}")
        async for _ in await model.astream_chat([ChatMessage(f"cus_{number}")]):
            pass

    in_tasks(providers, ask)

    assert_each_paid(costs, gpt_4o, calls=2)
