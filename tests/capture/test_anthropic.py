"""Messages through the real anthropic package, captured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anthropic
import httpx2
import pytest

from tests.support.observing import observing
from tests.support.stainless import Events, answer, sent, streamed

if TYPE_CHECKING:
    from collections.abc import Callable

ID: Final = "msg_01XFDUDYJgAACzvnptvVoYEL"
MODEL: Final = "claude-sonnet-4-5-20250929"
START: Final = {
    "input_tokens": 25,
    "cache_read_input_tokens": 10,
    "output_tokens": 1,
    "service_tier": "standard",
}
FINAL: Final = {
    "input_tokens": 25,
    "cache_read_input_tokens": 10,
    "output_tokens": 15,
}
MESSAGE: Final = {
    "id": ID,
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {**START, **FINAL},
}
ASKED: Final[dict[str, Any]] = {
    "model": "claude-sonnet-latest",
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "Hello"}],
}


def events() -> Events:
    """Return the stream of a message."""
    begun = {**MESSAGE, "content": [], "stop_reason": None, "usage": START}
    return Events(
        [
            {"type": "message_start", "message": begun},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": "Hi"},
            },
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 15},
            },
            {"type": "message_stop"},
        ],
        done=False,
    )


def messaging(request: httpx2.Request) -> httpx2.Response:
    """Answer as the provider does."""
    return streamed(events()) if sent(request).get("stream") else answer(MESSAGE)


def client() -> anthropic.Anthropic:
    """Return a client that never touches the network."""
    transport = httpx2.MockTransport(messaging)
    return anthropic.Anthropic(
        api_key="sk-test", http_client=httpx2.Client(transport=transport)
    )


def create(chat: anthropic.Anthropic) -> object:
    """Ask, and wait for the whole answer."""
    return chat.messages.create(**ASKED)


def raw(chat: anthropic.Anthropic) -> object:
    """Ask for the response with its headers."""
    return chat.messages.with_raw_response.create(**ASKED).parse()


def beta(chat: anthropic.Anthropic) -> object:
    """Ask by a path that is not stable yet."""
    return chat.beta.messages.create(**ASKED).id


def streaming(chat: anthropic.Anthropic) -> object:
    """Ask for a stream, and read it."""
    return list(chat.messages.create(stream=True, **ASKED))


def helper(chat: anthropic.Anthropic) -> object:
    """Ask by the helper that adds a stream up."""
    with chat.messages.stream(**ASKED) as stream:
        return stream.get_final_message()


@pytest.mark.parametrize(
    "way", [create, raw, beta, streaming, helper], ids=lambda way: way.__name__
)
def test_every_way_to_ask_is_observed_once(
    way: Callable[[anthropic.Anthropic], object],
) -> None:
    """A stream tells its usage in two parts; together they are the whole."""
    chat = client()
    bare = way(chat)

    with observing(chat) as seen:
        captured = way(chat)

    assert type(captured) is type(bare)
    assert captured == bare
    assert [
        (one.provider, one.operation_id, one.model, one.usage, one.complete)
        for one in seen
    ] == [("anthropic", ID, MODEL, FINAL, True)]
    assert [one.service_tier for one in seen] == ["standard"]


def test_a_message_that_is_not_read_to_its_end_is_observed_as_incomplete() -> None:
    """The start tells what came in, but not what went out."""
    chat = client()

    with observing(chat) as seen:
        stream = chat.messages.create(stream=True, **ASKED)
        next(stream)
        stream.close()

    assert [(one.operation_id, one.complete) for one in seen] == [(ID, False)]
