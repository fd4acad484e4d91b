"""``outlay journal replay``: ship now what dead processes left."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay import Client
from outlay._cli.exit_codes import ExitCode
from outlay._cli.journal_options import DestinationRelation
from outlay._cli.journal_totals import pluralize
from outlay._shipping.outcomes import ServerEffect
from outlay._shipping.wire import read_event_response
from outlay.errors import UnavailableError
from outlay.transport import HttpTransport

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Self

    from outlay import CostEvent, Settings, Stats
    from outlay._cli.journal_options import JournalTarget
    from outlay._journal.admin.inspect import DestinationView
    from outlay.transport import TransportResponse

_FIRST_PATIENCE: Final = 1.0  # seconds; doubles
_NOTING_SECONDS: Final = 0.5  # to note in the journal an answer that is here already


class Backlog(NamedTuple):
    """What is still in the journal of one destination.

    Attributes:
        pending: of dead writers, to be shipped.
        parked: of dead writers, for want of a cost metric, or refused for now.
        shipped_by_others: both, of writers for whom a process ships.
        unattended: both, of living writers that wait for an agent.
    """

    pending: int
    parked: int
    shipped_by_others: int
    without_agent: int

    @classmethod
    def of(cls, view: DestinationView) -> Self:
        """Count."""
        writers = {writer.path.name: writer for writer in view.writers()}
        counts: Counter[str] = Counter()
        for event in view.events(lambda _: None):
            writer = writers.get(event.location.partition("/")[0])
            if writer is None or writer.is_dead:
                counts[event.state] += 1
            else:
                counts["unattended" if writer.is_unattended else "others"] += 1
        return cls(
            counts["pending"], counts["parked"], counts["others"], counts["unattended"]
        )

    @property
    def of_dead_writers(self) -> int:
        """How many dead writers left, and nobody ships."""
        return self.pending + self.parked


class RecordingTransport:
    """A transport that remembers the last trouble.

    Thread safety: as httpx's; the last of several troubles at once is remembered.
    """

    def __init__(self, settings: Settings) -> None:
        self._inner = HttpTransport.from_settings(settings)
        self._address = settings.base_url
        self.paused = False
        """Whether nothing will be accepted until a person acts."""
        self.trouble = ""
        """Why something was not delivered, as far as is known."""

    def post(self, path: str, body: bytes) -> TransportResponse:
        """Post, and remember what went wrong; see `outlay.transport.Transport`."""
        try:
            answer = self._inner.post(path, body)
        except UnavailableError as error:
            self.trouble = f"no answer from {self._address} ({error})"
            raise
        verdict, message = read_event_response(answer).results[0]
        self.paused = verdict.effect is ServerEffect.PAUSE
        if answer.status >= 300:
            self.trouble = message
        return answer

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()


def replay(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    """Ship, wait, and say what became of it."""
    # What the library would log, this command says itself.
    logging.getLogger("outlay").addHandler(logging.NullHandler())
    listener = RecordingTransport(scope.settings)
    reasons: Counter[str] = Counter()
    stats = _ship(scope, listener, reasons, arguments.timeout)
    left = Backlog.of(scope.current)
    code = _exit(stats, left, listener)
    if arguments.json:
        print(json.dumps(_as_json(scope, stats, left, listener), ensure_ascii=False))
        return code
    _show(stats, left, reasons)
    if code is not ExitCode.DONE and listener.trouble:
        print(f"  {listener.trouble}")
    for view in scope.others():
        _show_other(scope, view)
    return code


def _ship(
    scope: JournalTarget,
    listener: RecordingTransport,
    reasons: Counter[str],
    timeout: float,
) -> Stats:
    """Ship what can be adopted; return what became of it."""

    def note(event: CostEvent, reason: str, message: str) -> None:
        reasons[f"{event.type}: {message} ({reason})"] += 1

    client = Client(
        scope.settings,
        transport=lambda: listener,
        on_dead_letter=note,
        # Whatever applications are told, this is what the command is for.
        shipping="thread",
        durability="process",
        journal_dir=scope.journal_dir,
    )
    try:
        for seconds in increasing_timeouts(timeout):
            # Each flush asks at once, whatever backoff is running.
            if client.flush(seconds).complete or listener.paused:
                break
    finally:
        stats = client.close(_NOTING_SECONDS).stats
    return stats


def increasing_timeouts(timeout: float) -> Iterator[float]:
    """Yield how long to wait, ever longer; ``timeout`` seconds in all."""
    seconds = _FIRST_PATIENCE
    while timeout > seconds:
        yield seconds
        timeout -= seconds
        seconds *= 2
    yield max(0.0, timeout)


def _exit(stats: Stats, left: Backlog, listener: RecordingTransport) -> ExitCode:
    if left.pending:
        return ExitCode.REFUSED if listener.paused else ExitCode.UNREACHABLE
    if left.parked or stats.dead or stats.quarantined:
        return ExitCode.REFUSED
    return ExitCode.DONE


def _show(stats: Stats, left: Backlog, reasons: Counter[str]) -> None:
    if not stats.recovered and not any(left):
        print("nothing was left by dead processes")
    for count, fate in (
        (stats.delivered, "delivered"),
        (stats.duplicates, "of them known to the server already, and counted once"),
        (left.pending, "not delivered yet; kept in the journal"),
        (left.parked, "parked in the journal"),
        (stats.dead, "refused; kept as dead letters"),
        (stats.quarantined, "quarantined; see 'outlay journal resend --help'"),
        (left.shipped_by_others, "with living processes, which ship for themselves"),
        (left.without_agent, "of living processes that wait for 'outlay agent'"),
    ):
        if count:
            print(f"{pluralize(count, 'event')} {fate}")
    for reason, count in reasons.most_common(_REASONS):
        print(f"  {count:,} x {reason}")


_REASONS: Final = 5  # different ones shown; the dead letters have all


def _show_other(scope: JournalTarget, view: DestinationView) -> None:
    """Say whom the events of another destination wait for."""
    waiting = Backlog.of(view).of_dead_writers
    if not waiting:
        return
    meta, relation = view.meta, scope.relation(view)
    print(f"{pluralize(waiting, 'event')} left alone, in {view.digest}:")
    if relation is DestinationRelation.OTHER_CREDENTIAL:
        print("  tracked under another credential; they wait for a process that has it")
        print("  if both are of one account: outlay journal move", view.digest[:8])
    elif meta is not None:
        namespace = f" and namespace {meta.namespace}" if meta.namespace else ""
        print(f"  for {meta.base_url}{namespace}; they wait for a process with that")
        print("  setting, such as 'outlay journal replay --base-url'")
    else:
        print("  nobody can tell for which server: its meta.json cannot be read")


def _as_json(
    scope: JournalTarget, stats: Stats, left: Backlog, listener: RecordingTransport
) -> dict[str, Any]:
    others = {view: Backlog.of(view).of_dead_writers for view in scope.others()}
    return {
        "delivered": stats.delivered,
        "duplicates": stats.duplicates,
        "pending": left.pending,
        "parked": left.parked,
        "dead": stats.dead,
        "quarantined": stats.quarantined,
        "withLivingWriters": left.shipped_by_others,
        "waitingForAnAgent": left.without_agent,
        "message": listener.trouble,
        "leftAlone": [
            {
                "destination": view.digest,
                "relation": scope.relation(view).value,
                "events": waiting,
            }
            for view, waiting in others.items()
            if waiting
        ],
    }
