"""``outlay journal status``, ``list``, ``show`` and ``export``: they only read."""

from __future__ import annotations

import itertools
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._cli.exit_codes import CommandFailedError, ExitCode, UsageError
from outlay._cli.journal_options import DestinationRelation, EventFilter
from outlay._cli.journal_totals import (
    STATES,
    EventSummary,
    Tallies,
    as_json,
    pluralize,
    reason_text,
    show_tallies,
    total_events,
)
from outlay._cli.output_amounts import aligned, plain
from outlay._journal.admin.commit import read_unpriced
from outlay._journal.admin.inspect import size_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO, Self

    from outlay._cli.journal_options import JournalTarget
    from outlay._journal.admin.inspect import (
        DestinationView,
        OnProblem,
        StoredEvent,
        UnreadableItem,
        WriterInfo,
    )
    from outlay._journal.folders import DestinationMeta

_IN_WORDS: Final = {
    DestinationRelation.CURRENT: "the destination of these settings",
    DestinationRelation.OTHER_CREDENTIAL: "the same server, for another credential",
    DestinationRelation.OTHER_ADDRESS: "another server or namespace",
    DestinationRelation.UNKNOWN: "its meta.json cannot be read",
}

_NEW_FILE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
_OWNER_ONLY: Final = 0o600


class Status(NamedTuple):
    """What is kept for one destination."""

    view: DestinationView
    relation: DestinationRelation
    meta: DestinationMeta | None
    writers: list[WriterInfo]
    events: Tallies
    damaged: list[int]  # sizes
    problems: list[UnreadableItem]
    unpriced: int  # captured costs that are no events yet

    @classmethod
    def of(cls, view: DestinationView, relation: DestinationRelation) -> Self:
        """Look."""
        problems: list[UnreadableItem] = []
        return cls(
            view,
            relation,
            view.meta,
            view.writers(),
            total_events(view.events(problems.append)),
            [size_of(path) for path in view.damaged_files()],
            problems,
            sum(1 for _ in read_unpriced(view.folder, problems.append)),
        )

    @property
    def size(self) -> int:
        """Bytes of all segments, on disk."""
        return sum(writer.size for writer in self.writers)


