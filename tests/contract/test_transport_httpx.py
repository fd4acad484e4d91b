"""What leaves through httpx, and how its failures are reported."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import respx

from outlay import HttpxTransport, UnavailableError
from tests.support.events import payload

if TYPE_CHECKING:
    from collections.abc import Iterator

_URL: Final = "https://api.example.com/prefix"
_EVENTS: Final = f"{_URL}/v0/events"
_KEY: Final = "sk_test_secret"


@pytest.fixture
def transport() -> Iterator[HttpxTransport]:
    """Return a transport with a credential."""
    made = HttpxTransport(_URL, api_key=_KEY, timeout=1.0, max_connections=2)
    yield made
    made.close()


def test_a_post_carries_the_body_as_it_is_and_the_contracts_headers(
    transport: HttpxTransport,
) -> None:
    """The contract: one JSON object, bearer credential, application/json."""
    with respx.mock:
        route = respx.post(_EVENTS).respond(202, json={"object": "event"})

        answer = transport.post("/v0/events", payload(1))

    request = route.calls.last.request
    assert request.content == payload(1)
    assert request.headers["authorization"] == f"Bearer {_KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "application/json"
    assert answer.status == 202
    assert answer.body == b'{"object":"event"}'


def test_the_same_bytes_go_out_each_time(transport: HttpxTransport) -> None:
    """A retry that differed in one byte could be another event."""
    exact = '{"data":{"amount":0.1000000000000000000000000001},"é":1}'.encode()

    with respx.mock:
        route = respx.post(_EVENTS).respond(503)
        for _ in range(3):
            transport.post("/v0/events", exact)

    assert {call.request.content for call in route.calls} == {exact}


def test_without_a_credential_none_is_sent() -> None:
    """Not an empty one, which some gateways log."""
    transport = HttpxTransport(_URL, api_key=None, timeout=1.0, max_connections=1)

    with respx.mock:
        route = respx.post(_EVENTS).respond(202)
        transport.post("/v0/events", b"{}")
    transport.close()

    assert "authorization" not in route.calls.last.request.headers


def test_headers_of_an_answer_are_found_in_any_case(transport: HttpxTransport) -> None:
    """HTTP says so; proxies change them."""
    with respx.mock:
        respx.post(_EVENTS).respond(503, headers={"RETRY-AFTER": "7"})

        answer = transport.post("/v0/events", b"{}")

    assert answer.headers.get("retry-after") == "7"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(transport: HttpxTransport, status: int) -> None:
    """It could turn the post into a get, or carry the credential elsewhere."""
    with respx.mock:
        respx.post(_EVENTS).respond(
            status, headers={"location": "https://evil.example"}
        )

        answer = transport.post("/v0/events", b"{}")

    assert answer.status == status
    assert answer.headers["location"] == "https://evil.example"


@pytest.mark.parametrize(
    ("failure", "sent"),
    [
        (httpx.ConnectError, False),
        (httpx.ConnectTimeout, False),
        (httpx.PoolTimeout, False),
        (httpx.ProxyError, False),
        (httpx.UnsupportedProtocol, False),
        (httpx.ReadTimeout, True),
        (httpx.WriteTimeout, True),
        (httpx.ReadError, True),
        (httpx.WriteError, True),
        (httpx.CloseError, True),
        (httpx.RemoteProtocolError, True),
        (httpx.LocalProtocolError, True),
        (httpx.DecodingError, True),
        (httpx.TooManyRedirects, True),
    ],
)
def test_each_failure_says_whether_the_request_may_have_arrived(
    transport: HttpxTransport, failure: type[httpx.RequestError], *, sent: bool
) -> None:
    """That decides whether the clock of the dedupe window runs."""
    with respx.mock:
        respx.post(_EVENTS).mock(side_effect=failure)

        with pytest.raises(UnavailableError, match=failure.__name__) as caught:
            transport.post("/v0/events", b"{}")

    assert caught.value.sent is sent
    assert _KEY not in str(caught.value)


def test_every_failure_of_httpx_is_mapped() -> None:
    """A release that adds one must not let it through to the shipper."""
    known = {
        kind
        for kind in vars(httpx).values()
        if isinstance(kind, type) and issubclass(kind, httpx.RequestError)
    }

    for kind in known:
        transport = HttpxTransport(_URL, api_key=None, timeout=1.0, max_connections=1)
        with respx.mock:
            respx.post(_EVENTS).mock(side_effect=kind("odd"))
            with pytest.raises(UnavailableError):
                transport.post("/v0/events", b"{}")
        transport.close()
    assert len(known) > 10


def test_httpx_does_not_log_our_posts_but_the_applications_own(
    transport: HttpxTransport, caplog: pytest.LogCaptureFixture
) -> None:
    """One line for every cost event would drown the application's log."""
    caplog.set_level(logging.INFO, "httpx")

    with respx.mock:
        respx.post(_EVENTS).respond(202)
        respx.get("https://application.example/").respond(200)
        transport.post("/v0/events", b"{}")
        httpx.get("https://application.example/")
        transport.post("/v0/events", b"{}")

    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert "application.example" in lines[0]


def test_a_server_on_this_machine_is_not_looked_for_by_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The default address is loopback; a company's proxy knows another loopback."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    options = {"api_key": None, "timeout": 1.0, "max_connections": 1}

    near = HttpxTransport("http://127.0.0.1:4600", **options)  # type: ignore[arg-type]
    far = HttpxTransport("http://costs.example", **options)  # type: ignore[arg-type]

    assert near._client._mounts == {}
    assert far._client._mounts != {}
    near.close()
    far.close()
