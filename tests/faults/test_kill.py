"""SIGKILL: what `track_cost` said is tracked arrives, once, to the last digit."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from outlay import Client
from tests.support.answers import accepted
from tests.support.events import assert_conserved, total_of, track
from tests.support.processes import finish, run, settings_for, start
from tests.support.servers import BATCH_PATH, Fault, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.transport import TransportResponse
    from tests.support.events import Batching
    from tests.support.servers import Request

pytestmark = pytest.mark.slow

_TRIALS = 60


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Return a server that accepts everything."""
    with ScriptedServer() as running:
        yield running


# Each trial is a process of its own, and the adopter of the trials before it.
_DIE_AGAIN_AND_AGAIN = f"""
for trial in range({_TRIALS}):
    pid = os.fork()
    if pid == 0:
        client = outlay.default_client()
        for number in range(trial * 10, trial * 10 + 1 + trial % 10):
            track(client, number)
            say(number)
        die()
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
"""

_SHIP = """
report = outlay.flush(60)
say(report.complete, report.stats.recovered, report.stats.pending)
"""


@pytest.mark.parametrize("batching", ["never", "always"])
def test_processes_killed_right_after_tracking_lose_nothing_while_shipping(
    server: ScriptedServer, tmp_path: Path, batching: Batching
) -> None:
    """The shipping thread is anywhere when the kill strikes."""
    settings = settings_for(server.url, tmp_path, batching=batching)

    returned = run(_DIE_AGAIN_AND_AGAIN, settings).split()
    said = run(_SHIP, settings).split()

    assert said[0] == "True"
    assert said[2] == "0"
    assert len(returned) == _TRIALS * 5.5
    assert server.total == total_of(map(int, returned))


def test_processes_killed_right_after_tracking_lose_nothing_without_shipping(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """All of them leave everything to the one that ships."""
    settings = settings_for(server.url, tmp_path)

    returned = run(
        _DIE_AGAIN_AND_AGAIN, {**settings, "OUTLAY_SHIPPING": "none"}
    ).split()
    said = run(_SHIP, settings).split()

    assert said == ["True", str(len(returned)), "0"]
    assert server.total == total_of(map(int, returned))
    assert server.duplicates == 0, "none had been sent before"


_TRACK_FOR_EVER = """
import itertools
client = outlay.default_client()
for number in itertools.count(int(os.environ["FIRST"])):
    track(client, number)
    say(number)
"""


def test_processes_killed_at_any_instant_lose_nothing_they_were_told_is_tracked(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Eight at once on one folder, killed from outside in the middle of their work."""
    settings = settings_for(server.url, tmp_path, batching="always")
    told: set[int] = set()
    processes = [
        start(_TRACK_FOR_EVER, {**settings, "FIRST": first * 1_000_000})
        for first in range(8)
    ]

    for at, process in enumerate(processes):
        assert process.stdout is not None
        for _ in range(50 + 37 * at):
            told.add(int(process.stdout.readline()))
        process.kill()
        # A line cut off by the kill was not said.
        told.update(int(line) for line in process.stdout if line.endswith("\n"))
        finish(process, code=-signal.SIGKILL)
    run(_SHIP, settings)

    arrived = {
        int(event.split(b'"operationId":"op-')[1].split(b'"')[0])
        for request in server.requests
        for event in request.body.split(b'"idempotencyKey"')
        if b'"operationId":"op-' in event
    }
    assert told <= arrived
    assert len(arrived - told) <= len(processes), "the one that was not reported"
    assert server.total == total_of(arrived)


@pytest.mark.parametrize("moment", ["before storing", "before answering", "answered"])
@pytest.mark.parametrize("batching", ["never", "always"])
def test_a_process_killed_in_the_middle_of_a_request_is_counted_once(
    server: ScriptedServer, tmp_path: Path, batching: Batching, moment: str
) -> None:
    """The successor cannot know what the server has stored: it sends it all again."""
    program = _TRACK_FOR_EVER.replace("itertools.count(", "range(0, 50) or (")
    settings = settings_for(server.url, tmp_path, batching=batching, linger=0.3)
    process = start(program + "threading.Event().wait(60)", {**settings, "FIRST": 0})
    struck = threading.Event()

    def strike(request: Request) -> TransportResponse | Fault:
        answer = None if moment == "before storing" else server.accept(request)
        if moment == "answered" and len(server.requests) == 1:
            return answer or accepted()
        os.kill(process.pid, signal.SIGKILL)
        struck.set()
        return answer or Fault.RESET

    server.respond = strike
    if moment == "answered" and batching == "always":
        os.kill(_after(server, process.pid), signal.SIGKILL)
    else:
        assert struck.wait(20)
    finish(process, code=-signal.SIGKILL)
    server.respond = server.accept
    said = run(_SHIP, settings)

    assert said.startswith("True")
    assert server.total == total_of(range(50))


def _after(server: ScriptedServer, pid: int) -> int:
    server.wait_for(lambda: bool(server.amounts))
    return pid


# Adopters.


_LEAVE = """
for number in range(200):
    track(outlay.default_client(), number)
die()
"""


def test_of_many_processes_that_adopt_at_once_one_inherits(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Two shippers of one segment would send each event twice."""
    settings = settings_for(server.url, tmp_path)
    run(_LEAVE, {**settings, "OUTLAY_SHIPPING": "none"}, code=-9)
    program = "say('ready')\nsys.stdin.readline()\n" + _SHIP
    adopters = [start(program, settings) for _ in range(4)]

    for adopter in adopters:
        assert adopter.stdout is not None
        assert adopter.stdout.readline() == "ready\n"
    for adopter in adopters:
        assert adopter.stdin is not None
        adopter.stdin.write("go\n")
        adopter.stdin.flush()
    recovered = [int(finish(adopter).split()[1]) for adopter in adopters]

    assert sum(recovered) == 200
    assert recovered.count(0) == 3
    assert server.total == total_of(range(200))
    assert server.duplicates == 0


def test_a_living_sibling_inherits_at_its_next_look(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """No restart is needed: any process of the destination takes over."""
    with Client(
        base_url=server.url, api_key="sk_test_1", journal_dir=tmp_path, linger=0.0
    ) as sibling:
        track(sibling, 1000)
        sibling.flush(20)
        settings = settings_for(server.url, tmp_path, shipping="none")
        run(_LEAVE, settings, code=-9)

        stats = sibling.flush(20).stats

    assert (stats.tracked, stats.recovered, stats.delivered) == (1, 200, 201)
    assert_conserved(stats)
    assert server.total == total_of([1000, *range(200)])


def test_an_adopter_that_is_killed_has_an_adopter(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Killed while it adopts and ships what another left, again and again."""
    settings = settings_for(server.url, tmp_path, batching="never")
    run(_LEAVE, {**settings, "OUTLAY_SHIPPING": "none"}, code=-9)

    for _ in range(4):
        adopter = start("outlay.default_client()\nthreading.Event().wait(60)", settings)
        server.wait_for_requests(len(server.requests) + 10)
        adopter.kill()
        finish(adopter, code=-signal.SIGKILL)
    said = run(_SHIP, settings)

    assert said.startswith("True")
    assert server.total == total_of(range(200))
    assert BATCH_PATH not in {request.path for request in server.requests}
