"""What leaves, and what comes back: the same through every kind of client."""

from __future__ import annotations

import gzip
import hashlib
import threading
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from outlay._shipping.connections import MAX_RESPONSE_BYTES
from outlay.errors import UnavailableError
from tests.contract.transports import KEY, LIBRARIES, PATH, transport_to
from tests.support.events import payload
from tests.support.raw_servers import RawServer, answer, answers

if TYPE_CHECKING:
    from types import ModuleType

    from tests.support.raw_servers import Arrived, Line

pytestmark = pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)

_MIB: Final = 1024 * 1024


def test_a_post_carries_the_body_as_it_is_and_the_contracts_headers(
    library: ModuleType | None,
) -> None:
    """The contract: one JSON object, bearer credential, application/json."""
    with RawServer() as server, transport_to(f"{server.url}/base", library) as post:
        answered = post.post(PATH, payload(1))

    [arrived] = server.arrived
    assert arrived.line == f"POST /base{PATH} HTTP/1.1"
    assert arrived.body == payload(1)
    assert arrived.headers["host"] == server.address
    assert arrived.headers["authorization"] == f"Bearer {KEY}"
    assert arrived.headers["content-type"] == "application/json"
    assert arrived.headers["accept"] == "application/json"
    # A client of yours says for itself who it is.
    ours = library is None
    assert arrived.headers["user-agent"].startswith("outlay/") is ours
    assert (answered.status, answered.body) == (202, b"{}")


def test_a_short_answer_is_asked_for_where_batches_go_and_nowhere_else(
    library: ModuleType | None,
) -> None:
    """The documented path gets nothing but what is documented."""
    with RawServer() as server, transport_to(server.url, library) as post:
        post.post(PATH, b"{}")
        post.post("/v0/events/batch", b"{}")

    single, batch = server.arrived
    assert "prefer" not in single.headers
    assert batch.headers["prefer"] == "return=minimal"


def test_the_same_bytes_go_out_each_time(library: ModuleType | None) -> None:
    """A retry that differed in one byte could be another event."""
    exact = '{"data":{"amount":0.1000000000000000000000000001},"é":1}'.encode()

    with RawServer(answers(503)) as server, transport_to(server.url, library) as post:
        for _ in range(3):
            post.post(PATH, exact)

    assert [arrived.body for arrived in server.arrived] == [exact] * 3


def test_without_a_credential_none_is_sent(library: ModuleType | None) -> None:
    """Not an empty one, which some gateways log."""
    with (
        RawServer() as server,
        transport_to(server.url, library, api_key=None) as post,
    ):
        post.post(PATH, b"{}")

    assert "authorization" not in server.arrived[0].headers


@pytest.mark.parametrize(
    "status", [200, 202, 207, 400, 401, 404, 413, 422, 429, 500, 502, 503]
)
def test_every_status_is_an_answer(library: ModuleType | None, status: int) -> None:
    """What it means is decided elsewhere; here it must not raise."""
    body = b'{"message":"so"}'

    with (
        RawServer(answers(status, body, RETRY_AFTER="7")) as server,
        transport_to(server.url, library) as post,
    ):
        answered = post.post(PATH, b"{}")

    assert (answered.status, answered.body) == (status, body)
    assert answered.headers.get("retry-after") == "7"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(library: ModuleType | None, status: int) -> None:
    """It could turn the post into a get, or carry the credential elsewhere."""
    with RawServer() as elsewhere, RawServer() as server:
        server.behave = answers(status, location=elsewhere.url)
        with transport_to(server.url, library, follow_redirects=True) as post:
            answered = post.post(PATH, b"{}")

    assert answered.status == status
    assert answered.headers["location"] == elsewhere.url
    assert (len(server.arrived), elsewhere.accepted) == (1, 0)


def test_an_answer_without_a_body_is_an_answer(library: ModuleType | None) -> None:
    """204 has none by definition."""
    head = b"HTTP/1.1 204 No Content\r\n\r\n"

    with (
        RawServer(lambda line, _: line.write(head)) as server,
        transport_to(server.url, library) as post,
    ):
        twice = [post.post(PATH, b"{}") for _ in range(2)]

    assert [(one.status, one.body) for one in twice] == [(204, b"")] * 2
    assert server.accepted == 1


