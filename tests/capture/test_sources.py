"""Several sources around one call: exactly one event, whichever they are."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import anthropic
import groq
import httpx
import httpx2
import openai
import pytest
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider

import outlay
from outlay._capture.instrumentation.http_exchange import observe_httpx_response
from outlay._capture.instrumentation.library import CaptureOptions
from outlay._capture.recorder import Recorder
from outlay.otel import CostSpanProcessor
from tests.support.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

USAGE: Final = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
CHAT: Final = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Yes."},
        }
    ],
    "usage": USAGE,
}
CHUNKS: Final = (
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": None}],
    },
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
        "choices": [],
        "usage": USAGE,
    },
)
EMBEDDING: Final = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
MESSAGE: Final = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "Yes."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1000, "output_tokens": 100},
}
MESSAGE_EVENTS: Final = (
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_delta", "index": 0, "delta": {}},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 100},
    },
    {"type": "message_stop"},
)


def parts(request: Any) -> tuple[str, list[bytes]]:
    """Return the type and the parts of the response's body."""
    sent = json.loads(request.content)
    is_message = request.url.path.endswith("/messages")
    if not sent.get("stream"):
        body: Any = MESSAGE if is_message else CHAT
        if request.url.path.endswith("/embeddings"):
            body = EMBEDDING
        if sent["model"].startswith("llama"):
            body = {**body, "model": sent["model"]}
        return "application/json", [json.dumps(body).encode()]
    events: Any = MESSAGE_EVENTS if is_message else CHUNKS
    if sent["model"].startswith("llama"):
        events = [{**each, "model": sent["model"]} for each in events]
    lines = [
        f"event: {each.get('type', 'chunk')}\ndata: {json.dumps(each)}\n\n".encode()
        for each in events
    ]
    return "text/event-stream", lines if is_message else [*lines, b"data: [DONE]\n\n"]


def http_client(module: Any, *, asynchronous: bool) -> Any:
    """Return a client of an HTTP library, whose provider responds in parts."""

    class Body(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, parts: list[bytes]) -> None:
            self.parts = parts

        def __iter__(self) -> Iterator[bytes]:
            yield from self.parts

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for part in self.parts:
                yield part

    def respond(request: Any) -> Any:
        kind, body = parts(request)
        return module.Response(200, headers={"content-type": kind}, stream=Body(body))

    transport = module.MockTransport(respond)
    kind = module.AsyncClient if asynchronous else module.Client
    return kind(transport=transport)


ASKED: Final[dict[str, Any]] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "?"}],
}
OPENAI: Final = Decimal("0.0035")
CALLS: Final[dict[str, tuple[Any, Any, Callable[[Any], Any], dict[str, Any], Any]]] = {
    "openai": (
        openai.OpenAI,
        openai.AsyncOpenAI,
        lambda client: client.chat.completions,
        ASKED,
        OPENAI,
    ),
    "anthropic": (
        anthropic.Anthropic,
        anthropic.AsyncAnthropic,
        lambda client: client.messages,
        {**ASKED, "model": "claude-sonnet-latest", "max_tokens": 9},
        Decimal("0.0045"),
    ),
    "groq": (
        groq.Groq,
        groq.AsyncGroq,
        lambda client: client.chat.completions,
        {**ASKED, "model": "llama-3.3-70b-versatile"},
        None,  # its price is not the point
    ),
}


def read(resource: Any, way: str, asked: dict[str, Any]) -> None:
    """Make a call in one of the ways of the libraries, and read the response."""
    if way == "plain":
        resource.create(**asked)
    elif way == "streamed":
        for _ in resource.create(**asked, stream=True):
            pass
    elif way == "raw":
        resource.with_raw_response.create(**asked).parse()
    elif way == "raw streamed":
        for _ in resource.with_raw_response.create(**asked, stream=True).parse():
            pass
    else:
        with resource.with_streaming_response.create(**asked) as response:
            response.parse()


async def aread(resource: Any, way: str, asked: dict[str, Any]) -> None:
    """Do the same with an asynchronous client."""
    if way == "plain":
        await resource.create(**asked)
    elif way == "streamed":
        async for _ in await resource.create(**asked, stream=True):
            pass
    elif way in ("raw", "raw streamed"):
        more = {"stream": True} if way == "raw streamed" else {}
        response = await resource.with_raw_response.create(**asked, **more)
        parsed = response.parse()
        parsed = await parsed if hasattr(parsed, "__await__") else parsed
        if more:
            async for _ in parsed:
                pass
    else:
        async with resource.with_streaming_response.create(**asked) as response:
            await response.parse()


@pytest.mark.parametrize("way", ["plain", "streamed", "raw", "raw streamed", "opened"])
@pytest.mark.parametrize("library", CALLS)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_captured_http_client_under_a_captured_client_counts_once(
    library: str, way: str, *, asynchronous: bool
) -> None:
    """Both observe the same body; the outer one knows more, and counts."""
    kind, akind, resource_of, asked, amount = CALLS[library]
    module = httpx if library == "groq" else httpx2
    http = http_client(module, asynchronous=asynchronous)
    with Recorded() as recorded:
        outlay.instrument(http, client=recorded.client)
        client = outlay.instrument(
            (akind if asynchronous else kind)(api_key="k", http_client=http),
            client=recorded.client,
        )
        try:
            if asynchronous:
                asyncio.run(aread(resource_of(client), way, asked))
            else:
                read(resource_of(client), way, asked)
        finally:
            outlay.uninstrument()
        event = recorded.only()
        assert recorded.client.stats().unpriced == 0

    assert event.data["provider"] == library
    assert amount is None or event.data["amount"] == amount


