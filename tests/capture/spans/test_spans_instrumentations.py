"""The real instrumentation packages, watching the real SDKs on a fake transport.

What each writes is what it writes: openai-v2 says nothing of cached tokens, so its
amount lacks the discount. Wrapped clients know better, and go first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

import anthropic
import logfire
import openai
import pytest
from anthropic.resources import messages
from openai.resources import embeddings, responses
from openai.resources.chat import completions as chats
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as OpenAIV2
from opentelemetry.sdk.trace import TracerProvider
from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from outlay.otel import CostSpanProcessor
from tests.capture.spans.fakes import PROMPT, REPLY, async_http_client, http_client

if TYPE_CHECKING:
    from tests.support.recorded import Recorded

# OpenLLMetry 0.62 asks for what pydantic calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Support for class-based:pydantic.warnings.PydanticDeprecatedSince20"
)

Call = Callable[[], object]
Watch = Callable[[TracerProvider], AbstractContextManager[None]]
_KINDS: Final = (
    chats.Completions,
    chats.AsyncCompletions,
    embeddings.Embeddings,
    embeddings.AsyncEmbeddings,
    responses.Responses,
    responses.AsyncResponses,
    messages.Messages,
    messages.AsyncMessages,
)
"""What OpenLLMetry wraps methods of."""


class Case(NamedTuple):
    """One call, watched by one instrumentation.

    Attributes:
        operation: how the provider's id begins, where the instrumentation writes it.
    """

    watch: Watch
    call: Call
    operation: str
    amount: Decimal


CACHED: Final = Decimal("0.00325")  # 800 x 2.5 + 200 x 1.25 + 100 x 10, USD a million
UNCACHED: Final = Decimal("0.0035")  # 1000 x 2.5 + 100 x 10
EMBEDDED: Final = Decimal("1.6E-7")  # 8 x 0.02
MESSAGE: Final = Decimal("0.001134")  # 100 x 3 + 20 x 3.75 + 30 x 0.3 + 50 x 15


def chat() -> None:
    """Ask for a completion."""
    with openai.OpenAI(api_key="sk-test", http_client=http_client()) as client:
        client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": PROMPT}]
        )


def stream() -> None:
    """Ask for a completion in pieces."""
    with (
        openai.OpenAI(api_key="sk-test", http_client=http_client()) as client,
        client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": PROMPT}],
            stream=True,
            stream_options={"include_usage": True},
        ) as chunks,
    ):
        for _ in chunks:
            pass


def embed() -> None:
    """Ask for embeddings."""
    with openai.OpenAI(api_key="sk-test", http_client=http_client()) as client:
        client.embeddings.create(model="text-embedding-3-small", input=PROMPT)


def respond() -> None:
    """Ask for a response."""
    with openai.OpenAI(api_key="sk-test", http_client=http_client()) as client:
        client.responses.create(model="gpt-4o", input=PROMPT)


def message() -> None:
    """Ask Anthropic."""
    with anthropic.Anthropic(api_key="sk-test", http_client=http_client()) as client:
        client.messages.create(
            model="claude-sonnet-4-6",
            max_tokens=10,
            messages=[{"role": "user", "content": PROMPT}],
        )


@contextmanager
def openai_v2(provider: TracerProvider) -> Iterator[None]:
    """Watch with OpenTelemetry's own instrumentation."""
    watcher = OpenAIV2()  # type: ignore[no-untyped-call]
    watcher.instrument(tracer_provider=provider)
    try:
        yield
    finally:
        watcher.uninstrument()


@contextmanager
def openllmetry(provider: TracerProvider) -> Iterator[None]:
    """Watch with OpenLLMetry."""
    before = {kind: dict(vars(kind)) for kind in _KINDS}
    OpenLLMetry().instrument(tracer_provider=provider)
    AnthropicInstrumentor().instrument(tracer_provider=provider)
    try:
        yield
    finally:
        AnthropicInstrumentor().uninstrument()
        OpenLLMetry().uninstrument()
        # Version 0.62 leaves some of them wrapped, and spans would go on coming.
        for kind, names in before.items():
            for name, original in names.items():
                if vars(kind)[name] is not original:
                    setattr(kind, name, original)


