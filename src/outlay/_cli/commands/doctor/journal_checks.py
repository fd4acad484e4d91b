"""Check what the journal holds, and who ships it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._cli.commands.doctor.findings import Finding, Level
from outlay._cli.journal_options import current_destination
from outlay._cli.journal_totals import Backlog, Totals, total_events
from outlay._cli.output import pluralize
from outlay._journal.admin.inspect import (
    DestinationView,
    destinations,
    find_journal_dir,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay._model.settings import Settings

_NEARLY_FULL: Final = 0.8  # of max_journal_bytes: time to act before events are dropped

_REMEDIES: Final = {
    "parked": "most likely no cost metric counts their type; see 'outlay journal "
    "list', then 'outlay metrics create'",
    "quarantined": "they may have been counted; see 'outlay journal resend --help'",
    "dead": "the server refused them; see 'outlay journal list --state dead'",
}


def check_journal(settings: Settings) -> Iterator[Finding]:
    """Yield findings about pending events, their writers and unpriced costs."""
    current = current_destination(settings)
    if current.folder.exists:
        yield from _journal_backlog(current, settings)
    else:
        yield Finding(Level.OK, "journal", "no event was ever stored")
    for view in destinations(find_journal_dir(settings.journal_dir)):
        waiting = Backlog.from_view(view).of_dead_writers
        if waiting and view.digest != current.digest:
            text = (
                f"{pluralize(waiting, 'event')} of dead writers in {view.digest}, for "
                "another server, namespace or credential; see 'outlay journal status'"
            )
            yield Finding(Level.WARN, "journal", text)


def _journal_backlog(view: DestinationView, settings: Settings) -> Iterator[Finding]:
    problems: list[str] = []
    events = total_events(
        view.events(lambda found: problems.append(f"{found.location}: {found.text}"))
    )
    yield _pending(events)
    for state, remedy in _REMEDIES.items():
        if count := _count(events, state):
            text = f"{pluralize(count, 'event')} {state}: {remedy}"
            yield Finding(Level.WARN, "journal", text)
    yield _journal_usage(view, settings)
    yield from _writers(view)
    yield from _unpriced(view)
    for text in problems:
        yield Finding(Level.WARN, "journal", f"not read, and left as it is: {text}")


def _writers(view: DestinationView) -> Iterator[Finding]:
    """Report writers whose events no process ships."""
    backlog = Backlog.from_view(view)
    if dead := backlog.of_dead_writers:
        count = sum(writer.is_dead for writer in view.writers())
        text = (
            f"{pluralize(dead, 'event')} of {pluralize(count, 'dead writer')}; the "
            "next process ships them, or: outlay journal replay"
        )
        yield Finding(Level.WARN, "writers", text)
    unattended = sum(writer.is_unattended for writer in view.writers())
    if unattended:
        events = pluralize(backlog.without_agent, "event")
        text = (
            f"no agent ships for {pluralize(unattended, 'living writer')} with "
            f"shipping=agent, and {events} wait: start 'outlay agent' with the "
            "settings of the applications"
        )
        yield Finding(Level.FAIL, "writers", text)


def _unpriced(view: DestinationView) -> Iterator[Finding]:
    unreadable: list[object] = []
    count = sum(1 for _ in view.unpriced(unreadable.append))
    if count:
        text = (
            f"{pluralize(count, 'captured cost')} without a price, in no total yet: "
            "see 'outlay unpriced list', then 'outlay reprice'"
        )
        yield Finding(Level.WARN, "capture", text)


def _count(events: Totals, state: str) -> int:
    return sum(each.events for key, each in events.items() if key[0] == state)


def _pending(events: Totals) -> Finding:
    oldest = [each.oldest for key, each in events.items() if key[0] == "pending"]
    if not oldest:
        return Finding(Level.OK, "journal", "no event is pending")
    count = pluralize(_count(events, "pending"), "event")
    return Finding(Level.OK, "journal", f"{count} pending, since {min(oldest)}")


def _journal_usage(view: DestinationView, settings: Settings) -> Finding:
    used, limit = view.folder.used_bytes(), settings.max_journal_bytes
    text = f"{used:,} of max_journal_bytes={limit:,} are used"
    if used + settings.segment_bytes > limit:
        text += (
            ": new events are dropped when the open segments are full. Start the "
            "server, or raise OUTLAY_MAX_JOURNAL_BYTES"
        )
        return Finding(Level.FAIL, "journal", text)
    level = Level.WARN if used > _NEARLY_FULL * limit else Level.OK
    return Finding(level, "journal", text)
