"""``outlay journal replay``: ship what dead processes left."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from outlay import Client
from outlay._cli.exit_codes import ExitCode
from outlay._cli.journal_options import DestinationRelation
from outlay._cli.journal_totals import Backlog
from outlay._cli.output import pluralize, print_data
from outlay._cli.progress import ProgressBar
from outlay._cli.recording_transport import (
    SETTLE_SECONDS,
    RecordingTransport,
    flush_repeatedly,
)

if TYPE_CHECKING:
    import argparse

    from outlay import CostEvent, Stats
    from outlay._cli.journal_options import JournalTarget
    from outlay._journal.admin.inspect import DestinationView

_MAX_REASONS: Final = 5  # distinct ones shown; 'outlay journal list' shows all


def replay(target: JournalTarget, arguments: argparse.Namespace) -> int:
    """Ship, wait, and print the outcomes."""
    # The command prints what the library would log.
    logging.getLogger("outlay").addHandler(logging.NullHandler())
    transport = RecordingTransport(target.settings)
    reasons: Counter[str] = Counter()
    stats = _ship(target, transport, reasons, arguments.timeout)
    backlog = Backlog.from_view(target.current)
    code = _exit_code(stats, backlog, transport)
    if arguments.format:
        result = _as_json(target, stats, backlog, transport)
        print_data(arguments.format, result, [result])
        return code
    _print_result(stats, backlog, reasons)
    if code is not ExitCode.DONE and transport.failure:
        print(f"  {transport.failure}")
    for view in target.others():
        _print_other(target, view)
    return code


def _ship(
    target: JournalTarget,
    transport: RecordingTransport,
    reasons: Counter[str],
    timeout: float,
) -> Stats:
    """Ship what can be adopted, and return the counts."""

    def note(event: CostEvent, reason: str, message: str) -> None:
        reasons[f"{event.type}: {message} ({reason})"] += 1

    client = Client(
        target.settings,
        transport=lambda: transport,
        on_dead_letter=note,
        # This command ships, whatever the settings say to applications.
        shipping="thread",
        durability="process",
        journal_dir=target.journal_dir,
    )

    def flush(seconds: float) -> bool:
        stats = client.flush(seconds).stats
        settled = stats.delivered + stats.dead + stats.quarantined
        bar.show("events", settled, settled + stats.pending)
        return not stats.pending

    try:
        with ProgressBar() as bar:
            flush_repeatedly(flush, transport, timeout)
    finally:
        stats = client.close(SETTLE_SECONDS).stats
    return stats


def _exit_code(
    stats: Stats, backlog: Backlog, transport: RecordingTransport
) -> ExitCode:
    if backlog.pending:
        return ExitCode.REFUSED if transport.is_paused else ExitCode.UNREACHABLE
    if backlog.parked or stats.dead or stats.quarantined:
        return ExitCode.REFUSED
    return ExitCode.DONE


def _print_result(stats: Stats, backlog: Backlog, reasons: Counter[str]) -> None:
    if not stats.recovered and not any(backlog):
        print("dead processes left nothing")
    for count, outcome in (
        (stats.delivered, "delivered"),
        (stats.duplicates, "of them known to the server already, and counted once"),
        (backlog.pending, "not delivered yet; kept in the journal"),
        (backlog.parked, "parked in the journal"),
        (stats.dead, "refused; kept as dead letters"),
        (stats.quarantined, "quarantined; see 'outlay journal resend --help'"),
        (backlog.shipped_by_others, "of living processes, which ship their own"),
        (backlog.without_agent, "of living processes that wait for 'outlay agent'"),
    ):
        if count:
            print(f"{pluralize(count, 'event')} {outcome}")
    for reason, count in reasons.most_common(_MAX_REASONS):
        print(f"  {count:,} x {reason}")


def _print_other(target: JournalTarget, view: DestinationView) -> None:
    """Print what the events of another destination wait for."""
    waiting = Backlog.from_view(view).of_dead_writers
    if not waiting:
        return
    meta, relation = view.meta, target.relation(view)
    print(f"{pluralize(waiting, 'event')} of another destination, {view.digest}:")
    if relation is DestinationRelation.OTHER_CREDENTIAL:
        print("  tracked under another credential; they wait for a process that has it")
        print("  if both are of one account: outlay journal move", view.digest[:8])
    elif meta is not None:
        namespace = f" and namespace {meta.namespace}" if meta.namespace else ""
        print(f"  for {meta.base_url}{namespace}; they wait for a process with that")
        print("  setting, such as 'outlay journal replay --base-url'")
    else:
        print("  their server is not known, because meta.json cannot be read")


def _as_json(
    target: JournalTarget,
    stats: Stats,
    backlog: Backlog,
    transport: RecordingTransport,
) -> dict[str, Any]:
    others = {view: Backlog.from_view(view).of_dead_writers for view in target.others()}
    return {
        "delivered": stats.delivered,
        "duplicates": stats.duplicates,
        "pending": backlog.pending,
        "parked": backlog.parked,
        "dead": stats.dead,
        "quarantined": stats.quarantined,
        "ofLivingWriters": backlog.shipped_by_others,
        "waitingForAgent": backlog.without_agent,
        "message": transport.failure,
        "otherDestinations": [
            {
                "destination": view.digest,
                "relation": target.relation(view).value,
                "events": waiting,
            }
            for view, waiting in others.items()
            if waiting
        ],
    }
