"""Run all that can be checked on this machine: ``make test-all``.

The table of results is written to ``docs/test-results.md``.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from scripts.lanes import APART, ROOT, Result, lanes, pytest, run, table

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE: Final = ROOT / "docs" / "test-results.md"
_SUITES: Final = sorted(
    path.name
    for path in (ROOT / "tests").iterdir()
    if [*path.glob("test_*.py")] and path.name not in APART
)
_HEAD: Final = """\
# Test results

The last run of `make test-all`, which writes this page: {date}, {machine}.

"""


def results() -> Iterator[Result]:
    """Run one check after the other; yield what came of each."""
    yield command("style, types, contracts", "make", "lint")
    # `tests/unit` has folders only.
    for suite in sorted({*_SUITES, "unit"}):
        ran = pytest([sys.executable, "-m", "pytest", "-q", f"tests/{suite}"])
        yield ran._replace(name=f"tests/{suite}")
    yield command("branch coverage, at least 94 %", "make", "coverage")
    yield command("faults, all", sys.executable, "-m", "tests.faults")
    yield command("wheel", "make", "wheel")
    for lane in lanes(full=True):
        yield run(lane)
        shutil.rmtree(ROOT / ".lanes", ignore_errors=True)


def command(name: str, *words: str) -> Result:
    """Run a program, show what it prints, and return its last line as the outcome."""
    print(f"\n== {name}", flush=True)
    started = time.monotonic()
    ran = subprocess.run(
        words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    print(ran.stdout, end="", flush=True)
    (*_, last) = ["", *ran.stdout.strip().splitlines()]
    seconds = time.monotonic() - started
    outcome = re.sub(r" {2,}", " · ", last) or "done"
    return Result(name, outcome, seconds, failed=ran.returncode != 0)


def main() -> int:
    """Run all, write the page, and return 1 if anything is red."""
    done: list[Result] = []
    for result in results():
        done.append(result)
        print(f"\n{table(done)}", end="", flush=True)
    machine = f"{platform.system()}, {os.cpu_count()} cores"
    date = datetime.now(UTC).date().isoformat()
    head = _HEAD.format(
        date=date, machine=f"CPython {platform.python_version()}, {machine}"
    )
    _PAGE.write_text(head + table(done), encoding="utf-8")
    return int(any(each.failed for each in done))


if __name__ == "__main__":
    sys.exit(main())
