"""An application that leaves its shipping to an agent, and the agent; no network."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

import pytest

from outlay import Client, ConfigError, FlushResult
from outlay._shipping.agent import Agent
from outlay._shipping.agent_shipper import AGENT_GRACE_SECONDS, AGENT_NOTICE_SECONDS
from tests.support.answers import refused
from tests.support.clock import ManualClock
from tests.support.events import assert_conserved, track
from tests.support.journals import dead_letters, segment_files
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.transport import TransportResponse

_DEADLINE: Final = 20.0
_KIB: Final = 1024


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Return a client that ships nothing itself."""
    with Client(
        journal_dir=tmp_path, shipping="agent", linger=0.0, segment_bytes=64 * _KIB
    ) as client:
        yield client


def _agent(client: Client, *script: TransportResponse) -> Agent:
    transport = ScriptedTransport(script)
    return Agent(client.settings, transport=lambda: transport)


def test_events_wait_on_disk_while_no_agent_runs(
    client: Client, tmp_path: Path
) -> None:
    """And the client says so, at once, and starts no thread."""
    before = {*threading.enumerate()}
    receipt = track(client, 1)

    report = client.close()

    assert receipt
    assert not report.complete
    assert report.stats.pending == 1
    assert len(segment_files(tmp_path)) == 1
    assert {*threading.enumerate()} <= before


def test_a_flush_waits_for_the_agent(client: Client) -> None:
    """A short-lived task wants to know whether its costs have arrived."""
    for number in range(500):
        track(client, number)

    with _agent(client) as agent:
        report = client.flush(_DEADLINE)

    assert report.complete
    assert (report.stats.tracked, report.stats.delivered) == (500, 500)
    assert_conserved(report.stats)
    assert agent.stats().delivered == 500


def test_a_flush_that_finds_no_agent_gives_up_early(client: Client) -> None:
    """Waiting longer would not help, and a task must come to its end."""
    track(client, 1)
    reports: list[FlushResult] = []
    flushing = threading.Thread(target=lambda: reports.append(client.flush(3600)))

    flushing.start()
    flushing.join(AGENT_NOTICE_SECONDS + _DEADLINE)

    assert not flushing.is_alive()
    assert not reports[0].complete


def test_every_outcome_is_counted_by_the_application_too(client: Client) -> None:
    """It reads them where the agent has written them."""
    script = (
        refused(400),
        refused(422, "invalid_event_type"),
        refused(409),
    )
    for number in range(5):
        track(client, number, event_type=f"cost.{number}")
        assert_conserved(client.stats())

    with _agent(client, *script) as agent:
        stats = client.flush(_DEADLINE).stats

    assert_conserved(stats)
    assert (stats.dead, stats.parked, stats.delivered) == (1, 2, 2)
    assert agent.stats().dead == 1


@pytest.mark.slow
def test_the_books_balance_while_the_agent_ships_and_segments_come_and_go(
    client: Client, tmp_path: Path
) -> None:
    """At any moment, though another process writes the outcomes and deletes files."""
    done = threading.Event()

    def work() -> None:
        for number in range(2000):
            track(client, number)
        done.set()

    working = threading.Thread(target=work)
    with _agent(client):
        working.start()
        while not done.is_set():
            assert_conserved(client.stats())
        working.join()
        stats = client.flush(_DEADLINE).stats

    assert_conserved(stats)
    assert stats.delivered == 2000
    assert len(segment_files(tmp_path)) <= 1


def test_a_dead_letter_is_the_agents_to_write(client: Client, tmp_path: Path) -> None:
    """No two processes share a file of dead letters."""
    track(client, 1)

    with _agent(client, refused(400, message="no such field")):
        client.flush(_DEADLINE)

    (letter,) = dead_letters(tmp_path)
    assert letter["message"] == "HTTP 400: no such field"
    (file,) = tmp_path.glob("*/dead/*.jsonl")
    assert file.name.startswith("adopted-")


def test_a_hook_that_nobody_calls_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent is another process: it cannot call into this one."""
    Client(
        journal_dir=tmp_path, shipping="agent", on_dead_letter=lambda *_: None
    ).close()

    assert "on_dead_letter and on_delivered are not called" in caplog.text


def test_events_that_nobody_ships_are_warned_about_after_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at once: an agent that is restarted is back soon. And in words that help."""
    clock = ManualClock()
    client = Client(journal_dir=tmp_path, shipping="agent", clock=clock)
    track(client, 1)
    clock.advance(AGENT_GRACE_SECONDS - 1)
    track(client, 2)
    early = caplog.text

    clock.advance(2)
    track(client, 3)

    client.close()
    assert early == ""
    assert "Start 'outlay agent'" in caplog.text
    assert str(tmp_path) in caplog.text


def test_a_warning_is_taken_back_when_an_agent_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who reads the log later must not look for a trouble that is over."""
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    with Client(journal_dir=tmp_path, shipping="agent", clock=clock) as client:
        for number in range(2):
            track(client, number)
            clock.advance(AGENT_GRACE_SECONDS + 1)
        track(client, 2)
        with _agent(client):
            assert client.flush(_DEADLINE).complete
            clock.advance(AGENT_GRACE_SECONDS + 1)
            track(client, 3)

    assert caplog.text.count("no agent ships") == 1
    assert "an agent ships the events again" in caplog.text


def test_memory_is_no_place_for_an_agent_to_look() -> None:
    """No other process could ship what only this process can see."""
    with pytest.raises(ConfigError, match="OUTLAY_DURABILITY=process or disk"):
        Client(shipping="agent", durability="memory")


def test_events_kept_in_memory_move_to_the_disk_when_it_is_back(
    tmp_path: Path,
) -> None:
    """No agent sees the memory of this process; and none of them counts twice."""
    in_the_way = tmp_path / "journal"
    in_the_way.write_text("no folder")
    clock = ManualClock()
    with Client(journal_dir=in_the_way, shipping="agent", clock=clock) as client:
        for number in range(5):
            track(client, number)
        without_disk = client.flush(0.0)
        in_the_way.unlink()
        clock.advance(2)
        track(client, 5)
        with _agent(client) as agent:
            report = client.flush(_DEADLINE)

        assert agent.stats().delivered == 6
    assert (without_disk.complete, without_disk.stats.pending) == (False, 5)
    assert report.complete
    assert (report.stats.tracked, report.stats.delivered) == (6, 6)
    assert_conserved(report.stats)


def test_events_that_only_memory_holds_at_the_end_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They end with the process: the last chance to hear of them."""
    in_the_way = tmp_path / "journal"
    in_the_way.write_text("no folder")
    client = Client(journal_dir=in_the_way, shipping="agent")
    track(client, 1)

    report = client.close()

    assert (report.complete, report.stats.dropped) == (False, {"memory_only": 1})
    assert "events are dropped (memory_only)" in caplog.text


def test_what_a_closed_client_counted_stays(client: Client) -> None:
    """The agent removes the folder: nothing is left to look at."""
    track(client, 1)
    with _agent(client) as agent:
        client.flush(_DEADLINE)
        report = client.close()
        agent.flush(_DEADLINE)

        counted = [
            each._replace(journal_bytes=0) for each in (client.stats(), report.stats)
        ]

    assert counted[0] == counted[1]
    assert report.complete
