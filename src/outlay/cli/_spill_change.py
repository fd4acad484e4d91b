"""``outlay spill resend``, ``purge`` and ``adopt``: a person's decisions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from outlay._journal import intervention
from outlay._journal.journal import ADOPT_SECONDS
from outlay._model.clock import SystemClock
from outlay.cli._exits import Exit, FailedError, UsageError
from outlay.cli._spill_replay import Left
from outlay.cli._spill_scope import Relation, Selection
from outlay.cli._spill_tally import LETTER_STATES, as_json, counted, show_tallies, tally

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Container

    from outlay._journal.inspection import DestinationView, KeptEvent, Letter
    from outlay.cli._spill_scope import Scope

DAMAGED: Final = "damaged"
"""Of bytes that are no event, as if it were a state."""

_SHIPPED_BY: Final = (
    "'outlay spill replay' ships now; a living process of the destination does so "
    f"within {ADOPT_SECONDS:g} s"
)


def resend(scope: Scope, arguments: argparse.Namespace) -> int:
    """Put dead letters back into the journal."""
    selection = Selection.of(arguments, ["quarantined"])
    view = scope.one()
    chosen = _chosen(view, selection)
    if view is None or not chosen:
        _say(arguments, "no such event is kept", putBack=0, waiting=0, events=[])
        return Exit.DONE
    tallies = tally(chosen.values())
    in_doubt = sum(event.may_have_been_counted for event in chosen.values())
    if not arguments.json:
        show_tallies(tallies)
    if in_doubt and not arguments.i_accept_double_counting:
        raise UsageError(
            f"nothing was put back: {counted(in_doubt, 'event')} may have been counted "
            "already, and would count twice. Look for them on the server; then narrow "
            "the selection, or add --i-accept-double-counting"
        )
    done = intervention.put_back(
        view,
        _among(chosen),
        now_ms=SystemClock().now_ms(),
        max_spill_bytes=scope.settings.max_spill_bytes,
    )
    text = f"{counted(done.events, 'event')} pending again"
    if done.waiting:
        text += f"; {done.waiting:,} more were already"
    if in_doubt:
        text += f"; {in_doubt:,} of all may count twice"
    _say(
        arguments,
        f"{text}\n{_SHIPPED_BY}",
        putBack=done.events,
        waiting=done.waiting,
        mayCountTwice=in_doubt,
        events=as_json(tallies),
    )
    return Exit.DONE


def purge(scope: Scope, arguments: argparse.Namespace) -> int:
    """Delete dead letters and damaged bytes."""
    selection = Selection.of(arguments, [*LETTER_STATES, DAMAGED])
    damaged = DAMAGED in selection.states and not selection.narrows
    view = scope.one()
    chosen = _chosen(view, selection)
    files = view.damaged_files() if view is not None and damaged else []
    tallies = tally(chosen.values())
    if chosen and not arguments.json:
        show_tallies(tallies)
    if (chosen or files) and not arguments.yes:
        letters, broken = counted(len(chosen), "letter"), counted(len(files), "file")
        raise UsageError(
            f"nothing was deleted: {letters}, and {broken} of damaged bytes. To delete "
            "them, add --yes"
        )
    if view is None or not arguments.yes:
        _say(arguments, "nothing to delete", letters=0, files=0, busy=0, events=[])
        return Exit.DONE
    # Without a letter, too: files that an earlier command emptied may go by now.
    done = intervention.delete(view, _among(chosen), damaged=damaged)
    text = f"deleted {counted(done.letters, 'letter')}, {counted(done.files, 'file')}"
    if done.busy:
        text += (
            f"\n{counted(done.busy, 'emptied file')} left to living processes, which "
            "may write to it; purge again when they have ended"
        )
    _say(
        arguments,
        text,
        letters=done.letters,
        files=done.files,
        busy=done.busy,
        events=as_json(tallies),
    )
    return Exit.DONE


def adopt(scope: Scope, arguments: argparse.Namespace) -> int:
    """Move what dead writers left under another credential to the current one."""
    source = _source(scope, arguments.source)
    waiting = Left.of(source).waiting
    if not arguments.sure:
        raise UsageError(
            f"nothing was moved: {counted(waiting, 'event')} would be sent with the "
            "current credential. If it is of the same account, add "
            "--i-know-these-belong-to-this-account"
        )
    target = scope.current.folder
    target.prepare(
        base_url=scope.settings.base_url,
        namespace=scope.settings.namespace,
        now_ms=SystemClock().now_ms(),
    )
    done = intervention.move(source, target)
    text = (
        f"moved what {counted(done.writers, 'dead writer')} left, and "
        f"{counted(done.files, 'file')} of dead letters"
    )
    if done.busy:
        text += (
            f"\n{counted(done.busy, 'writer')} stay: a living process ships for them; "
            "adopt again when it has ended"
        )
    _say(
        arguments,
        f"{text}\n{_SHIPPED_BY}",
        writers=done.writers,
        files=done.files,
        busy=done.busy,
    )
    return Exit.DONE


def _source(scope: Scope, prefix: str) -> DestinationView:
    """Return the destination whose events are to be moved.

    Raises:
        UsageError: there is none, or more than one of that name.
        FailedError: its events are for somebody else.
    """
    found = [view for view in scope.views() if view.digest.startswith(prefix)]
    if len(found) != 1:
        known = ", ".join(view.digest for view in scope.others()) or "none"
        raise UsageError(f"{len(found)} destinations {prefix!r}; there are: {known}")
    relation = scope.relation(found[0])
    if relation is Relation.CURRENT:
        raise UsageError(
            f"{found[0].digest} is the destination of these settings already"
        )
    if relation is not Relation.OTHER_CREDENTIAL:
        raise FailedError(
            f"{found[0].digest} is not for {scope.settings.base_url} and this "
            "namespace, or cannot tell; its events are sent nowhere else"
        )
    return found[0]


def _chosen(
    view: DestinationView | None, selection: Selection
) -> dict[bytes, KeptEvent]:
    """Return the selected dead letters by their digests.

    Among them those whose events are pending again, for a crash kept an earlier command
    from marking them: forgotten, they would be put back once more some day.
    """
    if view is None:
        return {}
    events = (letter.event for letter in view.letters(lambda _: None))
    return {event.digest: event for event in events if selection.takes(event)}


def _among(chosen: Container[bytes]) -> Callable[[Letter], bool]:
    """Return what tells letters that were shown from any that came since."""
    return lambda letter: letter.event.digest in chosen


def _say(arguments: argparse.Namespace, text: str, **result: object) -> None:
    print(json.dumps(result, ensure_ascii=False) if arguments.json else text)