def test_embeddings_without_any_id_count_once() -> None:
    """Nothing but the order of the sources tells that they are one call."""
    http = http_client(httpx2, asynchronous=False)
    with Recorded() as recorded:
        outlay.instrument(http, client=recorded.client)
        client = outlay.instrument(
            openai.OpenAI(api_key="k", http_client=http), client=recorded.client
        )
        try:
            client.embeddings.create(model="text-embedding-3-small", input="x")
        finally:
            outlay.uninstrument()
        recorded.only()


def test_two_sources_of_one_open_response_count_once() -> None:
    """A library that observes a response after its HTTP client takes it over."""
    http = http_client(httpx2, asynchronous=False)
    url = "https://api.openai.com/v1/chat/completions"
    request = http.build_request("POST", url, json={**ASKED, "stream": True})
    with Recorded() as recorded:
        outlay.instrument(http, client=recorded.client)
        try:
            response = http.send(request, stream=True)
        finally:
            outlay.uninstrument()
        options = CaptureOptions(record=Recorder.for_client(recorded.client).record)
        observe_httpx_response("test", options, "openai", response)
        response.read()

        assert recorded.only().data["amount"] == OPENAI
        assert recorded.client.stats().unpriced == 0
    assert not {"close", "iter_bytes"} & {*vars(response)}, "nothing is left on it"


@pytest.mark.parametrize("kind", ["chat", "streamed", "embeddings"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    "outlay_first", [False, True], ids=["tracing first", "outlay first"]
)
def test_a_traced_client_counts_once_in_either_order_of_set_up(
    kind: str, *, asynchronous: bool, outlay_first: bool
) -> None:
    """OpenInference's span is inside of the captured call, or around it."""
    http = http_client(httpx2, asynchronous=asynchronous)
    traces = TracerProvider()
    tracing = OpenAIInstrumentor()
    with Recorded() as recorded, ExitStack() as undo:
        traces.add_span_processor(CostSpanProcessor(recorded.client))

        def capture() -> None:
            outlay.instrument("openai", client=recorded.client)
            undo.callback(outlay.uninstrument)

        if outlay_first:
            capture()
        tracing.instrument(tracer_provider=traces)
        undo.callback(tracing.uninstrument)
        if not outlay_first:
            capture()
        if asynchronous:
            asyncio.run(aask(openai.AsyncOpenAI(api_key="k", http_client=http), kind))
        else:
            ask(openai.OpenAI(api_key="k", http_client=http), kind)
        traces.shutdown()
        recorded.only()


def ask(client: openai.OpenAI, kind: str) -> None:
    """Make a call of one kind."""
    if kind == "embeddings":
        client.embeddings.create(model="text-embedding-3-small", input="x")
    else:
        read(
            client.chat.completions,
            "streamed" if kind == "streamed" else "plain",
            ASKED,
        )


async def aask(client: openai.AsyncOpenAI, kind: str) -> None:
    """Do the same with an asynchronous client."""
    if kind == "embeddings":
        await client.embeddings.create(model="text-embedding-3-small", input="x")
    else:
        way = "streamed" if kind == "streamed" else "plain"
        await aread(client.chat.completions, way, ASKED)


@pytest.mark.parametrize("kind", ["chat", "streamed", "embeddings"])
def test_a_captured_http_client_inside_of_a_traced_client_counts_once(
    kind: str,
) -> None:
    """The innermost source writes the cost on the span, which is skipped then."""
    http = http_client(httpx2, asynchronous=False)
    traces = TracerProvider()
    tracing = OpenAIInstrumentor()
    with Recorded() as recorded:
        traces.add_span_processor(CostSpanProcessor(recorded.client))
        outlay.instrument(http, client=recorded.client)
        tracing.instrument(tracer_provider=traces)
        try:
            ask(openai.OpenAI(api_key="k", http_client=http), kind)
        finally:
            tracing.uninstrument()
            outlay.uninstrument()
        traces.shutdown()
        recorded.only()


@pytest.mark.parametrize("captured", ["client", "http client", "both"])
@pytest.mark.parametrize("way", ["plain", "streamed"])
def test_a_tracked_function_around_a_captured_call_counts_once(
    captured: str, way: str
) -> None:
    """What is counted inside is the same money."""
    http = http_client(httpx2, asynchronous=False)
    with Recorded() as recorded:
        client = openai.OpenAI(api_key="k", http_client=http)
        if captured != "client":
            outlay.instrument(http, client=recorded.client)
        if captured != "http client":
            outlay.instrument(client, client=recorded.client)

        @outlay.track_call(
            "cost.ai.inference", amount="9", provider="openai", client=recorded.client
        )
        def work() -> None:
            read(client.chat.completions, way, ASKED)

        try:
            work()
        finally:
            outlay.uninstrument()
        assert recorded.only().data["amount"] == OPENAI
