"""Fake transports for openai and anthropic, with answers of their providers' shapes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

REQUEST_ID: Final = "req_011CS"


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that comes in two parts, as from a network."""

    def __init__(self, content: bytes) -> None:
        middle = len(content) // 2
        self._parts = [part for part in (content[:middle], content[middle:]) if part]

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


def answer(body: Mapping[str, Any], **headers: str) -> httpx2.Response:
    """Return a response with a JSON body."""
    return httpx2.Response(
        200,
        stream=Body(json.dumps(body).encode()),
        headers={
            "content-type": "application/json",
            "x-request-id": REQUEST_ID,
            **headers,
        },
    )


class Events(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body of server-sent events, of which each is sent when it is asked for.

    Attributes:
        events: the events.
        sent: how many were asked for.
        closed: whether the response was closed.
    """

    def __init__(
        self, events: Sequence[Mapping[str, Any]], *, done: bool = True
    ) -> None:
        self.events = events
        self._done = done
        self.sent = 0
        self.closed = False

    def _lines(self) -> Iterator[bytes]:
        for event in self.events:
            self.sent += 1
            name = f"event: {event['type']}\n" if "type" in event else ""
            yield f"{name}data: {json.dumps(event)}\n\n".encode()
        if self._done:
            yield b"data: [DONE]\n\n"

    def __iter__(self) -> Iterator[bytes]:
        yield from self._lines()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for line in self._lines():
            yield line

    def close(self) -> None:
        """Note that no code reads on."""
        self.closed = True

    async def aclose(self) -> None:
        """Note that no code reads on."""
        self.closed = True


def streamed(body: Events) -> httpx2.Response:
    """Return a response whose body is a stream of events."""
    return httpx2.Response(
        200,
        stream=body,
        headers={"content-type": "text/event-stream", "x-request-id": REQUEST_ID},
    )


def sent(request: httpx2.Request) -> dict[str, Any]:
    """Return the JSON that a request holds, or nothing."""
    try:
        body = json.loads(request.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
