"""Which request to make next, and what its answer changes. No threads, no I/O.

    journal ──take──▶ ready ──job──▶ in flight ──▶ delivered │ dead │ parked
                        ▲                │
                        └─── delayed ◀───┘ failed for this event alone

Memory holds a bounded number of events; all others wait in the journal.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._journal.frames import FrameState
from outlay._model.clock import HOUR_MS
from outlay._shipping.backoff import Backoff, retry_after_seconds
from outlay._shipping.circuit_breaker import CircuitBreaker
from outlay._shipping.concurrency_pacing import Pacing
from outlay._shipping.outcomes import Decision, Outcome, Received, ServerEffect
from outlay._shipping.transport import EVENTS_PATH
from outlay._shipping.wire import (
    DEFAULT_OFFER,
    BatchOffer,
    EventResult,
    ResponseResult,
    batch_offer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay._journal.dead_letters import Kind
    from outlay._journal.journal import Journal
    from outlay._journal.segments import PendingEvent
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._model.settings import Settings
    from outlay._shipping.transport import TransportResponse

WINDOW_BATCHES: Final = 4
"""Batches' worth of events in memory at most."""

WINDOW_SINGLES: Final = 256
"""Events in memory at most, where each is a request."""

MAX_FAILURES: Final = 8
"""Of one event alone, before it is parked: some minutes of backoff."""

MAX_PROBES: Final = 3
"""With one event, before others are tried: it may be what breaks the server."""

ERRORS_IN_A_ROW: Final = 5
"""Answers of 500 without a success between them that make it the server's trouble."""

BATCH_PAUSE: Final = 300.0
"""Seconds without batches after one failed as a whole, if it may have been an event's
doing: long enough to park that event singly. And seconds with smaller ones after one
that was too large."""

MAX_BATCHES_IN_FLIGHT: Final = 2
"""One is prepared while the other is stored."""


class PlannedRequest(NamedTuple):
    """One request to make.

    Attributes:
        events: what it carries, oldest first, at least one.
        first_attempts: their ``first_attempt_ms`` as it was before this attempt.
        path: where to post it.
        batched: whether the batch extension is used.
    """

    events: list[PendingEvent]
    first_attempts: list[int | None]
    path: str
    batched: bool


class DeadEvent(NamedTuple):
    """An event that became a dead letter or was quarantined."""

    payload: bytes
    reason: str
    message: str


class Deliveries(NamedTuple):
    """What the application wants to hear of.

    Attributes:
        delivered: payloads of events that the server took.
        buried: events that it will not get.
    """

    delivered: list[bytes]
    buried: list[DeadEvent]