def status(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    """Show what is kept for each destination."""
    found = [Status.of(view, scope.relation(view)) for view in scope.views()]
    if arguments.json:
        document = {
            "journalDir": str(scope.journal_dir),
            "destinations": [_status_as_json(each) for each in found],
        }
        print(json.dumps(document, ensure_ascii=False))
        return ExitCode.DONE
    print(f"journal in {scope.journal_dir}")
    if not found:
        print("  nothing is kept there")
    for each in found:
        _show_status(each)
    return ExitCode.DONE


def _status_as_json(status: Status) -> dict[str, Any]:
    meta = status.meta
    return {
        "destination": status.view.digest,
        "relation": status.relation.value,
        "baseUrl": meta.base_url if meta else None,
        "namespace": meta.namespace if meta else None,
        "bytes": status.size,
        "writers": [
            {
                "writer": writer.path.name,
                "process": writer.process,
                "shippedBy": writer.holder,
                "segments": writer.segment_count,
                "bytes": writer.size,
            }
            for writer in status.writers
        ],
        "events": as_json(status.events),
        "unpriced": status.unpriced,
        "damagedFiles": len(status.damaged),
        "damagedBytes": sum(status.damaged),
        "problems": [problem._asdict() for problem in status.problems],
    }


def _show_status(status: Status) -> None:
    print()
    print(f"{_destination_title(status.meta)}  {status.view.digest}")
    print(f"  {_IN_WORDS[status.relation]}")
    dead = sum(writer.is_dead for writer in status.writers)
    alive = len(status.writers) - dead
    unattended = sum(writer.is_unattended for writer in status.writers)
    print(
        f"  {pluralize(alive, 'living writer')}, {dead:,} dead, {status.size:,} bytes"
    )
    if unattended:
        print(
            f"  {pluralize(unattended, 'writer')} without an agent: run 'outlay agent'"
        )
    if status.damaged:
        files = pluralize(len(status.damaged), "file")
        print(f"  {files} of damaged bytes, {sum(status.damaged):,} bytes")
    if status.unpriced:
        costs = pluralize(status.unpriced, "captured cost")
        print(f"  {costs} without a price: see 'outlay unpriced list'")
    for problem in status.problems:
        print(f"  {problem.location}: {problem.text}")
    if status.events:
        show_tallies(status.events)
    else:
        print("  no event is kept")


def _destination_title(meta: DestinationMeta | None) -> str:
    if meta is None:
        return "?"
    return meta.base_url + (f" ({meta.namespace})" if meta.namespace else "")


def list_events(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    """List the selected events."""
    if arguments.limit < 0:
        raise UsageError(f"--limit {arguments.limit}: pass 0 or more")
    problems: list[UnreadableItem] = []
    chosen = _selected(scope, arguments, problems.append)
    limit = arguments.limit or None
    listed = list(itertools.islice(chosen, limit))
    more = limit is not None and next(chosen, None) is not None
    if arguments.json:
        rows = [_event_as_json(view, event) for view, event in listed]
        print(json.dumps({"events": rows, "more": more}, ensure_ascii=False))
    elif listed:
        _show_list([event for _, event in listed])
    else:
        print("no such event is kept")
    if more and not arguments.json:
        print(f"the first {limit:,}; --limit shows more")
    _print_problems(problems)
    return ExitCode.DONE


def _show_list(events: Iterable[StoredEvent]) -> None:
    from outlay._cli import output as _tables

    read = [(event, EventSummary.of(event)) for event in events]
    amounts = aligned(facts.amount for _, facts in read)
    rows = [
        (
            event.state,
            reason_text(event.reason),
            facts.timestamp,
            facts.type,
            facts.customer,
            amount,
            str(event.attempts),
            facts.key,
        )
        for (event, facts), amount in zip(read, amounts, strict=True)
    ]
    headers = (
        "state",
        "reason",
        "timestamp",
        "event type",
        "customer",
        "amount",
        "attempts",
        "key",
    )
    _tables.show(_tables.table(headers, rows, amounts=["amount"]))


def show(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    """Show all that the folder knows of one event."""
    problems: list[UnreadableItem] = []
    traces = [
        (view, event)
        for view in scope.views()
        for event in view.history(arguments.key, problems.append)
    ]
    _print_problems(problems)
    if not traces:
        raise CommandFailedError(
            f"no trace of {arguments.key} in {scope.journal_dir}; what is delivered is "
            "deleted with its segment"
        )
    if arguments.json:
        found = [_event_as_json(view, event) for view, event in traces]
        print(json.dumps(found, ensure_ascii=False))
        return ExitCode.DONE
    for view, event in traces:
        _show_trace(view, event)
    return ExitCode.DONE


def _show_trace(view: DestinationView, event: StoredEvent) -> None:
    facts = EventSummary.of(event)
    print(f"{facts.key}")
    print(f"  {facts.type} {plain(facts.amount)} for {facts.customer}")
    print(f"  at {facts.timestamp}, to {_destination_title(view.meta)}")
    print(f"  {event.state}, {reason_text(event.reason)}; {_attempts(event)}")
    if event.message:
        print(f"  {event.message} ({event.buried_at})")
    print(f"  in {view.digest}/{event.location}")
    print(f"  {event.payload.decode(errors='replace')}")


def _attempts(event: StoredEvent) -> str:
    made = pluralize(event.attempts, "attempt")
    if event.first_attempt_at is None:
        return made
    return f"{made}; the first without a refusal at {event.first_attempt_at}"


def export(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    """Write the selected events' bytes, a line each."""
    problems: list[UnreadableItem] = []
    chosen = _selected(scope, arguments, problems.append)
    if arguments.output is None:
        _write(sys.stdout.buffer, chosen)
    else:
        count = _write_file(arguments.output, chosen)
        print(f"{pluralize(count, 'event')} in {arguments.output}")
    _print_problems(problems)
    return ExitCode.DONE


def _write_file(
    path: str, chosen: Iterable[tuple[DestinationView, StoredEvent]]
) -> int:
    try:
        with os.fdopen(os.open(path, _NEW_FILE, _OWNER_ONLY), "wb") as file:
            return _write(file, chosen)
    except FileExistsError:
        raise UsageError(f"{path} exists; name a new file") from None


def _write(
    file: BinaryIO, chosen: Iterable[tuple[DestinationView, StoredEvent]]
) -> int:
    count = 0
    for _, event in chosen:
        file.write(event.payload + b"\n")
        count += 1
    file.flush()
    return count


def _selected(
    scope: JournalTarget, arguments: argparse.Namespace, on_problem: OnProblem
) -> Iterator[tuple[DestinationView, StoredEvent]]:
    selection = EventFilter.of(arguments, STATES)
    return (
        (view, event)
        for view in scope.views()
        for event in view.events(on_problem)
        if selection.matches(event)
    )


def _print_problems(problems: Iterable[UnreadableItem]) -> None:
    for problem in problems:
        print(f"outlay: {problem.location}: {problem.text}", file=sys.stderr)


def _event_as_json(view: DestinationView, event: StoredEvent) -> dict[str, Any]:
    facts = EventSummary.of(event)
    return {
        "idempotencyKey": facts.key,
        "state": event.state,
        "reason": event.reason,
        "type": facts.type,
        "customer": facts.customer,
        "amount": None if facts.amount is None else plain(facts.amount),
        "timestamp": facts.timestamp,
        "attempts": event.attempts,
        "firstAttemptAt": event.first_attempt_at,
        "message": event.message or None,
        "buriedAt": event.buried_at,
        "destination": view.digest,
        "place": event.location,
        "payload": event.payload.decode(errors="replace"),
    }
