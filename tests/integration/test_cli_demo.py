"""``outlay demo``: it tells the truth, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import signal
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from outlay._cli.commands.demo.scenario import TotalKey, print_comparison, totals
from outlay._cli.commands.demo.worker import Operation, operations
from outlay._cli.commands.demo.workers import WorkerPool
from outlay._cli.exit_codes import CommandFailedError, ExitCode
from tests.support import command_line

if TYPE_CHECKING:
    import subprocess

EVENTS: Final = "120"
DEADLINE: Final = 30.0


def start(folder: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """Start a small demo whose temporary files go into ``folder``."""
    demo = ("demo", "--events", EVENTS)
    return command_line.start(*demo, *words, TMPDIR=folder, **variables)


def workers_of(folder: Path) -> list[int]:
    """Return the processes that have ``folder`` as their place for temporary files."""
    mark = f"TMPDIR={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def assert_nothing_is_left(folder: Path) -> None:
    """Check that neither files nor processes remain."""
    assert list(folder.iterdir()) == []
    assert workers_of(folder) == []


def said_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Return what ``process`` prints up to the line that ``pattern`` is in."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(f"it ended without {pattern!r}:\n{said}")


ELSEWHERE: Final = {
    "OUTLAY_BASE_URL": "https://costs.example.com",
    "OUTLAY_API_KEY": "sk_live_real",
    "OUTLAY_SHIPPING": "none",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
}


def test_all_totals_are_equal_whatever_happened(tmp_path: Path) -> None:
    """The main job: an outage and a kill, and still every digit, once."""
    ran = command_line.finish(start(tmp_path))

    assert (ran.code, ran.err) == (ExitCode.DONE, "")
    assert "\x1b" not in ran.out, "no terminal, no colours"
    told = dict(re.findall(r"^  (\S+(?: -9)?) {2,}(\S.*)$", ran.out, re.MULTILINE))
    assert told["tracked"] == "120 operations; 120 events counted"
    assert told["OK"] == "all totals are equal, to the last digit"
    assert told["outage"] == "the server responds 503; tracking goes on"
    # Each of these must have happened, or the demo shows less than it says.
    for topic in ("recovered", "retried", "repeated", "dedupe"):
        assert int(told[topic].split()[0]) > 0, told[topic]
    # The job that ran again, and on top of it the answers that were lost.
    assert int(told["dedupe"].split()[0]) > int(told["repeated"].split()[0])
    assert "DIFFERS" not in ran.out
    # A run that looked odd can be repeated: each run tracks the same costs.
    assert tracked_totals(ran.out) == ledger_of_all_jobs()
    assert_nothing_is_left(tmp_path)


def tracked_totals(said: str) -> dict[TotalKey, Decimal]:
    """Return the tracked amounts of the table of totals."""
    rows = re.findall(r"^ (cus_\S+) +(\S+) +(\S+) +(\S+)", said, re.MULTILINE)
    return {TotalKey(*key): Decimal(amount) for *key, amount in rows}


def ledger_of_all_jobs() -> dict[TotalKey, Decimal]:
    """Return the totals of the operations of each run."""
    return totals(
        operation
        for job in ("job-1", "job-2", "job-3")
        for operation in operations(job, int(EVENTS) // 3)
    )


def test_keep_leaves_the_server_running_until_interrupted(tmp_path: Path) -> None:
    """Newcomers look around with the commands that it prints.

    The caller's settings lead to a real server, which must never get made-up costs.
    """
    process = start(tmp_path, "--keep", **ELSEWHERE)
    said = said_until(process, "outlay costs")
    variables = dict(re.findall(r"export (OUTLAY_\w+)=(\S+)", said))

    ran = command_line.run("costs", "--json", *EVER, **variables)
    process.send_signal(signal.SIGINT)
    end = command_line.finish(process)

    shown = re.search(r"^ all +(\S+)", said, re.MULTILINE)
    assert shown is not None
    assert json.loads(ran.out)["totals"] == {"USD": shown[1]}
    assert (end.code, end.err) == (ExitCode.DONE, "")
    assert_nothing_is_left(tmp_path)


EVER: Final = ("--from", "2000-01-01", "--to", "2100-01-01")


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_stopped_in_the_middle_it_cleans_up(
    number: signal.Signals, tmp_path: Path
) -> None:
    """A person who has seen enough must not have to look for processes."""
    process = start(tmp_path)
    said_until(process, "outage")
    process.send_signal(number)
    ran = command_line.finish(process)

    assert (ran.code, ran.err) == (ExitCode.INTERRUPTED, "")
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("events", ["59", "1000001", "-1", "many"])
def test_unsuitable_number_of_events_is_wrong_usage(events: str) -> None:
    """Too few to show anything, too many to wait for."""
    ran = command_line.call("demo", f"--events={events}")

    assert ran.code == ExitCode.USAGE
    assert "pass 60 to 1000000" in ran.err


def test_a_difference_in_the_last_digit_is_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A comparison that cannot fail would prove nothing."""
    cell = TotalKey("cus_1", "inference", "openai")
    amount = Decimal("0.1000000000000000000000000000000000000001")

    assert print_comparison({cell: amount}, {cell: amount})
    capsys.readouterr()
    assert not print_comparison({cell: amount}, {cell: Decimal("0.1")})
    assert capsys.readouterr().out.count("DIFFERS") == 2
    assert not print_comparison({cell: amount}, {})
    assert not print_comparison({}, {cell: amount})


def test_the_ledger_adds_up_exactly() -> None:
    """It is the truth that the server is measured by, so it must be right itself."""
    tiny = Operation("x", "cost.compute", "cus_1", "aws", Decimal("1e-40"))
    large = tiny._replace(operation_id="y", amount=Decimal(10) ** 20)

    assert totals([tiny, large]) == {
        TotalKey("cus_1", "compute", "aws"): Decimal(
            "1" + "0" * 20 + "." + "0" * 39 + "1"
        )
    }


def test_a_job_has_the_same_operations_each_time() -> None:
    """Or a successor would do other work than its predecessor."""
    once = [*operations("job-1", 50)]

    assert once == [*operations("job-1", 50)]
    assert once == [*operations("job-1", 90)][:50]
    assert {each.amount for each in once} != {
        each.amount for each in operations("job-2", 50)
    }


def test_a_worker_that_dies_unasked_ends_the_demo(tmp_path: Path) -> None:
    """With what it said last, instead of a progress bar that stands still."""
    environment = {"PYTHONPATH": ":".join(sys.path), "OUTLAY_BASE_URL": "nonsense"}
    with WorkerPool(tmp_path, environment, pause=0.0) as team:
        worker = team.start_worker("job-1", 10)

        with pytest.raises(CommandFailedError, match="OUTLAY_BASE_URL='nonsense'"):
            team.wait(lambda: bool(worker.counts))
