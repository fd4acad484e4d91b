"""``outlay journal status``, ``list``, ``show`` and ``export``, which only read."""

from __future__ import annotations

import itertools
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._cli.exit_codes import CommandFailedError, ExitCode, UsageError
from outlay._cli.journal_options import DestinationRelation, EventFilter
from outlay._cli.journal_totals import (
    STATES,
    EventSummary,
    Totals,
    print_totals,
    total_events,
    totals_json,
)
from outlay._cli.output import (
    Table,
    plain,
    plain_or_none,
    pluralize,
    print_data,
    print_table,
    reason_text,
)
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

_RELATION_TEXTS: Final = {
    DestinationRelation.CURRENT: "the destination of these settings",
    DestinationRelation.OTHER_CREDENTIAL: "the same server, another credential",
    DestinationRelation.OTHER_ADDRESS: "another server or namespace",
    DestinationRelation.UNKNOWN: "its meta.json cannot be read",
}

_NEW_FILE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
_OWNER_ONLY: Final = 0o600


class Status(NamedTuple):
    """The contents of one destination.

    Attributes:
        view: The destination.
        relation: The difference from the destination of the settings.
        meta: Its address and namespace. None if they cannot be read.
        writers: The folders of its writers.
        events: The totals of its undelivered events.
        damaged: The sizes of its files of corrupt bytes.
        problems: The items that cannot be read.
        unpriced: The number of captured costs without a price.
    """

    view: DestinationView
    relation: DestinationRelation
    meta: DestinationMeta | None
    writers: list[WriterInfo]
    events: Totals
    damaged: list[int]
    problems: list[UnreadableItem]
    unpriced: int

    @classmethod
    def from_view(cls, view: DestinationView, relation: DestinationRelation) -> Self:
        """Read the contents of a destination."""
        problems: list[UnreadableItem] = []
        return cls(
            view,
            relation,
            view.meta,
            view.writers(),
            total_events(view.events(problems.append)),
            [size_of(path) for path in view.damaged_files()],
            problems,
            sum(1 for _ in view.unpriced(problems.append)),
        )

    @property
    def size(self) -> int:
        """The bytes of all segments on disk."""
        return sum(writer.size for writer in self.writers)


def status(target: JournalTarget, arguments: argparse.Namespace) -> int:
    """Show the contents of each destination."""
    found = [Status.from_view(view, target.relation(view)) for view in target.views()]
    if arguments.format:
        destinations = [_status_json(each) for each in found]
        rows = [
            {"destination": each["destination"], **row}
            for each in destinations
            for row in each["events"]
        ]
        document = {
            "journalDir": str(target.journal_dir),
            "destinations": destinations,
        }
        print_data(arguments.format, document, rows)
        return ExitCode.DONE
    print(f"journal in {target.journal_dir}")
    if not found:
        print("  the journal is empty")
    for each in found:
        _print_status(each)
    return ExitCode.DONE


def _status_json(status: Status) -> dict[str, Any]:
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
        "events": totals_json(status.events),
        "unpriced": status.unpriced,
        "damagedFiles": len(status.damaged),
        "damagedBytes": sum(status.damaged),
        "problems": [problem._asdict() for problem in status.problems],
    }


def _print_status(status: Status) -> None:
    print()
    print(f"{_destination_title(status.meta)}  {status.view.digest}")
    print(f"  {_RELATION_TEXTS[status.relation]}")
    dead = sum(writer.is_dead for writer in status.writers)
    living = len(status.writers) - dead
    unattended = sum(writer.is_unattended for writer in status.writers)
    print(
        f"  {pluralize(living, 'living writer')}, {dead:,} dead, {status.size:,} bytes"
    )
    if unattended:
        print(
            f"  {pluralize(unattended, 'writer')} without an agent: run 'outlay agent'"
        )
    if status.damaged:
        files = pluralize(len(status.damaged), "file")
        print(f"  {files} of corrupt bytes, {sum(status.damaged):,} bytes")
    if status.unpriced:
        costs = pluralize(status.unpriced, "captured cost")
        print(f"  {costs} without a price: see 'outlay unpriced list'")
    for problem in status.problems:
        print(f"  {problem.location}: {problem.text}")
    if status.events:
        print_totals(status.events)
    else:
        print("  no undelivered event")


def _destination_title(meta: DestinationMeta | None) -> str:
    if meta is None:
        return "?"
    return meta.base_url + (f" ({meta.namespace})" if meta.namespace else "")


