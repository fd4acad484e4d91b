"""Every command, on every kind of terminal, and where there is none."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from outlay._cli.exit_codes import ExitCode
from outlay._cli.main import main
from tests.support import walked_commands
from tests.support.command_line import Ran
from tests.support.walked_commands import COMMANDS, UNWALKED, leaf_parsers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tests.support.walked_commands import Walk

PARSERS: Final = leaf_parsers()

FINE: Final = {ExitCode.DONE, ExitCode.DIFFERENT, ExitCode.REFUSED}
"""Codes of commands that did their job: a bill differs, and a check fails."""

ESCAPE: Final = "\x1b"
RULE: Final = "\u2500" * 3
PERIOD: Final = {
    "month",
    "start",
    "end",
    "at",
    "timestamp",
    "--expires",
    "--older-than",
}
NOWHERE: Final = "http://127.0.0.1:9"
NEXT: Final = re.compile(r"\b(outlay [a-z]+|pip install) ?")
BARS: Final = {
    "journal replay": "events",
    "reprice": "priced",
    "revenue import": "lines",
    "store copy": "events",
}
"""Commands that show their progress, and its name."""

C_LOCALE: Final = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
}

_SLOW: Final = pytest.mark.slow


def options_of(command: str) -> Collection[str]:
    """Return the options of a command."""
    return PARSERS[command]._option_string_actions


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """Return data for all commands."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("OUTLAY_")]:
            patch.delenv(name)
        patch.delenv("NO_COLOR", raising=False)
        patch.setenv("TERM", "xterm-256color")
        folder = tmp_path_factory.mktemp("walk")
        with walked_commands.walking(folder, patch) as walk:
            yield walk


def test_every_command_is_walked() -> None:
    """A new command gets a row in the table."""
    assert sorted(PARSERS) == sorted([*COMMANDS, *UNWALKED])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_narrow_terminal_and_an_ascii_pipe(
    walk: Walk, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table fits or becomes lines, a pipe gets no escape sequence."""
    monkeypatch.setenv("COLUMNS", "40")
    shown = run(walk.words(command), is_terminal=True)
    piped = run(walk.words(command), encoding="ascii")

    assert shown.code in FINE, shown.err
    assert_tables_fit(shown.out, 40)
    assert BARS.get(command, "") in shown.err
    assert piped.code == shown.code
    assert ESCAPE not in piped.out + piped.err
    assert (piped.out + piped.err).isascii() or command == "export"


@pytest.mark.parametrize("command", [*PARSERS])
def test_json_and_csv_are_offered_together(command: str) -> None:
    """A script wants one of them, a spreadsheet the other."""
    assert ("--json" in options_of(command)) == ("--csv" in options_of(command))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_table_is_offered_as_json_and_csv(
    walk: Walk, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script does not read a table."""
    if "--json" not in options_of(command):
        monkeypatch.setenv("COLUMNS", "500")
        shown = run(walk.words(command), is_terminal=True)
        assert RULE not in shown.out, "a table"
        return

    as_json = run(walk.words(command, "--json"))
    as_csv = run(walk.words(command, "--csv"))

    assert as_json.code in FINE, as_json.err
    assert json.loads(as_json.out) is not None
    assert as_csv.code in FINE, as_csv.err
    rows = [*csv.reader(as_csv.out.splitlines())]
    assert {len(row) for row in rows} <= {len(rows[0])} if rows else True


@pytest.mark.parametrize("text", ["2026-10", "2026-10-01"])
def test_months_and_dates_are_taken_wherever_a_period_is(text: str) -> None:
    """People type a period in one of these two forms."""
    actions = [
        (command, action)
        for command, parser in PARSERS.items()
        for action in parser._actions
        if PERIOD & {action.dest, *action.option_strings}
    ]

    assert len(actions) > 20
    for command, action in actions:
        assert callable(action.type), f"{command} {action.dest} takes any text"
        assert action.type(text), command


@pytest.mark.parametrize("command", [*PARSERS])
def test_wrong_usage_ends_with_the_next_command(command: str) -> None:
    """The help of the same command says what is right."""
    ran = run([*command.split(), "--nope"])

    assert ran.code == ExitCode.USAGE
    assert ran.err.endswith(f"\ntry: outlay {command} --help\n")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(name, marks=() if name in {"costs", "keys list"} else _SLOW)
        for name in COMMANDS
        if "--base-url" in options_of(name)
    ],
)
def test_an_error_ends_with_the_next_command(walk: Walk, command: str) -> None:
    """Nothing listens at the address."""
    timeout = ["--timeout", "0.1"] if "--timeout" in options_of(command) else []
    ran = run(walk.words(command, "--base-url", NOWHERE, *timeout))

    if ran.err:
        assert NEXT.search(ran.err.splitlines()[-1]), ran.err
    else:
        # It works on the journal alone, or its output says what failed.
        assert ran.code in {*FINE, ExitCode.UNREACHABLE}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [80, 40])
