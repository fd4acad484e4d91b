"""Exit codes, the same for every command."""

from __future__ import annotations

import enum
from typing import Final

from outlay._reconcile.values import BillError
from outlay._tables.csv_table import TableError
from outlay.errors import JournalError, OutlayError, RejectedError, UnavailableError


class ExitCode(enum.IntEnum):
    """The exit codes that a script can rely on."""

    DONE = 0
    REFUSED = 1  # The server or the journal refused, or a file cannot be read.
    USAGE = 2  # A wrong argument or setting. argparse uses the same code.
    UNREACHABLE = 3  # No response, or "later". Another try may help.
    DIFFERENT = 4  # A bill and the tracked costs differ by more than the tolerance.
    INTERRUPTED = 130  # 128 + SIGINT, as in shells.


class UsageError(OutlayError):
    """The arguments make no sense together. The message says what would."""


class CommandFailedError(OutlayError):
    """The command did not do its job, although it was called correctly."""


class OutputError(OutlayError, OSError):
    """Standard output cannot be written, for example because the disk is full."""


_BY_ERROR: Final = (
    (OutputError, ExitCode.REFUSED),
    (CommandFailedError, ExitCode.REFUSED),
    (TableError, ExitCode.REFUSED),
    (BillError, ExitCode.REFUSED),
    (RejectedError, ExitCode.REFUSED),
    (JournalError, ExitCode.REFUSED),
    (UnavailableError, ExitCode.UNREACHABLE),
    # All other errors are mistakes of the caller: a setting, an amount, a port.
    (OutlayError, ExitCode.USAGE),
)


def exit_code(error: OutlayError) -> ExitCode:
    """Return the exit code of a command that ``error`` ended."""
    return next(code for kind, code in _BY_ERROR if isinstance(error, kind))
