"""Judge by responses whether a destination works, and when to try it again."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from outlay._shipping.backoff import retry_after_seconds
from outlay._shipping.circuit_breaker import BreakerState, CircuitBreaker
from outlay._shipping.outcomes import (
    FOREIGN,
    MAYBE_ONE_EVENT,
    Decision,
    Outcome,
    Received,
    ServerEffect,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._shipping.backoff import Backoff
    from outlay._shipping.transport import TransportResponse
    from outlay._shipping.wire import EventResult

ERRORS_IN_A_ROW: Final = 5
"""Responses of 500, without a success between them, that mean the server is in
trouble."""

REFUSED_IN_A_ROW: Final = 3
"""Different events that are refused, without a success between them, and so mean that
all are refused."""

_SEVERITY: Final = {
    ServerEffect.NONE: 0,
    ServerEffect.FEWER: 1,
    ServerEffect.SLOW_DOWN: 2,
    ServerEffect.PAUSE: 3,
}

_DEFAULT_ADVICE: Final = "Check OUTLAY_API_KEY and OUTLAY_BASE_URL"
_ADVICE: Final = {
    "unauthorized": (
        "Type: export OUTLAY_API_KEY=<key>, with the key that 'outlay serve' printed "
        "at its first start"
    ),
    "forbidden": "Check the permissions of OUTLAY_API_KEY, and firewalls on the way",
    "redirected": "Check OUTLAY_API_KEY and OUTLAY_BASE_URL: the server redirects",
    "proxy_unauthorized": "Check the user and password in HTTPS_PROXY or HTTP_PROXY",
    FOREIGN.reason: (
        "The response is not from an outlay service: check the scheme, host, port and "
        "path of OUTLAY_BASE_URL, and proxies on the way"
    ),
}


class Refusal(enum.Enum):
    """The meaning of a refused request, which may be refused for one event's text."""

    FIRST = "its event was not refused before"
    AGAIN = "its event was refused before, and no other event passed since"
    OTHERS_PASSED = "its event was refused before, and other events passed since"
    BATCH = "nothing: one of its events may be the reason, and each will be sent alone"


class DestinationHealth:
    """Opens and closes the circuit breaker, and logs why.

    Thread safety: caller holds the shipper's lock.

    Attributes:
        successes: The number of requests that delivered an event.
    """

    def __init__(
        self,
        backoff: Backoff,
        pause_seconds: float,
        *,
        clock: Clock,
        log: RateLimitedLog,
    ) -> None:
        """Begin with a destination that works.

        Args:
            backoff: The waits after failures.
            pause_seconds: The time between probes while a person has to act.
            clock: The source of time.
            log: The log for trouble, and for its end.
        """
        self._backoff: Final = backoff
        self._pause_seconds: Final = pause_seconds
        self._clock: Final = clock
        self._log: Final = log
        self._breaker: Final = CircuitBreaker()
        self._errors_in_a_row = 0
        self._refused_in_a_row = 0  # different events
        self._awaits_others = False  # paused for too few of them to be sure
        self._proven = False  # it took an event since the latest pause
        self.successes = 0

    @property
    def is_down(self) -> bool:
        """Whether the destination is known not to take events now."""
        return self._breaker.state is not BreakerState.CLOSED

    def seconds_until_allowed(self, now: float) -> float:
        """Return the seconds until a request may start. See `CircuitBreaker`."""
        return self._breaker.seconds_until_allowed(now)

    def seconds_for_others(self, now: float) -> float:
        """Return for how many seconds only events may be sent that were not refused.

        Zero means that all events may be sent, as far as this matters. During a pause
        that one or two events alone have caused, another event may be tried at once.
        """
        if not self._awaits_others:
            return 0.0
        return self._breaker.seconds_left(now)

    def allow_probe(self) -> None:
        """Let one probe through now, because a caller waits for it."""
        self._breaker.allow_probe()

    def nothing_sent(self) -> None:
        """Note that an admitted request turned out to have no events."""
        self._breaker.record_success()

    def record(
        self,
        response: TransportResponse | None,
        results: Sequence[EventResult],
        *,
        in_flight: int,
        refusal: Refusal,
    ) -> None:
        """Learn from a request, by the worst that it means for the other events.

        Args:
            response: The response, or None if there was none.
            results: The results of the request's events.
            in_flight: The number of requests in flight, with this one.
            refusal: The meaning of a refusal of the request.
        """
        if any(each.decision.outcome is Outcome.DELIVERED for each in results):
            self.successes += 1
            self._refused_in_a_row = 0
            self._proven = True
        worst = max(results, key=lambda result: _SEVERITY[result.decision.effect])
        effect = self._effect(worst.decision, refusal)
        headers = response.headers if response is not None else {}
        retry_after = retry_after_seconds(headers, self._clock.now_ms())
        if effect is ServerEffect.NONE:
            self._resume()
        elif effect is ServerEffect.PAUSE:
            self._pause(worst)
        elif effect is ServerEffect.FEWER and not retry_after and in_flight > 1:
            pass  # other requests are in flight: the limit drops, and no request waits
        else:
            self._slow_down(worst.message, retry_after)

    def _effect(self, decision: Decision, refusal: Refusal) -> ServerEffect:
        """Return the effect. A row of single events' faults is the destination's."""
        if decision.reason in MAYBE_ONE_EVENT:
            return self._effect_of(refusal)
        if decision.effect is ServerEffect.NONE and decision.received is Received.MAYBE:
            self._errors_in_a_row += 1
            if self._errors_in_a_row >= ERRORS_IN_A_ROW:
                return ServerEffect.SLOW_DOWN
        else:
            self._errors_in_a_row = 0
        return decision.effect

    def _effect_of(self, refusal: Refusal) -> ServerEffect:
        """Return the effect of a refusal that may be for one event's text."""
        if refusal is Refusal.OTHERS_PASSED:
            return ServerEffect.NONE
        if refusal is Refusal.FIRST:
            self._refused_in_a_row += 1
        all_refused = self._refused_in_a_row >= REFUSED_IN_A_ROW
        only_one = refusal is Refusal.AGAIN and not self._proven
        if self.is_down or all_refused or only_one:
            return ServerEffect.PAUSE
        return ServerEffect.NONE

    def _resume(self) -> None:
        self._awaits_others = False
        self._breaker.record_success()
        self._log.resolved("paused", "shipping resumes")
        self._log.resolved("trouble", "the server responds again")

    def _pause(self, worst: EventResult) -> None:
        self._proven = False
        self._awaits_others = (
            worst.decision.reason in MAYBE_ONE_EVENT
            and self._refused_in_a_row < REFUSED_IN_A_ROW
        )
        self._breaker.record_failure()
        self._breaker.open_until(self._clock.monotonic() + self._pause_seconds)
        self._log.warn_once(
            "paused",
            "shipping is paused: %s. All events are kept, and outlay tries again "
            "every %g s. %s",
            worst.message,
            self._pause_seconds,
            _ADVICE.get(worst.decision.reason, _DEFAULT_ADVICE),
        )

    def _slow_down(self, message: str, retry_after: float | None) -> None:
        self._awaits_others = False
        failures = self._breaker.record_failure()
        delay = self._backoff.delay(failures, retry_after)
        self._breaker.open_until(
            self._clock.monotonic() + delay, asked=bool(retry_after)
        )
        self._log.warn("trouble", "cannot ship: %s. All events are kept", message)
