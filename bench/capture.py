"""What capture adds to a call of openai and anthropic, against the bare call.

Both go to the same fake transport, in turns. "Observed" is what the hooks, the reading
of the answer and the watching of a stream take; "tracked" is all of it: priced, and in
a journal on disk when the call returns.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anthropic
import httpx2
import openai

import outlay
from bench._measure import quantiles, show
from outlay._capture.instrumentation.library import CaptureOptions
from outlay._capture.providers import library

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from outlay._capture.instrumentation.library import Library

ROUNDS: Final = 15
CALLS: Final = 40  # of each kind, in each round
EVENTS: Final = 50  # of a stream

CHAT: Final = (
    b'{"id":"chatcmpl-%d","object":"chat.completion","created":1795176000,'
    b'"model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Yes, it is."},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,'
    b'"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":'
    b'{"cached_tokens":200,"audio_tokens":0},"completion_tokens_details":'
    b'{"reasoning_tokens":20,"audio_tokens":0}},"service_tier":"default"}'
)
CHUNK: Final = (
    b'data: {"id":"chatcmpl-%d","object":"chat.completion.chunk","created":1795176000,'
    b'"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":"word "},'
    b'"finish_reason":null}]}\n\n'
)
LAST_CHUNK: Final = (
    b'data: {"id":"chatcmpl-%d","object":"chat.completion.chunk","created":1795176000,'
    b'"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":1000,'
    b'"completion_tokens":100,"total_tokens":1100}}\n\ndata: [DONE]\n\n'
)
MESSAGE: Final = (
    b'{"id":"msg_%d","type":"message","role":"assistant",'
    b'"model":"claude-sonnet-4-5-20250929","content":[{"type":"text","text":"Yes."}],'
    b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1000,'
    b'"cache_creation_input_tokens":300,"cache_read_input_tokens":500,'
    b'"output_tokens":100,"service_tier":"standard","cache_creation":'
    b'{"ephemeral_5m_input_tokens":300,"ephemeral_1h_input_tokens":0}}}'
)
MESSAGE_START: Final = (
    b'event: message_start\ndata: {"type":"message_start","message":%s}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)
MESSAGE_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"word "}}\n\n'
)
MESSAGE_END: Final = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":'
    b'"end_turn","stop_sequence":null},"usage":{"output_tokens":100}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
JSON: Final = {"content-type": "application/json", "x-request-id": "req_1"}
STREAM: Final = {"content-type": "text/event-stream", "x-request-id": "req_1"}
ASKED: Final[dict[str, Any]] = {"messages": [{"role": "user", "content": "Is it?"}]}

_numbers: Final = itertools.count()


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that comes in one piece for each event, as networks deliver them."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def answer(request: httpx2.Request) -> httpx2.Response:
    """Return what the provider answers, each time with another id."""
    number = next(_numbers)
    streamed = b'"stream":true' in request.content
    if request.url.path.endswith("/messages"):
        message = MESSAGE % number
        middle = [MESSAGE_DELTA] * (EVENTS - 4)
        pieces = [MESSAGE_START % message, *middle, MESSAGE_END]
        body = message
    else:
        pieces = [CHUNK % number] * (EVENTS - 1) + [LAST_CHUNK % number]
        body = CHAT % number
    if streamed:
        return httpx2.Response(200, headers=STREAM, stream=Body(pieces))
    return httpx2.Response(200, headers=JSON, content=body)


class Subject(NamedTuple):
    """A call to be measured.

    Attributes:
        name: of it.
        library: that is instrumented.
        client: of the library; its calls end in the fake transport.
        call: makes one call, and reads all of its answer.
    """

    name: str
    library: str
    client: Any
    call: Callable[[], object]


def main() -> None:
    """Measure and print."""
    with (
        tempfile.TemporaryDirectory() as folder,
        outlay.Client(journal_dir=Path(folder), shipping="none") as tracker,
        outlay.attribute(customer_id="cus_1"),
        asyncio.Runner() as runner,  # which keeps the context that it begins in
    ):
        rows = [_row(subject, tracker) for subject in _subjects(runner.run)]
    show(
        f"One captured call, median µs of processor time; streams of {EVENTS} events "
        "(goal: tracked adds at most 30)",
        ("call", "bare", "observed", "adds", "tracked", "adds", "ratio"),
        rows,
    )


def _row(subject: Subject, tracker: outlay.Client) -> tuple[object, ...]:
    owner = library(subject.library)
    options: dict[str, CaptureOptions | outlay.Client | None] = {
        "bare": None,
        "observed": CaptureOptions(record=lambda _: None),
        "tracked": tracker,
    }
    times: dict[str, list[int]] = {name: [] for name in options}
    for _ in range(ROUNDS):
        # In turns, so that what else the machine does meets all alike.
        for name, how in options.items():
            with _captured(owner, subject.client, how):
                times[name] += _time(subject.call)
    bare, observed, tracked = (
        quantiles(times[name]).p50 / 1000 for name in ("bare", "observed", "tracked")
    )
    return (
        subject.name,
        f"{bare:.0f}",
        f"{observed:.0f}",
        f"{observed - bare:.1f}",
        f"{tracked:.0f}",
        f"{tracked - bare:.1f}",
        f"{tracked / bare:.2f}",
    )


@contextmanager
def _captured(
    owner: Library, client: object, how: CaptureOptions | outlay.Client | None
) -> Iterator[None]:
    if isinstance(how, CaptureOptions):
        owner.instrument_client(client, how)
    elif how is not None:
        outlay.instrument(client, client=how)
    try:
        yield
    finally:
        owner.uninstrument()


def _time(call: Callable[[], object]) -> list[int]:
    clock = time.thread_time_ns  # nothing here waits: of this thread alone
    call()  # of each round, the first one fills caches
    times = []
    for _ in range(CALLS):
        start = clock()
        call()
        times.append(clock() - start)
    return times


def _subjects(run: Callable[[Any], object]) -> Iterator[Subject]:
    """Yield what is measured; ``run`` runs a coroutine."""
    transport = httpx2.MockTransport(answer)
    http, ahttp = (
        httpx2.Client(transport=transport),
        httpx2.AsyncClient(transport=transport),
    )
    chat = openai.OpenAI(api_key="sk", http_client=http)
    achat = openai.AsyncOpenAI(api_key="sk", http_client=ahttp)
    message = anthropic.Anthropic(api_key="sk", http_client=http)
    amessage = anthropic.AsyncAnthropic(api_key="sk", http_client=ahttp)
    gpt = {"model": "gpt-4o", **ASKED}
    claude = {"model": "claude-sonnet-latest", "max_tokens": 100, **ASKED}
    ways: list[tuple[str, Any, Any, dict[str, Any]]] = [
        ("openai", chat, chat.chat.completions.create, gpt),
        ("anthropic", message, message.messages.create, claude),
        ("openai", achat, achat.chat.completions.create, gpt),
        ("anthropic", amessage, amessage.messages.create, claude),
    ]
    for (name, client, create, asked), stream in itertools.product(ways, (False, True)):
        asynchronous = client in (achat, amessage)
        arguments = {**asked, "stream": True} if stream else asked
        read = _reading_async if asynchronous else _reading
        title = f"{name}{' async' if asynchronous else ''}{' stream' if stream else ''}"
        yield Subject(title, name, client, read(create, arguments, stream, run))


def _reading(
    create: Callable[..., Any],
    asked: dict[str, Any],
    stream: bool,  # noqa: FBT001 - of a table
    _run: Callable[[Any], object],
) -> Callable[[], object]:
    if stream:
        return lambda: [None for _ in create(**asked)]
    return lambda: create(**asked)


def _reading_async(
    create: Callable[..., Awaitable[Any]],
    asked: dict[str, Any],
    stream: bool,  # noqa: FBT001 - of a table
    run: Callable[[Any], object],
) -> Callable[[], object]:
    async def read() -> None:
        answer = await create(**asked)
        if stream:
            async for _ in answer:
                pass

    return lambda: run(read())


if __name__ == "__main__":
    main()
