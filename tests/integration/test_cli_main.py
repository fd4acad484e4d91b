"""The front door: help, exit codes, and mistakes that end without a traceback."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from outlay._cli import exit_codes as _exits
from outlay._cli.exit_codes import ExitCode, exit_code
from outlay.errors import (
    ConfigError,
    InvalidEventError,
    JournalFullError,
    MissingExtraError,
    OutlayError,
    RejectedError,
    UnavailableError,
)
from outlay.server import AddressInUseError
from tests.support import command_line
from tests.support.command_line import reaching
from tests.support.servers import Fault, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.server import BackgroundServer

COMMANDS: Final = (
    "demo",
    "serve",
    "init",
    "completion",
    "track",
    "costs",
    "metrics",
    "metrics create",
    "metrics list",
    "backup",
    "erase",
    "retention",
    "restore",
    "keys",
    "keys create",
    "keys list",
    "keys rotate",
    "keys revoke",
)


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """A server of one's own."""
    with command_line.serving() as server:
        yield server


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command: str) -> None:
    """People read the example first; often it is all they need."""
    ran = command_line.call(*command.split(), "--help")

    assert ran.code == ExitCode.DONE
    assert re.search(rf"\nexamples?:\n  .*outlay {command}", ran.out)


def test_help_fits_a_terminal() -> None:
    """A line that wraps in the middle of a word is not read."""
    for command in ("", *COMMANDS):
        out = command_line.call(*command.split(), "--help").out
        assert [line for line in out.splitlines() if len(line) > 88] == []


def test_root_help_documents_every_exit_code() -> None:
    """A script can only rely on what is written down."""
    shown = command_line.call("--help").out

    documented = re.findall(r"^  (\d+) +\w", shown, re.MULTILINE)
    assert [int(code) for code in documented] == [*ExitCode]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RejectedError("no", status=403), ExitCode.REFUSED),
        (JournalFullError("full"), ExitCode.REFUSED),
        (_exits.CommandFailedError("not done"), ExitCode.REFUSED),
        (ConfigError("wrong"), ExitCode.USAGE),
        (InvalidEventError("amount", "x", "no"), ExitCode.USAGE),
        (MissingExtraError("A table", "cli"), ExitCode.USAGE),
        (AddressInUseError("taken"), ExitCode.USAGE),
        (UnavailableError("down", sent=False), ExitCode.UNREACHABLE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_exit_code_follows_from_the_error(error: OutlayError, code: ExitCode) -> None:
    """Scripts branch on these numbers, so they never move."""
    assert exit_code(error) is code


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required: COMMAND"),
        (["nope"], "choose from"),
        (["--nope"], "required: COMMAND"),
        (["metrics"], "required: {create,list,update,delete}"),
        (["track", "--nope"], "required"),
        (["costs", "--nope"], "unrecognized arguments: --nope"),
        (["costs", "--js"], "unrecognized arguments: --js"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_two_and_says_what_is_wrong(
    words: list[str], says: str
) -> None:
    """Two is what every Unix program says to a caller's mistake."""
    ran = command_line.call(*words)

    assert (ran.code, ran.out) == (ExitCode.USAGE, "")
    assert says in ran.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str) -> None:
    """A line in a profile, or a file in a folder, is all that it takes."""
    ran = command_line.call("completion", shell)

    assert (ran.code, ran.err) == (ExitCode.DONE, "")
    assert "_ARGCOMPLETE" in ran.out


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("outlay jou", {"journal"}),
        ("outlay journal re", {"replay", "resend"}),
        ("outlay costs --mon", {"--month"}),
        ("outlay costs --window D", {"DAY"}),
    ],
)
def test_a_shell_gets_the_words_that_complete_a_line(
    line: str, completions: set[str], tmp_path: Path
) -> None:
    """As the script of the shell asks for them."""
    answer = tmp_path / "answer"
    subprocess.run(
        [sys.executable, "-m", "outlay"],
        env={
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
            "_ARGCOMPLETE_IFS": "\n",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        },
        check=True,
        timeout=30,
    )

    assert {word.strip() for word in answer.read_text().split("\n")} == completions


def test_version_is_the_package_s() -> None:
    """Bug reports begin with it."""
    ran = command_line.call("--version")

    version = importlib.metadata.version("outlay")
    assert ran == (ExitCode.DONE, f"outlay {version}\n", "")


def test_console_script_and_module_are_the_same_program() -> None:
    """A person without the script on the path types ``python -m outlay``."""
    script = Path(sys.executable).with_name("outlay")
    program = subprocess.run(
        [script, "--help"], capture_output=True, text=True, check=True, timeout=30
    )

    assert program.stdout == command_line.run("--help", COLUMNS="80").out


