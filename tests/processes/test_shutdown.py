"""Costs tracked while the interpreter ends: exit hooks, daemon threads, finalisers."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from outlay import Client
from tests.support.events import assert_conserved, total_of
from tests.support.processes import environment, settings_for
from tests.support.servers import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay import Stats

_DEADLINE: Final = 90.0

_SAY: Final = """
import atexit, os, sys, threading, weakref

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""

_TRACK: Final = """
import outlay
from tests.support.events import track
"""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Return a server that accepts everything."""
    with ScriptedServer() as running:
        yield running


def _run(program: str, server: ScriptedServer, folder: Path, **others: object) -> str:
    """Run a program to its end, check that it complains of nothing; return its words.

    A hang is an error: nothing here takes longer than the exit's own deadline.
    """
    done = subprocess.run(
        [sys.executable, "-c", _SAY + program],
        env=environment(settings_for(server.url, folder, **others)),
        check=False,
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
    )

    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _inherit(server: ScriptedServer, folder: Path) -> Stats:
    """Deliver what the program left behind."""
    with Client(
        base_url=server.url,
        api_key="sk_test_1",
        journal_dir=folder,
        batching="always",
    ) as adopter:
        report = adopter.flush(_DEADLINE)
    assert report.complete
    assert_conserved(report.stats)
    return report.stats


_EARLY: Final = (
    _TRACK
    + """
client = outlay.default_client()
track(client, 1)
atexit.register(lambda: say(track(client, 2)))
"""
)
_LATE: Final = (
    "atexit.register(lambda: say(track(client, 2)))"
    + _TRACK
    + """
client = outlay.default_client()
track(client, 1)
"""
)
_LATE_AND_FIRST: Final = (
    "atexit.register(lambda: say([track(client, n) for n in (1, 2)]))"
    + _TRACK
    + "client = outlay.default_client()\n"
)


@pytest.mark.parametrize(
    ("program", "left"),
    [(_EARLY, 0), (_LATE, 1), (_LATE_AND_FIRST, 2)],
    ids=["before outlay's", "after outlay's", "after outlay's, for the first time"],
)
def test_an_exit_hook_may_track_whenever_it_runs(
    server: ScriptedServer, tmp_path: Path, program: str, left: int
) -> None:
    """Hooks run in the opposite order of their registration: some after outlay's own.

    By then nothing is shipped any more. The event is kept, and the next process
    delivers it.
    """
    said = _run(program, server, tmp_path)

    assert "ok1_" in said  # the key: track_cost returned
    assert _inherit(server, tmp_path).recovered == left
    assert server.total == total_of([1, 2])


def test_a_finaliser_that_runs_at_exit_may_track(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """The documented way to clean up: it runs as an exit hook, before the teardown."""
    program = (
        "class Session: pass\nsession = Session()\n"
        "weakref.finalize(session, lambda: say(track(client, 1)))\n"
        + _TRACK
        + "client = outlay.default_client()\n"
    )

    said = _run(program, server, tmp_path)

    assert "ok1_" in said
    _inherit(server, tmp_path)
    assert server.total == total_of([1])


_NEVER_ENDING: Final = (
    _TRACK
    + """
client = outlay.default_client()
enough = threading.Event()

def work(first):
    for number in range(first, 10**6):
        track(client, number)
        say(number)
        if number == first + 500:
            enough.set()

for first in (0, 10**6 // 2):
    threading.Thread(target=work, args=(first,), daemon=True).start()
enough.wait(20)
"""
)


def test_daemon_threads_may_track_until_they_are_stopped(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """The interpreter stops them somewhere, in track_cost as well as elsewhere.

    All they were told is tracked is delivered, before or after the exit hook has run.
    """
    said = _run(_NEVER_ENDING, server, tmp_path, exit_timeout=0.05, batching="always")
    _inherit(server, tmp_path)

    told = set(map(int, said.split()))
    arrived = {int(amount * 1000) for amount in server.amounts.values()}
    assert told <= arrived
    # Each thread may have been stopped between the tracking and the telling.
    assert len(arrived - told) <= 2


_FIRST: Final = (
    _TRACK
    + """
client = outlay.default_client()
begun = threading.Event()

def work():
    begun.set()
    for number in range(10**6):
        track(client, number)
        say(number)

threading.Thread(target=work, daemon=True).start()
begun.wait(20)
"""
)

_RUNS: Final = int(os.environ.get("EXIT_RUNS", "2"))


def test_a_daemon_thread_that_tracks_first_while_the_process_exits_cannot_hang_it(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """A late import on that thread hung 4 of 1,630 exits of CPython 3.11.

    ``EXIT_RUNS=300`` repeats it 300 times.
    """
    for number in range(_RUNS):
        folder = tmp_path / str(number)
        server.amounts.clear()

        said = _run(_FIRST, server, folder, exit_timeout=0.05)
        _inherit(server, folder)

        told = set(map(int, said.split()))
        assert told <= {int(amount * 1000) for amount in server.amounts.values()}


def test_an_exit_hook_that_closes_leaves_nothing_for_outlays_own(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """An application that ends in order is done when it says so."""
    program = (
        _TRACK
        + """
client = outlay.default_client()
track(client, 1)

def end():
    say(client.close(20).complete)
    try:
        track(client, 2)
    except outlay.ClosedError:
        say("closed")

atexit.register(end)
"""
    )

    said = _run(program, server, tmp_path)

    assert said == "True\nclosed\n"
    assert server.total == total_of([1])


_TEARDOWN: Final = """
import os, sys, threading
import outlay
from tests.support.events import track

%s

class Late:
    def __init__(self, number):
        self.number = number
    def __del__(self, track=track, client=client, write=os.write):
        try:
            track(client() if callable(client) else client, self.number)
        except BaseException:
            write(1, b"refused\\n")
        else:
            write(1, b"%%d\\n" %% self.number)

here = Late(1)
sys.there = Late(2)
threading.elsewhere = Late(3)
circle = Late(4)
circle.itself = circle
"""


@pytest.mark.parametrize(
    "client",
    [
        "client = outlay.default_client(); track(client, 0)",
        "client = outlay.default_client()",
        "client = outlay.default_client",
    ],
    ids=["in use", "unused", "made in the teardown"],
)
def test_finalisers_during_the_teardown_of_modules_neither_hang_nor_lie(
    server: ScriptedServer, tmp_path: Path, client: str
) -> None:
    """Python takes away the modules, its own included; no library works for long then.

    So such an event may be refused. It is never told to be tracked and lost, and the
    process ends.
    """
    done = subprocess.run(
        [sys.executable, "-c", _TEARDOWN % client],
        env=environment(settings_for(server.url, tmp_path, exit_timeout=0.5)),
        check=False,
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
    )
    _inherit(server, tmp_path)

    assert done.returncode == 0
    words = done.stdout.split()
    told = {int(word) for word in words if word != "refused"}
    assert words, "no finaliser ran"
    arrived = {int(amount * 1000) for amount in server.amounts.values()}
    assert arrived - {0} == told
