"""The agents of openai-agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents import Agent, Runner, function_tool, set_tracing_disabled

from tests.frameworks.concurrently import assert_each_paid, in_tasks
from tests.frameworks.fake_providers import gpt_4o

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders


@pytest.fixture(autouse=True)
def _no_tracing() -> Iterator[None]:
    """Send no traces. They would be requests of their own."""
    set_tracing_disabled(disabled=True)
    yield
    set_tracing_disabled(disabled=False)


def test_runs_in_tasks(providers: FakeProviders, costs: Costs) -> None:
    """Plain and streamed."""

    async def ask(number: int) -> None:
        agent = Agent(name="helper", model="gpt-4o")
        await Runner.run(agent, f"cus_{number}")
        async for _ in Runner.run_streamed(agent, f"cus_{number}").stream_events():
            pass

    in_tasks(providers, ask)

    assert_each_paid(costs, gpt_4o, calls=2)


@function_tool
def look_up(name: str) -> str:
    """Look a name up."""
    return f"{name} is known"


def test_a_tool(providers: FakeProviders, costs: Costs) -> None:
    """A call that asks for the tool, and one with its result."""
    providers.tool = ("look_up", {"name": "Ada"})

    async def ask(number: int) -> None:
        agent = Agent(name="helper", model="gpt-4o", tools=[look_up])
        await Runner.run(agent, f"cus_{number}")

    in_tasks(providers, ask)

    assert_each_paid(costs, gpt_4o, calls=2)
