"""``outlay spill status``, ``list``, ``show`` and ``export``: they only read."""

from __future__ import annotations

import itertools
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._journal.inspection import size_of
from outlay._journal.settling import read_unpriced
from outlay.cli._amounts import aligned, plain
from outlay.cli._exits import Exit, FailedError, UsageError
from outlay.cli._spill_scope import Relation, Selection
from outlay.cli._spill_tally import (
    STATES,
    Facts,
    Tallies,
    as_json,
    counted,
    show_tallies,
    tally,
    words,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO, Self

    from outlay._journal.folders import Meta
    from outlay._journal.inspection import (
        DestinationView,
        KeptEvent,
        OnProblem,
        Problem,
        Writer,
    )
    from outlay.cli._spill_scope import Scope

_IN_WORDS: Final = {
    Relation.CURRENT: "the destination of these settings",
    Relation.OTHER_CREDENTIAL: "the same server, for another credential",
    Relation.ELSEWHERE: "another server or namespace",
    Relation.UNKNOWN: "its meta.json cannot be read",
}

_NEW_FILE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
_OWNER_ONLY: Final = 0o600


class Status(NamedTuple):
    """What is kept for one destination."""

    view: DestinationView
    relation: Relation
    meta: Meta | None
    writers: list[Writer]
    events: Tallies
    damaged: list[int]  # sizes
    problems: list[Problem]
    unpriced: int  # captured costs that are no events yet

    @classmethod
    def of(cls, view: DestinationView, relation: Relation) -> Self:
        """Look."""
        problems: list[Problem] = []
        return cls(
            view,
            relation,
            view.meta,
            view.writers(),
            tally(view.events(problems.append)),
            [size_of(path) for path in view.damaged_files()],
            problems,
            sum(1 for _ in read_unpriced(view.folder, problems.append)),
        )

    @property
    def size(self) -> int:
        """Bytes of all segments, on disk."""
        return sum(writer.size for writer in self.writers)


def status(scope: Scope, arguments: argparse.Namespace) -> int:
    """Show what is kept for each destination."""
    found = [Status.of(view, scope.relation(view)) for view in scope.views()]
    if arguments.json:
        document = {
            "spillDir": str(scope.spill_dir),
            "destinations": [_status_as_json(each) for each in found],
        }
        print(json.dumps(document, ensure_ascii=False))
        return Exit.DONE
    print(f"journal in {scope.spill_dir}")
    if not found:
        print("  nothing is kept there")
    for each in found:
        _show_status(each)
    return Exit.DONE


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
    print(f"{_title(status.meta)}  {status.view.digest}")
    print(f"  {_IN_WORDS[status.relation]}")
    dead = sum(writer.is_dead for writer in status.writers)
    alive = len(status.writers) - dead
    unattended = sum(writer.is_unattended for writer in status.writers)
    print(f"  {counted(alive, 'living writer')}, {dead:,} dead, {status.size:,} bytes")
    if unattended:
        print(f"  {counted(unattended, 'writer')} without an agent: run 'outlay agent'")
    if status.damaged:
        files = counted(len(status.damaged), "file")
        print(f"  {files} of damaged bytes, {sum(status.damaged):,} bytes")
    if status.unpriced:
        costs = counted(status.unpriced, "captured cost")
        print(f"  {costs} without a price: see 'outlay unpriced list'")
    for problem in status.problems:
        print(f"  {problem.place}: {problem.text}")
    if status.events:
        show_tallies(status.events)
    else:
        print("  no event is kept")


def _title(meta: Meta | None) -> str:
    if meta is None:
        return "?"
    return meta.base_url + (f" ({meta.namespace})" if meta.namespace else "")


def list_(scope: Scope, arguments: argparse.Namespace) -> int:
    """List the selected events."""
    if arguments.limit < 0:
        raise UsageError(f"--limit {arguments.limit}: pass 0 or more")
    problems: list[Problem] = []
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
    _complain(problems)
    return Exit.DONE


def _show_list(events: Iterable[KeptEvent]) -> None:
    from outlay.cli import _tables  # noqa: PLC0415 - --json works without the extra

    read = [(event, Facts.of(event)) for event in events]
    amounts = aligned(facts.amount for _, facts in read)
    rows = [
        (
            event.state,
            words(event.reason),
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


def show(scope: Scope, arguments: argparse.Namespace) -> int:
    """Show all that the folder knows of one event."""
    problems: list[Problem] = []
    traces = [
        (view, event)
        for view in scope.views()
        for event in view.history(arguments.key, problems.append)
    ]
    _complain(problems)
    if not traces:
        raise FailedError(
            f"no trace of {arguments.key} in {scope.spill_dir}; what is delivered is "
            "deleted with its segment"
        )
    if arguments.json:
        found = [_event_as_json(view, event) for view, event in traces]
        print(json.dumps(found, ensure_ascii=False))
        return Exit.DONE
    for view, event in traces:
        _show_trace(view, event)
    return Exit.DONE


def _show_trace(view: DestinationView, event: KeptEvent) -> None:
    facts = Facts.of(event)
    print(f"{facts.key}")
    print(f"  {facts.type} {plain(facts.amount)} for {facts.customer}")
    print(f"  at {facts.timestamp}, to {_title(view.meta)}")
    print(f"  {event.state}, {words(event.reason)}; {_attempts(event)}")
    if event.message:
        print(f"  {event.message} ({event.buried_at})")
    print(f"  in {view.digest}/{event.place}")
    print(f"  {event.payload.decode(errors='replace')}")


def _attempts(event: KeptEvent) -> str:
    made = counted(event.attempts, "attempt")
    if event.first_attempt_at is None:
        return made
    return f"{made}; the first without a refusal at {event.first_attempt_at}"


def export(scope: Scope, arguments: argparse.Namespace) -> int:
    """Write the selected events' bytes, a line each."""
    problems: list[Problem] = []
    chosen = _selected(scope, arguments, problems.append)
    if arguments.output is None:
        _write(sys.stdout.buffer, chosen)
    else:
        count = _write_file(arguments.output, chosen)
        print(f"{counted(count, 'event')} in {arguments.output}")
    _complain(problems)
    return Exit.DONE


def _write_file(path: str, chosen: Iterable[tuple[DestinationView, KeptEvent]]) -> int:
    try:
        with os.fdopen(os.open(path, _NEW_FILE, _OWNER_ONLY), "wb") as file:
            return _write(file, chosen)
    except FileExistsError:
        raise UsageError(f"{path} exists; name a new file") from None


def _write(file: BinaryIO, chosen: Iterable[tuple[DestinationView, KeptEvent]]) -> int:
    count = 0
    for _, event in chosen:
        file.write(event.payload + b"\n")
        count += 1
    file.flush()
    return count


def _selected(
    scope: Scope, arguments: argparse.Namespace, on_problem: OnProblem
) -> Iterator[tuple[DestinationView, KeptEvent]]:
    selection = Selection.of(arguments, STATES)
    return (
        (view, event)
        for view in scope.views()
        for event in view.events(on_problem)
        if selection.takes(event)
    )


def _complain(problems: Iterable[Problem]) -> None:
    for problem in problems:
        print(f"outlay: {problem.place}: {problem.text}", file=sys.stderr)


def _event_as_json(view: DestinationView, event: KeptEvent) -> dict[str, Any]:
    facts = Facts.of(event)
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
        "place": event.place,
        "payload": event.payload.decode(errors="replace"),
    }
