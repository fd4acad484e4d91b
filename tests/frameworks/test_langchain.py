"""LangChain's chat models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_aws import ChatBedrockConverse
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

import outlay
from tests.frameworks.concurrently import (
    CUSTOMERS,
    assert_each_paid,
    in_tasks,
    in_threads,
)
from tests.frameworks.fake_providers import claude_haiku, gpt_4o

if TYPE_CHECKING:
    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders

MODELS = [
    pytest.param(lambda: ChatOpenAI(model="gpt-4o"), gpt_4o, id="openai chat"),
    pytest.param(
        lambda: ChatOpenAI(model="gpt-4o", use_responses_api=True),
        gpt_4o,
        id="openai responses",
    ),
    pytest.param(
        lambda: ChatAnthropic(model_name="claude-haiku-4-5"),
        claude_haiku,
        id="anthropic",
    ),
]


@pytest.mark.parametrize(("model", "price"), MODELS)
def test_calls_in_threads(
    model: Any, price: Any, providers: FakeProviders, costs: Costs
) -> None:
    """Plain and streamed."""
    chat = model()

    in_threads(providers, lambda number: chat.invoke(f"cus_{number}"))
    in_threads(providers, lambda number: list(chat.stream(f"cus_{number}")))

    assert_each_paid(costs, price, calls=2)


@pytest.mark.parametrize(("model", "price"), MODELS)
def test_calls_in_tasks(
    model: Any, price: Any, providers: FakeProviders, costs: Costs
) -> None:
    """Plain and streamed."""

    async def ask(number: int) -> None:
        chat = model()
        await chat.ainvoke(f"cus_{number}")
        async for _ in chat.astream(f"cus_{number}"):
            pass

    in_tasks(providers, ask)

    assert_each_paid(costs, price, calls=2)


def test_a_chain(providers: FakeProviders, costs: Costs) -> None:
    """A prompt, a model and a parser, run in parallel by LangChain's own threads."""
    prompt = ChatPromptTemplate.from_messages([("user", "{who}")])
    chain = prompt | ChatOpenAI(model="gpt-4o") | StrOutputParser()

    with providers.meeting(len(CUSTOMERS)), outlay.attribute(customer_id="cus_2"):
        chain.batch([{"who": "cus_2"} for _ in CUSTOMERS])

    assert costs.total() == costs.total(customer="cus_2") == 4 * gpt_4o(2)


def test_bedrock(providers: FakeProviders, costs: Costs) -> None:
    """Through boto3."""
    chat = ChatBedrockConverse(model="anthropic.claude-haiku-4-5-20251001-v1:0")

    in_threads(providers, lambda number: chat.invoke(f"cus_{number}"))

    # A profile without `global.` in its name is regional: a tenth more.
    assert_each_paid(costs, lambda number: claude_haiku(number) * 11 / 10)
