"""``outlay journal resend``, ``purge`` and ``adopt``: a person's decisions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from outlay._cli.commands.journal.replay import Backlog
from outlay._cli.exit_codes import CommandFailedError, ExitCode, UsageError
from outlay._cli.journal_options import DestinationRelation, EventFilter
from outlay._cli.journal_totals import (
    LETTER_STATES,
    as_json,
    pluralize,
    show_tallies,
    total_events,
)
from outlay._journal.admin import edit as intervention
from outlay._journal.journal import ADOPT_SECONDS
from outlay._model.clock import SystemClock

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Container

    from outlay._cli.journal_options import JournalTarget
    from outlay._journal.admin.inspect import (
        DeadLetterLine,
        DestinationView,
        StoredEvent,
    )

DAMAGED: Final = "damaged"
"""Of bytes that are no event, as if it were a state."""

_SHIPPED_BY: Final = (
    "'outlay journal replay' ships now; a living process of the destination does so "
    f"within {ADOPT_SECONDS:g} s"
)


def resend(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    """Put dead letters back into the journal."""
    selection = EventFilter.of(arguments, ["quarantined"])
    view = scope.selected_destination()
    chosen = _selected_letters(view, selection)
    if view is None or not chosen:
        _print_result(
            arguments, "no such event is kept", putBack=0, waiting=0, events=[]
        )
        return ExitCode.DONE
    tallies = total_events(chosen.values())
    in_doubt = sum(event.may_have_been_counted for event in chosen.values())
    if not arguments.json:
        show_tallies(tallies)
    if in_doubt and not arguments.i_accept_double_counting:
        raise UsageError(
            f"nothing was put back: {pluralize(in_doubt, 'event')} may have been counted "
            "already, and would count twice. Look for them on the server; then narrow "
            "the selection, or add --i-accept-double-counting"
        )
    done = intervention.resend(
        view,
        _digest_filter(chosen),
        now_ms=SystemClock().now_ms(),
        max_journal_bytes=scope.settings.max_journal_bytes,
    )
    text = f"{pluralize(done.events, 'event')} pending again"
    if done.waiting:
        text += f"; {done.waiting:,} more were already"
    if in_doubt:
        text += f"; {in_doubt:,} of all may count twice"
    _print_result(
        arguments,
        f"{text}\n{_SHIPPED_BY}",
        putBack=done.events,
        waiting=done.waiting,
        mayCountTwice=in_doubt,
        events=as_json(tallies),
    )
    return ExitCode.DONE


def purge(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    """Delete dead letters and damaged bytes."""
    selection = EventFilter.of(arguments, [*LETTER_STATES, DAMAGED])
    damaged = DAMAGED in selection.states and not selection.filters_by_content
    view = scope.selected_destination()
    chosen = _selected_letters(view, selection)
    files = view.damaged_files() if view is not None and damaged else []
    tallies = total_events(chosen.values())
    if chosen and not arguments.json:
        show_tallies(tallies)
    if (chosen or files) and not arguments.yes:
        letters, broken = (
            pluralize(len(chosen), "letter"),
            pluralize(len(files), "file"),
        )
        raise UsageError(
            f"nothing was deleted: {letters}, and {broken} of damaged bytes. To delete "
            "them, add --yes"
        )
    if view is None or not arguments.yes:
        _print_result(
            arguments, "nothing to delete", letters=0, files=0, busy=0, events=[]
        )
        return ExitCode.DONE
    # Without a letter, too: files that an earlier command emptied may go by now.
    done = intervention.purge(view, _digest_filter(chosen), damaged=damaged)
    text = (
        f"deleted {pluralize(done.letters, 'letter')}, {pluralize(done.files, 'file')}"
    )
    if done.busy:
        text += (
            f"\n{pluralize(done.busy, 'emptied file')} left to living processes, which "
            "may write to it; purge again when they have ended"
        )
    _print_result(
        arguments,
        text,
        letters=done.letters,
        files=done.files,
        busy=done.busy,
        events=as_json(tallies),
    )
    return ExitCode.DONE


def adopt(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    """Move what dead writers left under another credential to the current one."""
    source = _source(scope, arguments.source)
    waiting = Backlog.of(source).of_dead_writers
    if not arguments.sure:
        raise UsageError(
            f"nothing was moved: {pluralize(waiting, 'event')} would be sent with the "
            "current credential. If it is of the same account, add "
            "--i-know-these-belong-to-this-account"
        )
    target = scope.current.folder
    target.prepare(
        base_url=scope.settings.base_url,
        namespace=scope.settings.namespace,
        now_ms=SystemClock().now_ms(),
    )
    done = intervention.move_orphans(source, target)
    text = (
        f"moved what {pluralize(done.writers, 'dead writer')} left, and "
        f"{pluralize(done.files, 'file')} of dead letters"
    )
    if done.busy:
        text += (
            f"\n{pluralize(done.busy, 'writer')} stay: a living process ships for them; "
            "adopt again when it has ended"
        )
    _print_result(
        arguments,
        f"{text}\n{_SHIPPED_BY}",
        writers=done.writers,
        files=done.files,
        busy=done.busy,
    )
    return ExitCode.DONE


def _source(scope: JournalTarget, prefix: str) -> DestinationView:
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
    if relation is DestinationRelation.CURRENT:
        raise UsageError(
            f"{found[0].digest} is the destination of these settings already"
        )
    if relation is not DestinationRelation.OTHER_CREDENTIAL:
        raise CommandFailedError(
            f"{found[0].digest} is not for {scope.settings.base_url} and this "
            "namespace, or cannot tell; its events are sent nowhere else"
        )
    return found[0]


def _selected_letters(
    view: DestinationView | None, selection: EventFilter
) -> dict[bytes, StoredEvent]:
    """Return the selected dead letters by their digests.

    Among them those whose events are pending again, for a crash kept an earlier command
    from marking them: forgotten, they would be put back once more some day.
    """
    if view is None:
        return {}
    events = (letter.event for letter in view.letters(lambda _: None))
    return {event.digest: event for event in events if selection.matches(event)}


def _digest_filter(chosen: Container[bytes]) -> Callable[[DeadLetterLine], bool]:
    """Return what tells letters that were shown from any that came since."""
    return lambda letter: letter.event.digest in chosen


def _print_result(arguments: argparse.Namespace, text: str, **result: object) -> None:
    print(json.dumps(result, ensure_ascii=False) if arguments.json else text)
