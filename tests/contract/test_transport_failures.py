"""No answer: why, how soon, and whether the request may have arrived."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import httpcore
import httpx
import httpx2
import pytest

from outlay._shipping import connections
from outlay.errors import UnavailableError
from tests.contract.transports import KEY, LIBRARIES, PATH, transport_to
from tests.support.raw_servers import RawServer, answer, answers, nobody_accepts
from tests.support.servers import free_port

if TYPE_CHECKING:
    import socket
    from types import ModuleType

    from outlay.transport import HttpTransport
    from tests.support.raw_servers import Arrived, Behave, Line

each_library = pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)

_MIB: Final = 1024 * 1024
_HEAD: Final = b"HTTP/1.1 202 Accepted\r\ncontent-length: 400\r\n\r\n"
_SOON: Final = 3.0
"""Seconds in which a request of half a second is over, on a busy machine."""


def _drip_the_body(line: Line, _: Arrived) -> None:
    line.write(_HEAD)
    line.drip(b"{" * 400, 0.05)


@each_library
def test_a_refused_connection_has_sent_nothing(library: ModuleType | None) -> None:
    """The commonest failure of all: the server is down, and no doubt remains."""
    url = f"http://127.0.0.1:{free_port()}"

    with (
        transport_to(url, library) as post,
        pytest.raises(UnavailableError, match="ConnectError") as caught,
    ):
        post.post(PATH, b"{}")

    assert not caught.value.sent


@each_library
def test_a_name_that_nobody_knows_has_sent_nothing(library: ModuleType | None) -> None:
    """A typing error in the address must not start the clock of the window."""
    with (
        transport_to("http://outlay.invalid", library) as post,
        pytest.raises(UnavailableError, match="ConnectError") as caught,
    ):
        post.post(PATH, b"{}")

    assert not caught.value.sent


@each_library
@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(lambda line, _: line.reset(), id="reset before the answer"),
        pytest.param(lambda line, _: line.socket.close(), id="closed before it"),
        pytest.param(
            lambda line, _: (line.write(_HEAD[:20]), line.reset()), id="within the head"
        ),
        pytest.param(
            lambda line, _: (line.write(_HEAD + b"{"), line.reset()),
            id="within the body",
        ),
        pytest.param(
            lambda line, _: (line.write(_HEAD + b"{"), line.socket.close()),
            id="body too short",
        ),
        pytest.param(lambda line, _: line.write(b"SSH-2.0-x\r\n\r\n"), id="no HTTP"),
        pytest.param(
            answers(202, b"no gzip at all", content_encoding="gzip"), id="garbled"
        ),
    ],
)
def test_an_answer_that_breaks_off_may_have_been_counted(
    library: ModuleType | None, behave: Behave
) -> None:
    """The request arrived. Its outcome is not known."""
    with (
        RawServer(behave) as server,
        transport_to(server.url, library) as post,
        pytest.raises(UnavailableError) as caught,
    ):
        post.post(PATH, b"{}")

    assert caught.value.sent
    assert len(server.arrived) == 1, "it must not retry by itself"


@each_library
def test_no_connection_in_time_has_sent_nothing(library: ModuleType | None) -> None:
    """A firewall that drops packets: no answer, no refusal."""
    with (
        nobody_accepts() as url,
        transport_to(url, library, timeout=0.3) as post,
        pytest.raises(UnavailableError, match="ConnectTimeout") as caught,
    ):
        post.post(PATH, b"{}")

    assert not caught.value.sent


@each_library
def test_a_server_that_never_answers_times_out(library: ModuleType | None) -> None:
    """It may be storing the event just now."""
    with (
        RawServer(lambda line, _: line.hang()) as server,
        transport_to(server.url, library, timeout=0.3) as post,
        pytest.raises(UnavailableError, match="ReadTimeout") as caught,
    ):
        post.post(PATH, b"{}")

    assert caught.value.sent


@each_library
def test_a_server_that_never_reads_times_out(library: ModuleType | None) -> None:
    """What is larger than the system's buffers waits for the other side."""
    with (
        RawServer() as server,
        transport_to(server.url, library, timeout=0.3) as post,
    ):
        given_up = threading.Event()
        server.before_reading = lambda _: given_up.wait()
        with pytest.raises(UnavailableError, match="WriteTimeout") as caught:
            post.post(PATH, b" " * (64 * _MIB))
        given_up.set()

    assert caught.value.sent


