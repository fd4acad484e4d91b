"""The trace processor for openai-agents, alone and beside other sources."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    RunConfig,
    Runner,
    function_tool,
    set_trace_processors,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

import outlay
from outlay.integrations.openai_agents import OutlayTracingProcessor
from outlay.testing import recording
from tests.frameworks.concurrently import assert_each_paid, overlapping
from tests.frameworks.fake_providers import gpt_4o

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders


@pytest.fixture(params=[False, True], ids=["alone", "beside captured clients"])
def costs(request: pytest.FixtureRequest) -> Iterator[Costs]:
    """Return what is tracked, with and without captured clients below."""
    with recording() as recorded:
        if request.param:
            outlay.instrument()
        set_tracing_disabled(disabled=False)
        set_trace_processors([OutlayTracingProcessor()])
        yield recorded
        set_trace_processors([])
        outlay.uninstrument()
    assert not recorded.unpriced


def _config(number: int) -> RunConfig:
    return RunConfig(trace_metadata={"outlay_customer_id": f"cus_{number}"})


def _responses() -> Any:
    return "gpt-4o"


def _completions() -> Any:
    return OpenAIChatCompletionsModel("gpt-4o", AsyncOpenAI())


@pytest.mark.parametrize("model", [_responses, _completions])
def test_runs_belong_to_the_customer_in_the_metadata(
    providers: FakeProviders, costs: Costs, model: Callable[[], Any]
) -> None:
    """Plain and streamed, at the same time, each call counted once."""

    async def ask(number: int) -> None:
        agent = Agent(name="helper", model=model())
        await Runner.run(agent, f"cus_{number}", run_config=_config(number))
        run = Runner.run_streamed(agent, f"cus_{number}", run_config=_config(number))
        async for _ in run.stream_events():
            pass

    overlapping(providers, ask)

    assert_each_paid(costs, gpt_4o, calls=2)


def test_a_tool_belongs_to_the_customer_in_the_metadata(
    providers: FakeProviders, costs: Costs
) -> None:
    """What a tool tracks by itself, too."""
    providers.tool = ("look_up", {"name": "Ada"})

    @function_tool
    def look_up(name: str) -> str:
        """Look a name up."""
        outlay.track_cost("cost.enrichment", "0.05", operation_id=name)
        return f"{name} is known"

    async def ask() -> None:
        agent = Agent(name="helper", model="gpt-4o", tools=[look_up])
        await Runner.run(agent, "cus_1", run_config=_config(1))

    asyncio.run(ask())

    costs.assert_total(2 * gpt_4o(1) + Decimal("0.05"), customer="cus_1")
    assert len(costs.events) == 3
