"""pydantic-ai's agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic_ai import Agent

from tests.frameworks.concurrently import assert_each_paid, in_tasks
from tests.frameworks.fake_providers import claude_haiku, gpt_4o

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders

MODELS = [
    ("openai-chat:gpt-4o", gpt_4o),
    ("openai-responses:gpt-4o", gpt_4o),
    ("anthropic:claude-haiku-4-5", claude_haiku),
]


@pytest.mark.parametrize(("model", "price"), MODELS)
def test_runs_in_tasks(
    model: str,
    price: Callable[[int], Decimal],
    providers: FakeProviders,
    costs: Costs,
) -> None:
    """Plain and streamed."""

    async def ask(number: int) -> None:
        agent = Agent(model)
        await agent.run(f"cus_{number}")
        async with agent.run_stream(f"cus_{number}") as result:
            await result.get_output()

    in_tasks(providers, ask)

    assert_each_paid(costs, price, calls=2)


def test_a_tool(providers: FakeProviders, costs: Costs) -> None:
    """A call that asks for the tool, and one with its result."""
    providers.tool = ("look_up", {"name": "Ada"})

    async def ask(number: int) -> None:
        agent = Agent("openai-chat:gpt-4o")

        @agent.tool_plain
        def look_up(name: str) -> str:
            return f"{name} is known"

        await agent.run(f"cus_{number}")

    in_tasks(providers, ask)

    assert_each_paid(costs, gpt_4o, calls=2)
