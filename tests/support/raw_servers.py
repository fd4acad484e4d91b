"""Servers on loopback that speak HTTP byte by byte, and break it where a test wants."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeAlias

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType


class Arrived(NamedTuple):
    """A request as it arrived."""

    line: str
    headers: Mapping[str, str]
    body: bytes


class Line:
    """One connection, seen from the server."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self.socket = connection
        self.stopping = stopping
        self._received = bytearray()

    def read(self) -> Arrived | None:
        """Return the next request; None: the client has gone."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if not self._more():
                return None
        line, *fields = self._received[:end].decode("latin-1").split("\r\n")
        pairs = (field.split(": ", 1) for field in fields)
        headers = {name.lower(): value for name, value in pairs}
        del self._received[: end + 4]
        size = int(headers.get("content-length", "0"))
        while len(self._received) < size:
            if not self._more():
                return None
        body = bytes(self._received[:size])
        del self._received[:size]
        return Arrived(line, headers, body)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def drip(self, data: bytes, seconds: float) -> None:
        """Send a byte every ``seconds``, until the client ends it."""
        for byte in data:
            if self.stopping.wait(seconds):
                return
            self.write(bytes([byte]))

    def hang(self) -> None:
        """Say nothing more, and keep the connection."""
        self.stopping.wait()

    def reset(self) -> None:
        """Break the connection, so that the client is told."""
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self._received += data
        return bool(data)


Behave: TypeAlias = "Callable[[Line, Arrived], None]"


def answer(
    status: int = 202, body: bytes = b'{"object":"event"}', **headers: str
) -> bytes:
    """Return an answer's bytes; ``_`` in a header's name stands for ``-``."""
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Somehow\r\n{head}\r\n".encode() + body


def answers(status: int = 202, body: bytes = b"{}", **headers: str) -> Behave:
    """Answer each request in the same way."""
    return lambda line, _: line.write(answer(status, body, **headers))


class RawServer:
    """Takes connections, each in a thread, and treats their requests as told.

    Attributes:
        behave: what is done about each request; set it at any time.
        before_reading: called with each new connection; None: nothing is.
        accepted: how many connections there were.
        arrived: all requests.
        address: where it listens: host and port.
    """

    def __init__(
        self, behave: Behave | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.behave: Behave = behave or answers()
        self.before_reading: Callable[[socket.socket], object] | None = None
        self.accepted = 0
        self.arrived: list[Arrived] = []
        self._tls: Final = tls
        self._stopping: Final = threading.Event()
        self._listener: Final = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.address: Final = f"{host}:{port}"
        self._sockets: list[socket.socket] = []
        self._thread: Final = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens, as a URL."""
        return f"http{'s' if self._tls else ''}://{self.address}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _accept(self) -> None:
        threads = []
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                self._sockets.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        # The client goes away, or does not like the certificate: that is the test.
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.before_reading is not None:
                    self.before_reading(connection)
                line = Line(connection, self._stopping)
                while (request := line.read()) is not None:
                    self.arrived.append(request)
                    self.behave(line, request)


def tunnelling(target: RawServer) -> Behave:
    """Behave as a proxy that leads every tunnel to ``target``."""

    def behave(line: Line, request: Arrived) -> None:
        if not request.line.startswith("CONNECT "):
            line.write(answer(405))
            return
        host, _, port = target.address.partition(":")
        with socket.create_connection((host, int(port))) as onward:
            line.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=_copy, args=(onward, line.socket))
            back.start()
            _copy(line.socket, onward)
            back.join()

    return behave


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def nobody_accepts() -> Iterator[str]:
    """Listen without ever accepting; yields a URL that takes for ever to connect to."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        with contextlib.ExitStack() as waiting:
            for _ in range(4):  # they fill the queue; what comes then is not heard
                probe = waiting.enter_context(socket.socket())
                probe.settimeout(0)
                probe.connect_ex(address)
            yield f"http://127.0.0.1:{address[1]}"
