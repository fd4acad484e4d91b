"""Chats through the real openai package, captured."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, Final

import httpx2
import openai
import pytest

import outlay
from tests.support.observing import observing
from tests.support.recorded import Recorded
from tests.support.stainless import REQUEST_ID, Events, answer, sent, streamed

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.extractors import Observation

ID: Final = "chatcmpl-C8rKsq2Z"
USAGE: Final = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 200},
}
COMPLETION: Final = {
    "id": ID,
    "object": "chat.completion",
    "created": 1795176000,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": '{"n": 1}'},
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
    "service_tier": "default",
}
ASKED: Final[dict[str, Any]] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Hello"}],
}
OPENAI: Final = "https://api.openai.com/v1"


def chunk(content: str | None = None, **more: Any) -> dict[str, Any]:
    """Return one chunk of a streamed chat."""
    choices = [{"index": 0, "delta": {"content": content}, "finish_reason": None}]
    return {
        "id": ID,
        "object": "chat.completion.chunk",
        "created": 1795176000,
        "model": "gpt-4o-2024-08-06",
        "choices": choices if content is not None else [],
        **more,
    }


def chunks(count: int = 3) -> Events:
    """Return the stream of a chat; usage comes with the last chunk."""
    said = [chunk(f"word {number} ") for number in range(count)]
    return Events([*said, chunk(usage=USAGE)])


def chatting(request: httpx2.Request) -> httpx2.Response:
    """Answer as the provider does."""
    return streamed(chunks()) if sent(request).get("stream") else answer(COMPLETION)


def client(
    respond: Callable[[httpx2.Request], httpx2.Response] = chatting,
    base_url: str = OPENAI,
    **options: Any,
) -> openai.OpenAI:
    """Return a client that never touches the network."""
    transport = httpx2.MockTransport(respond)
    return openai.OpenAI(
        api_key="sk-test",
        base_url=base_url,
        http_client=httpx2.Client(transport=transport),
        **options,
    )


def async_client(
    respond: Callable[[httpx2.Request], httpx2.Response] = chatting,
) -> openai.AsyncOpenAI:
    """Return the asynchronous twin."""
    transport = httpx2.MockTransport(respond)
    return openai.AsyncOpenAI(
        api_key="sk-test",
        base_url=OPENAI,
        http_client=httpx2.AsyncClient(transport=transport),
    )


def create(chat: openai.OpenAI) -> object:
    """Ask, and wait for the whole answer."""
    return chat.chat.completions.create(**ASKED)


def parse(chat: openai.OpenAI) -> object:
    """Ask for an answer of a given form."""
    return chat.chat.completions.parse(**ASKED)


def beta(chat: openai.OpenAI) -> object:
    """Ask by a path that is not stable yet."""
    return chat.beta.chat.completions.parse(**ASKED)


def raw(chat: openai.OpenAI) -> object:
    """Ask for the response with its headers."""
    return chat.chat.completions.with_raw_response.create(**ASKED).parse()


def raw_unread(chat: openai.OpenAI) -> object:
    """Ask for the response, and never look into it."""
    return chat.chat.completions.with_raw_response.create(**ASKED).headers


def raw_in_parts(chat: openai.OpenAI) -> object:
    """Ask for a response that is read in parts."""
    create_it = chat.chat.completions.with_streaming_response.create
    with create_it(**ASKED) as response:
        return b"".join(response.iter_bytes(7))


def raw_at_once(chat: openai.OpenAI) -> object:
    """Ask for a response that is read later, at once."""
    with chat.chat.completions.with_streaming_response.create(**ASKED) as response:
        return response.parse()


def own_post(chat: openai.OpenAI) -> object:
    """Ask by the client's own method, as for endpoints that it does not know."""
    return chat.post("/chat/completions", body=ASKED, cast_to=object)


def own_request(chat: openai.OpenAI) -> object:
    """Ask by an address, with a query."""
    url = f"{OPENAI}/chat/completions?trace=1"
    return chat.post(url, body=ASKED, cast_to=httpx2.Response).json()


def streaming(chat: openai.OpenAI) -> object:
    """Ask for a stream, and read it."""
    return list(chat.chat.completions.create(stream=True, **ASKED))


def streaming_in_a_block(chat: openai.OpenAI) -> object:
    """Ask for a stream, read it in a block."""
    with chat.chat.completions.create(stream=True, **ASKED) as stream:
        return [event for event in stream]  # noqa: C416 - as an application does


