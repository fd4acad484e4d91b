"""``outlay void``, ``adjust``, ``corrections`` and ``close``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from outlay._cli.exit_codes import ExitCode
from tests.support import command_line
from tests.support.command_line import KEY, Ran, reaching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.server import BackgroundServer

REASON = ("--reason", "test")


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """Return a server with the cost metric ``ai`` and three events."""
    with command_line.serving() as server:
        call(server, "metrics", "create", "ai", "--event-type", "cost.ai")
        yield server


@pytest.fixture
def events(server: BackgroundServer) -> list[str]:
    """Return the ids of events of 1, 2 and 4 dollars in October."""
    ids = []
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
        for day, amount in enumerate((1, 2, 4), 1):
            body = {
                "type": "cost.ai",
                "source": "tests",
                "subject": f"cus_{amount}",
                "timestamp": f"2026-10-0{day}T00:00:00Z",
                "data": {"amount": amount, "model": "m" if amount < 4 else "n"},
            }
            ids.append(http.post("/v0/events", json=body).json()["id"])
    return ids


def call(server: BackgroundServer, *words: str) -> Ran:
    """Run a command."""
    return command_line.call(*words, *reaching(server))


def total(server: BackgroundServer) -> str:
    """Return the cost of October."""
    ran = call(server, "costs", "--month", "2026-10", "--json")
    found: str = json.loads(ran.out)["totals"]["USD"]
    return found


def test_events_are_voided_by_id_and_the_void_is_reverted(
    server: BackgroundServer, events: list[str]
) -> None:
    """The output says how to undo it."""
    ran = call(server, "void", *events[:2], *REASON)
    after = total(server)
    correction = ran.out.split()[-6]
    undone = call(server, "corrections", "revert", correction, *REASON)

    assert ran.code == ExitCode.DONE, ran.err
    assert f"voided {events[0]} by cor_" in ran.out
    assert after == "4"
    assert f"reverted {correction} of {events[1]}" in undone.out
    assert total(server) == "6"


def test_events_are_adjusted_in_a_metric_by_name(
    server: BackgroundServer, events: list[str]
) -> None:
    """The list has who, when and why."""
    adjust = ("adjust", events[0], "--cost", "ai", "--delta=-0.25")
    ran = call(server, *adjust, "--reason", "rebate")
    listed = json.loads(call(server, "corrections", "list", "--json").out)
    table = call(server, "corrections", "list", "--event", events[0])

    assert ran.code == ExitCode.DONE, ran.err
    assert total(server) == "6.75"
    assert [(one["delta"], one["reason"]) for one in listed] == [("-0.25", "rebate")]
    assert "rebate" in table.out


def test_many_events_are_voided_after_a_dry_run(
    server: BackgroundServer, events: list[str]
) -> None:
    """A run under the same key continues, and counts nothing twice."""
    del events
    words = ("void", "--type", "cost.ai", "--where", "model=m", *REASON)
    dry = call(server, *words, "--dry-run")
    before = total(server)
    done = call(server, *words, "--key", "k1")
    again = call(server, *words, "--key", "k1", "--json")

    assert "2 events would be voided" in dry.out
    assert before == "7"
    assert "2 events voided" in done.out
    assert json.loads(again.out) == {
        "dryRun": False,
        "key": "k1",
        "matched": 2,
        "corrected": 0,
        "unchanged": 2,
    }
    assert total(server) == "4"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("void", *REASON), "pass the ids of events, or a filter"),
        (("void", "evt_1", "--type", "t", *REASON), "pass the ids of events, or a"),
        (("void", "evt_1", "--dry-run", *REASON), "pass a filter"),
        (("void", "evt_1", *REASON), "event evt_1 does not exist"),
        (("void", "evt_1"), "--reason"),
        (("adjust", "e", "--cost", "no", "--delta", "1", *REASON), "there are: ai"),
        (("adjust", "e", "--cost", "ai", "--delta", "x", *REASON), "not an amount"),
        (("void", "--from", "2026-10-01", *REASON), "not every event"),
        (("close", "2026-13"), "is no month"),
        (("close", "9998-01"), "close it after that"),
        (("corrections", "revert", "cor_0", *REASON), "cor_0 does not exist"),
    ],
)
def test_a_wrong_order_says_what_to_do(
    server: BackgroundServer, words: tuple[str, ...], message: str
) -> None:
    """Nothing is corrected by accident."""
    ran = call(server, *words)

    assert ran.code in {ExitCode.USAGE, ExitCode.REFUSED}
    assert message in ran.err


def test_a_month_is_closed_and_listed(server: BackgroundServer) -> None:
    """Without a month, the command lists the closed ones."""
    empty = call(server, "close")
    closed = call(server, "close", "2020-01")
    listed = json.loads(call(server, "close", "--json").out)

    assert "no month is closed" in empty.out
    assert "2020-01" in closed.out
    assert "2020-02" not in closed.out
    assert [one["from"] for one in listed] == ["2020-01-01T00:00:00+00:00"]
