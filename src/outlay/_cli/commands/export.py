"""``outlay export``: write events, totals or FOCUS rows to a file."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from outlay._cli.exit_codes import CommandFailedError, ExitCode, UsageError
from outlay._cli.money_api import MoneyApi
from outlay._cli.options import add_connection_options, connection_settings
from outlay._cli.parquet import HAS_PARQUET, ParquetFile
from outlay._cli.periods import add_period_options, period_of
from outlay._cli.progress import ProgressBar
from outlay.errors import MissingExtraError, UnavailableError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_DESCRIPTION: Final = """\
Write events, totals by day, or rows of FOCUS 1.2 to a file, a page at a time. Amounts
are texts with all of their digits. An export that was cut short can be continued.
"""

_EPILOG: Final = """\
examples:
  outlay export totals --month 2026-10 --output october.csv
  outlay export events --from 2026-10-01 --to 2026-11-01 --format jsonl > events.jsonl
  outlay export focus --month 2026-10 --format parquet --output focus.parquet
"""

_OWNER_ONLY: Final = 0o600


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add = parser.add_argument
    add(
        "dataset",
        choices=("events", "totals", "focus"),
        help="events: each event; totals: costs by metric, day, customer and "
        "dimensions; focus: the same in the columns of FOCUS 1.2",
    )
    add(
        "--format",
        choices=("csv", "jsonl", "parquet"),
        default="csv",
        help="CSV, JSON Lines, or Parquet with texts (default: csv)",
    )
    add(
        "--output",
        metavar="FILE",
        help="write to this file, which only its owner can read (default: the "
        "standard output)",
    )
    add("--customer", metavar="ID", help="only the costs of this customer")
    add(
        "--resume",
        metavar="CURSOR",
        help="append to FILE from this cursor on, which a failed export names",
    )
    add_period_options(parser)
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write all pages."""
    if arguments.format == "parquet":
        if not HAS_PARQUET:
            raise MissingExtraError("'outlay export --format parquet'", "export")
        if arguments.output is None or arguments.resume is not None:
            raise UsageError("Parquet needs --output, and cannot be resumed")
    query = _query(arguments)
    cursor: str | None = arguments.resume
    is_on_screen = arguments.output is None and sys.stdout.isatty()
    with (
        MoneyApi(connection_settings(arguments)) as api,
        _target(arguments) as target,
        ProgressBar(is_wanted=not is_on_screen) as bar,
    ):
        pages = api.export(query, cursor)
        rows = 0
        try:
            for page in pages:
                target.write(page.body)
                cursor = page.cursor
                rows += page.body.count(b"\n")
                bar.show("rows", rows)
        except UnavailableError as error:
            if cursor is None or arguments.format == "parquet":
                raise
            raise CommandFailedError(
                f"{error}; continue with --resume {cursor}"
            ) from error
    return ExitCode.DONE


def _query(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the query of the first page."""
    period = period_of(arguments)
    query = {
        "from": period.start.isoformat(),
        "to": period.end.isoformat(),
        "dataset": arguments.dataset,
        "format": "jsonl" if arguments.format == "jsonl" else "csv",
    }
    if arguments.as_of is not None:
        query["asOf"] = arguments.as_of.isoformat()
    if arguments.customer is not None:
        query["subject"] = arguments.customer
    return query


class _Target(Protocol):
    """The destination of pages."""

    def write(self, body: bytes, /) -> object:
        """Write one page."""
        ...


@contextmanager
def _target(arguments: argparse.Namespace) -> Iterator[_Target]:
    if arguments.output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    mode = "ab" if arguments.resume else "wb"
    try:
        with open(arguments.output, mode, opener=_private_opener) as file:
            if arguments.format == "parquet":
                with ParquetFile(file) as target:
                    yield target
            else:
                yield file
    except OSError as error:
        raise CommandFailedError(
            f"cannot write {arguments.output} ({error.strerror})"
        ) from error


def _private_opener(path: str, flags: int) -> int:
    return os.open(path, flags, _OWNER_ONLY)
