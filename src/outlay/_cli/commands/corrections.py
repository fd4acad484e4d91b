"""``outlay corrections``: list and revert corrections of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._cli.correcting import correction_json
from outlay._cli.exit_codes import ExitCode
from outlay._cli.money_api import MoneyApi
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    add_page_limit,
    add_subcommand,
    connection_settings,
)
from outlay._cli.output import Table, print_data, print_result, print_table
from outlay._cli.periods import short_time

if TYPE_CHECKING:
    import argparse

_DESCRIPTION: Final = """\
Voids and adjustments of events are records with a reason, a time and a key. 'outlay
void' and 'outlay adjust' make them.
"""

_EPILOG: Final = """\
examples:
  outlay corrections list --event evt_0192a3b4c5d6
  outlay corrections revert cor_5f3a9c0d2b1e --reason 'the wrong event'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    listing = add_subcommand(
        actions, "list", _list, "list the newest corrections, of one event or of all"
    )
    listing.epilog = _EPILOG
    listing.add_argument("--event", metavar="ID", help="only those of this event")
    add_page_limit(listing, "corrections", 25)
    add_format_options(listing)
    add_connection_options(listing)
    revert = add_subcommand(actions, "revert", _revert, "take a correction back")
    revert.epilog = _EPILOG
    revert.add_argument("id", metavar="ID", help="the id of the correction, cor_…")
    revert.add_argument("--reason", required=True, metavar="TEXT", help="the reason")
    add_format_options(revert)
    add_connection_options(revert)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    with MoneyApi(connection_settings(arguments)) as api:
        arguments.action(api, arguments)
    return ExitCode.DONE


def _list(api: MoneyApi, arguments: argparse.Namespace) -> None:
    page = api.corrections(arguments.event, arguments.limit)
    if arguments.format:
        rows = [correction_json(one) for one in page.data]
        print_data(arguments.format, rows, rows)
        return
    if not page.data:
        print("no corrections")
        return
    print_table(
        Table(
            ("when", "who", "what", "amount", "event", "reason", "id"),
            [
                (
                    short_time(one.created_at),
                    one.created_by,
                    one.kind if one.reverts is None else f"revert {one.reverts}",
                    one.delta,
                    one.event_id,
                    one.reason,
                    one.id,
                )
                for one in page.data
            ],
            hide=("who", "reason"),
        )
    )
    if page.pagination.total > len(page.data):
        print(f"{page.pagination.total - len(page.data):,} older ones are not shown")


def _revert(api: MoneyApi, arguments: argparse.Namespace) -> None:
    made = api.revert(arguments.id, arguments.reason)
    text = f"reverted {made.reverts} of {made.event_id} by {made.id}"
    print_result(arguments.format, correction_json(made), text)
