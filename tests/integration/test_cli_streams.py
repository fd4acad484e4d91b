"""Closed, full, narrow and foreign streams: no traceback, and exact exit codes."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from outlay._cli.exit_codes import ExitCode
from tests.support import command_line
from tests.support.command_line import KEY, Ran
from tests.support.processes import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.server import BackgroundServer

EVENT: Final = ("cost.any", "0.0042", "--customer", "Größe", "--operation-id", "job-1")
EVER: Final = ("--from", "2000-01-01", "--to", "2100-01-01")
ASCII: Final = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
}


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """A server with one metric, whose name needs more than ASCII."""
    with command_line.serving() as server:
        words = ["metrics", "create", "Größe", "--event-type", "cost.any"]
        to = command_line.reaching(server)
        assert command_line.call(*words, *to).code == ExitCode.DONE
        yield server


def run(
    server: BackgroundServer,
    folder: Path,
    *words: str,
    redirect: str = "",
    **variables: str,
) -> Ran:
    """Run ``outlay`` in a shell that redirects its output."""
    settings = {
        "OUTLAY_BASE_URL": server.url,
        "OUTLAY_API_KEY": KEY,
        "OUTLAY_JOURNAL_DIR": folder,
    }
    ended = subprocess.run(
        ["sh", "-c", f'"$@" {redirect}', "sh", sys.executable, "-m", "outlay", *words],
        env=environment({**settings, **variables}),
        capture_output=True,
        check=False,
        timeout=60,
    )
    out, err = ended.stdout.decode(), ended.stderr.decode()
    assert "Traceback" not in err
    return Ran(ended.returncode, out, err)


def total(server: BackgroundServer) -> dict[str, str]:
    """Return the totals on ``server``."""
    to = command_line.reaching(server)
    shown = command_line.call("costs", "--json", *EVER, *to).out
    totals: dict[str, str] = json.loads(shown)["totals"]
    return totals


@pytest.mark.parametrize("redirect", [">&-", ">/dev/full", ">&- 2>&-", "<&- >&- 2>&-"])
def test_track_tells_by_its_exit_code_alone(
    server: BackgroundServer, tmp_path: Path, redirect: str
) -> None:
    """A script that saw a failure would track again, and count twice."""
    ran = run(server, tmp_path, "track", *EVENT, redirect=redirect)

    assert ran.code == ExitCode.DONE
    assert total(server) == {"USD": "0.0042"}


def test_track_reports_on_the_side_what_it_could_not_print(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """The key is lost to the reader, so silence would be wrong, too."""
    ran = run(server, tmp_path, "track", *EVENT, redirect=">/dev/full")

    assert ran.err.startswith("outlay: cannot write the output: ")


@pytest.mark.parametrize(
    "words", [["costs"], ["costs", "--json"], ["journal", "status"]], ids=" ".join
)
def test_output_that_cannot_be_written_is_one_line_and_one(
    server: BackgroundServer, tmp_path: Path, words: list[str]
) -> None:
    """The output is all that such a command is for."""
    ran = run(server, tmp_path, *words, redirect=">/dev/full")

    assert ran.code == ExitCode.REFUSED
    assert ran.err.startswith("outlay: cannot write the output: ")
    assert ran.err.count("\n") == 1


def test_names_beyond_ascii_do_not_end_a_command(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """Cron runs commands in the C locale."""
    tracked = run(server, tmp_path, "track", *EVENT, **ASCII)
    costs = run(server, tmp_path, "costs", "--by", "cost,customer", *EVER, **ASCII)

    assert (tracked.code, costs.code) == (ExitCode.DONE, ExitCode.DONE)
    assert "Gr\\xf6\\xdfe" in costs.out
    assert costs.out.isascii()


def test_json_is_exact_in_every_encoding(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """A script must read back the customer that was tracked."""
    tracked = run(server, tmp_path, "track", *EVENT, "--json", **ASCII)
    words = ("costs", "--by", "customer", "--json", *EVER)
    costs = run(server, tmp_path, *words, **ASCII)

    assert tracked.out.isascii()
    assert json.loads(tracked.out)["customerId"] == "Größe"
    (cost,) = json.loads(costs.out)["costs"]
    assert cost["groups"][0]["dimensions"] == {"customer": "Größe"}


def on_a_terminal(*words: str, **variables: str) -> str:
    """Return what ``outlay`` prints on a terminal."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "outlay", *words],
            env=environment({"TERM": "xterm", "COLUMNS": "80", **variables}),
            stdout=theirs,
            check=True,
            timeout=60,
        )
        return os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    "width",
    [80, *(pytest.param(width, marks=pytest.mark.slow) for width in (20, 40, 60, 100))],
)
def test_a_table_fits_the_terminal(server: BackgroundServer, width: int) -> None:
    """A line that the terminal wraps cannot be read as a row."""
    to = command_line.reaching(server)
    shown = on_a_terminal("metrics", "list", *to, COLUMNS=str(width), NO_COLOR="1")

    assert "cost.any" in shown
    if width >= 60:
        assert max(map(len, shown.splitlines()[:4])) <= width
    if 60 <= width < 100:
        assert "not shown, because the terminal is narrow: id" in shown


def test_a_terminal_that_is_too_narrow_gets_records_with_all_values(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """No digit is ever cut."""
    run(server, tmp_path, "track", *EVENT)
    words = ("costs", *EVER, *command_line.reaching(server))
    shown = on_a_terminal(*words, COLUMNS="12", NO_COLOR="1")

    assert "\ncost   Größe\ntotal  0.0042\n" in shown.replace("\r", "")


def test_no_color_means_no_escape_sequence(server: BackgroundServer) -> None:
    """See https://no-color.org, which scripts and people rely on."""
    words = ("metrics", "list", *command_line.reaching(server))

    assert "\x1b[" in on_a_terminal(*words)
    assert "\x1b[" not in on_a_terminal(*words, NO_COLOR="1")


def test_csv_has_the_fields_and_values_of_json(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """One row an object, every digit, and structures as JSON."""
    run(server, tmp_path, "track", *EVENT)
    as_json = run(server, tmp_path, "metrics", "list", "--json").out
    as_csv = run(server, tmp_path, "metrics", "list", "--csv").out

    (metric,), (row,) = json.loads(as_json), csv.DictReader(as_csv.splitlines())
    assert row["name"] == metric["name"] == "Größe"
    assert list(row) == list(metric)
    assert json.loads(row["groupBy"]) == metric["groupBy"]