def test_a_chunked_answer_is_put_together(library: ModuleType | None) -> None:
    """Proxies turn lengths into chunks."""
    raw = (
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'8\r\n{"object\r\n9\r\n":"event"\r\n1\r\n}\r\n0\r\n\r\n'
    )

    with (
        RawServer(lambda line, _: line.write(raw)) as server,
        transport_to(server.url, library) as post,
    ):
        assert post.post(PATH, b"{}").body == b'{"object":"event"}'


def test_a_compressed_answer_is_unpacked(library: ModuleType | None) -> None:
    """Gateways compress whatever is large, and we say that we can read it."""
    body = b'{"object":"event"}' * 100
    squeezed = answers(202, gzip.compress(body), content_encoding="gzip")

    with RawServer(squeezed) as server, transport_to(server.url, library) as post:
        answered = post.post(PATH, b"{}")

    assert "gzip" in server.arrived[0].headers["accept-encoding"]
    assert answered.body == body


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_an_endless_answer_is_cut_off(
    library: ModuleType | None, *, packed: bool
) -> None:
    """Nothing that we ask is answered with megabytes: it must not fill the memory."""
    body = b" " * (MAX_RESPONSE_BYTES + 1)
    behave = answers(202, body)
    if packed:
        behave = answers(202, gzip.compress(body), content_encoding="gzip")

    with (
        RawServer(behave) as server,
        transport_to(server.url, library) as post,
        pytest.raises(UnavailableError, match="response is larger than") as caught,
    ):
        post.post(PATH, b"{}")

    assert caught.value.sent


def test_large_bodies_arrive_whole_in_both_directions(
    library: ModuleType | None,
) -> None:
    """Larger than any buffer of the system, so that writes and reads take turns."""
    body = hashlib.sha256(b"outlay").digest() * (4 * _MIB // 32)

    with RawServer(_echo) as server, transport_to(server.url, library) as post:
        answered = post.post(PATH, body)

    assert answered.body == body
    assert server.arrived[0].body == body


def test_a_connection_is_used_again(library: ModuleType | None) -> None:
    """A new one for each event would cost a round trip, and a handshake with TLS."""
    with RawServer() as server, transport_to(server.url, library) as post:
        for number in range(20):
            post.post(PATH, payload(number))

    assert server.accepted == 1
    assert len(server.arrived) == 20


def test_a_connection_that_the_server_closed_is_not_used_again(
    library: ModuleType | None,
) -> None:
    """Servers close idle connections; that is no failure of the next request."""
    closing = answers(202, b"{}", connection="close")

    with RawServer(closing) as server, transport_to(server.url, library) as post:
        for _ in range(3):
            assert post.post(PATH, b"{}").status == 202

    assert server.accepted == 3


def test_threads_share_a_bounded_number_of_connections(
    library: ModuleType | None,
) -> None:
    """Each gets the answer to its own request, over a connection for each at most.

    The pool of httpx closes a connection under a request now and then, if threads share
    it (https://github.com/encode/httpcore/issues/1110); then it says that the request
    may have arrived. Ours has no such pool, and httpx2 has corrected its own.
    """
    lost: list[bool] = []
    with (
        RawServer(_echo) as server,
        transport_to(server.url, library, max_connections=4, timeout=20.0) as post,
    ):

        def send(first: int) -> None:
            for number in range(first, first + 40):
                body = b'{"number":%d}' % number
                try:
                    assert post.post(PATH, body).body == body
                except UnavailableError as error:
                    lost.append(error.sent)

        threads = [threading.Thread(target=send, args=(100 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    if library is httpx:
        assert all(lost)
    else:
        assert lost == []
        assert server.accepted <= 4
        assert len(server.arrived) == 320


def _echo(line: Line, request: Arrived) -> None:
    line.write(answer(202, request.body))
