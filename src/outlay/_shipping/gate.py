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


class GateState(enum.Enum):
    """How far the destination is open."""

    OPEN = "open"
    SHUT = "shut"
    HELD = "held"  # shut for as long as the server asked
    PROBING = "probing"  # one request is under way, the rest wait for it


class _Step(enum.Enum):
    TROUBLE = "trouble"
    SUCCESS = "success"
    ADMIT = "admit"
    HOLD = "hold"


_STEPS: Final = {
    (GateState.OPEN, _Step.ADMIT): GateState.OPEN,
    (GateState.OPEN, _Step.SUCCESS): GateState.OPEN,
    (GateState.OPEN, _Step.TROUBLE): GateState.SHUT,
    (GateState.SHUT, _Step.ADMIT): GateState.PROBING,
    # Requests that were under way when the gate shut still come back.
    (GateState.SHUT, _Step.SUCCESS): GateState.OPEN,
    (GateState.SHUT, _Step.TROUBLE): GateState.SHUT,
    (GateState.SHUT, _Step.HOLD): GateState.HELD,
    (GateState.HELD, _Step.ADMIT): GateState.PROBING,
    (GateState.HELD, _Step.SUCCESS): GateState.HELD,
    (GateState.HELD, _Step.TROUBLE): GateState.HELD,
    (GateState.HELD, _Step.HOLD): GateState.HELD,
    (GateState.PROBING, _Step.SUCCESS): GateState.OPEN,
    (GateState.PROBING, _Step.TROUBLE): GateState.SHUT,
}

_CLOSED: Final = frozenset({GateState.SHUT, GateState.HELD})


class Gate:
    """Counts a destination's failures and says when to try again.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self) -> None:
        self.state = GateState.OPEN
        self.failures = 0
        self._opens_at = 0.0  # monotonic seconds

    def admit(self, now: float) -> float:
        """Return seconds until a request may start; 0.0: now, and it has been let in.

        ``math.inf``: when the probe under way comes back.
        """
        if self.state is GateState.PROBING:
            return math.inf
        if self.state in _CLOSED and now < self._opens_at:
            return self._opens_at - now
        self._take(_Step.ADMIT)
        return 0.0

    def success(self) -> None:
        """The destination took a request."""
        self._take(_Step.SUCCESS)
        if self.state is GateState.OPEN:
            self.failures = 0

    def trouble(self) -> int:
        """The destination failed; return how often in a row, not counting the herd.

        Requests under way together fail together: only the first counts.
        """
        if self.state not in _CLOSED:
            self.failures += 1
        self._take(_Step.TROUBLE)
        return self.failures

    def shut_until(self, moment: float, *, asked: bool = False) -> None:
        """Stay shut until ``moment``, in monotonic seconds; call after `trouble`.

        Args:
            moment: when to let a probe through.
            asked: whether the server has named it, which outweighs our guesses.
        """
        if asked:
            self._take(_Step.HOLD)
        elif self.state is GateState.HELD:
            return
        self._opens_at = moment

    def hurry(self) -> None:
        """Let a probe through at once: somebody waits for it."""
        self._opens_at = 0.0

    def _take(self, step: _Step) -> None:
        self.state = _STEPS[self.state, step]
