"""``outlay corrections``: list and revert corrections of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._cli.correcting import correction_json
from outlay._cli.exit_codes import ExitCode
from outlay._cli.money_api import MoneyApi
from outlay._cli.options import (
    add_action_options,
    add_page_limit,
    add_subcommand,
    connection_settings,
)
from outlay._cli.output import Table, print_list, print_result, print_table
from outlay._cli.periods import short_time

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from outlay.api import EventCorrection

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
    revert = add_subcommand(actions, "revert", _revert, "take a correction back")
    revert.epilog = _EPILOG
    revert.add_argument("id", metavar="ID", help="the id of the correction, cor_…")
    revert.add_argument("--reason", required=True, metavar="TEXT", help="the reason")
    add_action_options(actions)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    with MoneyApi(connection_settings(arguments)) as api:
        arguments.action(api, arguments)
    return ExitCode.DONE


def _list(api: MoneyApi, arguments: argparse.Namespace) -> None:
    page = api.corrections(arguments.event, arguments.limit)
    print_list(
        arguments.format,
        page.data,
        correction_json,
        _print_corrections,
        nothing="no corrections",
        total=page.pagination.total,
    )


def _print_corrections(found: Sequence[EventCorrection]) -> None:
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
                for one in found
            ],
            hide=("who", "reason"),
        )
    )


def _revert(api: MoneyApi, arguments: argparse.Namespace) -> None:
    made = api.revert(arguments.id, arguments.reason)
    text = f"reverted {made.reverts} of {made.event_id} by {made.id}"
    print_result(arguments.format, correction_json(made), text)
