"""``outlay unpriced``: captured costs that wait for a price."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from outlay._cli.commands.unpriced_scope import add_filters, print_table, read_selected
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.journal_options import (
    JournalTarget,
    add_journal_options,
    mapped_os_errors,
)
from outlay._cli.journal_totals import pluralize
from outlay._cli.options_actions import add_subcommand
from outlay._journal.admin import commit as settling

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_DESCRIPTION: Final = """\
Costs that were captured, but that no price list knew a price of. They are kept with
what the provider reported, and are no events yet: 'outlay reprice' makes them so.
"""

_EPILOG: Final = """\
examples:
  outlay unpriced list --reason incomplete
  outlay unpriced drop --model a-model-that-was-free --yes
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add(actions, "list", list_, "what waits, and why")
    drop_parser = _add(actions, "drop", drop, "give up on costs, deliberately")
    drop_parser.add_argument("--yes", action="store_true", help="and not only show")


def _add(
    actions: Any,  # noqa: ANN401 - argparse gives the type of subparsers no public name
    name: str,
    action: Callable[[JournalTarget, argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    parser = add_subcommand(actions, name, action, summary)
    parser.epilog = f"example:\n  outlay unpriced {name} --provider openai\n"
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_filters(parser)
    add_journal_options(parser, destination="the one that the settings make")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Do what the subcommand says.

    Raises:
        JournalError: the folder cannot be read or written to.
    """
    with mapped_os_errors():
        return int(arguments.action(JournalTarget(arguments), arguments))


def list_(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    """List the selected costs; it only reads."""
    found = [*read_selected(scope.selected_destination(), arguments)]
    if arguments.json:
        rows = [each.as_json() for each in found]
        print(json.dumps({"unpriced": rows}, ensure_ascii=False))
    elif found:
        print_table((each, "-", each.line.cost.message) for each in found)
        print("'outlay reprice' tracks those that have a price by now")
    else:
        print("no cost waits for a price")
    return ExitCode.DONE


def drop(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    """Give up on the selected costs."""
    view = scope.selected_destination()
    found = [*read_selected(view, arguments)]
    if found and not arguments.json:
        print_table((each, "-", each.line.cost.message) for each in found)
    if found and not arguments.yes:
        raise UsageError(
            f"nothing was dropped: {pluralize(len(found), 'cost')} would never be "
            "tracked. To give up on them, add --yes"
        )
    dropped = 0
    if view is not None and found:
        dropped = settling.discard(view, [each.line for each in found])
        settling.recover(view)
    text = f"dropped {pluralize(dropped, 'cost')}"
    print(json.dumps({"dropped": dropped}) if arguments.json else text)
    return ExitCode.DONE
