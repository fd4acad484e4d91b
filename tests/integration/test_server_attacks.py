"""A server in a process of its own, and clients that mean harm.

Each attack checks three things. The server refuses it, its memory stays bounded, and a
neighbour's request is still served within a deadline.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import resource
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY: Final = "sk_test_attacks_only"
DEADLINE: Final = 20.0  # seconds; only a harmed neighbour waits that long
MIB: Final = 1024 * 1024
SMALL: Final = 96 * MIB  # that an attack without large bodies may cost

_SERVER: Final = """
import json, sys
from outlay.server import ServerSettings, serve
settings = ServerSettings(port=0, database=":memory:", **json.loads(sys.argv[1]))
serve(settings, on_start=lambda started: print(started.url, flush=True))
"""

linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc to measure memory"
)


class Target:
    """A server in a process of its own.

    Attributes:
        address: Its host and port.
    """

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname or "", parts.port or 0)
        self._url = url
        self._process = process
        self._before = self._peak_bytes()

    def grown(self) -> int:
        """Return by how many bytes its memory has grown, at its peak."""
        return self._peak_bytes() - self._before

    def _peak_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def serves_a_neighbour(self) -> bool:
        """Send an ordinary request over a connection of its own."""
        return httpx.get(f"{self._url}/healthz", timeout=DEADLINE).status_code == 200

    def connect(self) -> socket.socket:
        """Return a new connection."""
        return socket.create_connection(self.address, timeout=DEADLINE)


@contextmanager
def attacked(**settings: Any) -> Iterator[Target]:  # noqa: ANN401 - any setting
    """Run a server with some settings."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, json.dumps({"api_key": KEY, **settings})],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        target = Target(process, process.stdout.readline().strip())
        assert target.serves_a_neighbour()
        yield target
    finally:
        process.kill()
        process.wait(DEADLINE)
        process.stdout.close()


def send_all(connection: socket.socket, *parts: bytes) -> int:
    """Send until the server closes the connection. Return the bytes that it took."""
    sent = 0
    with contextlib.suppress(OSError):
        for part in parts:
            connection.sendall(part)
            sent += len(part)
    return sent


