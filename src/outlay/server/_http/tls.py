"""Count and bound TLS handshakes, which come before any request.

The server's connections are counted from their first byte of HTTP on. With TLS, this
is after the handshake. So a client that never finishes its handshake is counted here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import ssl

    from outlay.server._http.connections import Connections


class TlsHandshake(asyncio.Protocol):
    """A connection until its handshake is finished. Then another protocol has it.

    It counts as an idle connection, which the server closes first if there are too
    many. It may take as long as the head of a request.

    Args:
        http: The protocol of the connection after its handshake.
        context: The certificate, and the rules of TLS.
        connections: All connections of the server.
        ending: The protocols that uvicorn calls `shutdown` of when the server ends.
    """

    def __init__(
        self,
        http: asyncio.Protocol,
        context: ssl.SSLContext,
        connections: Connections,
        ending: set[Any],
    ) -> None:
        self._http = http
        self._context = context
        self._all = connections
        self._ending = ending
        # The bytes from before the handshake. Later, those that came with its end.
        self._early = bytearray()
        self._is_lost = False

    # -- as a `Connection`

    def is_overdue(self, now: float) -> bool:
        """Return whether the handshake has taken too long."""
        return now >= self._deadline

    def expire(self, now: float) -> None:
        """Close without a response: the client could not read it."""
        del now
        self._transport.abort()

    def evict(self) -> None:
        """Close, because another connection needs the place."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Close, because the server ends."""
        self._transport.abort()

    # -- as a protocol of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, if there is room for the connection."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._all.limits.head_seconds
        if not self._all.add(self, self._address):
            self._transport.abort()
        self._ending.add(self)
        self._task = loop.create_task(self._shake_hands(loop))

    def data_received(self, data: bytes) -> None:
        """Keep what arrives before the other protocol has the connection."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the client has left after its handshake."""
        del exc
        self._is_lost = True

    async def _shake_hands(self, loop: asyncio.AbstractEventLoop) -> None:
        secured: asyncio.Transport | None = None
        handshake = asyncio.ensure_future(
            loop.start_tls(
                self._transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._all.limits.head_seconds,
            )
        )
        try:
            # The handshake begins in the loop's next turn, and takes bytes after that.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._pass_early_bytes()
            # A client can fail in any way. A failure ends its own connection only.
            with suppress(OSError, RuntimeError):
                secured = await handshake
        finally:
            self._all.remove(self, self._address)
            self._ending.discard(self)
        # uvloop raises no error if the connection was closed meanwhile.
        if secured is None or self._is_lost or self._transport.is_closing():
            self._transport.abort()
            return
        secured.set_protocol(self._http)
        self._http.connection_made(secured)
        if self._early:
            self._http.data_received(bytes(self._early))

    def _pass_early_bytes(self) -> None:
        """Give the handshake the bytes that the loop read too early, as uvloop may."""
        protocol = self._transport.get_protocol()
        # uvloop takes the protocol away if the client has left.
        if protocol is not None and not isinstance(protocol, TlsHandshake):
            receiver = cast("asyncio.BufferedProtocol", protocol)
            while self._early:
                room = memoryview(receiver.get_buffer(len(self._early)))
                size = min(len(room), len(self._early))
                room[:size] = self._early[:size]
                del self._early[:size]
                receiver.buffer_updated(size)
