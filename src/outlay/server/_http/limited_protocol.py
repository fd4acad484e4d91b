"""Limit what a client can take of the server, before anything of it is trusted.

The parser alone would collect headers without limit, and wait without end. The limits
here hold for clients without a key.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from outlay.server._http.joining_transport import JoiningTransport

if TYPE_CHECKING:
    import asyncio
    from typing import Any

    import uvicorn
    from uvicorn.server import ServerState

    from outlay.server._http.connections import Connections

MAX_HEAD_BYTES: Final = 64 * 1024
"""The most bytes of a request line and its headers. Clients send less than 2 KiB."""

MAX_HEADERS: Final = 100
"""The most headers of a request, as Apache httpd's LimitRequestFields has it (2.4)."""

_FREE_HEAD_BYTES: Final = 8 * 1024  # of each connection; larger heads share a budget
_MAX_PIPELINED: Final = 16  # requests that wait behind another on one connection
_MAX_UNREAD_BYTES: Final = 32 * 1024 * 1024  # of a body after its response
_GOODBYE_SECONDS: Final = 1.0  # for a client's end of TLS when the server ends
_LINGER_SECONDS: Final = 5.0  # for the last bytes of a refusal to arrive


def _response(
    status: bytes, code: bytes, error: bytes, message: bytes, more: bytes = b""
) -> bytes:
    body = b'{"message":"%b","error":"%b","code":"%b"}' % (message, error, code)
    return (
        b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\n"
        b"%bcontent-length: %d\r\n\r\n%b" % (status, more, len(body), body)
    )


_HEAD_TOO_LARGE: Final = _response(
    b"431 Request Header Fields Too Large",
    b"HEADERS_TOO_LARGE",
    b"request_header_fields_too_large",
    b"the headers are larger than %d bytes, or more than %d; send less"
    % (MAX_HEAD_BYTES, MAX_HEADERS),
)
_TOO_SLOW: Final = _response(
    b"408 Request Timeout",
    b"REQUEST_TIMEOUT",
    b"request_timeout",
    b"the request took too long to arrive; send it again",
    b"retry-after: 1\r\n",
)
_TOO_MANY: Final = _response(
    b"503 Service Unavailable",
    b"UNAVAILABLE",
    b"unavailable",
    b"too many connections are open; try again",
    b"retry-after: 1\r\n",
)
_MALFORMED: Final = _response(
    b"400 Bad Request",
    b"MALFORMED_REQUEST",
    b"bad_request",
    b"the request is no valid HTTP/1.1; check the client",
)


class _RefusedError(Exception):
    """The request breaks a limit. The parser turns it into an error of its own."""


