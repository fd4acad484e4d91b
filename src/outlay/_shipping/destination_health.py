"""Judge by responses whether a destination works, and when to try it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._shipping.backoff import retry_after_seconds
from outlay._shipping.circuit_breaker import CircuitBreaker
from outlay._shipping.outcomes import Decision, Received, ServerEffect

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

_SEVERITY: Final = {
    ServerEffect.NONE: 0,
    ServerEffect.FEWER: 1,
    ServerEffect.SLOW_DOWN: 2,
    ServerEffect.PAUSE: 3,
}


class DestinationHealth:
    """Opens and closes the circuit breaker, and logs why.

    Thread safety: caller holds the shipper's lock.
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

    def seconds_until_allowed(self, now: float) -> float:
        """Return the seconds until a request may start. See `CircuitBreaker`."""
        return self._breaker.seconds_until_allowed(now)

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
    ) -> None:
        """Learn from a request, by the worst that it means for the other events.

        Args:
            response: The response, or None if there was none.
            results: The results of the request's events.
            in_flight: The number of requests in flight, with this one.
        """
        worst = max(results, key=lambda result: _SEVERITY[result.decision.effect])
        effect = self._escalated(worst.decision)
        headers = response.headers if response is not None else {}
        retry_after = retry_after_seconds(headers, self._clock.now_ms())
        if effect is ServerEffect.NONE:
            self._resume()
        elif effect is ServerEffect.PAUSE:
            self._pause(worst.message)
        elif effect is ServerEffect.FEWER and not retry_after and in_flight > 1:
            pass  # other requests are in flight: the limit drops, and nobody waits
        else:
            self._slow_down(worst.message, retry_after)

    def _escalated(self, decision: Decision) -> ServerEffect:
        """Return the effect. A row of single events' faults counts as an outage."""
        if decision.effect is ServerEffect.NONE and decision.received is Received.MAYBE:
            self._errors_in_a_row += 1
            if self._errors_in_a_row >= ERRORS_IN_A_ROW:
                return ServerEffect.SLOW_DOWN
        else:
            self._errors_in_a_row = 0
        return decision.effect

    def _resume(self) -> None:
        self._breaker.record_success()
        self._log.resolved("paused", "shipping resumes")
        self._log.resolved("trouble", "the server responds again")

    def _pause(self, message: str) -> None:
        self._breaker.record_failure()
        self._breaker.open_until(self._clock.monotonic() + self._pause_seconds)
        self._log.warn_once(
            "paused",
            "shipping is paused: %s. All events are kept, and outlay tries again "
            "every %g s. Check OUTLAY_API_KEY and OUTLAY_BASE_URL",
            message,
            self._pause_seconds,
        )

    def _slow_down(self, message: str, retry_after: float | None) -> None:
        failures = self._breaker.record_failure()
        delay = self._backoff.delay(failures, retry_after)
        self._breaker.open_until(
            self._clock.monotonic() + delay, asked=bool(retry_after)
        )
        self._log.warn("trouble", "cannot ship: %s. All events are kept", message)
