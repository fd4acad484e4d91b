"""Agents that are killed at random moments, one after the other.

``python -m tests.processes.agent_program SEED`` runs one at a time until it is told on
standard input that the last may live; that one ships what is left. Each is a forked
child, so that a life is not spent on imports.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from typing import Final

# What an agent's thread would import: its children inherit it.
import httpx  # noqa: F401

from outlay._model.settings import Settings
from outlay._shipping.agent import Agent

LIVES: Final = 20
_LONGEST_LIFE: Final = 0.3  # seconds; a request takes some milliseconds
_DEADLINE: Final = 90.0


def _start_agent() -> int:
    """Return the process id of an agent that ships until it is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            Agent(Settings.resolve()).start()
            threading.Event().wait()
        finally:
            os._exit(1)
    return pid


def main(seed: str) -> int:
    """Run agents; return 0 if the last has shipped everything."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    for _ in range(LIVES):
        pid = _start_agent()
        threading.Event().wait(chance.random() * _LONGEST_LIFE)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.write(1, b"killed\n")
    sys.stdin.readline()
    with Agent(Settings.resolve()) as last:
        complete = last.flush(_DEADLINE)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
