"""Connections on which a whole request has a deadline.

A timeout of a socket bounds one wait. A server that sends a byte now and then keeps
every wait short, and a sender busy for ever. Here what httpcore passes on as timeout is
the moment by which the request must be over, and each wait gets what is left of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

SLICE_BYTES: Final = 256 * 1024
"""Of a body, written between two looks at the time."""


class DeadlineBackend(httpcore.SyncBackend):
    """Makes connections that keep deadlines.

    Thread safety: any thread.
    """

    def __init__(self, patience: float, clock: Callable[[], float]) -> None:
        """Prepare.

        Args:
            patience: most seconds of any single wait.
            clock: returns monotonic seconds; the deadlines are on it.
        """
        self._patience = patience
        self._clock = clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect before the moment ``timeout``."""
        left = self.remaining(timeout, httpcore.ConnectTimeout)
        stream = super().connect_tcp(host, port, left, local_address, socket_options)
        return _DeadlineStream(stream, self.remaining)

    def remaining(self, moment: float | None, too_late: type[Exception]) -> float:
        """Return how many seconds a wait may take, or raise ``too_late``."""
        if moment is None:
            return self._patience
        seconds = moment - self._clock()
        if seconds <= 0:
            raise too_late("the deadline of the request has passed")
        return min(seconds, self._patience)


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose waits end by the moment passed as ``timeout``."""

    def __init__(
        self,
        stream: httpcore.NetworkStream,
        left: Callable[[float | None, type[Exception]], float],
    ) -> None:
        self._stream = stream
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # The stream below begins its wait anew with every bit that the server takes.
        for start in range(0, len(buffer), SLICE_BYTES):
            left = self._left(timeout, httpcore.WriteTimeout)
            self._stream.write(buffer[start : start + SLICE_BYTES], left)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._left(timeout, httpcore.ConnectTimeout)
        stream = self._stream.start_tls(ssl_context, server_hostname, left)
        return _DeadlineStream(stream, self._left)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
