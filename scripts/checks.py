"""Run a check for a limited time, show what it prints, and keep what came of it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parents[1]
PYTHON: Final = os.path.relpath(sys.executable, ROOT)
"""The path of this interpreter, from `ROOT` on, such as ``.venv/bin/python``."""
_GRACE_SECONDS: Final = 20.0
"""The time in which an interrupted check may clean up."""
_COMMANDS_IN_A_CELL: Final = 5
_PYTEST: Final = re.compile(
    r"=*\s*(\d+ (?:passed|failed|error|skipped).*) in [\d.]+s\b"
)
_COVERAGE: Final = re.compile(r"Total coverage: [\d.]+%")
_FAULTS: Final = re.compile(r"all" + r" +(\d+)" * 5)
_RED_TEST: Final = re.compile(
    r"(?:FAILED|ERROR) (tests/\S+?\.py(?:::\w+)*(?:\[.*?\])?)(?: - .*)?"
)
_RED_FAULT: Final = re.compile(r"; again: (.*)")


class Result(NamedTuple):
    """What came of a check.

    Attributes:
        name: The check, such as a lane or a suite.
        outcome: Such as ``12 passed``, or the reason why it did not run.
        seconds: The time that it took.
        failed: Whether it ran and is not green.
        repeat: The commands that repeat what is red.
    """

    name: str
    outcome: str
    seconds: float
    failed: bool
    repeat: tuple[str, ...] = ()


def check(
    name: str,
    words: Sequence[str],
    *,
    minutes: float,
    tests: Sequence[str] = (PYTHON, "-m", "pytest"),
    **variables: str,
) -> Result:
    """Run a program, and return what came of it.

    Args:
        name: The name of the result.
        words: The program and its arguments.
        minutes: The time after which the program is ended, and the check is red.
        tests: The command that repeats single tests.
        variables: More variables of the program's environment.
    """
    started = time.monotonic()
    lines, code = _run(words, minutes, variables)
    seconds = time.monotonic() - started
    outcome = _outcome(lines)
    if code is None:
        outcome = f"ended after {minutes:g} minutes: {outcome}"
    if code == 0:
        return Result(name, outcome, seconds, failed=False)
    repeat = tuple(dict.fromkeys(_repeats(lines, tests))) or (shlex.join(words),)
    return Result(name, outcome, seconds, failed=True, repeat=repeat)


def _run(
    words: Sequence[str], minutes: float, variables: dict[str, str]
) -> tuple[list[str], int | None]:
    """Return the lines of both streams and the exit code: `None` if it took too long.

    Nothing that the program started outlives its time, or a signal that ends this
    process by an exception.
    """
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    )
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        _end(process)

    timer = threading.Timer(60 * minutes, end)
    timer.start()
    lines: list[str] = []
    with process:
        try:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                lines.append(line.rstrip())
            code = process.wait()
        finally:
            timer.cancel()
            _end(process)
    return lines, None if is_late.is_set() else code


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and what it started: first as Ctrl-C does, so that it cleans up."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)


def _outcome(lines: Sequence[str]) -> str:
    """Return what the last lines say that tell an outcome, or the last line."""
    found = {}
    for line in lines:
        if tests := _PYTEST.match(line):
            found["tests"] = tests[1]
        elif total := _COVERAGE.search(line):
            found["coverage"] = total[0]
        elif counts := _FAULTS.fullmatch(line):
            trials, events, lost, doubled, quarantined = map(int, counts.groups())
            found["faults"] = (
                f"{trials:,} trials, {events:,} events: {lost} lost, "
                f"{doubled} doubled, {quarantined:,} quarantined"
            )
    last = [line for line in lines if line.strip()][-1:] or ["done"]
    return "; ".join(found.values()) or re.sub(r"\s+", " ", last[0]).strip()


def _repeats(lines: Sequence[str], tests: Sequence[str]) -> Iterator[str]:
    """Yield a command for each red test and fault."""
    for line in lines:
        if red := _RED_TEST.fullmatch(line):
            yield shlex.join([*tests, red[1]])
        elif red := _RED_FAULT.search(line):
            yield f"{PYTHON} -m tests.faults {red[1]}"


def report(results: Sequence[Result]) -> str:
    """Return a Markdown table, and below it what repeats the checks that are red."""
    rows = [("what", "outcome", "seconds"), ("---", "---", "---:")]
    rows += [(each.name, cell(each), f"{each.seconds:.0f}") for each in results]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + repeats(results)


def cell(result: Result) -> str:
    """Return the outcome for a table; if red, with the commands that repeat it."""
    text = result.outcome
    if result.failed:
        commands = [f"`{command}`" for command in result.repeat[:_COMMANDS_IN_A_CELL]]
        if more := result.repeat[_COMMANDS_IN_A_CELL:]:
            commands.append(f"and {len(more)} more")
        text = f"**red:** {text}: {', '.join(commands)}"
    return text.replace("|", r"\|")


def repeats(results: Sequence[Result]) -> str:
    """Return all commands that repeat the checks that are red, one a line."""
    red = [each for each in results if each.failed]
    lines = [f"\nred: {each.name}\n  " + "\n  ".join(each.repeat) for each in red]
    return "".join(f"{line}\n" for line in lines)