class LimitedProtocol(HttpToolsProtocol):
    """An HTTP connection with limits of bytes, headers and time."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all = connections
        self._address = ""
        self._reads_head = True
        self._head_bytes = 0
        self._held_bytes = 0  # of the budget of heads
        self._fruitless_bytes = 0  # without a byte of a body, such as trailers
        self._unread_bytes = 0  # of the body, after its response
        self._has_body_bytes = False
        self._refusal = _MALFORMED
        self._read_deadline = math.inf
        self._write_deadline = math.inf

    # -- as a `Connection`

    def is_overdue(self, now: float) -> bool:
        """Return whether the client has taken too long."""
        return now >= self._read_deadline or now >= self._write_deadline

    def expire(self, now: float) -> None:
        """Refuse an unfinished request, and close."""
        if self.transport.is_closing() or now >= self._write_deadline:
            self.transport.abort()  # The client does not even read the refusal.
        elif self._is_idle():
            self.transport.close()
        else:
            self._refuse(_TOO_SLOW)

    def evict(self) -> None:
        """Close without waiting for the client."""
        self.transport.abort()

    def _is_idle(self) -> bool:
        return self._reads_head and not self._head_bytes

    def _refuse(self, response: bytes) -> None:
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(response)
        self.transport.close()
        self._read_deadline = self.loop.time() + _LINGER_SECONDS

    def shutdown(self) -> None:
        """Close after the response in flight, because the server ends."""
        super().shutdown()
        if self.transport.is_closing():
            # With TLS, a client could leave the goodbye unanswered.
            self._read_deadline = self.loop.time() + _GOODBYE_SECONDS

    # -- as a protocol of asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, if there is room for it."""
        super().connection_made(JoiningTransport(transport, self.loop))
        self._address = self.client[0] if self.client else ""
        self._read_deadline = self.loop.time() + self._all.limits.head_seconds
        if not self._all.add(self, self._address):
            self._refuse(_TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what the connection holds."""
        self._all.remove(self, self._address)
        self._all.heads.give_back(self._held_bytes)
        self._held_bytes = 0
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse ``data``, but of a head only as much as is allowed."""
        if self.transport.is_closing():
            return
        if self._reads_head:
            data = self._feed_head(data)
        if data and not self.transport.is_closing():
            self._feed_body(data)

    def pause_writing(self) -> None:
        """Note that the client does not read fast enough."""
        self._write_deadline = self.loop.time() + self._all.limits.write_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self._write_deadline = math.inf
        super().resume_writing()

    def _feed_head(self, data: bytes) -> bytes:
        """Parse bytes of a head. Return those that may follow it."""
        if not self._head_bytes:
            self._read_deadline = self.loop.time() + self._all.limits.head_seconds
        room = MAX_HEAD_BYTES - self._head_bytes
        self._head_bytes += len(data)
        super().data_received(data[:room])
        if not self._reads_head:
            return data[room:]
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_HEAD_TOO_LARGE)
        elif self._head_bytes > _FREE_HEAD_BYTES:
            missing = self._head_bytes - self._held_bytes
            if self._all.heads.take(missing):
                self._held_bytes += missing
            else:
                self._refuse(_TOO_MANY)
        return b""

    def _feed_body(self, data: bytes) -> None:
        self._has_body_bytes = False
        super().data_received(data)
        # Trailers and chunk extensions have no limit in the parser.
        self._fruitless_bytes += len(data)
        if self._has_body_bytes or self._reads_head:
            self._fruitless_bytes = 0
        if self._fruitless_bytes > MAX_HEAD_BYTES:
            self._refuse(_HEAD_TOO_LARGE)
        if self._unread_bytes > _MAX_UNREAD_BYTES:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser could not read."""
        del msg
        self._refuse(self._refusal)

    # -- callbacks of the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, or a trailer."""
        if len(self.headers) >= MAX_HEADERS:
            self._refusal = _HEAD_TOO_LARGE
            raise _RefusedError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Note the end of the head, and the time for the body."""
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise _RefusedError
        self._reads_head = False
        if self._held_bytes:
            self._all.heads.give_back(self._held_bytes)
            self._held_bytes = 0
        self._all.work(self, self._address)
        self._read_deadline = self.loop.time() + self._all.limits.body_seconds
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the bytes of a body whose request has its response already."""
        self._has_body_bytes = True
        if self.cycle.response_complete:
            self._unread_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete, and that the next head may begin."""
        self._reads_head = True
        self._head_bytes = self._fruitless_bytes = self._unread_bytes = 0
        self._read_deadline = math.inf
        super().on_message_complete()
        if self.cycle.response_complete:
            self._wait()

    def on_response_complete(self) -> None:
        """Wait for the next request, if this one is complete."""
        super().on_response_complete()
        if self._is_idle() and not self.pipeline:
            self._wait()
        if self.transport.is_closing():
            # The rest of the response must leave in this time.
            self._read_deadline = self.loop.time() + self._all.limits.write_seconds

    def _wait(self) -> None:
        self._read_deadline = self.loop.time() + self.timeout_keep_alive
        if not self.transport.is_closing():
            self._all.wait(self, self._address)
