"""``outlay agent``: ship for all processes of a host, in the foreground."""

from __future__ import annotations

import logging
import os
import queue
import resource
import signal
from typing import TYPE_CHECKING, Final

from outlay._cli.exit_codes import ExitCode
from outlay._cli.journal_options import (
    DestinationRelation,
    JournalTarget,
    add_journal_options,
)
from outlay._cli.journal_totals import Backlog
from outlay._cli.output import pluralize
from outlay._cli.recording_transport import (
    SETTLE_SECONDS,
    RecordingTransport,
    flush_repeatedly,
)
from outlay._shipping.agent import Agent

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from outlay._shipping.agent import AgentStats

_DESCRIPTION: Final = """\
Ship the events of processes with shipping=agent while they run and after, and those of
dead processes, until Ctrl-C or SIGTERM. Use the settings of the applications: address,
credential and namespace make the destination. The agent ships no other destination.
"""

_EPILOG: Final = """\
examples:
  outlay agent --journal-dir /var/spool/outlay
  outlay agent --once --timeout 60

exit codes:
  0  stopped by a signal; with --once: nothing is left
  1  with --once: events are left in the journal
"""

_SCAN_SECONDS: Final = 60.0  # between scans for destinations that no agent may ship

_REASONS: Final = {
    DestinationRelation.OTHER_CREDENTIAL: "another credential",
    DestinationRelation.OTHER_ADDRESS: "another address or namespace",
    DestinationRelation.UNKNOWN: "its meta.json cannot be read",
}

_logger: Final = logging.getLogger("outlay")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("--once", action="store_true", help="ship all events, then exit")
    add(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="with --once, try for this long (default: 30)",
    )
    add_journal_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ship until a signal arrives, or once."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    _raise_file_limit()
    target = JournalTarget(arguments)
    if arguments.once:
        return _run_once(target, arguments.timeout)
    return _run_until_signal(target)


def _agent(target: JournalTarget, transport: RecordingTransport) -> Agent:
    settings = target.settings.model_copy(update={"journal_dir": target.journal_dir})
    return Agent(settings, transport=lambda: transport)


def _raise_file_limit() -> None:
    """Raise the limit of open files: each living writer needs four or more."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def _run_until_signal(target: JournalTarget) -> int:
    # A signal handler may call put() of a SimpleQueue, but not Event.set().
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.put(number))
    agent = _agent(target, RecordingTransport(target.settings))
    agent.start()
    ignored = set(_ignored_destinations(target))
    print(_start_message(target, ignored), flush=True)
    _warn_of_owner(target)
    while True:
        try:
            signals.get(timeout=_SCAN_SECONDS)
            break
        except queue.Empty:
            for text in set(_ignored_destinations(target)) - ignored:
                ignored.add(text)
                _logger.warning("not shipped by this agent: %s", text)
    complete = agent.stop(target.settings.exit_timeout)
    print(f"stopped; {_summary(agent.stats())}")
    if not complete:
        print("the next agent ships the events that are left in the journal")
    return ExitCode.DONE


def _start_message(target: JournalTarget, ignored: set[str]) -> str:
    settings = target.settings
    namespace = f" ({settings.namespace})" if settings.namespace else ""
    text = f"outlay agent ships to {settings.base_url}{namespace}"
    text += f" from {target.current.folder.path}"
    if ignored:
        text += f"; not shipped: {', '.join(sorted(ignored))}"
    return text


def _ignored_destinations(target: JournalTarget) -> Iterator[str]:
    """Yield the destinations in the folder that this agent may not ship."""
    for view in target.others():
        meta, reason = view.meta, _REASONS[target.relation(view)]
        yield f"{view.digest} ({meta.base_url if meta else '?'}, {reason})"


def _warn_of_owner(target: JournalTarget) -> None:
    folder = target.journal_dir
    if folder.exists() and folder.stat().st_uid != os.getuid():
        _logger.warning(
            "%s belongs to user %d, and the agent runs as %d: run it as the "
            "applications' user, or they cannot read what it writes",
            folder,
            folder.stat().st_uid,
            os.getuid(),
        )


def _run_once(target: JournalTarget, timeout: float) -> int:
    transport = RecordingTransport(target.settings)
    agent = _agent(target, transport)
    agent.start()
    try:
        complete = flush_repeatedly(agent.flush, transport, timeout)
    finally:
        agent.stop(SETTLE_SECONDS)
    stats = agent.stats()
    print(_summary(stats))
    backlog = Backlog.from_view(target.current)
    # A flush is complete without the events of writers that could not be adopted.
    if complete and not stats.parked and not backlog.of_dead_writers:
        return ExitCode.DONE
    left = backlog.of_dead_writers + backlog.without_agent
    print(f"{pluralize(left, 'event')} left in {target.current.folder.path}")
    if transport.failure:
        print(f"  {transport.failure}")
    return ExitCode.REFUSED


def _summary(stats: AgentStats) -> str:
    parts = [f"{pluralize(stats.delivered, 'event')} delivered"]
    parts += [
        f"{count:,} {outcome}"
        for outcome, count in stats._asdict().items()
        if count and outcome not in {"found", "delivered"}
    ]
    return ", ".join(parts)
