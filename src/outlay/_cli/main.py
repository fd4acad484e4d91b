"""Find the command, run it, and turn errors into exit codes."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import importlib.metadata
import os
import sys
from typing import TYPE_CHECKING, Final, Protocol, cast

from outlay._cli.exit_codes import ExitCode, OutputError, exit_code
from outlay._cli.next_steps import Parser, add_next_step
from outlay._cli.streams import discard_output, prepare_streams, program_arguments
from outlay.errors import MissingExtraError, OutlayError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Command(Protocol):
    """The functions of a command's module."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the description, the arguments and an example."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command and return its exit code."""
        ...


_COMMANDS: Final = {
    "demo": "see outlay work: traffic, an outage, a killed worker, exact totals",
    "serve": "run the reference server",
    "init": "write a file of settings, and create the default cost metrics",
    "agent": "ship for all processes of a host that have shipping=agent",
    "track": "track one cost event and wait for its delivery",
    "costs": "show totals by customer, dimension or time",
    "margins": "show revenue beside cost, by customer",
    "budgets": "list, set, delete and test limits for costs",
    "revenue": "import revenue from a CSV file, and list it",
    "rates": "give and list rates between currencies",
    "customers": "give customers names, and list them",
    "export": "export events, totals or FOCUS rows to a file",
    "reconcile": "compare a provider's bill with the tracked costs",
    "reconciliations": "list, show and withdraw saved reconciliations",
    "void": "let events count nothing",
    "adjust": "add an amount to what events count",
    "corrections": "list and revert corrections of events",
    "close": "close a month, so that its figures stay",
    "metrics": "create, list, change and delete cost metrics",
    "keys": "create, list, rotate and revoke API keys of a server",
    "events": "list events on the server, or show one",
    "erase": "replace a customer's id on a server, everywhere and for good",
    "retention": "show or set how long a server keeps events",
    "backup": "copy a server's database, also while it serves",
    "store": "copy a server's data to another kind of store",
    "restore": "put a backup in the place of a server's database",
    "journal": "list, ship, resend, export and delete events in the journal",
    "unpriced": "list or discard captured costs that have no price yet",
    "reprice": "track unpriced costs whose price is now known",
    "prices": "check a price book, or look a price up",
    "doctor": "check settings, folder, journal, clock and server",
    "completion": "print the script that completes words in a shell",
}

_EXTRAS: Final = {
    "backup": "server",
    "completion": "cli",
    "demo": "server",
    "restore": "server",
    "serve": "server",
    "store": "server",
}
"""The extras that commands need."""

_DESCRIPTION: Final = "Track what every customer really costs: exactly, and once."

_EPILOG: Final = """\
exit codes:
  0    done
  1    the server or the journal refused, or a file cannot be read; demo: the
       totals differ
  2    wrong usage or setting
  3    the server cannot be reached, or asks to come back later
  4    a bill and the tracked costs differ
  130  interrupted

environment:
  OUTLAY_BASE_URL   address of the server (default http://127.0.0.1:4600)
  OUTLAY_API_KEY    credential for the server
  OUTLAY_SERVER_*   settings of 'outlay serve', such as OUTLAY_SERVER_PORT

examples:
  outlay demo
  outlay serve --dev
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code, see `ExitCode`.

    Args:
        argv: The arguments without the program's name. If None, those of the process.

    Raises:
        SystemExit: argparse raises it after ``--help`` and for wrong usage.
    """
    words = program_arguments() if argv is None else list(argv)
    if argv is None:
        # Else Python looks for garbage in all modules at exit: a fifth of a command.
        atexit.register(gc.freeze)
    prepare_streams()
    try:
        return _run(words)
    except OutlayError as error:
        if isinstance(error, OutputError):
            discard_output()
        notes: list[str] = getattr(error, "__notes__", [])
        print("\n".join([f"outlay: {error}", *notes]), file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # The reader, such as head, has read enough.
        discard_output()
        return ExitCode.DONE


def all_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the complete parser of each command, by its name.

    The documentation shows their help.

    Raises:
        MissingExtraError: A command needs packages that are not installed.
    """
    _, parsers = _parsers()
    for name, parser in parsers.items():
        _load(name).configure(parser)
    return parsers


def _run(words: Sequence[str]) -> int:
    # Import only the module of the command that is called. Other modules may need
    # packages that are not installed, or take long to import.
    if "_ARGCOMPLETE" in os.environ:
        _complete(os.environ.get("COMP_LINE", "").split()[1:])
    name = _command_name(words)
    parser, subparsers = _parsers()
    if name not in _COMMANDS:
        parser.parse_args(words)  # It prints help, the version or an error, and exits.
    command = _load(name)
    command.configure(subparsers[name])
    arguments, unknown = parser.parse_known_args(words)
    innermost: Parser = vars(arguments).pop("parser")
    if unknown:
        innermost.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code = command.run(arguments)
    except OutlayError as error:
        add_next_step(error, innermost.prog)
        raise
    try:
        sys.stdout.flush()  # An error must be noticed here, not at exit.
    except OSError:
        if code == ExitCode.DONE:
            raise
        discard_output()  # The command's own exit code says more.
    return code


def _command_name(words: Sequence[str]) -> str:
    return next((word for word in words if not word.startswith("-")), "")


def _complete(words: Sequence[str]) -> None:
    """Send the completions that the shell requested, and exit."""
    completion = importlib.import_module("outlay._cli.commands.completion")
    parser, subparsers = _parsers()
    name = _command_name(words)
    if name in _COMMANDS:
        _load(name).configure(subparsers[name])
    completion.complete(parser)


def _load(name: str) -> Command:
    """Import the module of a command.

    Raises:
        MissingExtraError: The command needs packages that are not installed.
    """
    try:
        return cast("Command", importlib.import_module(f"outlay._cli.commands.{name}"))
    except ModuleNotFoundError as error:
        if name not in _EXTRAS or (error.name or "").startswith("outlay"):
            raise
        raise MissingExtraError(f"'outlay {name}'", _EXTRAS[name]) from error


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the root parser, and one parser without arguments for each command."""
    parser = Parser(
        prog="outlay",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the version and exit"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    return parser, {
        name: commands.add_parser(
            name,
            help=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for name, summary in _COMMANDS.items()
    }


class _Version(argparse.Action):
    """Reads the version only on demand, because that reads files."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"outlay {importlib.metadata.version('outlay')}")
        parser.exit(ExitCode.DONE)