def test_only_the_called_command_is_imported() -> None:
    """Tracking from the shell must not wait for a web framework to load."""
    program = (
        "import sys; from outlay._cli.main import main\n"
        "try: main(['track', '--help'])\n"
        "except SystemExit: pass\n"
        "print(*({'starlette', 'uvicorn'} & {*sys.modules}), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert ran.stderr == "\n"


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [
        ("rich", ["metrics", "list"], "cli"),
        ("rich", ["costs"], "cli"),
        ("rich", ["demo"], "server"),
        ("uvicorn", ["serve"], "server"),
        ("starlette", ["demo"], "server"),
        ("argcomplete", ["completion", "bash"], "cli"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_missing_package_is_one_line_that_names_the_extra(
    server: BackgroundServer, missing: str, words: list[str], extra: str
) -> None:
    """Who installed the bare SDK is told what to install, not where it broke."""
    command_line.call(
        *("metrics", "create", "any", "--event-type", "cost.any"), *reaching(server)
    )
    if extra == "cli" and words[0] != "completion":
        words = [*words, *reaching(server)]
    ran = run_without(missing, words)

    assert ran.returncode == ExitCode.USAGE
    assert ran.stderr.endswith(f"pip install '.[{extra}]'\n")
    assert ran.stderr.count("\n") == 1


def test_json_needs_no_extra(server: BackgroundServer) -> None:
    """Scripts run where no person looks at tables."""
    for words in (["metrics", "list"], ["costs"]):
        ran = run_without("rich", [*words, "--json", *reaching(server)])
        assert (ran.returncode, ran.stderr) == (ExitCode.DONE, "")


def run_without(package: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run outlay in an interpreter that cannot import ``package``."""
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from outlay._cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        # Plugins that other packages bring warn where they miss theirs.
        env={**os.environ, "PYDANTIC_DISABLE_PLUGINS": "__all__"},
    )


def test_a_reader_that_has_seen_enough_is_no_error(server: BackgroundServer) -> None:
    """``outlay costs | head -1`` is everyday use."""
    read, write = os.pipe()
    os.close(read)  # the reader is gone before the first line
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "outlay", "costs", "--json", *reaching(server)],
            stdout=write,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )
    finally:
        os.close(write)

    assert (ran.returncode, ran.stderr) == (ExitCode.DONE, b"")


def test_interrupted_is_quiet_and_loses_nothing(tmp_path: Path) -> None:
    """Ctrl-C while waiting for a slow server: the event was tracked all the same."""
    with ScriptedServer(lambda _: Fault.HANG) as server:
        process = command_line.start(
            *("track", "cost.any", "1", "--customer", "cus_1", "--operation-id", "1"),
            *("--timeout", "30", "--base-url", server.url),
            OUTLAY_JOURNAL_DIR=tmp_path,
        )
        server.wait_for_requests(1)
        process.send_signal(signal.SIGINT)
        ran = command_line.finish(process)

    assert ran == (ExitCode.INTERRUPTED, "", "")
    assert list(tmp_path.rglob("*.seg"))


@pytest.mark.parametrize("command", ["costs", "metrics list"])
def test_server_that_cannot_answer_now_is_worth_another_try(command: str) -> None:
    """A script tries again in this case, and calls for a person in all others."""
    busy = JSONResponse({"message": "try later"}, 503)
    with command_line.serving(busy) as server:
        ran = command_line.call(*command.split(), *reaching(server))
    gone = command_line.call(*command.split(), *reaching(server))

    said = "outlay: HTTP 503: try later\ntry: outlay doctor\n"
    assert ran == (ExitCode.UNREACHABLE, "", said)
    assert gone.code == ExitCode.UNREACHABLE
    assert gone.err.startswith(f"outlay: no response from {server.url} (")


@pytest.mark.parametrize("command", ["costs", "metrics list"])
@pytest.mark.parametrize(
    "body",
    [
        PlainTextResponse("<html>"),
        JSONResponse({"data": 1}),
        JSONResponse([1]),
    ],
    ids=["html", "other json", "array"],
)
def test_something_else_at_the_address_is_named(
    command: str, body: PlainTextResponse | JSONResponse
) -> None:
    """A wrong address often leads to a web page that answers everything with 200."""
    with command_line.serving(body) as server:
        ran = command_line.call(*command.split(), *reaching(server))

    assert ran.code == ExitCode.REFUSED
    assert "check OUTLAY_BASE_URL" in ran.err


@pytest.mark.parametrize("command", ["costs", "metrics list"])
def test_wrong_key_is_refused_and_not_repeated(
    server: BackgroundServer, command: str
) -> None:
    """What is typed by mistake may be a real credential."""
    wrong = command_line.with_key("sk_test_secret")
    ran = command_line.call(*command.split(), "--base-url", server.url, *wrong)

    assert ran.code == ExitCode.REFUSED
    assert "OUTLAY_API_KEY" in ran.err
    assert "secret" not in ran.out + ran.err


def test_wrong_setting_is_named_by_its_variable() -> None:
    """The caller typed no argument; the mistake is in the environment."""
    ran = command_line.run("costs", OUTLAY_BASE_URL="example.com")

    assert ran.code == ExitCode.USAGE
    assert ran.err.startswith("outlay: OUTLAY_BASE_URL='example.com': ")


def test_every_command_of_the_table_has_its_module() -> None:
    """The table is the only place that knows them all."""
    for command in {words.split()[0] for words in COMMANDS}:
        module = importlib.import_module(f"outlay._cli.commands.{command}")
        assert callable(module.configure)
        assert callable(module.run)
