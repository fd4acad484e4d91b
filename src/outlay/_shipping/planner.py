"""Decide which request to make next, and apply its response to the events.

The planner has no threads, and does no I/O except to the journal.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._journal.frames import FrameState
from outlay._shipping.backoff import Backoff
from outlay._shipping.batching import MAX_IN_FLIGHT, Batching
from outlay._shipping.concurrency import ConcurrencyLimit
from outlay._shipping.dedupe_window import DedupeWindow
from outlay._shipping.destination_health import DestinationHealth
from outlay._shipping.event_queue import EventQueue
from outlay._shipping.outcomes import (
    MAYBE_ONE_EVENT,
    Outcome,
    Received,
    ServerEffect,
)
from outlay._shipping.parking import Parking
from outlay._shipping.wire import EventResult, PlannedRequest, ResponseResult

if TYPE_CHECKING:
    from outlay._journal.dead_letters import Kind
    from outlay._journal.journal import Journal
    from outlay._journal.segment_reader import PendingEvent
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._model.settings import Settings
    from outlay._shipping.transport import TransportResponse

MAX_FAILURES: Final = 8
"""The failures of one event alone before it is parked: some minutes of backoff."""

MAX_PROBES: Final = 3
"""The probes with one event, which may break the server, before others are tried."""


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


class RequestPlanner:
    """Plans requests, and records the outcomes of their events.

    Thread safety: caller holds the shipper's lock.

    Attributes:
        counts: The outcomes and requests so far, by name.
    """

    def __init__(
        self, settings: Settings, journal: Journal, *, clock: Clock, log: RateLimitedLog
    ) -> None:
        """Plan for the events of ``journal``."""
        self.counts: Counter[str] = Counter()
        self._linger_seconds: Final = settings.linger
        self._journal: Final = journal
        self._clock: Final = clock
        self._log: Final = log
        self._backoff: Final = Backoff(
            initial=settings.retry_initial, maximum=settings.retry_max
        )
        self._queue: Final = EventQueue(journal.reader, settings.max_batch_bytes)
        self._batching: Final = Batching(settings, log)
        self._window: Final = DedupeWindow(settings, clock)
        self._parking: Final = Parking(
            journal.reader, settings.parked_retry_interval, log
        )
        self._health: Final = DestinationHealth(
            self._backoff, settings.retry_max, clock=clock, log=log
        )
        self._concurrency: Final = ConcurrencyLimit(settings.max_senders)
        self._linger_until: float | None = None
        self._deliveries = Deliveries([], [])

    # Planning.

    def plan(self, *, linger: bool = True) -> PlannedRequest | float:
        """Return the next request, or the seconds until there may be one.

        Args:
            linger: Whether to wait for more events. False while a caller waits in a
                flush. Defaults to True.
        """
        now = self._clock.monotonic()
        self._parking.retry_if_due(now)
        self._queue.fill(self._batching.capacity, now)
        if not self._queue.ready:
            self._linger_until = None
            return min(self._queue.next_due, self._parking.retry_at) - now
        if linger and (seconds := self._seconds_to_linger(now)) > 0:
            return seconds
        if self._concurrency.in_flight >= self.target_concurrency:
            return math.inf  # until a request in flight comes back
        if (seconds := self._health.seconds_until_allowed(now)) > 0:
            return seconds
        return self._next_request()

    @property
    def idle(self) -> bool:
        """Whether no event can be sent now. New events must wake the shipper."""
        return not self._queue.ready

    @property
    def server_is_down(self) -> bool:
        """Whether the server is known not to take events now."""
        return self._health.is_down

    @property
    def held_events(self) -> int:
        """The number of events in memory."""
        return len(self._queue)

    @property
    def target_concurrency(self) -> int:
        """The useful number of requests in flight."""
        limit = self._concurrency.limit
        return min(limit, MAX_IN_FLIGHT) if self._batching.enabled else limit

    def has_more(self) -> bool:
        """Return whether another sender would find an event to send."""
        self._queue.fill(self._batching.capacity, self._clock.monotonic())
        return bool(self._queue.ready)

    def skip_backoff(self) -> None:
        """End all backoff, because a caller waits in a flush."""
        self._health.allow_probe()
        self._queue.skip_backoff()

    def take_deliveries(self) -> Deliveries:
        """Return the outcomes since the last call."""
        deliveries, self._deliveries = self._deliveries, Deliveries([], [])
        return deliveries

    def _seconds_to_linger(self, now: float) -> float:
        """Return how long to wait for more events.

        Each batch that is not full waits. Singles wait when the first of them arrives,
        so that a quiet application's thread wakes once and not for each event. Then all
        are sent.
        """
        capacity = self._batching.capacity
        if self._queue.ready >= capacity > 1:
            return 0.0
        if self._linger_until is None:
            self._linger_until = now + self._linger_seconds
        if now >= self._linger_until and capacity > 1:
            self._linger_until = None
            return 0.0
        return self._linger_until - now

    def _next_request(self) -> PlannedRequest | float:
        events = self._queue.take(self._batching.capacity, self._may_send)
        if not events:
            self._health.nothing_sent()
            return 0.0
        first_attempts = [event.first_attempt_ms for event in events]
        self.counts["requests"] += 1
        self.counts["retried"] += sum(event.attempts > 0 for event in events)
        self._window.note_attempt(events)
        # Before the first byte leaves: the process that comes after a crash finds it.
        self._journal.reader.stamp(events, self._clock.now_ms())
        self._concurrency.on_start()
        return PlannedRequest(
            events, first_attempts, self._batching.path, self._batching.enabled
        )

    def _may_send(self, event: PendingEvent) -> bool:
        """Return whether ``event`` may be sent. Settle it if it may not."""
        if self._window.is_past(event):
            self._bury(
                event,
                "quarantined",
                "dedupe_window",
                "it may have been counted, and the server may no longer recognize it",
            )
            return False
        if self._parking.holds_type_of(event):
            self._parking.park(event, self._clock.monotonic())
            return False
        return True

    # Recording.

    def record(
        self,
        request: PlannedRequest,
        response: TransportResponse | None,
        result: ResponseResult,
        *,
        wall: float,
        cpu: float,
    ) -> None:
        """Record the outcomes of the events of ``request``.

        Args:
            request: The request, as it was planned.
            response: The response, or None if there was none.
            result: What the response says about each event.
            wall: The seconds that the request took.
            cpu: The CPU seconds that its sender used.
        """
        now = self._clock.monotonic()
        self._queue.landed(len(request.events))
        singly = not request.batched or response is None or response.status < 300
        if response is not None:
            self._batching.update(request, response, result, now)
            self._parking.update_from(response.headers)  # before it parks
        successes = self._health.successes
        self._health.record(
            response,
            result.results,
            in_flight=self._concurrency.in_flight,
            others_passed=singly and self._others_passed(request.events[0]),
        )
        status = None if response is None else response.status
        self._concurrency.on_end(status, now, wall=wall, cpu=cpu)
        self.counts["duplicates"] += result.duplicates
        events = zip(
            request.events, request.first_attempts, result.results, strict=True
        )
        self._queue.return_first(
            event
            for event, first_attempt_ms, each in events
            if self._apply_outcome(event, first_attempt_ms, each, singly=singly)
        )
        if self._health.successes > successes:
            self._parking.retry_not_found(now)
            self._queue.release_aside()

    def _apply_outcome(
        self,
        event: PendingEvent,
        first_attempt_ms: int | None,
        result: EventResult,
        *,
        singly: bool,
    ) -> bool:
        """Apply the outcome of ``event``. Return whether it must be sent next.

        Args:
            event: An event of the request.
            first_attempt_ms: Its ``first_attempt_ms`` before the request.
            result: What the response says about it.
            singly: Whether the response is about this event, and not about its batch.
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
                return not singly or self._set_aside(event, result)
            return self._retry(event, result)
        if decision.outcome is Outcome.DEAD:
            self._bury(event, "dead", decision.reason, result.message)
        else:
            self._parking.park_refused(event, result, self._clock.monotonic())
        return False

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

        Otherwise one event whose text a firewall dislikes would hold up all others.
        """
        others_passed = self._others_passed(event)
        # Requests that are in flight may succeed, and prove nothing about later ones.
        in_flight = self._concurrency.in_flight
        event.successes_before = self._health.successes + in_flight
        event.server_failures += 1
        if others_passed:
            self._parking.park_refused_alone(event, result, self._clock.monotonic())
        else:
            self._queue.set_aside(event)
        return False

    def _others_passed(self, event: PendingEvent) -> bool:
        """Return whether other events passed since ``event`` was refused."""
        before = event.successes_before
        return before is not None and before < self._health.successes

    def _delay(self, event: PendingEvent, failures: int) -> None:
        due = self._clock.monotonic() + self._backoff.delay(failures)
        self._queue.delay(event, due)

    def _bury(self, event: PendingEvent, kind: Kind, reason: str, message: str) -> None:
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
