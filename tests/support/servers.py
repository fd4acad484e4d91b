"""A real HTTP server on loopback that misbehaves on purpose."""

from __future__ import annotations

import contextlib
import enum
import functools
import http.server
import io
import json
import socket
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeAlias

from outlay.transport import TransportResponse
from tests.support.answers import accepted, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

BATCH_PATH: Final = "/v0/events/batch"


class Fault(enum.Enum):
    """A fault that happens to a request instead of a response."""

    RESET = "the connection is closed without a response"
    HANG = "no response until the server stops"


class Spoilt(NamedTuple):
    """A response that does not arrive as it was sent.

    Attributes:
        answer: The response as it should be.
        keeps: The share of its bytes that arrives before the connection ends. Defaults
            to 1, all of them.
        pause: The seconds between one byte and the next. Defaults to 0.
    """

    answer: TransportResponse
    keeps: float = 1.0
    pause: float = 0.0


class Request(NamedTuple):
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def events(self) -> list[bytes]:
        """The payloads in its body."""
        if self.path != BATCH_PATH:
            return [self.body]
        events = json.loads(self.body, parse_float=Decimal)["events"]
        return [json.dumps(event, default=str).encode() for event in events]


Response: TypeAlias = TransportResponse | Fault | Spoilt
Respond: TypeAlias = "Callable[[Request], Response]"


class ScriptedServer:
    """Stores each event once by its key, like the service, and responds as scripted.

    Thread safety: any thread.

    Attributes:
        respond: The function that decides about each request. Set it at any time. By
            default it stores and accepts the events.
        requests: The requests in order of arrival.
        amounts: The amounts of the stored events, by key.
    """

    def __init__(self, respond: Respond | None = None) -> None:
        self.respond: Respond = respond or self.accept
        self.requests: list[Request] = []
        self.amounts: dict[str, Decimal] = {}
        self.duplicates = 0
        self._changed: Final = threading.Condition()
        self._port = 0
        self._stopping = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._start()

    @property
    def url(self) -> str:
        """The server's URL, which is the same while it is down."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def total(self) -> Decimal:
        """The sum of the events, each counted once."""
        with self._changed:
            return sum(self.amounts.values(), Decimal(0))

    def accept(self, request: Request) -> TransportResponse:
        """Store the events of ``request`` and accept them."""
        known = self.keep(request)
        if request.path == BATCH_PATH:
            return stored(len(request.events), duplicates=known)
        return accepted(outlay_duplicate="true") if known else accepted()

    def keep(self, request: Request) -> int:
        """Store the events of ``request``. Return the number of known ones."""
        known = 0
        with self._changed:
            for payload in request.events:
                event = json.loads(payload, parse_float=Decimal)
                key = event["idempotencyKey"]
                known += key in self.amounts
                self.amounts.setdefault(key, Decimal(event["data"]["amount"]))
            self.duplicates += known
        return known

    def wait_for(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait until ``condition`` holds. It is checked after each response."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), (
                f"not within {timeout} s; {len(self.requests)} requests came"
            )

    def wait_for_requests(self, count: int, timeout: float = 60.0) -> None:
        """Wait until ``count`` requests have arrived."""
        self.wait_for(lambda: len(self.requests) >= count, timeout)

    def stop(self) -> None:
        """Go down: every connection breaks, and the port refuses."""
        with self._changed:
            self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        with self._changed:
            connections, self._sockets = self._sockets, set()
        for connection in connections:
            _break(connection)
        self._thread.join()

    def restart(self) -> None:
        """Start again on the same port."""
        self._stopping = threading.Event()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._stopping.is_set():
            self.stop()

    def _start(self) -> None:
        handler = functools.partial(_Handler, self, self._stopping)
        self._server = _Server(("127.0.0.1", self._port), handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    def opened(self, connection: socket.socket) -> None:
        """Remember a connection, so that `stop` can break it."""
        with self._changed:
            self._sockets.add(connection)

    def answer(self, request: Request, stopping: threading.Event) -> Response:
        """Record a request, and return its response.

        A request that was read before `stop`, and comes here after it, came too late.
        """
        with self._changed:
            if stopping.is_set():
                return Fault.RESET
            self.requests.append(request)
            respond = self.respond
            self._changed.notify_all()
        answer = respond(request)
        with self._changed:
            self._changed.notify_all()
        return answer


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Log nothing, because clients disconnect in these tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(
        self,
        owner: ScriptedServer,
        stopping: threading.Event,
        request: socket.socket,
        address: object,
        server: _Server,
    ) -> None:
        self._owner = owner
        self._stopping = stopping
        super().__init__(request, address, server)

    def setup(self) -> None:
        super().setup()
        self._owner.opened(self.connection)

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        headers = {name.lower(): text for name, text in self.headers.items()}
        body = self.rfile.read(length)
        if len(body) < length:  # the client went away while it sent
            self.close_connection = True
            return
        request = Request(self.path, headers, body)
        answer = self._owner.answer(request, self._stopping)
        if answer is Fault.HANG:
            self._stopping.wait()
        if isinstance(answer, TransportResponse) and not self._stopping.is_set():
            self._send(answer)
            return
        self.close_connection = True
        if isinstance(answer, Spoilt):
            self._dribble(answer)

    def _send(self, answer: TransportResponse) -> None:
        self.send_response(answer.status)
        headers = {"content-type": "application/json", **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _dribble(self, spoilt: Spoilt) -> None:
        whole, self.wfile = self.wfile, io.BytesIO()
        self._send(spoilt.answer)
        sent, self.wfile = self.wfile.getvalue(), whole
        for byte in sent[: int(spoilt.keeps * len(sent))]:
            self.wfile.write(bytes([byte]))
            if self._stopping.wait(spoilt.pause):
                return

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _break(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client was first
        connection.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """Return a port of loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
