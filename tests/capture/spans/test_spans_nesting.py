"""Frameworks, instrumentations and wrapped clients around one call: it costs once.

The wrapped client is innermost, and reads the answer itself: its amount is the one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from itertools import permutations
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

import outlay
from tests.capture.spans import test_spans_instrumentations as watched
from tests.capture.spans.fakes import PROMPT, async_http_client, http_client

if TYPE_CHECKING:
    from decimal import Decimal

    from pydantic_ai.models import Model

    from tests.support.recorded import Recorded

pytestmark = watched.pytestmark

Watch = Callable[[TracerProvider], AbstractContextManager[None]]

LIBRARIES: Final = ("openai", "anthropic")


def instrument(recorded: Recorded) -> None:
    """Wrap all clients of the libraries."""
    for name in LIBRARIES:
        outlay.instrument(name, client=recorded.client)


def openai_model() -> Model:
    """Return OpenAI's chats, for an agent."""
    return OpenAIChatModel("gpt-4o", provider=OpenAIProvider(openai_client=_openai()))


def responses_model() -> Model:
    """Return OpenAI's responses, for an agent."""
    provider = OpenAIProvider(openai_client=_openai())
    return OpenAIResponsesModel("gpt-4o", provider=provider)


def anthropic_model() -> Model:
    """Return Anthropic's messages, for an agent."""
    client = anthropic.AsyncAnthropic(
        api_key="sk-test", http_client=async_http_client()
    )
    provider = AnthropicProvider(anthropic_client=client)
    return AnthropicModel("claude-sonnet-4-6", provider=provider)


def _openai() -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="sk-test", http_client=async_http_client())


async def run(agent: Agent) -> None:
    """Ask an agent."""
    await agent.run(PROMPT)


async def run_stream(agent: Agent) -> None:
    """Ask an agent for an answer in parts."""
    async with agent.run_stream(PROMPT) as parts:
        async for _ in parts.stream_text():
            pass


class Case(NamedTuple):
    """A call that an agent makes, and what it costs."""

    model: Callable[[], Model]
    ask: Callable[[Agent], Awaitable[None]]
    amount: Decimal


AGENTS: Final = {
    "chat": Case(openai_model, run, watched.CACHED),
    "chat-stream": Case(openai_model, run_stream, watched.CACHED),
    "responses": Case(responses_model, run, watched.CACHED),
    "message": Case(anthropic_model, run, watched.MESSAGE),
    "message-stream": Case(anthropic_model, run_stream, watched.MESSAGE),
}


@pytest.mark.parametrize("sees", ["wrapper", "span", "both"])
@pytest.mark.parametrize("case", AGENTS.values(), ids=AGENTS)
def test_an_agents_call_is_counted_once(
    recorded: Recorded, provider: TracerProvider, case: Case, sees: str
) -> None:
    """By the wrapped client, by pydantic-ai's span around it, or by both."""
    if sees != "span":
        instrument(recorded)
    spans = InstrumentationSettings(tracer_provider=provider)
    capabilities = [] if sees == "wrapper" else [Instrumentation(settings=spans)]

    async def ask() -> None:
        await case.ask(Agent(case.model(), capabilities=capabilities))

    asyncio.run(ask())

    event = recorded.only()
    assert (event.subject, event.data["amount"]) == ("cus_1", case.amount)


CALLS: Final = [
    pytest.param(watched.chat, watched.CACHED, id="chat"),
    pytest.param(watched.stream, watched.CACHED, id="stream"),
    pytest.param(watched.respond, watched.CACHED, id="respond"),
    pytest.param(watched.embed, watched.EMBEDDED, id="embed"),
    pytest.param(watched.message, watched.MESSAGE, id="message"),
]


@pytest.mark.parametrize("order", [*permutations(("wrapper", "v2", "openllmetry"))])
@pytest.mark.parametrize(("call", "amount"), CALLS)
def test_wrapper_and_two_instrumentations_count_a_call_once(
    recorded: Recorded,
    provider: TracerProvider,
    call: Callable[[], None],
    amount: Decimal,
    order: tuple[str, ...],
) -> None:
    """In whatever order they were put in place, and by what the wrapper read."""
    watches: dict[str, Watch] = {
        "v2": watched.openai_v2,
        "openllmetry": watched.openllmetry,
    }
    with ExitStack() as watching:
        for name in order:
            if name in watches:
                watching.enter_context(watches[name](provider))
            else:
                instrument(recorded)
        call()

    event = recorded.only()
    assert (event.subject, event.data["amount"]) == ("cus_1", amount)


class Traced:
    """A tracer, and the spans that it has finished.

    Attributes:
        tracer: makes spans.
    """

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    def amounts(self) -> dict[str, Any]:
        """Return what is stamped on each span, by its name."""
        return {
            span.name: dict(span.attributes or {}).get("outlay.cost.amount")
            for span in self._exporter.get_finished_spans()
        }


def streaming() -> Iterable[object]:
    """Ask for a stream, and leave it to other code to read."""
    client = openai.OpenAI(api_key="sk-test", http_client=http_client())
    return client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        stream_options={"include_usage": True},
    )


def test_a_streams_cost_is_stamped_on_the_span_of_the_call(recorded: Recorded) -> None:
    """Not on the one that is current where it is read."""
    instrument(recorded)
    traced = Traced()
    with traced.tracer.start_as_current_span("call", end_on_exit=False) as span:
        stream = streaming()
    with traced.tracer.start_as_current_span("reader"):
        list(stream)
    span.end()

    assert traced.amounts() == {"call": "0.00325", "reader": None}


def test_a_span_that_has_ended_is_not_stamped(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is another in its place; OpenTelemetry would warn of it."""
    instrument(recorded)
    traced = Traced()
    with traced.tracer.start_as_current_span("call"):
        stream = streaming()
    with traced.tracer.start_as_current_span("reader"):
        list(stream)

    assert traced.amounts() == {"call": None, "reader": None}
    assert recorded.total() == watched.CACHED
    assert caplog.records == []