def everything(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            received += part
    return received


def head(
    method: str = "POST", path: str = "/v0/events", *headers: str, key: str = KEY
) -> bytes:
    """Return a request line and headers, without the empty line that ends them."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n"


def begin_working(connection: socket.socket) -> None:
    """Begin a request with a body of two bytes, and wait until the server wants it."""
    begin = head("POST", "/v0/events", "Content-Length: 2", "Expect: 100-continue")
    connection.sendall(begin + b"\r\n")
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")


# -- heads


@linux
def test_thousands_of_large_headers_on_one_connection() -> None:
    """5,000 headers of 60 kB are 300 MB, and none of it is from a customer."""
    with attacked() as target, target.connect() as connection:
        header = b"X-Large: " + b"x" * 60_000 + b"\r\n"
        sent = send_all(connection, head("GET"), *[header] * 5000)

        assert sent < 50 * MIB
        assert target.serves_a_neighbour()
        assert target.grown() < SMALL


@linux
def test_one_header_of_many_megabytes() -> None:
    """The parser would copy it again for each part that arrives."""
    with attacked() as target, target.connect() as connection:
        parts = [b"x" * MIB] * 128
        sent = send_all(connection, head("GET") + b"X-Large: ", *parts)

        assert sent < 50 * MIB
        assert target.serves_a_neighbour()
        assert target.grown() < SMALL


def test_more_headers_than_any_client_sends() -> None:
    """Many small headers cost more memory than one large one."""
    with attacked() as target, target.connect() as connection:
        send_all(connection, head("GET", "/healthz") + b"A: 1\r\n" * 200 + b"\r\n")

        assert everything(connection).startswith(b"HTTP/1.1 431 ")
        assert target.serves_a_neighbour()


def test_slow_heads() -> None:
    """They would hold their connections without end."""
    with attacked(head_timeout=1) as target, contextlib.ExitStack() as stack:
        slow = []
        for _ in range(100):
            slow.append(stack.enter_context(target.connect()))
            slow[-1].sendall(head("GET", "/healthz"))
        assert target.serves_a_neighbour()

        refusals = [everything(connection) for connection in slow]

    assert {refusal[:13] for refusal in refusals} == {b"HTTP/1.1 408 "}


@linux
def test_large_heads_that_never_end() -> None:
    """Each is within its limit; together they must be, too."""
    large = head("GET", "/healthz") + b"X-Large: " + b"x" * 60_000
    with (
        attacked(max_waiting_bytes=MIB) as target,
        contextlib.ExitStack() as stack,
    ):
        slow = [stack.enter_context(target.connect()) for _ in range(100)]
        for connection in slow:
            send_all(connection, large)
        assert target.serves_a_neighbour()

        last = everything(slow[-1])
        assert last.startswith(b"HTTP/1.1 503 ")
        assert target.grown() < SMALL


# -- bodies


def test_slow_bodies() -> None:
    """A client with a key can be slow as well, or broken."""
    with attacked(body_timeout=1) as target, contextlib.ExitStack() as stack:
        posted = head("POST", "/v0/events", "Content-Length: 1000") + b"\r\n{"
        slow = []
        for _ in range(100):
            slow.append(stack.enter_context(target.connect()))
            slow[-1].sendall(posted)
        assert target.serves_a_neighbour()

        refusals = [everything(connection) for connection in slow]

    assert {refusal[:13] for refusal in refusals} == {b"HTTP/1.1 408 "}


@pytest.mark.slow
@pytest.mark.serial
@linux
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_batches_of_millions_of_values(*, packed: bool) -> None:
    """15 MB of ``[[],[],…]`` would be hundreds of megabytes of objects, 16 times."""
    body = b'{"events":[' + b"[]," * (5 * MIB) + b"[]]}"
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    if packed:
        body = gzip.compress(body, 1)
        headers["content-encoding"] = "gzip"
    with attacked() as target:
        url = f"http://127.0.0.1:{target.address[1]}/v0/events/batch"

        def post(_: int) -> int:
            return httpx.post(
                url, content=body, headers=headers, timeout=3 * DEADLINE
            ).status_code

        with ThreadPoolExecutor(16) as pool:
            posted = pool.map(post, range(16))
            assert target.serves_a_neighbour()
            statuses = set(posted)

        assert statuses <= {413, 503}
        assert target.grown() < 400 * MIB


@linux
def test_trailers_without_end() -> None:
    """They come after the body, and count as headers."""
    with attacked() as target, target.connect() as connection:
        begin = head("POST", "/v0/events", "Transfer-Encoding: chunked")
        sent = send_all(
            connection, begin + b"\r\n1\r\n{\r\n0\r\nX-Large: ", *[b"x" * MIB] * 128
        )

        assert sent < 50 * MIB
        assert target.serves_a_neighbour()
        assert target.grown() < SMALL


@linux
def test_a_body_after_its_refusal() -> None:
    """A refused client can go on sending. No code reads it, and it must end."""
    with attacked() as target, target.connect() as connection:
        begin = head("POST", "/v0/events", "Content-Length: 1000000000", key="wrong")
        sent = send_all(connection, begin + b"\r\n", *[b"x" * MIB] * 200)

        assert sent < 100 * MIB
        assert target.serves_a_neighbour()
        assert target.grown() < SMALL


# -- connections


@pytest.mark.slow
@pytest.mark.serial
@linux
def test_idle_connections() -> None:
    """As many as the system gives this test, up to 10,000."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10_000, hard - 500)
    idle: list[socket.socket] = []
    try:
        with attacked() as target:
            for _ in range(count):
                idle.append(target.connect())  # noqa: PERF401 - close them in any case
            assert target.serves_a_neighbour()
            assert target.grown() < SMALL
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_address"])
def test_an_idle_connection_makes_room_and_a_working_one_stays(limit: str) -> None:
    """Of two clients, the one in the middle of a request is worth more."""
    with attacked(**{limit: 3}) as target, contextlib.ExitStack() as stack:
        working, idle, third = (stack.enter_context(target.connect()) for _ in range(3))
        begin_working(working)
        begin_working(third)
        assert target.serves_a_neighbour()
        closed = everything(idle)
        working.sendall(b"{}")
        response = working.recv(65_536)

    assert closed == b""
    assert response.startswith(b"HTTP/1.1 400 ")  # the event is empty


def test_more_working_connections_than_allowed() -> None:
    """No place can be made, so the client hears when to come back."""
    with (
        attacked(max_connections_per_address=2) as target,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(2):
            begin_working(stack.enter_context(target.connect()))
        with target.connect() as late:
            refusal = everything(late)

    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in refusal


@pytest.mark.slow
def test_hundreds_of_requests_at_once_on_one_connection() -> None:
    """No client of today does it, and each waits in memory."""
    with attacked() as target, target.connect() as connection:
        send_all(connection, (head("GET", "/healthz") + b"\r\n") * 500)
        received = everything(connection)

        assert received.count(b"HTTP/1.1 200 OK") < 100
        assert target.serves_a_neighbour()


@pytest.mark.slow
@linux
def test_responses_that_are_not_read() -> None:
    """They would wait in the server's memory."""
    with attacked(body_timeout=1) as target, contextlib.ExitStack() as stack:
        deaf = [stack.enter_context(target.connect()) for _ in range(50)]
        for connection in deaf:
            request = head("GET", "/openapi.json") + b"\r\n"
            with contextlib.suppress(OSError):
                connection.settimeout(1)
                for _ in range(100):
                    connection.sendall(request)
        assert target.serves_a_neighbour()
        assert target.grown() < SMALL
