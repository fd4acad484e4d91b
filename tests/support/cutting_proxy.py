"""A proxy before PostgreSQL that breaks a connection in the middle of a commit."""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_COMMIT: Final = b"COMMIT\0"  # as the protocol of PostgreSQL has it
_PIECE: Final = 1 << 16


class Moment(enum.Enum):
    """When the connection breaks."""

    BEFORE = "PostgreSQL never gets the commit"
    AFTER = "PostgreSQL commits, and its response is lost"


class CuttingProxy:
    """Forwards connections to a port of this machine. Use it as a context manager.

    Thread safety: any thread.

    Args:
        port: The port of PostgreSQL.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._moment: Moment | None = None
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: Final = int(self._listener.getsockname()[1])

    def cut_next_commit(self, moment: Moment) -> None:
        """Break the connection that commits next."""
        self._moment = moment

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _end(self._listener)
        while self._threads:
            self._threads.pop().join()

    def _start(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with self._listener, contextlib.suppress(OSError):  # its end
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server:
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loses_response = threading.Event()
            returning = self._start(_return, client, server, loses_response)
            with contextlib.suppress(OSError):
                self._forward(client, server, loses_response)
            _end(client, server)
            returning.join()

    def _forward(
        self,
        client: socket.socket,
        server: socket.socket,
        loses_response: threading.Event,
    ) -> None:
        while piece := client.recv(_PIECE):
            if self._moment is not None and _COMMIT in piece:
                moment, self._moment = self._moment, None
                if moment is Moment.BEFORE:
                    return
                loses_response.set()
            server.sendall(piece)


def _return(
    client: socket.socket, server: socket.socket, loses_response: threading.Event
) -> None:
    with contextlib.suppress(OSError):
        while piece := server.recv(_PIECE):
            if loses_response.is_set():
                break
            client.sendall(piece)
    _end(client, server)


def _end(*connections: socket.socket) -> None:
    for each in connections:
        with contextlib.suppress(OSError):  # the other thread was first
            each.shutdown(socket.SHUT_RDWR)
