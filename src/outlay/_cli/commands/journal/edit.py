"""``outlay journal resend``, ``purge`` and ``move``: a person's decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._cli.exit_codes import CommandFailedError, ExitCode, UsageError
from outlay._cli.journal_options import DestinationRelation, EventFilter
from outlay._cli.journal_totals import (
    LETTER_STATES,
    Backlog,
    print_totals,
    total_events,
    totals_json,
)
from outlay._cli.output import pluralize, print_result
from outlay._journal.admin import edit as admin
from outlay._journal.recovery import ADOPT_SECONDS
from outlay._model.clock import SystemClock

if TYPE_CHECKING:
    import argparse

    from outlay._cli.journal_options import JournalTarget
    from outlay._journal.admin.inspect import DestinationView, StoredEvent

DAMAGED: Final = "damaged"
"""Selects corrupt bytes, as if it were a state."""

_SHIPPED_BY: Final = (
    "'outlay journal replay' ships them now; a living process of the destination does "
    f"so within {ADOPT_SECONDS:g} s"
)


def resend(target: JournalTarget, arguments: argparse.Namespace) -> int:
    """Make the selected dead letters pending again."""
    view = target.selected_destination()
    selected = _select_letters(
        view, EventFilter.from_arguments(arguments, ["quarantined"])
    )
    if view is None or not selected:
        result: dict[str, object] = {"resent": 0, "alreadyPending": 0, "events": []}
        print_result(arguments.format, result, "no such event in the journal")
        return ExitCode.DONE
    totals = total_events(selected.values())
    in_doubt = sum(event.may_have_been_counted for event in selected.values())
    if not arguments.format:
        print_totals(totals)
    if in_doubt and not arguments.i_accept_double_counting:
        raise UsageError(
            f"nothing was resent: {pluralize(in_doubt, 'event')} may have been counted "
            "already, and would count twice. Look for them on the server. Then narrow "
            "the selection, or add --i-accept-double-counting"
        )
    done = admin.resend(
        view,
        lambda letter: letter.event.digest in selected,
        now_ms=SystemClock().now_ms(),
        max_journal_bytes=target.settings.max_journal_bytes,
    )
    text = f"{pluralize(done.events, 'event')} pending again"
    if done.waiting:
        text += f"; {done.waiting:,} more were already"
    if in_doubt:
        text += f"; {in_doubt:,} of all may count twice"
    result = {
        "resent": done.events,
        "alreadyPending": done.waiting,
        "mayCountTwice": in_doubt,
        "events": totals_json(totals),
    }
    print_result(arguments.format, result, f"{text}\n{_SHIPPED_BY}")
    return ExitCode.DONE


def purge(target: JournalTarget, arguments: argparse.Namespace) -> int:
    """Delete the selected dead letters and corrupt bytes."""
    selection = EventFilter.from_arguments(arguments, [*LETTER_STATES, DAMAGED])
    damaged = DAMAGED in selection.states and not selection.filters_by_content
    view = target.selected_destination()
    selected = _select_letters(view, selection)
    files = view.damaged_files() if view is not None and damaged else []
    totals = total_events(selected.values())
    if selected and not arguments.format:
        print_totals(totals)
    if (selected or files) and not arguments.yes:
        raise UsageError(
            f"nothing was deleted: {pluralize(len(selected), 'letter')}, and "
            f"{pluralize(len(files), 'file')} of corrupt bytes. To delete them, add "
            "--yes"
        )
    if view is None or not arguments.yes:
        result: dict[str, object] = {"letters": 0, "files": 0, "busy": 0, "events": []}
        print_result(arguments.format, result, "nothing to delete")
        return ExitCode.DONE
    # Also without a letter: files that an earlier command emptied may be free now.
    done = admin.purge(
        view, lambda letter: letter.event.digest in selected, damaged=damaged
    )
    text = (
        f"deleted {pluralize(done.letters, 'letter')}, {pluralize(done.files, 'file')}"
    )
    if done.busy:
        text += (
            f"\n{pluralize(done.busy, 'emptied file')} left to living processes, which "
            "may write to it; purge again when they have ended"
        )
    result = {**done._asdict(), "events": totals_json(totals)}
    print_result(arguments.format, result, text)
    return ExitCode.DONE


def move(target: JournalTarget, arguments: argparse.Namespace) -> int:
    """Move the events of dead writers from another credential to the current one."""
    source = _source(target, arguments.source)
    if not arguments.confirmed:
        events = pluralize(Backlog.from_view(source).of_dead_writers, "event")
        raise UsageError(
            f"nothing was moved: {events} would be sent with the current credential. "
            "If it is of the same account, add --i-know-these-belong-to-this-account"
        )
    folder = target.current.folder
    folder.prepare(
        base_url=target.settings.base_url,
        namespace=target.settings.namespace,
        now_ms=SystemClock().now_ms(),
    )
    done = admin.move_orphans(source, folder)
    text = (
        f"moved the events of {pluralize(done.writers, 'dead writer')}, and "
        f"{pluralize(done.files, 'file')} of dead letters"
    )
    if done.busy:
        text += (
            f"\n{pluralize(done.busy, 'writer')} stay: a living process ships for "
            "them; move again when it has ended"
        )
    print_result(arguments.format, done._asdict(), f"{text}\n{_SHIPPED_BY}")
    return ExitCode.DONE


def _source(target: JournalTarget, prefix: str) -> DestinationView:
    """Return the destination whose events are moved.

    Raises:
        UsageError: No destination has this name, or several have.
        CommandFailedError: Its events are for another server or namespace.
    """
    found = [view for view in target.views() if view.digest.startswith(prefix)]
    if len(found) != 1:
        known = ", ".join(view.digest for view in target.others()) or "none"
        raise UsageError(f"{len(found)} destinations {prefix!r}; pass one of: {known}")
    relation = target.relation(found[0])
    if relation is DestinationRelation.CURRENT:
        raise UsageError(
            f"{found[0].digest} is the destination of these settings already"
        )
    if relation is not DestinationRelation.OTHER_CREDENTIAL:
        raise CommandFailedError(
            f"{found[0].digest} is not for {target.settings.base_url} and this "
            "namespace, or its meta.json cannot be read; its events are sent nowhere "
            "else"
        )
    return found[0]


def _select_letters(
    view: DestinationView | None, selection: EventFilter
) -> dict[bytes, StoredEvent]:
    """Return the selected dead letters by the digests of their events.

    Some of their events may be pending again, because a crash ended an earlier command
    before it marked the letters. Without them here, they would be resent a second time.
    """
    if view is None:
        return {}
    events = (letter.event for letter in view.letters(lambda _: None))
    return {event.digest: event for event in events if selection.matches(event)}
