"""Clocks that step, and events that come back after the server forgot their keys."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Final

from outlay import Client
from outlay._cli.exit_codes import ExitCode
from tests.faults.damage import bench
from tests.faults.judge import KEY, judging
from tests.faults.scenario import Scenario
from tests.support import command_line
from tests.support.clock import HOUR, ManualClock
from tests.support.events import track
from tests.support.service import FATES, lose_request
from tests.support.stepwise import Process

if TYPE_CHECKING:
    import random

    from tests.faults.damage import Bench
    from tests.faults.scenario import Tally

_CONSENT: Final = "--i-accept-double-counting"
_DOUBTFUL: Final = ("answer lost", "request lost", "500 after taking")


def _leave_in_doubt(chance: random.Random, scene: Bench, process: Process) -> None:
    """Make a request, if there is one to make, that gets no answer."""
    outcome = FATES[chance.choice(_DOUBTFUL)]
    job = process.plan()
    if not isinstance(job, float):
        process.perform(job, lambda path, body: outcome(scene.service, path, body))


def _stepped(chance: random.Random, size: int, *, step: float) -> Tally:
    """Step the wall clock between an attempt without an answer and the next ones."""
    with bench() as scene:
        process = scene.start()
        scene.track(process, range(size))
        _leave_in_doubt(chance, scene, process)
        scene.clock.advance(chance.random() * HOUR)
        scene.clock.step(step)
        for first in range(100, 100 + chance.randint(1, 4)):
            if chance.random() < 0.5:
                process.crash()
                process = scene.start()
                process.adopt()
            scene.track(process, range(first * 10, first * 10 + size))
            scene.clock.advance(chance.random() * 9 * HOUR)
            if chance.random() < 0.5:
                scene.ship(process)
        process.crash()
        scene.inherit()
        return scene.books().tally()


def _waited(chance: random.Random, size: int) -> Tally:
    """Leave a request in doubt for up to two days; the service forgets after one."""
    with bench() as scene:
        process = scene.start()
        scene.track(process, range(size))
        for _ in range(chance.randint(1, 4)):
            _leave_in_doubt(chance, scene, process)
            scene.clock.advance(chance.random() * 16 * HOUR)
        process.crash()
        scene.inherit()
        return scene.books().tally()


def _resumed(chance: random.Random, size: int) -> Tally:
    """Resume after the window: quarantined, listed, and sent only on command."""
    with judging() as judge:
        clock = ManualClock()  # stands in the past: its attempts are out of date now
        clock.step(-48 * HOUR * chance.random())
        process = Process(
            Client(**judge.settings(shipping="none", batching="always"), clock=clock),
            clock,
        )
        for number in range(size):
            judge.tell(number, track(process.client, number))
        job = process.plan()
        assert not isinstance(job, float)
        process.perform(job, lose_request)
        process.crash()

        judge.inherit()
        there = ["--journal-dir", str(judge.journal_dir)]
        there += ["--base-url", judge.server.url, *command_line.with_key(KEY)]
        assert _listed(there) == judge.told.keys()
        command_line.call("journal", "resend", *there)  # only shows what may double
        judge.inherit()
        assert judge.server.amounts == {}, "it was sent without a command"

        ran = command_line.call("journal", "resend", _CONSENT, *there)
        assert ran.code == ExitCode.DONE, ran
        judge.inherit()
        assert _listed(there) == set()
        return judge.tally()._replace(quarantined=size)


def _listed(there: list[str]) -> set[str]:
    words = ("journal", "list", "--state", "quarantined", "--limit", "0", "--json")
    ran = command_line.call(*words, *there)
    assert ran.code == ExitCode.DONE, ran
    return {event["idempotencyKey"] for event in json.loads(ran.out)["events"]}


SCENARIOS: Final = (
    *(
        Scenario(
            f"clock steps by {hours:+d} h",
            functools.partial(_stepped, step=hours * HOUR),
            trials=100,
            bounded=4,
            size=5,
        )
        for hours in (1, -1, 48, -48)
    ),
    Scenario("server is out for up to two days", _waited, trials=200, bounded=8),
    Scenario("resumed after the window", _resumed, trials=50),
)
