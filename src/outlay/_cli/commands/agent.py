"""``outlay agent``: ships for all processes of a host, in the foreground."""

from __future__ import annotations

import logging
import os
import queue
import resource
import signal
from typing import TYPE_CHECKING, Final

from outlay._cli.commands.journal.replay import (
    Backlog,
    RecordingTransport,
    increasing_timeouts,
)
from outlay._cli.exit_codes import ExitCode
from outlay._cli.journal_options import DestinationRelation, JournalTarget
from outlay._cli.journal_totals import pluralize
from outlay._cli.options import add_connection
from outlay._shipping.agent import Agent

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from outlay._shipping.agent import AgentStats

_DESCRIPTION: Final = """\
Ship what processes with shipping=agent track, while they run and after, and what dead
ones left; until Ctrl-C or SIGTERM. Settings are those of the applications: address,
credential and namespace make the destination, and no other one is touched.
"""

_EPILOG: Final = """\
examples:
  outlay agent --journal-dir /var/spool/outlay
  outlay agent --once --timeout 60

exit codes:
  0  stopped by a signal; with --once: nothing is left
  1  with --once: something is left in the journal
"""

_NOTING_SECONDS: Final = 0.5  # to note in the journal an answer that is here already
_LOOK_SECONDS: Final = 60.0  # between looks for destinations that are left alone

_logger: Final = logging.getLogger("outlay")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add = parser.add_argument
    add(
        "--journal-dir",
        metavar="DIR",
        help="folder of the journal (default: OUTLAY_JOURNAL_DIR, or the platform's "
        "state folder)",
    )
    add("--once", action="store_true", help="ship all there is, then exit")
    add(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long --once tries (default: 30)",
    )
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ship until told to stop, or once."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    _allow_many_files()
    scope = JournalTarget(arguments)
    if arguments.once:
        return _once(scope, arguments.timeout)
    return _run_until_signal(scope)


def _agent(scope: JournalTarget, listener: RecordingTransport) -> Agent:
    settings = scope.settings.model_copy(update={"journal_dir": scope.journal_dir})
    return Agent(settings, transport=lambda: listener)


def _allow_many_files() -> None:
    """Raise the limit of open files: each living writer takes four or more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# For as long as it is wanted.


def _run_until_signal(scope: JournalTarget) -> int:
    # put() of a SimpleQueue may be called by a signal handler; Event.set() may not.
    told: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.put(number))
    agent = _agent(scope, RecordingTransport(scope.settings))
    agent.start()
    left_alone = set(_ignored_destinations(scope))
    print(_start_message(scope, left_alone), flush=True)
    _warn_of_owner(scope)
    while True:
        try:
            told.get(timeout=_LOOK_SECONDS)
            break
        except queue.Empty:
            for text in set(_ignored_destinations(scope)) - left_alone:
                left_alone.add(text)
                _logger.warning("left alone: %s", text)
    complete = agent.stop(scope.settings.exit_timeout)
    print(f"stopped; {_summary(agent.stats())}")
    if not complete:
        print("what is left stays in the journal, for the next agent")
    return ExitCode.DONE


def _start_message(scope: JournalTarget, left_alone: set[str]) -> str:
    settings = scope.settings
    namespace = f" ({settings.namespace})" if settings.namespace else ""
    text = f"outlay agent ships to {settings.base_url}{namespace}"
    text += f" from {scope.current.folder.path}"
    if left_alone:
        text += f"; left alone: {', '.join(sorted(left_alone))}"
    return text


def _ignored_destinations(scope: JournalTarget) -> Iterator[str]:
    """Yield the destinations in the same folder that this agent has no right to."""
    for view in scope.others():
        meta, why = view.meta, _REASONS[scope.relation(view)]
        yield f"{view.digest} ({meta.base_url if meta else '?'}, {why})"


_REASONS: Final = {
    DestinationRelation.OTHER_CREDENTIAL: "another credential",
    DestinationRelation.OTHER_ADDRESS: "another address or namespace",
    DestinationRelation.UNKNOWN: "its meta.json cannot be read",
}


def _warn_of_owner(scope: JournalTarget) -> None:
    folder = scope.journal_dir
    if folder.exists() and folder.stat().st_uid != os.getuid():
        _logger.warning(
            "%s belongs to user %d, and the agent runs as %d: run it as the "
            "applications' user, or they cannot read what it writes",
            folder,
            folder.stat().st_uid,
            os.getuid(),
        )


# Once.


def _once(scope: JournalTarget, timeout: float) -> int:
    listener = RecordingTransport(scope.settings)
    agent = _agent(scope, listener)
    agent.start()
    complete = False
    try:
        for seconds in increasing_timeouts(timeout):
            # Each flush asks at once, whatever backoff is running.
            complete = agent.flush(seconds)
            if complete or listener.paused:
                break
    finally:
        agent.stop(_NOTING_SECONDS)
    shipped = agent.stats()
    print(_summary(shipped))
    if complete and not shipped.parked:
        return ExitCode.DONE
    left = Backlog.of(scope.current)
    waiting = left.of_dead_writers + left.without_agent
    print(f"{pluralize(waiting, 'event')} left in {scope.current.folder.path}")
    if listener.trouble:
        print(f"  {listener.trouble}")
    return ExitCode.REFUSED


def _summary(shipped: AgentStats) -> str:
    parts = [f"{pluralize(shipped.delivered, 'event')} delivered"]
    parts += [
        f"{count:,} {fate}"
        for fate, count in shipped._asdict().items()
        if count and fate not in {"found", "delivered"}
    ]
    return ", ".join(parts)
