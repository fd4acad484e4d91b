"""Which unpriced costs a command is about, and how they are shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from outlay._capture.repricing import UnpricedEvent
from outlay._journal.admin.commit import UnpricedLine, read_unpriced

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from outlay._journal.admin.inspect import DestinationView, UnreadableItem


class UnpricedRow(NamedTuple):
    """An unpriced cost on disk, read."""

    line: UnpricedLine
    waiting: UnpricedEvent

    @property
    def key(self) -> str:
        """What names it: the idempotency key that its event will have."""
        return self.waiting.event.idempotency_key

    @property
    def may_be_tracked(self) -> bool:
        """Whether a killed process may have tracked it by another door."""
        return self.line.in_doubt_since_ms is not None

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        cost, event, seen = self.line.cost, self.waiting.event, self.waiting.observation
        return {
            "id": self.key,
            "reason": cost.reason,
            "message": cost.message,
            "type": event.type,
            "customer": event.subject,
            "provider": seen.provider,
            "operationId": event.data["operationId"],
            "model": seen.model,
            "serviceTier": seen.service_tier,
            "usage": seen.usage,
            "timestamp": event.timestamp,
            "keptAt": cost.kept_at,
            "mayBeTracked": self.may_be_tracked,
            "place": self.line.location,
        }


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that select unpriced costs."""
    group = parser.add_argument_group("selection")
    add = group.add_argument
    add("--id", metavar="ID", help="this one only, as 'outlay unpriced list' names it")
    add("--provider", metavar="NAME", help="of this provider")
    add("--model", metavar="NAME", help="of this model")
    add("--reason", metavar="WORD", help="such as unknown_model or incomplete")


def read_selected(
    view: DestinationView | None, arguments: argparse.Namespace
) -> Iterator[UnpricedRow]:
    """Yield the selected costs that wait for a price; complain of what is damaged."""
    if view is None:
        return
    for line in read_unpriced(view.folder, _complain):
        try:
            found = UnpricedRow(line, UnpricedEvent(line.cost))
        except msgspec.DecodeError as error:
            print(f"outlay: {line.location}: {error}", file=sys.stderr)
            continue
        if _is_wanted(found, arguments):
            yield found


def print_table(rows: Iterable[tuple[UnpricedRow, str, str]]) -> None:
    """Print costs, each with what is said of it: in short, and how it comes."""
    from outlay._cli import output as _tables

    made = [
        (
            said,
            each.waiting.event.timestamp,
            each.waiting.event.type,
            each.waiting.event.subject,
            each.waiting.observation.provider,
            each.waiting.observation.model or "-",
            how,
            each.key,
        )
        for each, said, how in rows
    ]
    headers = (
        "amount",
        "timestamp",
        "event type",
        "customer",
        "provider",
        "model",
        "by",
        "id",
    )
    _tables.show(_tables.table(headers, made))


def _is_wanted(found: UnpricedRow, arguments: argparse.Namespace) -> bool:
    seen = found.waiting.observation
    return (
        arguments.id in {None, found.key}
        and arguments.provider in {None, seen.provider}
        and arguments.model in {None, seen.model}
        and arguments.reason in {None, found.line.cost.reason}
    )


def _complain(problem: UnreadableItem) -> None:
    print(f"outlay: {problem.location}: {problem.text}", file=sys.stderr)
