"""Whether a destination may be sent to: open, shut for a while, or probing.

    OPEN ──trouble──▶ SHUT ──time is up──▶ PROBING ──success──▶ OPEN
                        ▲                     │
                        └───────trouble───────┘

After an outage one request goes first and all others wait for its answer: a server
that comes back meets a probe, not the herd. A success of a request that was under way
meanwhile opens a shut gate early, for the wait was our guess; but not one that is HELD,
where the server itself has said when to come back. No waiting, locks or clock here: the
shipper holds its lock and passes the time in.
"""

from __future__ import annotations

import enum
import math
from typing import Final


class BreakerState(enum.Enum):
    """How far the destination is open."""

    CLOSED = "open"
    OPEN = "shut"
    HELD_OPEN = "held"  # shut for as long as the server asked
    HALF_OPEN = "probing"  # one request is under way, the rest wait for it


class _Step(enum.Enum):
    TROUBLE = "trouble"
    SUCCESS = "success"
    ADMIT = "admit"
    HOLD = "hold"


_STEPS: Final = {
    (BreakerState.CLOSED, _Step.ADMIT): BreakerState.CLOSED,
    (BreakerState.CLOSED, _Step.SUCCESS): BreakerState.CLOSED,
    (BreakerState.CLOSED, _Step.TROUBLE): BreakerState.OPEN,
    (BreakerState.OPEN, _Step.ADMIT): BreakerState.HALF_OPEN,
    # Requests that were under way when the gate shut still come back.
    (BreakerState.OPEN, _Step.SUCCESS): BreakerState.CLOSED,
    (BreakerState.OPEN, _Step.TROUBLE): BreakerState.OPEN,
    (BreakerState.OPEN, _Step.HOLD): BreakerState.HELD_OPEN,
    (BreakerState.HELD_OPEN, _Step.ADMIT): BreakerState.HALF_OPEN,
    (BreakerState.HELD_OPEN, _Step.SUCCESS): BreakerState.HELD_OPEN,
    (BreakerState.HELD_OPEN, _Step.TROUBLE): BreakerState.HELD_OPEN,
    (BreakerState.HELD_OPEN, _Step.HOLD): BreakerState.HELD_OPEN,
    (BreakerState.HALF_OPEN, _Step.SUCCESS): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, _Step.TROUBLE): BreakerState.OPEN,
}

_CLOSED: Final = frozenset({BreakerState.OPEN, BreakerState.HELD_OPEN})


class CircuitBreaker:
    """Counts a destination's failures and says when to try again.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self) -> None:
        self.state = BreakerState.CLOSED
        self.failures = 0
        self._opens_at = 0.0  # monotonic seconds

    def seconds_until_allowed(self, now: float) -> float:
        """Return seconds until a request may start; 0.0: now, and it has been let in.

        ``math.inf``: when the probe under way comes back.
        """
        if self.state is BreakerState.HALF_OPEN:
            return math.inf
        if self.state in _CLOSED and now < self._opens_at:
            return self._opens_at - now
        self._take(_Step.ADMIT)
        return 0.0

    def record_success(self) -> None:
        """The destination took a request."""
        self._take(_Step.SUCCESS)
        if self.state is BreakerState.CLOSED:
            self.failures = 0

    def record_failure(self) -> int:
        """The destination failed; return how often in a row, not counting the herd.

        Requests under way together fail together: only the first counts.
        """
        if self.state not in _CLOSED:
            self.failures += 1
        self._take(_Step.TROUBLE)
        return self.failures

    def open_until(self, moment: float, *, asked: bool = False) -> None:
        """Stay shut until ``moment``, in monotonic seconds; call after `trouble`.

        Args:
            moment: when to let a probe through.
            asked: whether the server has named it, which outweighs our guesses.
        """
        if asked:
            self._take(_Step.HOLD)
        elif self.state is BreakerState.HELD_OPEN:
            return
        self._opens_at = moment

    def allow_probe(self) -> None:
        """Let a probe through at once: somebody waits for it."""
        self._opens_at = 0.0

    def _take(self, step: _Step) -> None:
        self.state = _STEPS[self.state, step]
