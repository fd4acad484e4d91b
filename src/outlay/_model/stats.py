"""Counts of a client's events, by where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Stats(NamedTuple):
    """The counts of a client's events. Every event is in exactly one place.

    ``tracked + recovered = delivered + pending + parked + dead + quarantined +
    dropped + damaged`` holds at every moment.

    Attributes:
        tracked: The events that `track_cost` took.
        recovered: The events of earlier processes that were found in the journal.
        delivered: The events that the server accepted.
        pending: The events in the journal that will be shipped.
        parked: The events in the journal that the server does not accept now, such as
            those without a metric. They are tried again at long intervals.
        dead: The events that the server refused for good. They are dead letters.
        quarantined: The dead letters that may have been counted already.
        dropped: The events that were given up, such as for lack of room, by reason.
        damaged: The events that were found corrupted in the journal. Their bytes are
            kept.
        duplicates: The delivered events that the server already knew.
        retried: The number of times that an event was sent again.
        requests: The number of requests.
        journal_bytes: The size of the journal for this destination, with the segments
            of other processes. The setting ``max_journal_bytes`` limits it.
        oldest_pending_age: The seconds since the timestamp of the oldest pending event.
            None if no event is pending, or the client is closed.
        unpriced: The captured costs of this process that wait for a price. They are not
            events yet, and no other number includes them.
        capture_errors: The failures of capture by kind, such as ``openai: KeyError``.
            The observed calls went on, and their costs are in no other number. The
            counts belong to the whole process. The first of each kind is logged.
        random_keys: The events and unpriced costs of this process without an operation
            id. If such an operation runs again, it counts again.
    """

    tracked: int
    recovered: int
    delivered: int
    pending: int
    parked: int
    dead: int
    quarantined: int
    dropped: Mapping[str, int]
    damaged: int
    duplicates: int
    retried: int
    requests: int
    journal_bytes: int
    oldest_pending_age: float | None
    unpriced: int
    capture_errors: Mapping[str, int]
    random_keys: int


class FlushResult(NamedTuple):
    """The result of `flush` and `close`.

    Attributes:
        complete: Whether every event that was tracked before the call has an outcome:
            delivered, dead, quarantined, dropped or damaged. False while any event is
            pending or parked.
        stats: Where all events are now.
    """

    complete: bool
    stats: Stats

    @property
    def message(self) -> str:
        """The events without an outcome, and what to type, in one or two sentences."""
        pending, parked = self.stats.pending, self.stats.parked
        if parked:
            return (
                f"{parked} events are parked, because the server does not accept them "
                "now. Run 'outlay journal status' to see why, and create missing "
                "metrics with 'outlay metrics create'."
            )
        if pending:
            return (
                f"{pending} events are pending, and stay in the journal. Run 'outlay "
                "doctor' to check the connection."
            )
        return "All events have an outcome."
