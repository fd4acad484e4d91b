"""Compressed requests, against servers that take them, and that only say so."""

from __future__ import annotations

import gzip
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from outlay import Client
from outlay.errors import UnavailableError
from outlay.server import BackgroundServer, ServerSettings
from outlay.transport import HttpTransport
from tests.contract.transports import LIBRARIES, PATH
from tests.support.events import EVENT_TYPE, payload
from tests.support.raw_servers import RawServer, answer, answers

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from tests.support.raw_servers import Arrived, Behave, Line

_BODY: Final = b'{"events":[' + b",".join(payload(n) for n in range(50)) + b"]}"
_BAD: Final = b'{"message":"no"}'


def _transport(url: str, library: ModuleType | None = None) -> HttpTransport:
    return HttpTransport(
        url,
        api_key=None,
        timeout=5.0,
        max_connections=2,
        compression="always",
        client=library.Client if library else None,
    )


def _to_packed(status: int) -> Behave:
    """Refuse what is compressed, and take what is not."""

    def behave(line: Line, arrived: Arrived) -> None:
        packed = "content-encoding" in arrived.headers
        line.write(answer(status, _BAD) if packed else answer(202))

    return behave


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_a_large_body_goes_in_gzip_and_says_so(library: ModuleType | None) -> None:
    """Through every kind of client, none of which may touch it."""
    with RawServer() as server, closing(_transport(server.url, library)) as post:
        post.post(PATH, _BODY)
        post.post(PATH, b"{}")

    large, small = server.arrived
    assert large.headers["content-encoding"] == "gzip"
    assert gzip.decompress(large.body) == _BODY
    assert "content-encoding" not in small.headers
    assert small.body == b"{}"


@pytest.mark.parametrize("status", [400, 415])
def test_a_body_refused_for_its_wrapping_goes_plain_and_so_does_all_that_follows(
    status: int,
) -> None:
    """A 400 would make the event a dead letter, though nothing is wrong with it."""
    with (
        RawServer(_to_packed(status)) as server,
        closing(_transport(server.url)) as one,
    ):
        statuses = [one.post(PATH, _BODY).status for _ in range(2)]

    assert statuses == [202, 202]
    assert [one.body == _BODY for one in server.arrived] == [False, True, True]


def _hop(status: int) -> Behave:
    """Refuse what is compressed as a hop does; zero closes the connection."""

    def behave(line: Line, arrived: Arrived) -> None:
        if "content-encoding" not in arrived.headers:
            line.write(answer(202))
        elif status:
            line.write(answer(status, b"<html>"))
        else:
            line.socket.close()

    return behave


@pytest.mark.parametrize("status", [403, 502, 0], ids=["403", "502", "closed"])
@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_a_hop_that_cannot_stand_packed_bodies_gets_plain_ones_from_then_on(
    library: ModuleType | None, status: int
) -> None:
    """It would look like an outage, or like a wrong key, without end."""
    with (
        RawServer(_hop(status)) as server,
        closing(_transport(server.url, library)) as one,
    ):
        statuses = [one.post(PATH, _BODY).status for _ in range(3)]

    assert statuses == [202] * 3
    assert [one.body == _BODY for one in server.arrived] == [False, True, True, True]


@pytest.mark.parametrize("status", [403, 502, 0], ids=["403", "502", "closed"])
def test_an_outage_after_packed_bodies_were_taken_doubles_no_request_at_first(
    status: int,
) -> None:
    """Compression is suspected only when it fails three times in a row."""
    with RawServer() as server, closing(_transport(server.url)) as one:
        one.post(PATH, _BODY)
        server.behave = _hop(status)
        outcomes = [_status(one) for _ in range(4)]

    assert outcomes == [status, status, 202, 202]
    assert len(server.arrived) == 1 + 3 + 2


def _status(one: HttpTransport) -> int:
    try:
        return one.post(PATH, _BODY).status
    except UnavailableError:
        return 0


def test_a_closed_connection_stays_unknown_if_the_plain_body_is_refused() -> None:
    """The server may have taken the packed one: a refusal now says nothing of it."""

    def behave(line: Line, arrived: Arrived) -> None:
        if "content-encoding" in arrived.headers:
            line.socket.close()
        else:
            line.write(answer(400, _BAD))

    with (
        RawServer(behave) as server,
        closing(_transport(server.url)) as one,
        pytest.raises(UnavailableError) as caught,
    ):
        one.post(PATH, _BODY)

    assert caught.value.sent


def test_an_event_that_is_refused_plain_too_leaves_compression_on() -> None:
    """Then it was the event's fault."""
    refusing = answers(400, _BAD)

    with RawServer(refusing) as server, closing(_transport(server.url)) as post:
        answered = [post.post(PATH, _BODY) for _ in range(2)]

    assert [(one.status, one.body) for one in answered] == [(400, _BAD)] * 2
    packed = ["content-encoding" in one.headers for one in server.arrived]
    assert packed == [True, False, True, False]


def test_nothing_is_compressed_for_a_server_on_this_machine() -> None:
    """Whatever it offers: both ends would compute, and no line would be relieved."""
    offering = answers(202, b"{}", accept_encoding="gzip")

    with (
        RawServer(offering) as server,
        closing(
            HttpTransport(
                server.url,
                api_key=None,
                timeout=5.0,
                max_connections=1,
                compression="auto",
            )
        ) as post,
    ):
        for _ in range(2):
            post.post(PATH, _BODY)

    assert [one.body for one in server.arrived] == [_BODY] * 2


def test_a_server_elsewhere_gets_compressed_bodies_once_it_has_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proxy on this machine stands in for the distance."""
    offering = answers(202, b"{}", accept_encoding="gzip")

    with RawServer(offering) as far:
        monkeypatch.setenv("http_proxy", far.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with closing(
            HttpTransport(
                "http://costs.example",
                api_key=None,
                timeout=5.0,
                max_connections=1,
                compression="auto",
            )
        ) as post:
            for _ in range(2):
                post.post(PATH, _BODY)

    first, second = far.arrived
    assert first.body == _BODY
    assert gzip.decompress(second.body) == _BODY


def test_a_client_ships_compressed_batches_to_the_reference_server(
    tmp_path: Path,
) -> None:
    """Both ends of the feature, and nothing in between."""
    settings = ServerSettings(
        port=0, database=":memory:", api_key="k", accept_unmatched=True
    )
    with BackgroundServer(settings) as server:
        with Client(
            base_url=server.url,
            api_key="k",
            journal_dir=tmp_path,
            batching="always",
            compression="always",
        ) as client:
            for number in range(500):
                client.track_cost(
                    EVENT_TYPE, "0.1", customer_id="c", operation_id=number
                )
            report = client.flush(20)

        assert report.complete
        assert report.stats.dead == 0
        assert server.counts.accepted == 500
