"""``outlay unpriced``: list or discard captured costs that have no price yet.

`reprice` selects and shows them with the same functions.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay._capture.repricing import UnpricedEvent
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.journal_options import (
    CURRENT_DESTINATION,
    JournalTarget,
    add_journal_options,
    mapped_os_errors,
)
from outlay._cli.options import add_format_options, add_subcommand
from outlay._cli.output import Table, pluralize, print_data, print_result, print_table
from outlay._journal.admin import edit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from outlay._journal.admin.inspect import (
        DestinationView,
        UnpricedLine,
        UnreadableItem,
    )

_DESCRIPTION: Final = """\
Unpriced costs were captured, but no price list knew their price. The journal keeps
them with the usage that the provider reported. They are no events yet: 'outlay reprice'
tracks them when their price is known.
"""

_EPILOG: Final = """\
examples:
  outlay unpriced list --reason incomplete
  outlay unpriced drop --model a-model-that-was-free --yes
"""


class UnpricedRow(NamedTuple):
    """An unpriced cost that was read from the disk."""

    line: UnpricedLine
    unpriced: UnpricedEvent

    @property
    def key(self) -> str:
        """The idempotency key that the event will have. It is also the cost's id."""
        return self.unpriced.event.idempotency_key

    @property
    def may_be_tracked(self) -> bool:
        """Whether a killed process may have tracked the event."""
        return self.line.in_doubt_since_ms is not None

    def as_json(self) -> dict[str, Any]:
        """Return the cost for scripts."""
        cost, event = self.line.cost, self.unpriced.event
        observation = self.unpriced.observation
        return {
            "id": self.key,
            "reason": cost.reason,
            "message": cost.message,
            "type": event.type,
            "customer": event.subject,
            "provider": observation.provider,
            "operationId": event.data["operationId"],
            "model": observation.model,
            "serviceTier": observation.service_tier,
            "usage": observation.usage,
            "timestamp": event.timestamp,
            "storedAt": cost.kept_at,
            "mayBeTracked": self.may_be_tracked,
            "location": self.line.location,
        }


class ShownRow(NamedTuple):
    """An unpriced cost, its amount if that is known, and the source of the amount."""

    row: UnpricedRow
    amount: str
    source: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    _add(actions, "list", list_unpriced, "list unpriced costs and why they wait")
    drop_parser = _add(actions, "drop", drop, "discard unpriced costs")
    drop_parser.add_argument(
        "--yes", action="store_true", help="discard; without it, only show"
    )


def _add(
    actions: Any,  # noqa: ANN401 - see add_subcommand
    name: str,
    action: Callable[[JournalTarget, argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    parser = add_subcommand(actions, name, action, summary)
    parser.epilog = f"example:\n  outlay unpriced {name} --provider openai\n"
    add_format_options(parser)
    add_unpriced_filter(parser)
    add_journal_options(parser, destination=CURRENT_DESTINATION)
    return parser


def add_unpriced_filter(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that select unpriced costs."""
    group = parser.add_argument_group("selection")
    add = group.add_argument
    add("--id", metavar="ID", help="only this one, see 'outlay unpriced list'")
    add("--provider", metavar="NAME", help="only this provider")
    add("--model", metavar="NAME", help="only this model")
    add("--reason", metavar="WORD", help="such as unknown_model or incomplete")


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand.

    Raises:
        JournalError: The folder cannot be read or written.
    """
    with mapped_os_errors():
        return int(arguments.action(JournalTarget(arguments), arguments))


def list_unpriced(target: JournalTarget, arguments: argparse.Namespace) -> int:
    """List the selected costs. The command only reads."""
    rows = read_selected(target.selected_destination(), arguments)
    if arguments.format:
        shown = [row.as_json() for row in rows]
        print_data(arguments.format, {"unpriced": shown}, shown)
    elif rows:
        _print_waiting(rows)
        print("'outlay reprice' tracks those whose price is now known")
    else:
        print("no cost waits for a price")
    return ExitCode.DONE


def drop(target: JournalTarget, arguments: argparse.Namespace) -> int:
    """Discard the selected costs."""
    view = target.selected_destination()
    rows = read_selected(view, arguments)
    if rows and not arguments.format:
        _print_waiting(rows)
    if rows and not arguments.yes:
        raise UsageError(
            f"nothing was discarded: {pluralize(len(rows), 'cost')} would never be "
            "tracked. To discard them, add --yes"
        )
    discarded = 0
    if view is not None and rows:
        discarded = edit.discard(view, [row.line for row in rows])
        edit.remove_settled_unpriced(view)
    text = f"discarded {pluralize(discarded, 'cost')}"
    print_result(arguments.format, {"discarded": discarded}, text)
    return ExitCode.DONE


def read_selected(
    view: DestinationView | None, arguments: argparse.Namespace
) -> list[UnpricedRow]:
    """Return the selected unpriced costs. Print what cannot be read to stderr."""
    return [] if view is None else list(_read_selected(view, arguments))


def _read_selected(
    view: DestinationView, arguments: argparse.Namespace
) -> Iterator[UnpricedRow]:
    for line in view.unpriced(_print_problem):
        try:
            row = UnpricedRow(line, UnpricedEvent(line.cost))
        except msgspec.DecodeError as error:
            print(f"outlay: {line.location}: {error}", file=sys.stderr)
            continue
        observation = row.unpriced.observation
        if (
            arguments.id in {None, row.key}
            and arguments.provider in {None, observation.provider}
            and arguments.model in {None, observation.model}
            and arguments.reason in {None, line.cost.reason}
        ):
            yield row


def _print_problem(problem: UnreadableItem) -> None:
    print(f"outlay: {problem.location}: {problem.text}", file=sys.stderr)


def _print_waiting(rows: Iterable[UnpricedRow]) -> None:
    print_unpriced([ShownRow(row, "-", row.line.cost.message) for row in rows])


def print_unpriced(shown: Iterable[ShownRow]) -> None:
    """Print unpriced costs as a table."""
    headers = (
        "amount",
        "timestamp",
        "event type",
        "customer",
        "provider",
        "model",
        "source",
        "id",
    )
    rows = [
        (
            amount,
            row.unpriced.event.timestamp,
            row.unpriced.event.type,
            row.unpriced.event.subject,
            row.unpriced.observation.provider,
            row.unpriced.observation.model or "-",
            source,
            row.key,
        )
        for row, amount, source in shown
    ]
    hide = ("event type", "timestamp", "model", "customer")
    print_table(Table(headers, rows, hide=hide))