class RequestPlanner:
    """Plans requests and records what became of their events.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        *,
        clock: Clock,
        notices: RateLimitedLog,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._notices = notices
        self._policy = Backoff(
            initial=settings.retry_initial, maximum=settings.retry_max
        )
        self._gate = CircuitBreaker()
        self._pacing = Pacing(settings.max_senders)
        self._ready: deque[PendingEvent] = deque()
        self._delayed: list[tuple[float, int, PendingEvent]] = []  # heap, by due time
        self._order = itertools.count()  # breaks ties in the heap
        self._in_flight = 0
        self._linger_until: float | None = None
        self._errors_in_a_row = 0
        self._unmatched_types: set[bytes] = set()  # event types that no metric has
        self._batch_offer: BatchOffer | None = None
        # Monotonic seconds; before it, an offer to batch is not taken up.
        self._batch_from = math.inf if settings.batching == "never" else -math.inf
        if settings.batching == "always":
            self._batch_offer = DEFAULT_OFFER
        self._grow_from = math.inf  # the same; when halved batches may grow again
        self._unpark_at = math.inf
        self._news = Deliveries([], [])

    # Planning.

    def plan(self, *, hurry: bool) -> PlannedRequest | float:
        """Return the next request, or seconds until there may be one.

        Args:
            hurry: somebody waits; do not linger for company.
        """
        now = self._clock.monotonic()
        self._unpark(now)
        self._fill(now)
        if not self._ready:
            return self._next_due() - now
        if (seconds := self._linger(now, hurry=hurry)) > 0:
            return seconds
        if self._pacing.in_flight >= self.target_concurrency:
            return math.inf  # until one of them comes back
        if (seconds := self._gate.seconds_until_allowed(now)) > 0:
            return seconds
        return self._make_job()

    @property
    def idle(self) -> bool:
        """Whether nothing at hand could be sent; new events are worth a wake-up."""
        return not self._ready

    @property
    def target_concurrency(self) -> int:
        """How many requests are worth having under way at once."""
        if self._batch_offer is not None:
            return min(self._pacing.limit, MAX_BATCHES_IN_FLIGHT)
        return self._pacing.limit

    def has_more(self) -> bool:
        """Return whether another sender would find something to do."""
        self._fill(self._clock.monotonic())
        return bool(self._ready)

    def skip_backoff(self) -> None:
        """End all backoff: somebody waits, so try now."""
        self._gate.allow_probe()
        self._delayed = [(-math.inf, at, event) for _, at, event in self._delayed]

    def take_deliveries(self) -> Deliveries:
        """Return what happened since the last call."""
        news, self._news = self._news, Deliveries([], [])
        return news

    def _capacity(self) -> int:
        """Return how many events go into one request."""
        if self._batch_offer is None:
            return 1
        return min(self._batch_offer.max_events, self._settings.max_batch_events)

    def _fill(self, now: float) -> None:
        """Move events to ``_ready`` until there are enough for a request."""
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[2])
        capacity = self._capacity()
        window = WINDOW_BATCHES * capacity if capacity > 1 else WINDOW_SINGLES
        held = len(self._ready) + len(self._delayed) + self._in_flight
        wanted = min(capacity - len(self._ready), window - held)
        if wanted > 0:
            self._ready.extend(
                self._journal.reader.take(wanted, self._settings.max_batch_bytes)
            )

    def _next_due(self) -> float:
        delayed_until = self._delayed[0][0] if self._delayed else math.inf
        self._linger_until = None
        return min(delayed_until, self._unpark_at)

    def _linger(self, now: float, *, hurry: bool) -> float:
        """Return how long to wait for company for the events at hand.

        Each batch that is not full waits. Singles wait when the first of them arrives,
        so that a quiet application's thread is woken once and not for each; then all
        go that there are.
        """
        capacity = self._capacity()
        if hurry or len(self._ready) >= capacity > 1:
            return 0.0
        if self._linger_until is None:
            self._linger_until = now + self._settings.linger
        if now >= self._linger_until and capacity > 1:
            self._linger_until = None
            return 0.0
        return self._linger_until - now

    def _make_job(self) -> PlannedRequest | float:
        capacity, room = self._capacity(), self._settings.max_batch_bytes
        events: list[PendingEvent] = []
        while self._ready and len(events) < capacity:
            event = self._ready.popleft()
            if not self._may_send(event):
                continue
            room -= len(event.payload) + 1
            if room < 0 and events:
                self._ready.appendleft(event)
                break
            events.append(event)
        if not events:
            self._gate.record_success()  # nothing was sent: let the next one in
            return 0.0
        first_attempts = [event.first_attempt_ms for event in events]
        self.counts["requests"] += 1
        self.counts["retried"] += sum(event.attempts > 0 for event in events)
        self._note_in_doubt(events)
        # Before the first byte leaves: a crash from here on finds the stamp.
        self._journal.reader.stamp(events, self._clock.now_ms())
        self._in_flight += len(events)
        self._pacing.on_start()
        batched = self._batch_offer is not None
        path = self._batch_offer.path if self._batch_offer else EVENTS_PATH
        return PlannedRequest(events, first_attempts, path, batched)

    def _may_send(self, event: PendingEvent) -> bool:
        """Apply the window rule, and hold back the types that no metric has."""
        if self._outside_dedupe_window(event):
            self._to_dead_letters(
                event,
                "quarantined",
                "dedupe_window",
                "it may have been counted, and the server may no longer recognise it",
            )
            return False
        if self._unmatched_types and _type_prefix(event) in self._unmatched_types:
            self._park(event)
            return False
        return True

    def _note_in_doubt(self, events: list[PendingEvent]) -> None:
        """Note when the events' doubt began, by the clock that nobody can set back."""
        wall_ms, now = self._clock.now_ms(), self._clock.monotonic()
        for event in events:
            if not event.first_attempt_ms:
                event.in_doubt_since = now
            elif event.in_doubt_since is None:
                age = max(0, wall_ms - event.first_attempt_ms) / 1000
                event.in_doubt_since = now - age

    def _outside_dedupe_window(self, event: PendingEvent) -> bool:
        """Return whether sending ``event`` again might count it twice."""
        first = event.first_attempt_ms
        if first == 0:
            return False
        settings = self._settings
        usable = max(0.0, settings.dedupe_window - settings.dedupe_margin)
        since = event.in_doubt_since
        if since is not None and self._clock.monotonic() - since > usable:
            return True  # whatever the wall clock says by now
        now = self._clock.now_ms()
        # A first attempt in the future means that the clock was stepped back, and the
        # age is unknown. An hour's grace forgives what time synchronisation does.
        return first is None or first > now + HOUR_MS or now - first > 1000 * usable

    def _unpark(self, now: float) -> None:
        if now >= self._unpark_at:
            self._unpark_at = math.inf
            self._unmatched_types.clear()
            self._journal.reader.unpark()

    # Recording.

    def record(
        self,
        job: PlannedRequest,
        answer: TransportResponse | None,
        judgement: ResponseResult,
        *,
        wall: float,
        cpu: float,
    ) -> None:
        """Record what became of the events of ``job``.

        Args:
            job: as planned.
            answer: None if there was none.
            judgement: what was made of it.
            wall: seconds that the request took.
            cpu: seconds of them that the sender computed.
        """
        self._in_flight -= len(job.events)
        if answer is not None:
            self._update_batching(job, answer, judgement)
        self._update_breaker(answer, judgement.replies)
        self._pacing.on_end(
            answer.status if answer else None,
            self._clock.monotonic(),
            wall=wall,
            cpu=cpu,
            alike=not job.batched,
        )
        self.counts["duplicates"] += judgement.duplicates
        replies = zip(job.events, job.first_attempts, judgement.replies, strict=True)
        again = [
            event
            for event, first_attempt_ms, reply in replies
            if self._apply_outcome(event, first_attempt_ms, reply)
        ]
        self._ready.extendleft(reversed(again))

    def _apply_outcome(
        self, event: PendingEvent, first_attempt_ms: int | None, reply: EventResult
    ) -> bool:
        """Give ``event`` its fate; return whether it is next when the gate opens."""
        verdict = reply.verdict
        if verdict.outcome is Outcome.DELIVERED:
            self._journal.reader.settle(event, FrameState.DELIVERED)
            self.counts["delivered"] += 1
            self._news.delivered.append(event.payload)
            return False
        if verdict.counted is Received.NO:
            self._journal.reader.clear_attempt(event, first_attempt_ms)
        if verdict.outcome is Outcome.RETRY:
            return self._retry(event, reply)
        if verdict.outcome is Outcome.DEAD:
            self._to_dead_letters(event, "dead", verdict.reason, reply.message)
        else:
            self._hold_type(event, reply)
            self._park(event)
        return False

    def _retry(self, event: PendingEvent, reply: EventResult) -> bool:
        if reply.verdict.counted is Received.NO:
            return True
        if reply.verdict.effect is not ServerEffect.NONE:
            event.server_failures += 1
            # It goes first again, so that few events are ever in doubt; but not for
            # ever: an event that makes the server crash looks like an outage.
            if event.server_failures < MAX_PROBES:
                return True
            self._delay(event, event.server_failures)
            return False
        event.event_failures += 1
        if event.event_failures < MAX_FAILURES:
            self._delay(event, event.event_failures)
            return False
        self._notices.warn(
            f"parked {reply.verdict.reason}",
            "an event is parked after %d attempts: %s. It is kept, and tried again "
            "every %g s",
            MAX_FAILURES,
            reply.message,
            self._settings.parked_retry_interval,
        )
        self._park(event)
        return False

    def _delay(self, event: PendingEvent, failures: int) -> None:
        due = self._clock.monotonic() + self._policy.delay(failures)
        heapq.heappush(self._delayed, (due, next(self._order), event))

    def _hold_type(self, event: PendingEvent, reply: EventResult) -> None:
        """Stop sending events of a type that no metric has, one by one."""
        name = _type_prefix(event)
        if reply.verdict.reason == "invalid_event_type":
            self._unmatched_types.add(name)
        self._notices.warn(
            f"parked {name!r}",
            "events of %s are parked: %s. They are kept, and tried again every %g s",
            name.decode(errors="replace").removeprefix("{"),
            reply.message,
            self._settings.parked_retry_interval,
        )

    def _park(self, event: PendingEvent) -> None:
        self._journal.reader.settle(event, FrameState.PARKED)
        if self._unpark_at == math.inf:
            self._unpark_at = (
                self._clock.monotonic() + self._settings.parked_retry_interval
            )

    def _to_dead_letters(
        self, event: PendingEvent, kind: Kind, reason: str, message: str
    ) -> None:
        if not self._journal.move_to_dead_letters(event, kind, reason, message):
            return  # parked instead, for want of a place to write to
        self.counts[kind] += 1
        self._news.buried.append(DeadEvent(event.payload, reason, message))
        self._notices.warn(
            f"{kind} {reason}",
            "an event is %s (%s): %s; it is kept in %s",
            kind,
            reason,
            message,
            self._journal.folder.dead_path,
        )

    def _update_batching(
        self, job: PlannedRequest, answer: TransportResponse, judgement: ResponseResult
    ) -> None:
        now = self._clock.monotonic()
        if judgement.batch_failed:
            reply = judgement.replies[0]
            # What was refused for good is refused always. A fault may have been one
            # event's doing, which singly is soon parked.
            definite = reply.verdict.counted is Received.NO
            self._batch_from = math.inf if definite else now + BATCH_PAUSE
            self._stop_batching(reply.message)
        elif judgement.too_large and self._batch_offer is not None:
            half = len(job.events) // 2
            if half:
                self._batch_offer = self._batch_offer._replace(max_events=half)
                self._grow_from = now + BATCH_PAUSE
            else:
                self._batch_from = math.inf
                self._stop_batching("not even a batch of one is small enough")
        elif self._batch_offer is None and now >= self._batch_from:
            self._batch_offer = self._offered(answer)
        elif self._batch_offer is not None and job.batched and now >= self._grow_from:
            # Those events were large, or that server was: others need not be.
            self._batch_offer = self._offered(answer) or self._batch_offer
            self._grow_from = math.inf

    def _offered(self, answer: TransportResponse) -> BatchOffer | None:
        always = self._settings.batching == "always"
        return DEFAULT_OFFER if always else batch_offer(answer.headers)

    def _stop_batching(self, why: str) -> None:
        self._batch_offer = None
        self._notices.warn(
            "batch", "the server refuses batches (%s); events go one by one", why
        )

    def _update_breaker(
        self, answer: TransportResponse | None, replies: Sequence[EventResult]
    ) -> None:
        """Open or shut the gate, by the worst that the answer means for the others."""
        worst = max(replies, key=lambda reply: _SEVERITY[reply.verdict.effect])
        effect = self._effect_with_escalation(worst.verdict)
        now = self._clock.monotonic()
        asked = retry_after_seconds(
            answer.headers if answer else {}, self._clock.now_ms()
        )
        if effect is ServerEffect.NONE:
            self._gate.record_success()
            self._notices.resolved("paused", "shipping resumes")
            self._notices.resolved("trouble", "the server answers again")
        elif effect is ServerEffect.PAUSE:
            self._gate.record_failure()
            self._gate.open_until(now + self._settings.retry_max)
            self._notices.warn_once(
                "paused",
                "shipping is paused: %s. All events are kept; it is tried again every "
                "%g s. Check OUTLAY_API_KEY and OUTLAY_BASE_URL",
                worst.message,
                self._settings.retry_max,
            )
        elif effect is ServerEffect.FEWER and not asked and self._pacing.in_flight > 1:
            pass  # others are under way: the pacing makes them fewer, none need wait
        else:
            failures = self._gate.record_failure()
            delay = self._policy.delay(failures, asked)
            self._gate.open_until(now + delay, asked=bool(asked))
            self._notices.warn(
                "trouble", "cannot ship: %s. All events are kept", worst.message
            )

    def _effect_with_escalation(self, verdict: Decision) -> ServerEffect:
        """Return the effect, taking a row of faults of single events for an outage."""
        if verdict.effect is ServerEffect.NONE and verdict.counted is Received.MAYBE:
            self._errors_in_a_row += 1
            if self._errors_in_a_row >= ERRORS_IN_A_ROW:
                return ServerEffect.SLOW_DOWN
        else:
            self._errors_in_a_row = 0
        return verdict.effect


_SEVERITY: Final = {
    effect: degree
    for degree, effect in enumerate(
        (
            ServerEffect.NONE,
            ServerEffect.FEWER,
            ServerEffect.SLOW_DOWN,
            ServerEffect.PAUSE,
        )
    )
}


def _type_prefix(event: PendingEvent) -> bytes:
    # The encoder writes the type first; equal types give equal bytes.
    return event.payload.partition(b',"source":')[0]
