"""Hold the events that are next, and those that wait for another attempt.

    journal ──fill──▶ ready ──take──▶ in flight ──▶ delivered │ dead │ parked
                        ▲                │
                        └─── delayed ◀───┘ failed for this event alone

Memory holds a bounded number of events. All others wait in the journal.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from outlay._journal.reader import JournalReader
    from outlay._journal.segment_reader import PendingEvent

WINDOW_BATCHES: Final = 4
"""The largest number of batches whose events are in memory."""

WINDOW_SINGLES: Final = 256
"""The largest number of events in memory if each of them is a request."""


class EventQueue:
    """Orders the events in memory, oldest first.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self, reader: JournalReader, max_bytes: int) -> None:
        """Read from ``reader``.

        Args:
            reader: The journal's reader.
            max_bytes: The largest size of one request's events, in bytes.
        """
        self._reader: Final = reader
        self._max_bytes: Final = max_bytes
        self._ready: deque[PendingEvent] = deque()
        self._delayed: list[tuple[float, int, PendingEvent]] = []  # heap, by due time
        self._aside: deque[PendingEvent] = deque()  # until another event is delivered
        self._order = itertools.count()  # breaks ties in the heap
        self._in_flight = 0

    def __len__(self) -> int:
        """Return the number of events in memory."""
        held = len(self._ready) + len(self._delayed) + len(self._aside)
        return held + self._in_flight

    @property
    def ready(self) -> int:
        """The number of events that can be sent now."""
        return len(self._ready)

    @property
    def next_due(self) -> float:
        """The monotonic time at which a delayed event is due, or ``math.inf``."""
        return self._delayed[0][0] if self._delayed else math.inf

    def fill(self, capacity: int, now: float, *, others_only: bool = False) -> None:
        """Make events ready until one request is full.

        Args:
            capacity: The largest number of events in one request.
            now: The monotonic time, in seconds.
            others_only: Whether events that were set aside stay there. Defaults to
                False: if there is no other event, they are ready again.
        """
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[2])
        window = WINDOW_BATCHES * capacity if capacity > 1 else WINDOW_SINGLES
        wanted = min(capacity - len(self._ready), window - len(self))
        if wanted > 0:
            self._ready.extend(self._reader.take(wanted, self._max_bytes))
        if not self._ready and self._aside and not others_only:
            self._ready.append(self._aside.popleft())

    def take(
        self, capacity: int, may_send: Callable[[PendingEvent], bool]
    ) -> list[PendingEvent]:
        """Take the events of the next request. They count as in flight.

        Args:
            capacity: The largest number of events in the request.
            may_send: A function that settles an event and returns False if the event
                must not be sent.
        """
        taken: list[PendingEvent] = []
        room = self._max_bytes
        while self._ready and len(taken) < capacity:
            event = self._ready.popleft()
            if not may_send(event):
                continue
            room -= len(event.payload) + 1
            if room < 0 and taken:
                self._ready.appendleft(event)
                break
            taken.append(event)
        self._in_flight += len(taken)
        return taken

    def return_first(self, events: Iterable[PendingEvent]) -> None:
        """Make ``events`` ready before all others, in their order."""
        self._ready.extendleft(reversed([*events]))

    def delay(self, event: PendingEvent, due: float) -> None:
        """Make ``event`` ready at ``due``, in monotonic seconds."""
        heapq.heappush(self._delayed, (due, next(self._order), event))

    def set_aside(self, event: PendingEvent) -> None:
        """Prefer all other events to ``event``, until `release_aside`."""
        self._aside.append(event)

    def release_aside(self) -> None:
        """Make the events that were set aside ready, because another was delivered."""
        self._ready.extend(self._aside)
        self._aside.clear()

    def landed(self, count: int) -> None:
        """Note that ``count`` events are no longer in flight."""
        self._in_flight -= count

    def skip_backoff(self) -> None:
        """Make all delayed events due."""
        self._delayed = [(-math.inf, at, event) for _, at, event in self._delayed]
