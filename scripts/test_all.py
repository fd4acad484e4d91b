"""Run all that can be checked on this machine: ``make test-all``.

Each test runs once. Each part has a limit of time, and writes its row of
``docs/test-results.md`` when it ends. So a run that is stopped can go on:
``--from PART`` runs this part and the later ones, and keeps the other rows.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import signal
import sys
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from scripts.checks import PYTHON, ROOT, Result, cell, check, repeats
from scripts.lanes import folder, lanes, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from scripts.lanes import Lane

_PAGE: Final = ROOT / "docs" / "test-results.md"
_FAULTS: Final = (PYTHON, "-m", "tests.faults", "--scale", "0.5")
"""Some 2,500 trials, which take two quiet cores ten minutes."""
_NOT_FINISHED: Final = "not finished"
_HEAD: Final = """\
# Test results

`make test-all` writes this page, here on {machine}.
Each row says when its part ended, because parts can run again alone.
Skipped tests need what the part does not install, or its absence.

"""
_ROW: Final = re.compile(r"\| (.+?) \| (.+) \| (\d+) \| (.+?) \|")


class Part(NamedTuple):
    """One row of the page.

    Attributes:
        name: The name, in the page and on the command line.
        check: Runs the part.
    """

    name: str
    check: Callable[[], Result]


class Row(NamedTuple):
    """What the page says of a part that has run.

    Attributes:
        outcome: Such as ``12 passed``, and the commands that repeat what is red.
        seconds: The time that it took.
        ended: The date and time in UTC.
    """

    outcome: str
    seconds: str
    ended: str


def parts() -> list[Part]:
    """Return all parts, in the order in which they run."""
    return [
        _part("lint", "make", "--silent", "lint", minutes=10),
        _part("typing", "make", "--silent", "typing", minutes=10),
        _part("docs", "make", "--silent", "docs", minutes=5),
        _part("parallel tests", "make", "--silent", "coverage", minutes=40),
        _part("slow tests", "make", "--silent", "slow", minutes=40),
        _part("serial tests", "make", "--silent", "serial", minutes=30),
        _part("faults", *_FAULTS, minutes=30),
        _part("build the wheel", "make", "--silent", "wheel", minutes=5),
        *(Part(lane.name, partial(_lane, lane)) for lane in lanes(full=True)),
    ]


def _part(name: str, *words: str, minutes: float) -> Part:
    return Part(name, partial(check, name, words, minutes=minutes))


def _lane(lane: Lane) -> Result:
    """Run a lane, and delete its environment: all together are gigabytes."""
    ran = run(lane)
    if not ran.failed:
        shutil.rmtree(folder(lane), ignore_errors=True)
    return ran


def select(every: Sequence[Part], names: Sequence[str], first: str) -> list[Part]:
    """Return the parts to run.

    Args:
        every: All parts, in order.
        names: The names of single parts. Empty for all.
        first: The name of the first part to run. Empty for all.

    Raises:
        SystemExit: A name is unknown.
    """
    known = [part.name for part in every]
    for name in {*names, first} - {*known, ""}:
        raise SystemExit(f"There is no part {name!r}. Name one of: {', '.join(known)}")
    if first:
        return [*every[known.index(first) :]]
    return [part for part in every if part.name in names or not names]


def play(every: Sequence[Part], chosen: Sequence[Part], page: Path) -> list[Result]:
    """Run parts, and write the page before the first and after each.

    Args:
        every: All parts. The page has a row for each.
        chosen: The parts that run. The rows of the others stay.
        page: The page.
    """
    rows = _read(page)
    for part in chosen:
        rows.pop(part.name, None)
    _write(page, every, rows)
    results = []
    for part in chosen:
        print(f"\n== {part.name}", flush=True)
        result = part.check()
        results.append(result)
        ended = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        rows[part.name] = Row(cell(result), f"{result.seconds:.0f}", ended)
        _write(page, every, rows)
    return results


def _read(page: Path) -> dict[str, Row]:
    """Return the rows that earlier runs wrote."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.exists() else []
    found = filter(None, map(_ROW.fullmatch, lines))
    return {row[1]: Row(*row.groups()[1:]) for row in found}


def _write(page: Path, every: Sequence[Part], rows: dict[str, Row]) -> None:
    """Replace the page in one step, so that a kill leaves the old or the new one."""
    machine = (
        f"CPython {platform.python_version()}, {platform.system()}, "
        f"{os.cpu_count()} cores"
    )
    lines = ["| what | outcome | seconds | ended (UTC) |", "| --- | --- | ---: | --- |"]
    for part in every:
        row = rows.get(part.name, Row(_NOT_FINISHED, "", ""))
        lines.append(f"| {' | '.join((part.name, *row))} |")
    new = page.with_suffix(".new")
    text = _HEAD.format(machine=machine) + "\n".join(lines) + "\n"
    new.write_text(text, encoding="utf-8")
    new.replace(page)


def main(
    words: Sequence[str] | None = None,
    every: Sequence[Part] | None = None,
    page: Path = _PAGE,
) -> int:
    """Run what the words say; return 1 if anything is red.

    Args:
        words: The arguments of the command line. Defaults to those of the process.
        every: All parts. Defaults to those of this project.
        page: The page.
    """
    parser = argparse.ArgumentParser("python -m scripts.test_all", description=__doc__)
    parser.add_argument("part", nargs="*", help="run these parts only")
    parser.add_argument("--from", dest="first", default="", metavar="PART")
    given = parser.parse_args(words)
    every = every or parts()
    # SIGTERM ends the part that runs, too.
    earlier = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        results = play(every, select(every, given.part, given.first), page)
    finally:
        signal.signal(signal.SIGTERM, earlier)
    red = [result for result in results if result.failed]
    print(repeats(red), end="")
    return int(bool(red))


if __name__ == "__main__":
    sys.exit(main())
