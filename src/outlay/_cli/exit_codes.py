"""Exit codes, the same for every command."""

from __future__ import annotations

import enum
from typing import Final

from outlay.errors import JournalError, OutlayError, RejectedError, UnavailableError


class ExitCode(enum.IntEnum):
    """What a command's exit code says to a script."""

    DONE = 0
    REFUSED = 1  # the server or the journal said no, or the demo's totals differ
    USAGE = 2  # as argparse has it: a wrong argument or setting
    UNREACHABLE = 3  # no answer, or "later": trying again may help
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class UsageError(OutlayError):
    """What was asked for makes no sense; the message says what would."""


class CommandFailedError(OutlayError):
    """The command did not do its job, and not for a mistake in how it was called."""


_BY_ERROR: Final = (
    (CommandFailedError, ExitCode.REFUSED),
    (RejectedError, ExitCode.REFUSED),
    (JournalError, ExitCode.REFUSED),
    (UnavailableError, ExitCode.UNREACHABLE),
    # Everything else is a mistake in what was asked for: a setting, an amount, a port.
    (OutlayError, ExitCode.USAGE),
)


def exit_code(error: OutlayError) -> ExitCode:
    """Return the exit code of a command that ``error`` ended."""
    return next(code for kind, code in _BY_ERROR if isinstance(error, kind))
