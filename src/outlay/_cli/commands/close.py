"""``outlay close``: close a month, so that its figures stay."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from outlay._cli.exit_codes import ExitCode
from outlay._cli.money_api import MoneyApi
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    connection_settings,
    parse_time,
)
from outlay._cli.output import Table, print_data, print_table
from outlay._cli.periods import first_of_month, period_text, short_time

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
                ("month", "closed", "by"),
                [
                    (
                        period_text(one.period.start, one.period.end),
                        short_time(one.closed_at),
                        one.closed_by,
                    )
                    for one in found
                ],
            )
        )
    return ExitCode.DONE


def _month(text: str) -> str:
    """Return the month of 2026-10 or 2026-10-01. Another day may be a mistake."""
    try:
        start = parse_time(text)
        if start == first_of_month(start):
            return f"{start:%Y-%m}"
    except argparse.ArgumentTypeError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no month such as 2026-10")
