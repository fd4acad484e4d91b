"""The capability for pydantic-ai, alone, beside captured clients and beside spans."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import TracerProvider
from pydantic_ai import Agent, InstrumentationSettings

import outlay
from outlay.integrations.pydantic_ai import OutlayCapability
from outlay.otel import CostSpanProcessor
from outlay.testing import recording
from tests.frameworks.concurrently import assert_each_paid, overlapping
from tests.frameworks.fake_providers import claude_haiku, gpt_4o

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders

MODELS = [
    ("openai-chat:gpt-4o", gpt_4o),
    ("openai-responses:gpt-4o", gpt_4o),
    ("anthropic:claude-haiku-4-5", claude_haiku),
]


@pytest.fixture(params=["alone", "beside captured clients", "beside spans"])
def costs(request: pytest.FixtureRequest) -> Iterator[Costs]:
    """Return what is tracked, with and without other sources."""
    traces = TracerProvider()
    with recording() as recorded:
        if request.param == "beside captured clients":
            outlay.instrument()
        elif request.param == "beside spans":
            traces.add_span_processor(CostSpanProcessor())
            Agent.instrument_all(InstrumentationSettings(tracer_provider=traces))
        yield recorded
        Agent.instrument_all(instrument=False)
        outlay.uninstrument()
        traces.shutdown()
    assert not recorded.unpriced


def _metadata(number: int) -> dict[str, str]:
    return {"outlay_customer_id": f"cus_{number}"}


@pytest.mark.parametrize(("model", "price"), MODELS)
def test_runs_belong_to_the_customer_in_the_metadata(
    model: str,
    price: Callable[[int], Decimal],
    providers: FakeProviders,
    costs: Costs,
) -> None:
    """At the same time, each counted once. Streams belong to the running code."""

    async def ask(number: int) -> None:
        agent = Agent(model, capabilities=[OutlayCapability()])
        await agent.run(f"cus_{number}", metadata=_metadata(number))
        with outlay.attribute(customer_id=f"cus_{number}"):
            async with agent.run_stream(f"cus_{number}") as result:
                await result.get_output()

    overlapping(providers, ask)

    assert_each_paid(costs, price, calls=2)


def test_a_tool_belongs_to_the_customer_in_the_metadata(
    providers: FakeProviders, costs: Costs
) -> None:
    """What a tool tracks by itself, too."""
    providers.tool = ("look_up", {"name": "Ada"})
    agent = Agent("openai-chat:gpt-4o", capabilities=[OutlayCapability()])

    @agent.tool_plain
    def look_up(name: str) -> str:
        outlay.track_cost("cost.enrichment", "0.05", operation_id=name)
        return f"{name} is known"

    asyncio.run(agent.run("cus_1", metadata=_metadata(1)))

    costs.assert_total(2 * gpt_4o(1) + Decimal("0.05"), customer="cus_1")
    assert len(costs.events) == 3
