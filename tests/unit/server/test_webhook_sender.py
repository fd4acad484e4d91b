"""The sender reaches public addresses only, and connects to the one that it checked."""

from __future__ import annotations

import asyncio
import base64
import socket
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from outlay.server._records import Webhook
from outlay.server._services.webhook_sender import SendResult, WebhookSender, is_public
from outlay.server._services.webhook_signing import format_secret, signed_headers
from outlay.transport import TransportResponse
from tests.support.servers import Fault, ScriptedServer, Spoilt

NOW = 1_614_265_330_000_000


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 - refused
        "10.0.0.1",
        "100.100.100.200",  # the metadata of Alibaba Cloud
        "127.0.0.1",
        "168.63.129.16",  # Azure
        "169.254.169.254",  # the metadata of most clouds
        "172.16.0.1",
        "192.0.0.192",  # Oracle Cloud
        "192.168.1.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo of 127.0.0.1
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "fc00::1",
        "fd00:ec2::254",  # the metadata of AWS
        "fe80::1",
        "ff02::1",
    ],
)
def test_an_address_inside_of_a_network_is_not_public(address: str) -> None:
    """However it is written, and whatever carries it."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    """Also if IPv6 carries it."""
    assert is_public(ip_address(address))


class Names:
    """Looks names up, with another address each time."""

    def __init__(self, *answers: str | list[str]) -> None:
        self.answers = [[one] if isinstance(one, str) else one for one in answers]
        self.asked = 0

    def __call__(self, host: str, port: int, **_: object) -> list[Any]:
        """Return the next addresses, and then always the last ones."""
        assert host == "hooks.test"
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [(socket.AF_INET, None, 0, "", (one, port)) for one in found]


def send(url: str, names: Names, *networks: str, seconds: float = 5) -> SendResult:
    """Send one message."""

    async def sending() -> SendResult:
        allowed = [ip_network(one) for one in networks]
        sender = WebhookSender(allowed, lambda: NOW, seconds=seconds, resolve=names)
        try:
            webhook = Webhook("whk_1", "org_a", url, b"secret", NOW)
            return await sender.send(webhook, "msg_1", b"{}")
        finally:
            sender.close()

    return asyncio.run(sending())


def test_a_name_is_looked_up_once_for_each_attempt() -> None:
    """A second look-up could name an address that was not checked."""
    names = Names("127.0.0.1", "127.0.0.9")
    with ScriptedServer(lambda _: TransportResponse(200, {}, b"")) as server:
        port = server.url.rpartition(":")[2]
        assert send(f"http://hooks.test:{port}/", names, "127.0.0.1/32").error is None

    assert names.asked == 1
    assert server.requests[0].headers["host"] == f"hooks.test:{port}"


@pytest.mark.parametrize(
    "answer", ["127.0.0.1", ["1.1.1.1", "10.0.0.1"], ["10.0.0.1", "1.1.1.1"]]
)
def test_one_address_that_is_not_public_refuses_the_name(
    answer: str | list[str],
) -> None:
    """The system might choose any of them."""
    error = send("https://hooks.test/", Names(answer)).error

    assert error is not None
    assert "is not public" in error


def test_a_public_address_needs_tls() -> None:
    """The message and its path must not cross the internet in plain text."""
    error = send("http://hooks.test/", Names("1.1.1.1")).error

    assert error == "a public address needs https; change the URL"


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (Fault.HANG, "there was no response within 0.5 s"),
        (
            Spoilt(TransportResponse(200, {}, b"x" * 100), pause=0.1),
            "there was no response within 0.5 s",
        ),
        (Fault.RESET, "the connection failed (RemoteProtocolError)"),
        (TransportResponse(503, {"retry-after": "7"}, b""), "it responded with 503"),
        (TransportResponse(200, {}, b"x" * 1_000_000), None),
    ],
)
def test_a_bad_receiver_costs_a_bounded_time(response: Any, error: str | None) -> None:  # noqa: ANN401 - of any kind
    """Silent, slow, rude, or without an end: each attempt ends with a reason."""
    with ScriptedServer(lambda _: response) as server:
        port = server.url.rpartition(":")[2]
        result = send(
            f"http://hooks.test:{port}/T0KEN",
            Names("127.0.0.1"),
            "127.0.0.0/8",
            seconds=0.5,
        )

    assert result.error == error
    assert result.retry_after == ("7" if error == "it responded with 503" else "")


def test_a_signature_equals_the_one_of_the_specification() -> None:
    """The message and the secret are those of its reference libraries."""
    text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    secret = base64.b64decode(text.removeprefix("whsec_"))
    headers = signed_headers(
        [secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', NOW
    )

    assert format_secret(secret) == text
    assert headers == [
        (b"webhook-id", b"msg_p5jXN8AQM9LWM0D4loKWxJek"),
        (b"webhook-timestamp", b"1614265330"),
        (b"webhook-signature", b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]


def test_a_webhook_never_shows_its_secret() -> None:
    """Neither in a log nor in the message of a failed assertion."""
    assert "secret" not in repr(Webhook("whk_1", "org_a", "https://a", b"secret", NOW))
