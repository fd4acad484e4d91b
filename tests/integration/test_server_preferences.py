"""Short answers to batches, for clients that ask for them (RFC 7240)."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from outlay.server._run import rare_garbage_collection, short_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY: Final = "sk_test_preferences"


@pytest.fixture(scope="module")
def site() -> Iterator[httpx.Client]:
    """Return a client of a server that takes any type of event."""
    settings = ServerSettings(
        port=0, database=":memory:", api_key=_KEY, accept_unmatched=True
    )
    headers = {"authorization": f"Bearer {_KEY}"}
    with (
        BackgroundServer(settings) as server,
        httpx.Client(base_url=server.url, headers=headers, timeout=30) as client,
    ):
        yield client


def _post(site: httpx.Client, prefer: str | None) -> httpx.Response:
    good: dict[str, Any] = {
        "type": "cost.ai",
        "source": "urn:test",
        "subject": "cus_1",
        "idempotencyKey": f"job-{prefer}",
        "data": {"amount": 0.1},
    }
    bad = {**good, "idempotencyKey": "", "subject": None}
    headers = {} if prefer is None else {"prefer": prefer}
    return site.post(
        "/v0/events/batch", json={"events": [good, bad, good]}, headers=headers
    )


@pytest.mark.parametrize(
    "prefer",
    ["return=minimal", "respond-async, Return=Minimal", "return=minimal; why=so"],
)
def test_a_short_answer_counts_what_it_leaves_out(
    site: httpx.Client, prefer: str
) -> None:
    """Failures are told one by one as ever; all others were accepted."""
    answered = _post(site, prefer)
    body = answered.json()

    assert answered.status_code == 207
    assert answered.headers["preference-applied"] == "return=minimal"
    assert body["successful"] == []
    assert [failure["index"] for failure in body["failed"]] == [1]
    assert body["summary"] == {
        "total": 3,
        "successful": 2,
        "failed": 1,
        "duplicates": 1,
    }


@pytest.mark.parametrize("prefer", [None, "return=representation", "wait=5", ""])
def test_whoever_does_not_ask_for_it_gets_every_event(
    site: httpx.Client, prefer: str | None
) -> None:
    """The contract's answer names what was stored."""
    answered = _post(site, prefer)

    assert len(answered.json()["successful"]) == 2
    assert "preference-applied" not in answered.headers


def test_a_single_post_is_answered_in_full_whatever_is_preferred(
    site: httpx.Client,
) -> None:
    """Strict clients take nothing but an event for an answer."""
    event = {"type": "a", "source": "b", "subject": "c", "data": {}}

    answered = site.post("/v0/events", json=event, headers={"prefer": "return=minimal"})

    assert answered.json()["object"] == "event"
    assert "preference-applied" not in answered.headers


def test_a_post_interrupts_queries_sooner_while_a_server_owns_the_process() -> None:
    """And as late as before when it does not any more."""
    before = sys.getswitchinterval()

    with short_turns():
        during = sys.getswitchinterval()

    assert during < before
    assert sys.getswitchinterval() == before


def test_garbage_is_collected_seldom_while_a_server_owns_the_process() -> None:
    """And as before when it does not any more."""
    before = gc.get_threshold()

    with rare_garbage_collection():
        during = gc.get_threshold()
        frozen = gc.get_freeze_count()

    assert during[0] > 10 * before[0]
    assert frozen > 1000  # what existed before, such as modules
    assert not gc.get_freeze_count()
    assert gc.isenabled()
    assert gc.get_threshold() == before
