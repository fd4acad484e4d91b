"""Providers' APIs below the frameworks, in place of the network.

They respond to what the last message says: ``cus_3`` uses 3,000 input tokens and 100
output tokens. So every customer's calls have an amount of their own.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import re
import threading
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import httpx
import httpx2
import urllib3
from botocore.awsrequest import AWSResponse  # type: ignore[import-untyped]
from botocore.httpsession import URLLib3Session  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

OUTPUT: Final = 100
"""Output tokens of every call."""

_SECONDS: Final = 30  # until calls that are meant to meet give up


def gpt_4o(number: int) -> Decimal:
    """Return what a call of gpt-4o costs for customer ``number``: 2.50 and 10 USD."""
    return Decimal("0.0025") * number + Decimal("0.001")


def claude_haiku(number: int) -> Decimal:
    """Return what a call of Claude Haiku 4.5 costs: 1 and 5 USD a million tokens."""
    return Decimal("0.001") * number + Decimal("0.0005")


class FakeProviders:
    """Responds in place of OpenAI, Anthropic and Bedrock.

    Attributes:
        paths: The paths of the requests so far.
        tool: The tool that models call first, with its arguments. If None, none.
        texts: Texts that models respond with, before the usual one.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.tool: tuple[str, dict[str, Any]] | None = None
        self.texts: list[str] = []
        self._numbers = itertools.count(1)
        self._threads: threading.Barrier | None = None
        self._tasks: asyncio.Barrier | None = None

    @contextmanager
    def meeting(self, calls: int) -> Iterator[None]:
        """Let no call return before ``calls`` of them are under way, and so on."""
        self._threads = threading.Barrier(calls, timeout=_SECONDS)
        self._tasks = asyncio.Barrier(calls)
        try:
            yield
        finally:
            self._threads = self._tasks = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Respond to all requests of httpx, httpx2 and botocore."""
        for library in (httpx, httpx2):
            self._replace(monkeypatch, library)

        def send(_session: Any, request: Any) -> AWSResponse:
            headers, body = self.respond(request.url, request.body)
            raw = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
            headers["x-amzn-requestid"] = f"req-{next(self._numbers)}"
            return AWSResponse(request.url, 200, headers, raw)

        monkeypatch.setattr(URLLib3Session, "send", send)

    def _replace(self, monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
        def handle_request(_transport: Any, request: Any) -> Any:
            headers, body = self.respond(str(request.url), request.read())
            return library.Response(
                200, headers=headers, stream=library.ByteStream(body)
            )

        async def handle_async_request(_transport: Any, request: Any) -> Any:
            if self._tasks is not None:
                async with asyncio.timeout(_SECONDS):
                    await self._tasks.wait()
            headers, body = self._respond(str(request.url), await request.aread())
            return library.Response(
                200, headers=headers, stream=library.ByteStream(body)
            )

        monkeypatch.setattr(library.HTTPTransport, "handle_request", handle_request)
        monkeypatch.setattr(
            library.AsyncHTTPTransport, "handle_async_request", handle_async_request
        )

    def respond(self, url: str, content: bytes) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of a response, on the thread of a request."""
        if self._threads is not None:
            self._threads.wait()
        return self._respond(url, content)

    def _respond(self, url: str, content: bytes) -> tuple[dict[str, str], bytes]:
        path = httpx.URL(url).path
        self.paths.append(path)
        stream = bool(json.loads(content).get("stream"))
        number = next(self._numbers)
        said = re.findall(r"cus_(\d)", content.decode())
        given = 1000 * int(said[-1]) if said else 1000
        first = not any(word in content for word in _TOOL_RESULTS)
        tool = self.tool if first else None
        text = self.texts.pop(0) if self.texts else "Yes."
        if path.endswith("/chat/completions"):
            events = _chat(number, given, text, tool, stream=stream)
        elif path.endswith("/responses"):
            events = _response(number, given, text, tool, stream=stream)
        elif path.endswith("/messages"):
            events = _message(number, given, text, stream=stream)
        else:
            events = _conversation(given, text)
        if len(events) == 1:
            return {"content-type": "application/json"}, json.dumps(events[0]).encode()
        lines = (
            f"event: {each.get('type', 'message')}\ndata: {json.dumps(each)}\n\n"
            for each in events
        )
        end = "data: [DONE]\n\n" if path.endswith("/completions") else ""
        return {"content-type": "text/event-stream"}, ("".join(lines) + end).encode()


_TOOL_RESULTS: Final = (b'"tool_call_id"', b'"function_call_output"')

_Tool = tuple[str, dict[str, Any]] | None


def _chat(
    number: int, given: int, text: str, tool: _Tool, *, stream: bool
) -> list[dict[str, Any]]:
    kind = "chat.completion.chunk" if stream else "chat.completion"
    usage = {
        "prompt_tokens": given,
        "completion_tokens": OUTPUT,
        "total_tokens": given + OUTPUT,
    }
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if tool is not None:
        call = {"name": tool[0], "arguments": json.dumps(tool[1])}
        called = {"id": f"call_{number}", "type": "function", "function": call}
        message = {"role": "assistant", "content": None, "tool_calls": [called]}
        if stream:
            message["tool_calls"] = [{**called, "index": 0}]
    reason = "stop" if tool is None else "tool_calls"
    choice = {
        "index": 0,
        "delta" if stream else "message": message,
        "finish_reason": reason,
    }
    whole = {
        "id": f"chatcmpl-{number}",
        "object": kind,
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": [choice],
    }
    if not stream:
        return [{**whole, "usage": usage}]
    return [{**whole, "usage": None}, {**whole, "choices": [], "usage": usage}]


def _response(
    number: int, given: int, text: str, tool: _Tool, *, stream: bool
) -> list[dict[str, Any]]:
    item: dict[str, Any] = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
    if tool is not None:
        item = {
            "id": f"fc_{number}",
            "type": "function_call",
            "call_id": f"call_{number}",
            "name": tool[0],
            "arguments": json.dumps(tool[1]),
            "status": "completed",
        }
    whole = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1,
        "model": "gpt-4o-2024-08-06",
        "status": "completed",
        "output": [item],
        "tools": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "usage": {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": OUTPUT,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": given + OUTPUT,
        },
    }
    if not stream:
        return [whole]
    running = {**whole, "status": "in_progress", "output": [], "usage": None}
    place = {"output_index": 0, "item_id": item["id"], "content_index": 0}
    begun = {**item, "status": "in_progress", "content": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": running},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.output_text.delta", "delta": text, "logprobs": [], **place},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    return [{"sequence_number": at, **each} for at, each in enumerate(events)]


def _message(
    number: int, given: int, text: str, *, stream: bool
) -> list[dict[str, Any]]:
    block = {"type": "text", "text": text}
    whole = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": [block],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": given, "output_tokens": OUTPUT},
    }
    if not stream:
        return [whole]
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        {"type": "message_start", "message": {**whole, "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
        # Both counts are cumulative. Frameworks read them here only.
        {"type": "message_delta", "delta": ended, "usage": whole["usage"]},
        {"type": "message_stop"},
    ]


def _conversation(given: int, text: str) -> list[dict[str, Any]]:
    return [
        {
            "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
            "stopReason": "end_turn",
            "usage": {
                "inputTokens": given,
                "outputTokens": OUTPUT,
                "totalTokens": given + OUTPUT,
            },
            "metrics": {"latencyMs": 1},
        }
    ]
