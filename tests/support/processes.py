"""Real processes that track costs, and die."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


_ROOT: Final = Path(__file__).parents[2]

_DEADLINE: Final = 120.0  # seconds; only a hang takes that long

_PRELUDE: Final = """
import atexit, gc, os, signal, sys, threading
atexit.register(gc.freeze)  # the search for garbage at exit takes 0.3 s
import outlay
from tests.support.events import track

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


def environment(variables: Mapping[str, object]) -> dict[str, str]:
    """Return this process's environment without OUTLAY_*, and with ``variables``."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OUTLAY_")}
    # Plugins of other packages would come with the first model, half a second of them.
    inherited["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    return {**inherited, **{name: str(value) for name, value in variables.items()}}


def start(program: str, variables: Mapping[str, object]) -> subprocess.Popen[str]:
    """Start a Python program that has outlay, `track`, ``die`` and ``say`` at hand."""
    return subprocess.Popen(
        [sys.executable, "-c", _PRELUDE + program],
        cwd=_ROOT,
        env=environment(variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], *, code: int = 0) -> str:
    """Wait for ``process``, check its exit code, and return what it said."""
    try:
        said, complained = process.communicate(timeout=_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise

    assert process.returncode == code, complained
    return said


def run(program: str, variables: Mapping[str, object], *, code: int = 0) -> str:
    """Run a program to its end, check its exit code, and return what it said."""
    return finish(start(program, variables), code=code)


def settings_for(url: str, journal_dir: Path, **others: object) -> dict[str, object]:
    """Return the variables of a client that ships to ``url`` and keeps its key."""
    return {
        "OUTLAY_BASE_URL": url,
        "OUTLAY_API_KEY": "sk_test_1",
        "OUTLAY_JOURNAL_DIR": journal_dir,
        "OUTLAY_LINGER": 0,
        **{f"OUTLAY_{name.upper()}": value for name, value in others.items()},
    }
