"""Writers that share a journal folder, and die at random moments.

``python -m tests.processes.siblings_program SEED`` runs `WRITERS` of them side by side.
Each is killed and replaced several times; the last of each kind lives to close its
client. Prints the number of each event that a writer was told is tracked.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import Final

from outlay import Client
from tests.support.events import track

WRITERS: Final = 8
GENERATIONS: Final = 4
_EVENTS: Final = 60  # of each generation, if it lives
_CLOSE_SECONDS: Final = 30.0


def _write(numbers: range, told: int) -> None:
    """Be a writer: track, and tell of each event once it is tracked."""
    client = Client()
    for number in numbers:
        track(client, number)
        os.write(told, b"%d\n" % number)
    client.close(_CLOSE_SECONDS)


def _fork_writer(numbers: range) -> tuple[int, int]:
    """Return the process id of a writer, and where it tells."""
    hearing, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _write(numbers, telling)
            code = 0
        finally:
            os._exit(code)
    os.close(telling)
    return pid, hearing


def _let_live(pid: int, hearing: int, *, until: int | None) -> None:
    """Kill a writer once it has told of so many events, and pass on what it told."""
    with os.fdopen(hearing, "rb") as told:
        for count, line in enumerate(told):
            if count == until:
                os.kill(pid, signal.SIGKILL)
            os.write(1, line)
    _, status = os.waitpid(pid, 0)
    assert status in {0, signal.SIGKILL}, status


def _run_lane(lane: int, seed: str) -> None:
    """Run one writer after another."""
    chance = random.Random(f"{seed}/{lane}")  # noqa: S311 - to be repeated
    for generation in range(GENERATIONS):
        first = 1000 * (lane * GENERATIONS + generation)
        writer = _fork_writer(range(first, first + _EVENTS))
        last = generation == GENERATIONS - 1
        _let_live(*writer, until=None if last else chance.randrange(_EVENTS))


def main(seed: str) -> int:
    """Run all lanes, each in a process of its own; return how many failed."""
    lanes = []
    for lane in range(WRITERS):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _run_lane(lane, seed)
                code = 0
            finally:
                os._exit(code)
        lanes.append(pid)
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in lanes)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
