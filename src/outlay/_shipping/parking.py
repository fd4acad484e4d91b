"""Park events that need a person, and retry them on a slow clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from outlay._journal.frames import FrameState
from outlay._model.events import decode_event
from outlay._shipping.outcomes import UNMATCHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outlay._journal.reader import JournalReader
    from outlay._journal.segment_reader import PendingEvent
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._shipping.wire import EventResult

NOT_FOUND: Final = "not_found"
"""The reason of a 404. During a rolling deploy, one server in many may say it."""

SUCCESS_RETRY_SECONDS: Final = 1.0
"""The shortest time between two retries because other events pass. It doubles."""

UNPARKS_HEADER: Final = "outlay-unparks"
"""The response header, with the value ``true``, by which a server invites early retries
of unmatched types."""

EARLY_RETRY: Final = (5.0, 60.0)
"""The first and the longest time between early retries, in seconds. The time
doubles."""

_SECONDS_PER_PARKED: Final = 0.001
"""The seconds added for each parked event, because a retry reads all of them."""


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
        self._awaits_success = False  # of another event
        self._success_retry = (-math.inf, 0.0)  # from when, and the seconds before it
        self._retries_early = False
        self._early_retries = 0  # in a row
        self._retried_at = -math.inf
        self.retry_at = math.inf

    def update_from(self, headers: Mapping[str, str]) -> None:
        """Note whether the server invites early retries of unmatched types."""
        if headers.get(UNPARKS_HEADER) == "true":
            self._retries_early = True

    def holds_type_of(self, event: PendingEvent) -> bool:
        """Return whether the server has no metric for the type of ``event``."""
        types = self._unmatched_types
        return bool(types) and _type_prefix(event) in types

    def park(self, event: PendingEvent, now: float) -> None:
        """Park ``event``. ``now`` is the monotonic time, in seconds."""
        self._reader.settle(event, FrameState.PARKED)
        self.retry_at = min(self.retry_at, now + self._interval())

    def _interval(self) -> float:
        """Return the seconds until the next retry of all parked events."""
        if not self._retries_early or not self._unmatched_types:
            return self._retry_interval
        # One event of each type is sent. The rest is sent if the server takes it.
        first, longest = EARLY_RETRY
        early = min(longest, first * 2 ** min(self._early_retries, 10))
        early += _SECONDS_PER_PARKED * self._reader.parked_count()
        return float(min(early, self._retry_interval))

    def park_refused(
        self, event: PendingEvent, result: EventResult, now: float
    ) -> None:
        """Park an event that the server refused, and its whole type if it is unmatched.

        The events of an unmatched type are not sent one by one only to be refused.
        """
        name = _type_prefix(event)
        if result.decision.reason == UNMATCHED.reason:
            self._unmatched_types.add(name)
            if now - self._retried_at > 2 * EARLY_RETRY[1]:
                self._early_retries = 0
        elif result.decision.reason == NOT_FOUND:
            self._awaits_success = True
        self._log.warn(
            f"parked {name!r}",
            "events of %s are parked: %s. They are kept, and retried every %g s",
            name.decode(errors="replace").removeprefix("{"),
            result.message,
            self._retry_interval,
        )
        self.park(event, now)

    def park_refused_alone(
        self, event: PendingEvent, result: EventResult, now: float
    ) -> None:
        """Park an event that the server, or a hop before it, refuses alone."""
        self._park_named(event, result, now, "while others passed")

    def park_refused_last(
        self, event: PendingEvent, result: EventResult, now: float
    ) -> None:
        """Park an event that is refused while there is no other event to try.

        It is retried when another event was delivered, too: perhaps all were refused.
        """
        self._awaits_success = True
        self._park_named(event, result, now, "and there was no other event to try")

    def _park_named(
        self, event: PendingEvent, result: EventResult, now: float, others: str
    ) -> None:
        known = decode_event(event.payload)
        self._log.warn(
            f"refused alone {result.decision.reason}",
            "the event %s (%s) is parked: it was refused %d times, %s: %s. It is kept, "
            "and retried every %g s. Check whether a firewall on the way dislikes its "
            "text",
            known.idempotency_key,
            known.type,
            event.refusals,
            others,
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
            early = self._retries_early and bool(self._unmatched_types)
            self._early_retries = self._early_retries + 1 if early else 0
            self.retry_at = math.inf
            self._retried_at = now
            self._unmatched_types.clear()
            self._reader.unpark()

    def retry_after_success(self, now: float) -> None:
        """Retry events that may have been refused as all were, because one passed.

        They may be refused again. So the time until the next such retry doubles.
        """
        retry_from, seconds = self._success_retry
        if not self._awaits_success or now < retry_from:
            return
        recent = now < retry_from + self._retry_interval
        seconds = min(2 * seconds, self._retry_interval) if recent else 0.0
        seconds = max(seconds, SUCCESS_RETRY_SECONDS)
        self._success_retry = (now + seconds, seconds)
        self._awaits_success = False
        self._reader.unpark()


def _type_prefix(event: PendingEvent) -> bytes:
    # The encoder writes the type first. Equal types give equal bytes.
    return event.payload.partition(b',"source":')[0]
