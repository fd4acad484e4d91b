"""Settle events by the outcomes of their attempts, or arrange the next attempt."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._journal.frames import FrameState
from outlay._shipping.destination_health import Refusal
from outlay._shipping.outcomes import (
    MAYBE_ONE_EVENT,
    Outcome,
    Received,
    ServerEffect,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay._journal.dead_letters import Kind
    from outlay._journal.journal import Journal
    from outlay._journal.segment_reader import PendingEvent
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._shipping.backoff import Backoff
    from outlay._shipping.destination_health import DestinationHealth
    from outlay._shipping.event_queue import EventQueue
    from outlay._shipping.parking import Parking
    from outlay._shipping.wire import EventResult

MAX_FAILURES: Final = 8
"""The failures of one event alone before it is parked: some minutes of backoff."""

MAX_PROBES: Final = 3
"""The probes with one event, which may break the server, before others are tried. As
many refusals of one event, while there is no other, park it."""


class DeadEvent(NamedTuple):
    """An event that became a dead letter or was quarantined.

    Attributes:
        payload: The event's bytes.
        reason: One word for counters and dead letters.
        message: The server's words, or ours.
    """

    payload: bytes
    reason: str
    message: str


class Deliveries(NamedTuple):
    """The outcomes that the application wants to hear of.

    Attributes:
        delivered: The payloads of events that the server took.
        dead: The events that it will not get.
    """

    delivered: list[bytes]
    dead: list[DeadEvent]


class Settlement:
    """Settles events by the outcomes of their attempts, or arranges another attempt.

    Thread safety: caller holds the shipper's lock.

    Attributes:
        counts: The outcomes so far, by name.
    """

    def __init__(
        self,
        journal: Journal,
        queue: EventQueue,
        parking: Parking,
        health: DestinationHealth,
        backoff: Backoff,
        *,
        in_flight: Callable[[], int],
        clock: Clock,
        log: RateLimitedLog,
    ) -> None:
        """Begin without outcomes.

        Args:
            journal: The journal that gets the events' states and dead letters.
            queue: The queue that gets the events that are sent again.
            parking: The place of parked events.
            health: The destination's health.
            backoff: The waits of single events.
            in_flight: A function that returns the number of requests in flight.
            clock: The source of time.
            log: The log for dead letters.
        """
        self.counts: Counter[str] = Counter()
        self._journal: Final = journal
        self._queue: Final = queue
        self._parking: Final = parking
        self._health: Final = health
        self._backoff: Final = backoff
        self._in_flight: Final = in_flight
        self._clock: Final = clock
        self._log: Final = log
        self._deliveries = Deliveries([], [])

    def take_deliveries(self) -> Deliveries:
        """Return the outcomes since the last call."""
        deliveries, self._deliveries = self._deliveries, Deliveries([], [])
        return deliveries

    def apply(
        self,
        event: PendingEvent,
        first_attempt_ms: int | None,
        result: EventResult,
        *,
        refusal: Refusal,
    ) -> bool:
        """Apply the outcome of ``event``. Return whether it must be sent next.

        Args:
            event: An event of the request.
            first_attempt_ms: Its ``first_attempt_ms`` before the request.
            result: The event's result.
            refusal: The meaning of a refusal of the request.
        """
        decision = result.decision
        if decision.outcome is Outcome.DELIVERED:
            self._journal.reader.settle(event, FrameState.DELIVERED)
            self.counts["delivered"] += 1
            self._deliveries.delivered.append(event.payload)
            return False
        if decision.received is Received.NO:
            self._journal.reader.clear_attempt(event, first_attempt_ms)
        if decision.outcome is Outcome.RETRY:
            if decision.reason in MAYBE_ONE_EVENT:
                return refusal is Refusal.BATCH or self._set_aside(event, result)
            return self._retry(event, result)
        if decision.outcome is Outcome.DEAD:
            self.to_dead_letters(event, "dead", decision.reason, result.message)
        else:
            self._parking.park_refused(event, result, self._clock.monotonic())
        return False

    def refusal_of(self, event: PendingEvent) -> Refusal:
        """Return the meaning of another refusal of ``event`` alone."""
        before = event.successes_before
        if before is None:
            return Refusal.FIRST
        if before < self._health.successes:
            return Refusal.OTHERS_PASSED
        return Refusal.AGAIN

    def to_dead_letters(
        self, event: PendingEvent, kind: Kind, reason: str, message: str
    ) -> None:
        """Move ``event`` to the dead letters."""
        if not self._journal.move_to_dead_letters(event, kind, reason, message):
            return  # parked, because no dead letter can be written
        self.counts[kind] += 1
        self._deliveries.dead.append(DeadEvent(event.payload, reason, message))
        self._log.warn(
            f"{kind} {reason}",
            "an event is %s (%s): %s; it is kept in %s",
            kind,
            reason,
            message,
            self._journal.folder.dead_path,
        )

    def _retry(self, event: PendingEvent, result: EventResult) -> bool:
        """Arrange another attempt. Return whether ``event`` must be sent next."""
        if result.decision.received is Received.NO:
            return True
        if result.decision.effect is not ServerEffect.NONE:
            event.server_failures += 1
            # It goes first again, so that few events are in doubt at any time. But not
            # each time: an event that makes the server crash looks like an outage.
            if event.server_failures < MAX_PROBES:
                return True
            self._delay(event, event.server_failures)
            return False
        event.event_failures += 1
        if event.event_failures < MAX_FAILURES:
            self._delay(event, event.event_failures)
        else:
            self._parking.park_failing(event, result, self._clock.monotonic())
        return False

    def _set_aside(self, event: PendingEvent, result: EventResult) -> bool:
        """Let other events be tried, and park ``event`` alone if they passed.

        Otherwise one event whose text a firewall dislikes would hold up all others. The
        same holds if there is no other, and the destination took events before.
        """
        refusal = self.refusal_of(event)
        # Requests that are in flight may succeed, and prove nothing about later ones.
        event.successes_before = self._health.successes + self._in_flight()
        event.refusals += 1
        now = self._clock.monotonic()
        if refusal is Refusal.OTHERS_PASSED:
            self._parking.park_refused_alone(event, result, now)
        elif refusal is Refusal.FIRST or self._health.is_down:
            self._queue.set_aside(event)
        elif event.refusals < MAX_PROBES:
            self._delay(event, event.refusals)
        else:
            self._parking.park_refused_last(event, result, now)
        return False

    def _delay(self, event: PendingEvent, failures: int) -> None:
        due = self._clock.monotonic() + self._backoff.delay(failures)
        self._queue.delay(event, due)
