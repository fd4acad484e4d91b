"""``make test-all`` itself: a part that is red, late or stopped is no green one."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from scripts.checks import PYTHON, Result, check
from scripts.test_all import Part, main, parts
from tests.support.processes import environment

if TYPE_CHECKING:
    from pathlib import Path

_PRINTS: Final = (sys.executable, "-c", "import sys; print(sys.argv[1]); sys.exit(1)")
_STOPPED: Final = """
import signal, sys
from functools import partial
from pathlib import Path

from scripts.checks import Result, check
from scripts.test_all import Part, main

waiting = "import time; print('waits', flush=True); time.sleep(99)"
main(
    [],
    [
        Part("one", lambda: Result("one", "3 passed", 1.0, failed=False)),
        Part("two", partial(check, "two", [sys.executable, "-c", waiting], minutes=2)),
    ],
    Path(sys.argv[1]),
)
"""


def part(name: str, outcome: str, *, failed: bool = False) -> Part:
    """Return a part that ends at once."""
    repeat = (f"make {name}",) if failed else ()
    return Part(name, lambda: Result(name, outcome, 1.0, failed, repeat))


def rows(page: Path) -> dict[str, str]:
    """Return the outcomes of a page, by part."""
    found = re.findall(r"^\| (.+?) \| (.+?) \| \d* \| ", page.read_text(), re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize(
    ("printed", "outcome", "repeat"),
    [
        (
            (
                "FAILED tests/unit/test_a.py::test_it[a - b] - assert [1] == []\n"
                "==== 1 failed, 3 passed in 2.1s ===="
            ),
            "1 failed, 3 passed",
            f"{PYTHON} -m pytest 'tests/unit/test_a.py::test_it[a - b]'",
        ),
        (
            "ERROR tests/unit/test_a.py - ImportError: no b\n1 error in 0.1s",
            "1 error",
            f"{PYTHON} -m pytest tests/unit/test_a.py",
        ),
        (
            (
                "Tally(lost=1); again: --seed 7 --first 3 --trials 1 'a fault'\n"
                "all      1     20     1     0     0\n8 s; could not be judged: 0"
            ),
            "1 trials, 20 events: 1 lost, 0 doubled, 0 quarantined",
            f"{PYTHON} -m tests.faults --seed 7 --first 3 --trials 1 'a fault'",
        ),
    ],
    ids=["test", "module", "fault"],
)
def test_what_is_red_is_named_with_the_command_that_repeats_it(
    printed: str, outcome: str, repeat: str
) -> None:
    """A person repeats the one test, and not the hour."""
    red = check("tests", [*_PRINTS, printed], minutes=1)

    assert red.failed
    assert red.outcome == outcome
    assert red.repeat == (repeat,)


def test_any_other_program_that_is_red_is_repeated_as_a_whole() -> None:
    """Its last line is the outcome."""
    red = check("lint", [*_PRINTS, "one\ntwo"], minutes=1)

    assert (red.failed, red.outcome) == (True, "two")
    assert red.repeat == (f"{sys.executable} -c '{_PRINTS[2]}' 'one\ntwo'",)


def test_a_part_that_takes_too_long_is_ended_with_all_that_it_started() -> None:
    """The pipe ends only if no process holds it any more."""
    program = (
        "import subprocess, sys;"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(99)'])"
    )

    late = check("hangs", [sys.executable, "-c", program], minutes=0.03)

    assert late.failed
    assert late.outcome.startswith("ended after 0.03 minutes: ")


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """The page keeps what has run, and says what has not."""
    page = tmp_path / "results.md"
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPED, str(page)],
        env=environment({}),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert any(line == "waits\n" for line in process.stdout)

        process.send_signal(signal.SIGTERM)

        process.communicate(timeout=60)  # ends only with the part: it holds the pipe
    assert process.returncode == 1
    assert rows(page) == {"one": "3 passed", "two": "not finished"}
    every = [part("one", "never"), part("two", "4 passed"), part("three", "done")]
    assert main(["--from", "two"], every, page) == 0
    assert rows(page) == {"one": "3 passed", "two": "4 passed", "three": "done"}


def test_single_parts_replace_their_rows_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A red part is red in the page, too, until it is repeated."""
    page = tmp_path / "results.md"
    green, red = part("one", "3 passed"), part("two", "a | b", failed=True)

    assert main([], [green, red], page) == 1
    assert rows(page) == {"one": "3 passed", "two": r"**red:** a \| b: `make two`"}
    assert capsys.readouterr().out.endswith("\nred: two\n  make two\n")
    assert main(["one"], [part("one", "4 passed"), red], page) == 0
    assert rows(page)["one"] == "4 passed"
    assert rows(page)["two"].startswith("**red:**")
    assert main([], [green, red], page) == 1
    assert rows(page)["one"] == "3 passed"


def test_the_plan_names_each_part_once(tmp_path: Path) -> None:
    """A name that it does not know ends with those that it knows."""
    names = [each.name for each in parts()]

    assert len(set(names)) == len(names) > 20
    with pytest.raises(SystemExit, match="parallel tests, slow tests, serial tests"):
        main(["--from", "typo"], page=tmp_path / "results.md")
