"""``outlay agent``: ships for all processes of a host, in the foreground."""

from __future__ import annotations

import logging
import os
import queue
import resource
import signal
from typing import TYPE_CHECKING, Final

from outlay._agent import Agent
from outlay.cli._connection import add_connection
from outlay.cli._exits import Exit
from outlay.cli._spill_replay import Left, Listener, patience
from outlay.cli._spill_scope import Relation, Scope
from outlay.cli._spill_tally import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from outlay._agent import Shipped

_DESCRIPTION: Final = """\
Ship what processes with shipping=agent track, while they run and after, and what dead
ones left; until Ctrl-C or SIGTERM. Settings are those of the applications: address,
credential and namespace make the destination, and no other one is touched.
"""

_EPILOG: Final = """\
examples:
  outlay agent --spill-dir /var/spool/outlay
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
        "--spill-dir",
        metavar="DIR",
        help="folder of the journal (default: OUTLAY_SPILL_DIR, or the platform's "
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
    scope = Scope(arguments)
    if arguments.once:
        return _once(scope, arguments.timeout)
    return _until_told(scope)


def _agent(scope: Scope, listener: Listener) -> Agent:
    settings = scope.settings.model_copy(update={"spill_dir": scope.spill_dir})
    return Agent(settings, transport=lambda: listener)


def _allow_many_files() -> None:
    """Raise the limit of open files: each living writer takes four or more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# For as long as it is wanted.


def _until_told(scope: Scope) -> int:
    # put() of a SimpleQueue may be called by a signal handler; Event.set() may not.
    told: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.put(number))
    agent = _agent(scope, Listener(scope.settings))
    agent.start()
    left_alone = set(_left_alone(scope))
    print(_banner(scope, left_alone), flush=True)
    _warn_of_owner(scope)
    while True:
        try:
            told.get(timeout=_LOOK_SECONDS)
            break
        except queue.Empty:
            for text in set(_left_alone(scope)) - left_alone:
                left_alone.add(text)
                _logger.warning("left alone: %s", text)
    complete = agent.stop(scope.settings.exit_timeout)
    print(f"stopped; {_summary(agent.shipped())}")
    if not complete:
        print("what is left stays in the journal, for the next agent")
    return Exit.DONE


def _banner(scope: Scope, left_alone: set[str]) -> str:
    settings = scope.settings
    namespace = f" ({settings.namespace})" if settings.namespace else ""
    text = f"outlay agent ships to {settings.base_url}{namespace}"
    text += f" from {scope.current.folder.path}"
    if left_alone:
        text += f"; left alone: {', '.join(sorted(left_alone))}"
    return text


def _left_alone(scope: Scope) -> Iterator[str]:
    """Yield the destinations in the same folder that this agent has no right to."""
    for view in scope.others():
        meta, why = view.meta, _REASONS[scope.relation(view)]
        yield f"{view.digest} ({meta.base_url if meta else '?'}, {why})"


_REASONS: Final = {
    Relation.OTHER_CREDENTIAL: "another credential",
    Relation.ELSEWHERE: "another address or namespace",
    Relation.UNKNOWN: "its meta.json cannot be read",
}


def _warn_of_owner(scope: Scope) -> None:
    folder = scope.spill_dir
    if folder.exists() and folder.stat().st_uid != os.getuid():
        _logger.warning(
            "%s belongs to user %d, and the agent runs as %d: run it as the "
            "applications' user, or they cannot read what it writes",
            folder,
            folder.stat().st_uid,
            os.getuid(),
        )


# Once.


def _once(scope: Scope, timeout: float) -> int:
    listener = Listener(scope.settings)
    agent = _agent(scope, listener)
    agent.start()
    complete = False
    try:
        for seconds in patience(timeout):
            # Each flush asks at once, whatever backoff is running.
            complete = agent.flush(seconds)
            if complete or listener.paused:
                break
    finally:
        agent.stop(_NOTING_SECONDS)
    shipped = agent.shipped()
    print(_summary(shipped))
    if complete and not shipped.parked:
        return Exit.DONE
    left = Left.of(scope.current)
    waiting = left.waiting + left.unattended
    print(f"{counted(waiting, 'event')} left in {scope.current.folder.path}")
    if listener.trouble:
        print(f"  {listener.trouble}")
    return Exit.REFUSED


def _summary(shipped: Shipped) -> str:
    parts = [f"{counted(shipped.delivered, 'event')} delivered"]
    parts += [
        f"{count:,} {fate}"
        for fate, count in shipped._asdict().items()
        if count and fate not in {"found", "delivered"}
    ]
    return ", ".join(parts)
