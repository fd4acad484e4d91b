"""Decide whether a destination may be sent to.

    CLOSED ──failure──▶ OPEN ──time is up──▶ HALF_OPEN ──success──▶ CLOSED
                         ▲                       │
                         └────────failure────────┘

After an outage one probe goes first, and all other requests wait for its response. A
server that comes back meets one request, and not the whole backlog. A request that was
in flight when the breaker opened, and succeeds, closes it early: the wait was only our
guess. It does not close a breaker that is HELD_OPEN, because the server itself named
the time. The breaker reads no clock and takes no lock: the shipper does both.
"""

from __future__ import annotations

import enum
import math
from typing import Final


class BreakerState(enum.Enum):
    """Whether requests pass."""

    CLOSED = "closed"
    OPEN = "open"
    HELD_OPEN = "held open"  # for as long as the server asked
    HALF_OPEN = "half-open"  # a probe is in flight, and all others wait for it


class _Input(enum.Enum):
    FAILURE = "failure"
    SUCCESS = "success"
    ADMIT = "admit"
    HOLD = "hold"


_TRANSITIONS: Final = {
    (BreakerState.CLOSED, _Input.ADMIT): BreakerState.CLOSED,
    (BreakerState.CLOSED, _Input.SUCCESS): BreakerState.CLOSED,
    (BreakerState.CLOSED, _Input.FAILURE): BreakerState.OPEN,
    (BreakerState.OPEN, _Input.ADMIT): BreakerState.HALF_OPEN,
    # Requests that were in flight when the breaker opened still come back.
    (BreakerState.OPEN, _Input.SUCCESS): BreakerState.CLOSED,
    (BreakerState.OPEN, _Input.FAILURE): BreakerState.OPEN,
    (BreakerState.OPEN, _Input.HOLD): BreakerState.HELD_OPEN,
    (BreakerState.HELD_OPEN, _Input.ADMIT): BreakerState.HALF_OPEN,
    (BreakerState.HELD_OPEN, _Input.SUCCESS): BreakerState.HELD_OPEN,
    (BreakerState.HELD_OPEN, _Input.FAILURE): BreakerState.HELD_OPEN,
    (BreakerState.HELD_OPEN, _Input.HOLD): BreakerState.HELD_OPEN,
    (BreakerState.HALF_OPEN, _Input.SUCCESS): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, _Input.FAILURE): BreakerState.OPEN,
}

_WAITING: Final = frozenset({BreakerState.OPEN, BreakerState.HELD_OPEN})


class CircuitBreaker:
    """Counts a destination's failures, and says when to try again.

    Thread safety: caller holds the shipper's lock.

    Attributes:
        state: The current state.
        failures: The number of failures in a row. Requests that were in flight
            together count once.
    """

    def __init__(self) -> None:
        self.state = BreakerState.CLOSED
        self.failures = 0
        self._probe_at = 0.0  # monotonic seconds

    def seconds_until_allowed(self, now: float) -> float:
        """Return the seconds until a request may start.

        Zero means that the request has been admitted. ``math.inf`` means that it must
        wait for the probe in flight.
        """
        if self.state is BreakerState.HALF_OPEN:
            return math.inf
        if self.state in _WAITING and now < self._probe_at:
            return self._probe_at - now
        self._apply(_Input.ADMIT)
        return 0.0

    def seconds_left(self, now: float) -> float:
        """Return the seconds until the next probe. Zero if none is waited for."""
        return max(0.0, self._probe_at - now) if self.state in _WAITING else 0.0

    def record_success(self) -> None:
        """Note that the destination took a request."""
        self._apply(_Input.SUCCESS)
        if self.state is BreakerState.CLOSED:
            self.failures = 0

    def record_failure(self) -> int:
        """Note that the destination failed, and return the failures in a row.

        Requests in flight together fail together. Only the first of them counts.
        """
        if self.state not in _WAITING:
            self.failures += 1
        self._apply(_Input.FAILURE)
        return self.failures

    def open_until(self, probe_at: float, *, asked: bool = False) -> None:
        """Stay open until ``probe_at``. Call this after `record_failure`.

        Args:
            probe_at: The monotonic time of the next probe, in seconds.
            asked: Whether the server named the time, which outweighs our guesses.
        """
        if asked:
            self._apply(_Input.HOLD)
        elif self.state is BreakerState.HELD_OPEN:
            return
        self._probe_at = probe_at

    def allow_probe(self) -> None:
        """Let one probe through now, because a caller waits for it."""
        self._probe_at = 0.0

    def _apply(self, step: _Input) -> None:
        self.state = _TRANSITIONS[self.state, step]
