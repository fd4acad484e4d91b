"""OpenAI and Anthropic on a fake transport, for instrumentations to watch."""

from __future__ import annotations

import itertools
import json
from typing import Any, Final

import httpx2

from tests.support.stainless import Events, streamed

PROMPT: Final = "a-secret-question"
REPLY: Final = "a-secret-answer"

_CHAT_USAGE: Final = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 200},
}
_CHAT: Final[dict[str, Any]] = {
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": REPLY},
        }
    ],
    "usage": _CHAT_USAGE,
}
_CHUNK: Final[dict[str, Any]] = {
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
}
_CHUNKS: Final = (
    {
        **_CHUNK,
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": REPLY},
                "finish_reason": None,
            }
        ],
    },
    {**_CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {**_CHUNK, "choices": [], "usage": _CHAT_USAGE},
)
_EMBEDDINGS: Final = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
_RESPONSE: Final[dict[str, Any]] = {
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-4o-2024-08-06",
    "output": [
        {
            "type": "message",
            "id": "item_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": REPLY, "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 200},
        "output_tokens": 100,
        "output_tokens_details": {"reasoning_tokens": 10},
        "total_tokens": 1100,
    },
}
_MESSAGE: Final[dict[str, Any]] = {
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [{"type": "text", "text": REPLY}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 30,
    },
}


_MESSAGE_EVENTS: Final[tuple[dict[str, Any], ...]] = (
    {
        "type": "message_start",
        "message": {
            **_MESSAGE,
            "content": [],
            "stop_reason": None,
            "usage": {**_MESSAGE["usage"], "output_tokens": 1},
        },
    },
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": REPLY},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 50},
    },
    {"type": "message_stop"},
)


_number: Final = itertools.count(1)  # no two answers have the same id


def _json(answer: dict[str, Any], prefix: str) -> httpx2.Response:
    return httpx2.Response(200, json={"id": f"{prefix}{next(_number)}", **answer})


def _streamed() -> httpx2.Response:
    name = f"chatcmpl-{next(_number)}"
    return streamed(Events([{"id": name, **chunk} for chunk in _CHUNKS]))


def _streamed_message() -> httpx2.Response:
    begun = _MESSAGE_EVENTS[0]
    message = {"id": f"msg_{next(_number)}", **begun["message"]}
    events = [{**begun, "message": message}, *_MESSAGE_EVENTS[1:]]
    return streamed(Events(events, done=False))


def answer(request: httpx2.Request) -> httpx2.Response:
    """Answer as the providers do."""
    path = request.url.path
    streams = bool(json.loads(request.content).get("stream"))
    if path.endswith("/chat/completions"):
        return _streamed() if streams else _json(_CHAT, "chatcmpl-")
    if path.endswith("/embeddings"):
        return httpx2.Response(200, json=_EMBEDDINGS)
    if path.endswith("/responses"):
        return _json(_RESPONSE, "resp_")
    if path.endswith("/messages"):
        return _streamed_message() if streams else _json(_MESSAGE, "msg_")
    return httpx2.Response(500, json={"error": {"message": "no such thing"}})


def http_client() -> httpx2.Client:
    """Return a client that reaches nothing but `answer`."""
    return httpx2.Client(transport=httpx2.MockTransport(answer))


def async_http_client() -> httpx2.AsyncClient:
    """Return an asynchronous client that reaches nothing but `answer`."""
    return httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
