"""Where the events of a client are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Stats(NamedTuple):
    """Where the events of a client are; every one is in exactly one place.

    ``tracked + recovered = delivered + pending + parked + dead + quarantined +
    dropped + damaged`` holds at every moment.

    Attributes:
        tracked: events that `track_cost` took.
        recovered: events of earlier processes found in the journal so far.
        delivered: accepted by the server.
        pending: in the journal, to be shipped.
        parked: in the journal, tried again on a slow clock.
        dead: refused for good, in the dead letters.
        quarantined: perhaps counted already, in the dead letters.
        dropped: given up for want of room, by reason.
        damaged: found corrupted in the journal, whose bytes are kept aside.
        duplicates: of the delivered, how many the server said it knew already.
        retried: how often an event was sent again.
        requests: how many requests were made.
        journal_bytes: size of the journal's segments for this destination, those of
            other processes included; what `max_journal_bytes` limits.
        oldest_pending_age: seconds since the timestamp of the oldest pending event; None
            if none is pending, or the client is closed.
        unpriced: captured costs of this process that wait for a price. They are no
            events yet, and in none of the other numbers.
        capture_errors: how often capture failed, by kind: what failed, and the error's
            class, such as ``openai: KeyError``. The calls went on; their costs are in
            none of the other numbers. It is the number of the whole process, whichever
            client the costs were for; the first of each kind is logged.
        random_keys: of this process's events and unpriced costs, those that nothing
            gave an operation id: if what they are of is run again, it counts again.
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
    """What `flush` and `close` answer.

    Attributes:
        complete: whether everything tracked before the call has met its fate:
            delivered, parked, dead, quarantined, dropped or damaged.
        stats: where all events are now.
    """

    complete: bool
    stats: Stats
