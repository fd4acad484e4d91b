"""Decide which request to make next, and apply its response to the events.

The planner has no threads, and does no I/O except to the journal.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from outlay._shipping.backoff import Backoff
from outlay._shipping.batching import MAX_IN_FLIGHT, Batching
from outlay._shipping.concurrency import ConcurrencyLimit
from outlay._shipping.dedupe_window import DedupeWindow
from outlay._shipping.destination_health import DestinationHealth, Refusal
from outlay._shipping.event_queue import EventQueue
from outlay._shipping.parking import Parking
from outlay._shipping.settlement import Settlement
from outlay._shipping.wire import PlannedRequest

if TYPE_CHECKING:
    from collections import Counter

    from outlay._journal.journal import Journal
    from outlay._journal.segment_reader import PendingEvent
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._model.settings import Settings
    from outlay._shipping.settlement import Deliveries
    from outlay._shipping.transport import TransportResponse
    from outlay._shipping.wire import ResponseResult


class RequestPlanner:
    """Plans requests, and records the outcomes of their events.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(
        self, settings: Settings, journal: Journal, *, clock: Clock, log: RateLimitedLog
    ) -> None:
        """Plan for the events of ``journal``."""
        self._linger_seconds: Final = settings.linger
        self._journal: Final = journal
        self._clock: Final = clock
        backoff = Backoff(initial=settings.retry_initial, maximum=settings.retry_max)
        self._queue: Final = EventQueue(journal.reader, settings.max_batch_bytes)
        self._batching: Final = Batching(settings, log)
        self._window: Final = DedupeWindow(settings, clock)
        self._parking: Final = Parking(
            journal.reader, settings.parked_retry_interval, log
        )
        self._health: Final = DestinationHealth(
            backoff, settings.retry_max, clock=clock, log=log
        )
        self._concurrency: Final = ConcurrencyLimit(settings.max_senders)
        self._settlement: Final = Settlement(
            journal,
            self._queue,
            self._parking,
            self._health,
            backoff,
            in_flight=lambda: self._concurrency.in_flight,
            clock=clock,
            log=log,
        )
        self._linger_until: float | None = None

    # Planning.

    def plan(self, *, linger: bool = True) -> PlannedRequest | float:
        """Return the next request, or the seconds until there may be one.

        Args:
            linger: Whether to wait for more events. False while a caller waits in a
                flush. Defaults to True.
        """
        now = self._clock.monotonic()
        self._parking.retry_if_due(now)
        others_only = self._fill(now)
        if not self._queue.ready:
            self._linger_until = None
            due = min(self._queue.next_due, self._parking.retry_at) - now
            return min(due, others_only) if others_only else due
        if linger and (seconds := self._seconds_to_linger(now)) > 0:
            return seconds
        if self._concurrency.in_flight >= self.target_concurrency:
            return math.inf  # until a request in flight comes back
        if others_only:
            self._health.allow_probe()
        if (seconds := self._health.seconds_until_allowed(now)) > 0:
            return seconds
        return self._next_request()

    @property
    def counts(self) -> Counter[str]:
        """The outcomes and requests so far, by name."""
        return self._settlement.counts

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
        self._fill(self._clock.monotonic())
        return bool(self._queue.ready)

    def skip_backoff(self) -> None:
        """End all backoff, because a caller waits in a flush."""
        self._health.allow_probe()
        self._queue.skip_backoff()

    def take_deliveries(self) -> Deliveries:
        """Return the outcomes since the last call."""
        return self._settlement.take_deliveries()

    def _fill(self, now: float) -> float:
        """Make events ready. Return how long it may be others than those set aside."""
        others_only = self._health.seconds_for_others(now)
        self._queue.fill(self._batching.capacity, now, others_only=others_only > 0)
        return others_only

    def _seconds_to_linger(self, now: float) -> float:
        """Return how long to wait for more events.

        Each batch that is not full waits. Singles wait when the first of them arrives.
        So a quiet application's thread wakes once, and not for each event. Then all are
        sent.
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
            self._settlement.to_dead_letters(
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
            result: The results of the events.
            wall: The seconds that the request took.
            cpu: The CPU seconds that its sender used.
        """
        now = self._clock.monotonic()
        self._queue.landed(len(request.events))
        if response is not None:
            self._batching.update(request, response, result, now)
            self._parking.update_from(response.headers)  # before it parks
        refusal = self._settlement.refusal_of(request.events[0])
        if request.batched and response is not None and response.status >= 300:
            refusal = Refusal.BATCH
        successes = self._health.successes
        self._health.record(
            response,
            result.results,
            in_flight=self._concurrency.in_flight,
            refusal=refusal,
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
            if self._settlement.apply(event, first_attempt_ms, each, refusal=refusal)
        )
        if self._health.successes > successes:
            self._parking.retry_after_success(now)
            self._queue.release_aside()
