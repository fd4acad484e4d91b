"""``outlay unpriced``: captured costs that wait for a price."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from outlay._journal import settling
from outlay.cli._actions import add_action
from outlay.cli._exits import Exit, UsageError
from outlay.cli._spill_scope import Scope, add_scope, journal_errors
from outlay.cli._spill_tally import counted
from outlay.cli._unpriced_scope import add_filters, selected, show

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
    action: Callable[[Scope, argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    parser = add_action(actions, name, action, summary)
    parser.epilog = f"example:\n  outlay unpriced {name} --provider openai\n"
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_filters(parser)
    add_scope(parser, destination="the one that the settings make")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Do what the subcommand says.

    Raises:
        JournalError: the folder cannot be read or written to.
    """
    with journal_errors():
        return int(arguments.action(Scope(arguments), arguments))


def list_(scope: Scope, arguments: argparse.Namespace) -> int:
    """List the selected costs; it only reads."""
    found = [*selected(scope.one(), arguments)]
    if arguments.json:
        rows = [each.as_json() for each in found]
        print(json.dumps({"unpriced": rows}, ensure_ascii=False))
    elif found:
        show((each, "-", each.line.cost.message) for each in found)
        print("'outlay reprice' tracks those that have a price by now")
    else:
        print("no cost waits for a price")
    return Exit.DONE


def drop(scope: Scope, arguments: argparse.Namespace) -> int:
    """Give up on the selected costs."""
    view = scope.one()
    found = [*selected(view, arguments)]
    if found and not arguments.json:
        show((each, "-", each.line.cost.message) for each in found)
    if found and not arguments.yes:
        raise UsageError(
            f"nothing was dropped: {counted(len(found), 'cost')} would never be "
            "tracked. To give up on them, add --yes"
        )
    dropped = 0
    if view is not None and found:
        dropped = settling.give_up(view, [each.line for each in found])
        settling.finish(view)
    text = f"dropped {counted(dropped, 'cost')}"
    print(json.dumps({"dropped": dropped}) if arguments.json else text)
    return Exit.DONE
