"""``make faults``: every fault by the hundred, and what was lost or doubled.

Each trial ends with a comparison of the server's exact total with what callers were
told. Ends with a table, and with 1 if any event was lost or doubled, or a trial could
not be judged.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
from typing import TYPE_CHECKING, Final

from outlay._model.clock import SystemClock
from tests.faults.matrix import SCENARIOS
from tests.faults.scenario import NOTHING, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.scenario import Scenario

_NAME_CHARS: Final = 54
_PROGRESS_SECONDS: Final = 15.0
_COLUMNS: Final = ("trials", "events", "lost", "doubled", "quarantined")


class Report:
    """What came of all trials, as a table that grows by one line a fault.

    Attributes:
        total: of all trials.
        failed: how many could not be judged.
    """

    def __init__(self) -> None:
        self.total = NOTHING
        self.failed = 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing was lost or doubled, for all that could be judged."""
        return self.total.is_sound and not self.failed

    def head(self) -> None:
        """Begin the table."""
        _say(_line("fault", dict(zip(_COLUMNS, _COLUMNS, strict=True))))

    def add(self, name: str, tally: Tally) -> None:
        """Add a line."""
        self.total = self.total.plus(tally)
        _say(_line(name, tally._asdict()))

    def skip(self, name: str, why: str) -> None:
        """Add a line for what cannot be tried here."""
        _say(f"{name:{_NAME_CHARS}} skipped: {why}")

    def end(self) -> None:
        """End the table with the sum."""
        _say(_line("all", self.total._asdict()))


def _line(name: str, columns: dict[str, object] | dict[str, str]) -> str:
    cells = (f"{columns[column]!s:>{len(column) + 2}}" for column in _COLUMNS)
    return f"{name:{_NAME_CHARS}}" + "".join(cells)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _whisper(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def play(scenario: Scenario, seed: str, trials: range, report: Report) -> None:
    """Play trials of a scenario, and report them."""
    clock = SystemClock()
    told_at = clock.monotonic()
    tally = NOTHING
    for number in trials:
        if clock.monotonic() - told_at > _PROGRESS_SECONDS:
            told_at = clock.monotonic()
            _whisper(f"  … {scenario.name}: {number} of {len(trials)}")
        again = f"--seed {seed} --first {number} --trials 1 {scenario.name!r}"
        try:
            result = scenario.trial(seed, number)
        except Exception as error:  # noqa: BLE001 - the other trials are worth playing
            report.failed += 1
            _whisper(f"  could not be judged: {error!r}; again: {again}")
            continue
        if not result.is_sound:
            _whisper(f"  {result}; again: {again}")
        tally = tally.plus(result)
    report.add(scenario.name, tally)


def main(words: Sequence[str] | None = None) -> int:
    """Play what the words say; return the exit code."""
    given = _parser().parse_args(words)
    logging.getLogger("outlay").addHandler(logging.NullHandler())
    logging.getLogger("outlay").propagate = False
    chosen = [each for each in SCENARIOS if given.name in each.name]
    if not chosen:
        _whisper(f"no fault's name has {given.name!r} in it")
        return 2
    clock = SystemClock()
    started = clock.monotonic()
    report = Report()
    _whisper(f"seed {given.seed}, scale {given.scale:g}")
    report.head()
    for scenario in chosen:
        if why := scenario.needs():
            report.skip(scenario.name, why)
            continue
        count = given.trials or max(1, round(scenario.trials * given.scale))
        play(scenario, given.seed, range(given.first, given.first + count), report)
    report.end()
    _whisper(
        f"{clock.monotonic() - started:.0f} s; could not be judged: {report.failed}"
    )
    return 0 if report.is_sound else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument(
        "name", nargs="?", default="", help="only faults named like this"
    )
    parser.add_argument(
        "--seed", default=secrets.token_hex(4), help="the same seed plays the same"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="so many times the usual trials"
    )
    parser.add_argument("--trials", type=int, help="of each fault; overrides the scale")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first trial"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