@each_library
def test_no_free_connection_in_time_has_sent_nothing(
    library: ModuleType | None,
) -> None:
    """Only a client whose own limit is lower than ours can run into it."""
    arrived, enough = threading.Event(), threading.Event()

    def drip(line: Line, _: Arrived) -> None:
        arrived.set()
        line.write(_HEAD)
        while not enough.wait(0.05):
            line.write(b"{")
        line.reset()

    with (
        RawServer(drip) as server,
        transport_to(
            server.url, library, timeout=1, deadline=30, max_connections=1
        ) as post,
    ):
        first = threading.Thread(target=_failure, args=(post,))
        first.start()
        assert arrived.wait(20)
        error = _failure(post)
        enough.set()
        first.join()

    assert "PoolTimeout" in str(error)
    assert not error.sent


def _failure(post: HttpTransport) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught:
        post.post(PATH, b"{}")
    return caught.value


@pytest.mark.serial
@each_library
def test_an_answer_that_drips_is_over_at_the_deadline(
    library: ModuleType | None,
) -> None:
    """A byte now and then keeps every single wait short, and would hold us for ever."""
    with (
        RawServer(_drip_the_body) as server,
        transport_to(server.url, library, timeout=0.3, deadline=0.5) as post,
    ):
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="ReadTimeout") as caught:
            post.post(PATH, b"{}")

    assert caught.value.sent
    assert time.monotonic() - started < _SOON


@pytest.mark.serial
def test_a_head_that_drips_is_over_at_the_deadline_too() -> None:
    """Our own connections are watched from the first byte on."""
    raw = answer(202, server="x" * 400)

    with (
        RawServer(lambda line, _: line.drip(raw, 0.05)) as server,
        transport_to(server.url, None, timeout=0.3, deadline=0.5) as post,
    ):
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="ReadTimeout") as caught:
            post.post(PATH, b"{}")

    assert caught.value.sent
    assert time.monotonic() - started < _SOON


@pytest.mark.serial
def test_a_request_that_is_read_by_drips_is_over_at_the_deadline_too() -> None:
    """A server that reads slowly holds a sender as well as one that writes slowly."""
    given_up = threading.Event()

    def sip(connection: socket.socket) -> None:
        while not given_up.wait(0.02):
            connection.recv(64 * 1024)

    with (
        RawServer() as server,
        transport_to(server.url, None, timeout=0.5, deadline=0.7) as post,
    ):
        server.before_reading = sip
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="WriteTimeout"):
            post.post(PATH, b" " * (64 * _MIB))
        given_up.set()

    assert time.monotonic() - started < _SOON


def test_every_failure_of_the_engine_is_told_as_ours() -> None:
    """A release that adds one must not let it through to the shipper."""
    internal = {httpcore.ConnectionNotAvailable}  # never leaves the pool
    kinds = {
        kind
        for kind in vars(httpcore).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }

    told = {
        kind
        for kind in kinds
        if issubclass(kind, connections._NOT_SENT + connections._FAILED)
    }

    assert kinds - told <= internal
    assert len(told) > 10


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_every_failure_of_a_lent_client_is_told_as_ours(library: ModuleType) -> None:
    """And says whether the request may have arrived: that starts the window's clock."""
    unsent = {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "ProxyError",
        "UnsupportedProtocol",
    }
    kinds = {
        kind
        for kind in vars(library).values()
        if isinstance(kind, type) and issubclass(kind, library.RequestError)
    }

    for kind in kinds:

        def fail(request: object, kind: type[Exception] = kind) -> None:
            del request
            raise kind("odd")

        with (
            transport_to(
                "http://any", library, transport=library.MockTransport(fail)
            ) as post,
            pytest.raises(UnavailableError, match=kind.__name__) as caught,
        ):
            post.post(PATH, b"{}")
        assert caught.value.sent == (kind.__name__ not in unsent), kind
        assert KEY not in str(caught.value)
    assert len(kinds) > 10
