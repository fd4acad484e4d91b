"""Compressed bodies at the reference server: taken, bounded, and refused by name."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from outlay.server._http.gzip_bodies import gunzip
from outlay.server._wire.problems import HttpProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY: Final = "sk_test_codings"
_MOST: Final = 64 * 1024


def _event(number: int = 0) -> dict[str, object]:
    return {
        "type": "cost.ai",
        "source": "urn:test",
        "subject": "cus_1",
        "idempotencyKey": f"job-{number}",
        "data": {"amount": 0.1},
    }


_PLAIN: Final = json.dumps(_event()).encode()
_PACKED: Final = gzip.compress(_PLAIN)


@pytest.fixture(scope="module")
def site() -> Iterator[httpx.Client]:
    """Return a client of a server with small limits."""
    settings = ServerSettings(
        port=0,
        database=":memory:",
        api_key=_KEY,
        accept_unmatched=True,
        max_event_bytes=_MOST,
        max_batch_bytes=_MOST,
    )
    headers = {"authorization": f"Bearer {_KEY}", "content-type": "application/json"}
    with (
        BackgroundServer(settings) as server,
        httpx.Client(base_url=server.url, headers=headers, timeout=30) as client,
    ):
        yield client


def _post(
    site: httpx.Client, body: bytes, coding: str, path: str = "/v0/events"
) -> httpx.Response:
    return site.post(path, content=body, headers={"content-encoding": coding})


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "identity"])
def test_a_body_may_come_in_gzip(site: httpx.Client, coding: str) -> None:
    """By any name that the coding has."""
    body = _PLAIN if coding == "identity" else _PACKED

    assert _post(site, body, coding).status_code == 202


def test_a_batch_may_come_in_gzip(site: httpx.Client) -> None:
    """That is where it pays."""
    body = json.dumps({"events": [_event(number) for number in range(1, 50)]}).encode()

    answered = _post(site, gzip.compress(body), "gzip", "/v0/events/batch")

    assert answered.status_code == 202
    assert answered.json()["summary"]["successful"] == 49


@pytest.mark.parametrize("path", ["/v0/events", "/v0/events/batch"])
def test_a_small_body_that_unpacks_to_a_large_one_is_a_413(
    site: httpx.Client, path: str
) -> None:
    """The limit holds for what it comes to, wherever it comes in."""
    bomb = gzip.compress(b" " * (32 * 1024 * 1024))

    answered = _post(site, bomb, "gzip", path)

    assert len(bomb) < _MOST, "or its size alone would be refused"
    assert (answered.status_code, answered.json()["code"]) == (413, "BODY_TOO_LARGE")


def test_no_more_is_unpacked_than_the_limit() -> None:
    """To find out how large it is by unpacking it would be the attack's success."""
    bomb = gzip.compress(b" " * (32 * 1024 * 1024))

    tracemalloc.start()
    with pytest.raises(HttpProblem, match="larger than"):
        gunzip(bomb, _MOST)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10 * _MOST


def test_a_body_that_unpacks_to_just_the_limit_is_taken(site: httpx.Client) -> None:
    """The limit is of what is unpacked, not of what is sent."""
    body = _PLAIN + b" " * (_MOST - len(_PLAIN))

    assert _post(site, gzip.compress(body), "gzip").status_code == 202


@pytest.mark.parametrize(
    "body",
    [b"", _PLAIN, _PACKED[:-9], _PACKED + b"more", _PACKED * 2],
    ids=["empty", "plain", "cut short", "with a tail", "two in a row"],
)
def test_what_is_no_whole_gzip_stream_is_a_400(site: httpx.Client, body: bytes) -> None:
    """Half an event must not be taken for one."""
    answered = _post(site, body, "gzip")

    assert (answered.status_code, answered.json()["code"]) == (400, "MALFORMED_BODY")


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate", "no such"])
def test_another_coding_is_a_415_that_names_ours(
    site: httpx.Client, coding: str
) -> None:
    """RFC 7694, section 3: so that a client can tell it from a wrong media type."""
    answered = _post(site, _PACKED, coding)

    assert answered.status_code == 415
    assert answered.json()["code"] == "UNSUPPORTED_CODING"
    assert coding in answered.json()["message"]
    assert answered.headers["accept-encoding"] == "gzip"


def test_a_415_for_the_media_type_names_no_coding(site: httpx.Client) -> None:
    """The same section: there it must not be, for it would mislead."""
    answered = site.post(
        "/v0/events", content=_PLAIN, headers={"content-type": "text/plain"}
    )

    assert answered.status_code == 415
    assert "accept-encoding" not in answered.headers


@pytest.mark.parametrize(
    ("path", "offers"),
    [("/v0/events", True), ("/v0/events/batch", True), ("/v0/costs", False)],
)
def test_the_offer_is_made_where_events_are_taken(
    site: httpx.Client, path: str, *, offers: bool
) -> None:
    """Also in a refusal: it may be the first answer that a client gets."""
    answered = site.post(path, content=b"{}")

    assert answered.status_code == 400
    assert (answered.headers.get("accept-encoding") == "gzip") == offers
