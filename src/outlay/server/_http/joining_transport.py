"""Send the head and the body of a response with one system call.

The parser's library writes them one after the other. On a fast network, the second
system call takes as long as decoding the request.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

_MOST_WAITING_BYTES: Final = 64 * 1024  # then a further write helps the client more


class JoiningTransport(asyncio.Transport):
    """A transport that joins the writes of one turn of the event loop.

    The protocol's transport stays the real one. So it pauses and resumes the protocol.

    Args:
        transport: The real transport.
        loop: Its event loop.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes | bytearray | memoryview] = []
        self._waiting_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data`` at the end of this turn."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > _MOST_WAITING_BYTES:
            self._send()

    def close(self) -> None:
        """Send the waiting bytes, then close."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Close immediately. The waiting bytes are lost."""
        self._waiting.clear()
        self._waiting_bytes = 0
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or about to be."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's own
        """Return what the real transport knows of the connection."""
        return self._transport.get_extra_info(name, default)

    def _send(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        # The client may have left meanwhile.
        if data and not self._transport.is_closing():
            self._transport.write(data)