def test_a_real_terminal(walk: Walk, command: str, columns: int) -> None:
    """Colors are for terminals whose user wants them."""
    words, variables = walk.words(command), {"COLUMNS": str(columns)}
    colored = on_terminal(words, variables)
    plain = on_terminal(walk.words(command), {**variables, "NO_COLOR": "1"})

    assert colored.code in FINE
    assert "Traceback" not in colored.out + plain.out
    assert_tables_fit(colored.out, columns)
    assert not re.search(rf"{ESCAPE}\[[0-9;]*[3-9][0-9]*m", plain.out), "a color"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_pipe_and_the_c_locale(walk: Walk, command: str) -> None:
    """As in ``outlay costs | head -1``, and in a job of cron."""
    reader, writer = os.pipe()
    os.close(reader)
    closed = start(walk.words(command), {}, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, complaint = closed.communicate(timeout=60)
    in_c = start(walk.words(command), C_LOCALE, stdout=-1, stderr=subprocess.PIPE)
    out, err = in_c.communicate(timeout=60)

    assert b"Traceback" not in complaint + err
    assert closed.returncode in FINE
    assert in_c.returncode in FINE
    assert (out + err).isascii() or command == "export"


def start(
    words: Sequence[str],
    variables: Mapping[str, str],
    **streams: Any,  # noqa: ANN401 - those of Popen
) -> subprocess.Popen[bytes]:
    """Start ``outlay`` with the settings of the walk."""
    return subprocess.Popen(
        [sys.executable, "-m", "outlay", *words],
        env={**os.environ, "PYDANTIC_DISABLE_PLUGINS": "__all__", **variables},
        **streams,
    )


def on_terminal(words: Sequence[str], variables: Mapping[str, str]) -> Ran:
    """Run ``outlay`` on a terminal, which shows both of its streams."""
    ours, theirs = pty.openpty()
    process = start(words, variables, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # Linux raises it when the last writer is gone.
        while part := os.read(ours, 65_536):
            shown += part
    os.close(ours)
    return Ran(process.wait(60), shown.decode().replace("\r", ""), "")


def assert_tables_fit(shown: str, width: int) -> None:
    """Assert that each line of a table has at most ``width`` characters."""
    plain = re.sub(rf"{ESCAPE}\[[0-9;]*m", "", shown)
    for block in re.split(r"\n\s*\n", plain):
        if RULE in block:
            assert max(map(len, block.splitlines())) <= width, block


class _Stream(io.TextIOWrapper):
    """A standard stream in memory, which may be a terminal."""

    def __init__(self, encoding: str, *, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding, "backslashreplace", newline="")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        """Return whether a terminal is simulated."""
        return self._is_terminal

    def text(self) -> str:
        """Return what was written."""
        self.flush()
        written: bytes = self.buffer.getvalue()  # type: ignore[attr-defined]
        return written.decode()  # ASCII is UTF-8, too


def run(
    words: Sequence[str], *, is_terminal: bool = False, encoding: str = "utf-8"
) -> Ran:
    """Run ``outlay`` in this process with streams of a kind."""
    out = _Stream(encoding, is_terminal=is_terminal)
    err = _Stream(encoding, is_terminal=is_terminal)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as end:  # argparse raises it
            code = int(end.code or 0)
    return Ran(code, out.text(), err.text())
