"""Park events that need a person, and retry them on a slow clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from outlay._journal.frames import FrameState
from outlay._shipping.outcomes import UNMATCHED

if TYPE_CHECKING:
    from outlay._journal.reader import JournalReader
    from outlay._journal.segment_reader import PendingEvent
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._shipping.wire import EventResult


class Parking:
    """Keeps parked events in the journal, and knows the event types without a metric.

    Thread safety: caller holds the shipper's lock.

    Attributes:
        retry_at: The monotonic time at which parked events are retried, in seconds.
    """

    def __init__(
        self, reader: JournalReader, retry_interval: float, log: RateLimitedLog
    ) -> None:
        """Begin without parked events.

        Args:
            reader: The journal's reader.
            retry_interval: The time until parked events are retried, in seconds.
            log: The log for what is parked.
        """
        self._reader: Final = reader
        self._retry_interval: Final = retry_interval
        self._log: Final = log
        self._unmatched_types: set[bytes] = set()
        self.retry_at = math.inf

    def holds_type_of(self, event: PendingEvent) -> bool:
        """Return whether the server has no metric for the type of ``event``."""
        types = self._unmatched_types
        return bool(types) and _type_prefix(event) in types

    def park(self, event: PendingEvent, now: float) -> None:
        """Park ``event``. ``now`` is the monotonic time, in seconds."""
        self._reader.settle(event, FrameState.PARKED)
        if self.retry_at == math.inf:
            self.retry_at = now + self._retry_interval

    def park_refused(
        self, event: PendingEvent, result: EventResult, now: float
    ) -> None:
        """Park an event that the server refused, and its whole type if it is unmatched.

        The events of an unmatched type are not sent one by one only to be refused.
        """
        name = _type_prefix(event)
        if result.decision.reason == UNMATCHED.reason:
            self._unmatched_types.add(name)
        self._log.warn(
            f"parked {name!r}",
            "events of %s are parked: %s. They are kept, and retried every %g s",
            name.decode(errors="replace").removeprefix("{"),
            result.message,
            self._retry_interval,
        )
        self.park(event, now)

    def park_failing(
        self, event: PendingEvent, result: EventResult, now: float
    ) -> None:
        """Park an event that failed too often while other events did not."""
        self._log.warn(
            f"parked {result.decision.reason}",
            "an event is parked after %d attempts: %s. It is kept, and retried every "
            "%g s",
            event.event_failures,
            result.message,
            self._retry_interval,
        )
        self.park(event, now)

    def retry_if_due(self, now: float) -> None:
        """Make all parked events pending again when their time has come."""
        if now >= self.retry_at:
            self.retry_at = math.inf
            self._unmatched_types.clear()
            self._reader.unpark()


def _type_prefix(event: PendingEvent) -> bytes:
    # The encoder writes the type first. Equal types give equal bytes.
    return event.payload.partition(b',"source":')[0]