def streaming_to_usage(chat: openai.OpenAI) -> object:
    """Ask for a stream, and stop where the usage came."""
    stream = chat.chat.completions.create(stream=True, **ASKED)
    last = next(event for event in stream if event.usage)
    stream.close()
    return last


def helper(chat: openai.OpenAI) -> object:
    """Ask by the helper that adds a stream up."""
    with chat.chat.completions.stream(**ASKED) as stream:
        return stream.get_final_completion()


def raw_stream(chat: openai.OpenAI) -> object:
    """Ask for the response of a stream, and parse it."""
    response = chat.chat.completions.with_raw_response.create(stream=True, **ASKED)
    return list(response.parse())


def raw_lines(chat: openai.OpenAI) -> object:
    """Ask for the response of a stream, and read its lines."""
    create_it = chat.chat.completions.with_streaming_response.create
    with create_it(stream=True, **ASKED) as response:
        return list(response.iter_lines())


def with_options(chat: openai.OpenAI) -> object:
    """Ask by a copy of the client."""
    return create(chat.with_options(timeout=3).copy(max_retries=1))


WAYS: Final = (
    create,
    parse,
    beta,
    raw,
    raw_unread,
    raw_in_parts,
    raw_at_once,
    own_post,
    own_request,
    with_options,
)
STREAMED: Final = (
    streaming,
    streaming_in_a_block,
    streaming_to_usage,
    helper,
    raw_stream,
    raw_lines,
)


def facts(seen: list[Observation]) -> list[tuple[object, ...]]:
    """Return what matters of observations."""
    return [
        (one.provider, one.operation_id, one.model, one.usage, one.is_complete)
        for one in seen
    ]


EXPECTED: Final = ("openai", ID, "gpt-4o-2024-08-06", USAGE, True)


@pytest.mark.parametrize("way", [*WAYS, *STREAMED], ids=lambda way: way.__name__)
@pytest.mark.parametrize("how", ["client", "library"])
def test_every_way_to_ask_is_observed_once(
    way: Callable[[openai.OpenAI], object], how: str
) -> None:
    """One call, one cost, whatever the caller does with the answer."""
    chat = client()

    with observing(chat if how == "client" else "openai") as seen:
        way(chat)

    assert facts(seen) == [EXPECTED]


@pytest.mark.parametrize("way", [*WAYS, *STREAMED], ids=lambda way: way.__name__)
def test_the_caller_gets_what_the_bare_client_gives(
    way: Callable[[openai.OpenAI], object],
) -> None:
    """Capture is invisible: same type, same content."""
    chat = client()
    bare = way(chat)

    with observing(chat):
        captured = way(chat)

    assert type(bare) is type(captured)
    assert bare == captured


def test_the_id_of_the_request_is_observed_too() -> None:
    """It serves where an answer has no id of its own."""
    chat = client()

    with observing(chat) as seen:
        create(chat)
        raw(chat)
        streaming(chat)

    assert [one.request_id for one in seen] == [REQUEST_ID] * 3


def test_a_retried_call_is_one_cost() -> None:
    """Attempts that were refused are not charged."""
    answers = iter(
        [
            httpx2.Response(429, headers={"retry-after-ms": "1"}),
            httpx2.Response(500, headers={"retry-after-ms": "1"}),
            answer(COMPLETION),
        ]
    )
    chat = client(lambda _: next(answers), max_retries=2)

    with observing(chat) as seen:
        create(chat)

    assert facts(seen) == [EXPECTED]


def test_a_refused_call_costs_nothing_and_raises_as_ever() -> None:
    """The provider's error is the caller's."""
    chat = client(lambda _: httpx2.Response(400, json={"error": {"message": "no"}}))

    with observing(chat) as seen, pytest.raises(openai.BadRequestError):
        create(chat)

    assert seen == []


@pytest.mark.parametrize("read", [0, 1, 2])
@pytest.mark.parametrize("end", ["closed", "left", "forgotten"])
def test_a_stream_that_is_not_read_to_its_end_is_observed_as_incomplete(
    read: int, end: str
) -> None:
    """What it costs is not known, and that is said: it is not nothing."""
    body = chunks()
    chat = client(lambda _: streamed(body))

    with observing(chat) as seen:
        stream = chat.chat.completions.create(stream=True, **ASKED)
        for _ in range(read):
            next(stream)
        assert seen == []
        if end == "closed":
            stream.close()
        elif end == "left":
            with stream:
                pass
        else:
            del stream
            gc.collect()

    assert [(one.is_complete, one.usage) for one in seen] == [(False, {})]
    assert [ID if read else None] == [one.operation_id for one in seen]
    assert ["gpt-4o-2024-08-06" if read else "gpt-4o"] == [one.model for one in seen]
    assert read == body.sent
    assert body.closed or end == "forgotten"