@contextmanager
def openinference(provider: TracerProvider) -> Iterator[None]:
    """Watch with OpenInference."""
    OpenInference().instrument(tracer_provider=provider)
    try:
        yield
    finally:
        OpenInference().uninstrument()


@pytest.mark.parametrize(
    "case",
    [
        Case(openai_v2, chat, "chatcmpl-", UNCACHED),
        Case(openai_v2, stream, "chatcmpl-", UNCACHED),
        Case(openai_v2, embed, "", EMBEDDED),
        Case(openllmetry, chat, "chatcmpl-", CACHED),
        Case(openllmetry, stream, "chatcmpl-", CACHED),
        Case(openllmetry, embed, "", EMBEDDED),
        Case(openllmetry, respond, "resp_", CACHED),
        Case(openllmetry, message, "msg_", MESSAGE),
        Case(openinference, chat, "chatcmpl-", CACHED),
        Case(openinference, stream, "", CACHED),
        Case(openinference, embed, "", EMBEDDED),
        Case(openinference, respond, "resp_", CACHED),
    ],
)
def test_each_call_is_counted_once(
    recorded: Recorded,
    provider: TracerProvider,
    case: Case,
) -> None:
    """With the provider's id, where the instrumentation writes it."""
    with case.watch(provider):
        case.call()

    event = recorded.only()
    assert case.amount == event.data["amount"]
    assert event.data["operationId"].startswith(case.operation)


@pytest.mark.parametrize("call", [chat, respond])
def test_two_instrumentations_at_once_count_a_call_once(
    recorded: Recorded, provider: TracerProvider, call: Call
) -> None:
    """Whichever of their spans lies innermost."""
    with ExitStack() as watching:
        for watch in (openllmetry, openinference, openai_v2):
            watching.enter_context(watch(provider))
        call()

    assert len(recorded.events()) == 1


@pytest.mark.parametrize(
    ("call", "amount"),
    [(chat, CACHED), (stream, CACHED), (embed, EMBEDDED), (respond, CACHED)],
)
def test_logfire_is_understood(recorded: Recorded, call: Call, amount: Decimal) -> None:
    """Whose stream is two spans: of the request, and of what came."""
    traces = logfire.configure(
        local=True,
        send_to_logfire=False,
        console=False,
        inspect_arguments=False,
        additional_span_processors=[CostSpanProcessor(recorded.client)],
    )
    with traces.instrument_openai():
        call()

    assert amount == recorded.only().data["amount"]
    traces.shutdown()


def test_an_agents_calls_are_counted_and_its_sum_is_not(
    recorded: Recorded, provider: TracerProvider
) -> None:
    """pydantic-ai writes a span for the run around those of its calls."""
    model = OpenAIChatModel(
        "gpt-4o",
        provider=OpenAIProvider(
            openai_client=openai.AsyncOpenAI(
                api_key="sk-test", http_client=async_http_client()
            )
        ),
    )
    watched = Instrumentation(
        settings=InstrumentationSettings(tracer_provider=provider)
    )
    agent = Agent(model, capabilities=[watched])

    asyncio.run(agent.run(PROMPT))

    assert recorded.only().data["amount"] == CACHED


@pytest.mark.parametrize("watch", [openllmetry, openinference])
def test_nothing_that_was_said_reaches_an_event(
    recorded: Recorded, provider: TracerProvider, watch: Watch
) -> None:
    """These instrumentations write prompts and answers on their spans."""
    with watch(provider):
        for call in (chat, stream, embed, respond, message):
            call()

    text = recorded.text()
    assert PROMPT not in text
    assert REPLY not in text