def list_events(target: JournalTarget, arguments: argparse.Namespace) -> int:
    """List the selected events."""
    if arguments.limit < 0:
        raise UsageError(f"--limit {arguments.limit}: pass 0 or more")
    problems: list[UnreadableItem] = []
    selected = _selected(target, arguments, problems.append)
    limit = arguments.limit or None
    listed = list(itertools.islice(selected, limit))
    more = limit is not None and next(selected, None) is not None
    if arguments.format:
        rows = [_event_json(view, event) for view, event in listed]
        print_data(arguments.format, {"events": rows, "more": more}, rows)
    elif listed:
        _print_events([event for _, event in listed])
    else:
        print("no undelivered event matches")
    if more and not arguments.format:
        print(f"the first {limit:,}; pass --limit to see more")
    _print_problems(problems)
    return ExitCode.DONE


def _print_events(events: Iterable[StoredEvent]) -> None:
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
    rows = []
    for event in events:
        summary = EventSummary.from_event(event)
        rows.append(
            (
                event.state,
                reason_text(event.reason),
                summary.timestamp,
                summary.type,
                summary.customer,
                summary.amount,
                event.attempts,
                summary.key,
            )
        )
    hide = ("attempts", "reason", "timestamp", "state")
    print_table(Table(headers, rows, hide=hide))


def show_event(target: JournalTarget, arguments: argparse.Namespace) -> int:
    """Show all traces of one event in the folder."""
    problems: list[UnreadableItem] = []
    traces = [
        (view, event)
        for view in target.views()
        for event in view.history(arguments.key, problems.append)
    ]
    _print_problems(problems)
    if not traces:
        raise CommandFailedError(
            f"no trace of {arguments.key} in {target.journal_dir}; a delivered event "
            "is deleted with its segment"
        )
    if arguments.format:
        rows = [_event_json(view, event) for view, event in traces]
        print_data(arguments.format, rows, rows)
        return ExitCode.DONE
    for view, event in traces:
        _print_trace(view, event)
    return ExitCode.DONE


def _print_trace(view: DestinationView, event: StoredEvent) -> None:
    summary = EventSummary.from_event(event)
    print(f"{summary.key}")
    print(f"  {summary.type} {plain(summary.amount)} for {summary.customer}")
    print(f"  at {summary.timestamp}, to {_destination_title(view.meta)}")
    print(f"  {event.state}, {reason_text(event.reason)}; {_attempts(event)}")
    if event.message:
        print(f"  {event.message} ({event.recorded_at})")
    print(f"  in {view.digest}/{event.location}")
    print(f"  {event.payload.decode(errors='replace')}")


def _attempts(event: StoredEvent) -> str:
    attempts = pluralize(event.attempts, "attempt")
    if event.first_attempt_at is None:
        return attempts
    return f"{attempts}; the first without a refusal at {event.first_attempt_at}"


def export(target: JournalTarget, arguments: argparse.Namespace) -> int:
    """Write the bytes of the selected events, one line each."""
    problems: list[UnreadableItem] = []
    selected = _selected(target, arguments, problems.append)
    if arguments.output is None:
        _write(sys.stdout.buffer, selected)
    else:
        count = _write_file(arguments.output, selected)
        print(f"{pluralize(count, 'event')} in {arguments.output}")
    _print_problems(problems)
    return ExitCode.DONE


def _write_file(
    path: str, selected: Iterable[tuple[DestinationView, StoredEvent]]
) -> int:
    try:
        with os.fdopen(os.open(path, _NEW_FILE, _OWNER_ONLY), "wb") as file:
            return _write(file, selected)
    except FileExistsError:
        raise UsageError(f"{path} exists; name a new file") from None


def _write(
    file: BinaryIO, selected: Iterable[tuple[DestinationView, StoredEvent]]
) -> int:
    count = 0
    for _, event in selected:
        file.write(event.payload + b"\n")
        count += 1
    file.flush()
    return count


def _selected(
    target: JournalTarget, arguments: argparse.Namespace, on_problem: OnProblem
) -> Iterator[tuple[DestinationView, StoredEvent]]:
    selection = EventFilter.from_arguments(arguments, STATES)
    return (
        (view, event)
        for view in target.views()
        for event in view.events(on_problem)
        if selection.matches(event)
    )


def _print_problems(problems: Iterable[UnreadableItem]) -> None:
    for problem in problems:
        print(f"outlay: {problem.location}: {problem.text}", file=sys.stderr)


def _event_json(view: DestinationView, event: StoredEvent) -> dict[str, Any]:
    summary = EventSummary.from_event(event)
    return {
        "idempotencyKey": summary.key,
        "state": event.state,
        "reason": event.reason,
        "type": summary.type,
        "customer": summary.customer,
        "amount": plain_or_none(summary.amount),
        "timestamp": summary.timestamp,
        "attempts": event.attempts,
        "firstAttemptAt": event.first_attempt_at,
        "message": event.message or None,
        "recordedAt": event.recorded_at,
        "destination": view.digest,
        "location": event.location,
        "payload": event.payload.decode(errors="replace"),
    }