def test_a_stream_that_breaks_is_observed_as_incomplete() -> None:
    """The error is the caller's, and what was read was charged."""

    class Broken(Events):
        def _lines(self) -> Any:
            yield from super()._lines()
            raise httpx2.ReadError("connection lost")

    chat = client(lambda _: streamed(Broken([chunk("a")], done=False)))

    with observing(chat) as seen:
        stream = chat.chat.completions.create(stream=True, **ASKED)
        with pytest.raises(openai.APIConnectionError):
            list(stream)
        del stream

    assert [(one.is_complete, one.operation_id) for one in seen] == [(False, ID)]


def test_a_stream_without_usage_is_observed_as_incomplete() -> None:
    """OpenAI tells the usage of a stream only when asked to."""
    chat = client(lambda _: streamed(Events([chunk("a"), chunk("b")])))

    with observing(chat) as seen:
        assert len(streaming(chat)) == 2  # type: ignore[arg-type]

    assert [(one.is_complete, one.usage) for one in seen] == [(False, {})]


def test_usage_is_asked_for_where_the_user_wants_that() -> None:
    """It changes what the caller gets, so it is never done unasked."""
    asked: list[Any] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        asked.append(sent(request).get("stream_options"))
        return chatting(request)

    chat = client(respond)

    with observing(chat):
        streaming(chat)
    with observing(chat, include_usage=True):
        streaming(chat)
        create(chat)

    assert asked == [None, {"include_usage": True}, None]


def test_a_chunk_reaches_its_reader_before_the_next_is_asked_for() -> None:
    """Capture does not hold a stream back."""
    body = chunks(5)
    chat = client(lambda _: streamed(body))

    with observing(chat):
        stream = chat.chat.completions.create(stream=True, **ASKED)
        for number, _ in zip(range(1, 6), stream, strict=False):
            assert number == body.sent


def test_cumulative_usage_is_final_with_the_last_chunk_only() -> None:
    """Some providers tell the usage so far with every chunk."""
    parts = [
        chunk("a", usage={"prompt_tokens": 5, "completion_tokens": 1}),
        chunk("b", usage={"prompt_tokens": 5, "completion_tokens": 2}),
    ]
    chat = client(lambda _: streamed(Events(parts)))

    with observing(chat) as seen:
        stream = chat.chat.completions.create(stream=True, **ASKED)
        next(stream)
        stream.close()
        list(chat.chat.completions.create(stream=True, **ASKED))

    assert [one.is_complete for one in seen] == [False, True]
    assert seen[1].usage == {"prompt_tokens": 5, "completion_tokens": 2}


def test_a_stream_is_the_customers_who_made_the_call() -> None:
    """Whatever code reads it, and wherever it is forgotten."""
    chat = client()

    with Recorded() as tracked:
        outlay.instrument(chat, client=tracked.client)
        try:
            with outlay.attribute(customer_id="cus_maker"):
                read = chat.chat.completions.create(stream=True, **ASKED)
            with outlay.attribute(customer_id="cus_reader"):
                list(read)
        finally:
            outlay.uninstrument(chat)

        assert tracked.only().subject == "cus_maker"


def test_who_stops_reading_a_body_closes_it_as_ever() -> None:
    """The bytes of a captured response are a generator's, as they are of a bare one."""
    bodies = [chunks(), chunks()]
    served = iter(bodies)
    with observing("openai") as seen:
        asking = client(lambda _: streamed(next(served))).chat.completions
        with asking.with_streaming_response.create(stream=True, **ASKED) as response:
            parts: Any = response.http_response.iter_bytes()
            next(parts)
            parts.close()
            assert bodies[0].closed

        async def stop() -> None:
            asking = async_client(lambda _: streamed(next(served))).chat.completions
            asked = asking.with_streaming_response.create(stream=True, **ASKED)
            async with asked as response:
                parts: Any = response.http_response.aiter_bytes()
                await anext(parts)
                await parts.aclose()
                assert bodies[1].closed

        asyncio.run(stop())

    assert [one.is_complete for one in seen] == [False, False]
