"""A provider's API that answers from a script, under clients of httpx and httpx2."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx
import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping


WORDS: Final = "to be or not to be"
MESSAGES: Final[Any] = [{"role": "user", "content": WORDS}]


class Scripted(NamedTuple):
    """What the API answers once.

    Attributes:
        body: JSON, or bytes; a list of bytes is sent piece by piece.
        status: of HTTP.
        headers: besides the content type.
        kind: the content type.
    """

    body: Any
    status: int = 200
    headers: Mapping[str, str] = {}
    kind: str = "application/json"


class Pieces(
    httpx.SyncByteStream,
    httpx.AsyncByteStream,
    httpx2.SyncByteStream,
    httpx2.AsyncByteStream,
):
    """A body that comes in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


class ProviderApi:
    """Answers one after the other as it was told, and remembers what it was asked."""

    def __init__(self, *answers: Scripted) -> None:
        self._answers = list(answers)
        self.requests: list[Any] = []

    def client(self) -> httpx.Client:
        """Return a client of httpx that knows only this API."""
        return httpx.Client(transport=httpx.MockTransport(self._answer(httpx)))

    def async_client(self) -> httpx.AsyncClient:
        """Return its asynchronous twin."""
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer(httpx)))

    def client2(self) -> httpx2.Client:
        """Return a client of httpx2 that knows only this API."""
        return httpx2.Client(transport=httpx2.MockTransport(self._answer(httpx2)))

    def async_client2(self) -> httpx2.AsyncClient:
        """Return its asynchronous twin."""
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer(httpx2)))

    def _answer(self, library: Any) -> Any:
        def answer(request: Any) -> Any:
            self.requests.append(request)
            body, status, headers, kind = self._answers.pop(0)
            headers = {"content-type": kind, **headers}
            if isinstance(body, list):
                return library.Response(status, headers=headers, stream=Pieces(body))
            content = (
                body
                if isinstance(body, bytes)
                else json.dumps(body, default=float).encode()
            )
            return library.Response(status, headers=headers, content=content)

        return answer


def events(*data: Any, done: bool = False) -> Scripted:
    """Return an answer of server-sent events, one piece each."""
    pieces = [_event(each) for each in data]
    if done:
        pieces.append(b"data: [DONE]\n\n")
    return Scripted(pieces, kind="text/event-stream")


def _event(data: Any) -> bytes:
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def give_up(answer: Callable[[], Any], how: str) -> None:
    """Read the first part of a stream, and close it or forget it."""
    stream = answer()
    next(iter(stream))
    if how == "close":
        stream.close()
    del stream
    gc.collect()
