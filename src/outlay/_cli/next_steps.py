"""End each error with the command to type next."""

from __future__ import annotations

import argparse
import re
from http import HTTPStatus
from typing import Any, Final, Never

from outlay._cli.exit_codes import ExitCode, OutputError
from outlay.errors import (
    ConfigError,
    JournalError,
    OutlayError,
    RejectedError,
    UnavailableError,
)

_COMMAND: Final = re.compile(r"\b(outlay (?!server\b)[a-z]|pip install |--resume )")
_DOCTOR: Final = "outlay doctor"
# The doctor looks at the client's settings and journal. These use the server's.
_OF_THE_SERVER: Final = ("outlay serve", "outlay backup", "outlay restore")


class Parser(argparse.ArgumentParser):
    """A parser whose errors end with the command that shows the help.

    The parsed arguments have it as ``parser``: the one of the innermost subcommand.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - argparse's
        """Create a parser; see `argparse.ArgumentParser`."""
        super().__init__(*arguments, **options)
        self.set_defaults(parser=self)

    def error(self, message: str) -> Never:
        """Print the usage, the error and the next command, and exit."""
        usage = self.format_usage()
        self.exit(
            ExitCode.USAGE,
            f"{usage}{self.prog}: error: {message}\ntry: {self.prog} --help\n",
        )


def add_next_step(error: OutlayError, program: str) -> None:
    """Add the next command to an error as a note, unless its message has one.

    Args:
        error: The error that ended a command.
        program: The command as it was typed, without arguments: ``outlay costs``.
    """
    if isinstance(error, OutputError) or _COMMAND.search(str(error)):
        return
    error.add_note(f"try: {_next_command(error, program)}")


def _next_command(error: OutlayError, program: str) -> str:
    if program in _OF_THE_SERVER:
        return f"{program} --help"
    if isinstance(error, RejectedError):
        if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return _DOCTOR
        return f"{program} --help"
    if isinstance(error, UnavailableError | ConfigError | JournalError):
        return _DOCTOR
    return f"{program} --help"
