"""Capture live transcriptions, which Deepgram's package receives through a WebSocket.

``client.listen.v1.connect()`` opens a connection. Its last message has the type
``Metadata``, and tells the seconds of audio. Deepgram sends it after ``CloseStream``.

Source: https://developers.deepgram.com/reference/speech-to-text/listen-streaming,
November 2026.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from outlay._capture.extraction.fields import read_json_fields
from outlay._capture.extraction.registry import Call, Endpoint
from outlay._capture.instrumentation.library import Patch
from outlay._capture.instrumentation.streams import StreamObserver
from outlay._capture.instrumentation.wrappers import observe_context
from outlay._capture.providers.generators.fern import http_client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
    from types import ModuleType

    from outlay._capture.instrumentation.library import (
        CaptureOptions,
        InstrumentedClients,
        PatchProvider,
    )


def websocket_patches(endpoint: Endpoint) -> PatchProvider:
    """Return the patches of every class of a module that opens connections.

    Args:
        endpoint: The endpoint that reads the message ``Metadata``.
    """

    def patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
        def on_connect(connection: Any, owner: Any, **asked: Any) -> None:
            options = scope.options_for(http_client_of(owner))
            if options is not None:
                call = _call(options, asked)
                session = _Session(options, endpoint, call)
                connection._websocket = _ObservedSocket(  # noqa: SLF001 - all messages pass it
                    connection._websocket,  # noqa: SLF001
                    session,
                )

        for kind in tuple(vars(module).values()):
            is_own = isinstance(kind, type) and kind.__module__ == module.__name__
            if is_own and "connect" in vars(kind):
                yield Patch(kind, "connect", observe_context("deepgram", on_connect))

    return patches


def _call(options: CaptureOptions, asked: dict[str, Any]) -> Call:
    query = {
        name: str(asked[name]).lower()
        for name in ("language", "model", "multichannel")
        if asked.get(name) is not None
    }
    return Call(
        provider=options.provider or "deepgram",
        path="/v1/listen",
        query=query,
        model=query.get("model"),
    )


class _Session:
    """Reads the messages of one connection, and tracks the audio at its end."""

    def __init__(self, options: CaptureOptions, endpoint: Endpoint, call: Call) -> None:
        self._options = options
        self._endpoint = endpoint
        self._call = call
        self._response: dict[str, Any] = {}

    @property
    def has_ended(self) -> bool:
        """Whether the last message came."""
        return self._response.get("type") == "Metadata"

    def feed(self, message: object) -> None:
        """Read the first message, which has the id, and the last one."""
        if not isinstance(message, str) or (
            self._response and '"Metadata"' not in message
        ):
            return
        response = read_json_fields(message.encode(), self._endpoint.fields)
        if not self._response or response.get("type") == "Metadata":
            self._response = response

    def finish(self, *, exhausted: bool) -> None:  # noqa: ARG002 - of the protocol
        """Track the cost. Without the last message, the seconds are not known."""
        if self._response:
            self._options.finish_call(self._endpoint, self._call, self._response)


class _ObservedSocket:
    """Stands before a WebSocket of any kind, and passes its messages to a session.

    A cost belongs to the code that connected. The session ends with the last message,
    or when the connection is garbage-collected.
    """

    def __init__(self, socket: Any, session: _Session) -> None:
        self._socket = socket
        self._session = session
        self._observer: StreamObserver[object] = StreamObserver("deepgram", session)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def __iter__(self) -> Iterator[Any]:
        for message in self._socket:
            yield self._observed(message)

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for message in self._socket:
            yield self._observed(message)

    def recv(self, *args: Any, **kwargs: Any) -> Any:
        """Receive a message, or return an awaitable of it."""
        received = self._socket.recv(*args, **kwargs)
        if inspect.isawaitable(received):
            return self._awaited(received)
        return self._observed(received)

    async def _awaited(self, received: Awaitable[Any]) -> Any:
        return self._observed(await received)

    def _observed(self, message: Any) -> Any:
        self._observer.feed(message)
        if self._session.has_ended:
            self._observer.finish(exhausted=True)
        return message
