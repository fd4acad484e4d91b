"""``outlay close``: close a month, so that its figures stay."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Final

from outlay._cli.exit_codes import ExitCode
from outlay._cli.money_api import MoneyApi
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    connection_settings,
)
from outlay._cli.output import Table, print_data, print_table
from outlay._cli.periods import short_time

if TYPE_CHECKING:
    from outlay._cli.money_api import ClosedPeriod

_DESCRIPTION: Final = """\
Close a month, in UTC. Events and corrections of the month that come later count in the
month in which they come, as adjustments of the closed one. Without a month, list the
closed ones. A closed month cannot be reopened.
"""

_EPILOG: Final = """\
examples:
  outlay close 2026-10
  outlay close
"""

_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "month", nargs="?", type=_month, metavar="MONTH", help="such as 2026-10"
    )
    add_format_options(parser)
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Close the month, or list the closed ones."""
    with MoneyApi(connection_settings(arguments)) as api:
        if arguments.month is not None:
            found: tuple[ClosedPeriod, ...] = (api.close_month(arguments.month),)
        else:
            found = api.closed_months().data
    if arguments.format:
        rows = [
            {
                "from": one.period.start.isoformat(),
                "to": one.period.end.isoformat(),
                "closedAt": one.closed_at.isoformat(),
                "closedBy": one.closed_by,
            }
            for one in found
        ]
        print_data(arguments.format, rows, rows)
    elif not found:
        print("no month is closed; type: outlay close 2026-10")
    else:
        print_table(
            Table(
                ("from", "to", "closed", "by"),
                [
                    (
                        short_time(one.period.start),
                        short_time(one.period.end),
                        short_time(one.closed_at),
                        one.closed_by,
                    )
                    for one in found
                ],
            )
        )
    return ExitCode.DONE


def _month(text: str) -> str:
    if not _MONTH.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no month such as 2026-10")
    return text
