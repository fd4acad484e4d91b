"""Decide how many requests may be in flight at the same time.

Two limits hold. The server's limit is learned from its responses, by the rule with
which TCP shares a network. Each round of successes allows one request more. Each
refusal halves the limit. Clients that follow the rule converge to equal shares without
knowing of each other (Chiu and Jain 1989, "Analysis of the increase and decrease
algorithms for congestion avoidance in computer networks"; RFC 5681).

The other limit is the CPU's. A request costs CPU time and then waits for the network.
While waiting dominates, more senders help. When the CPU dominates, they only compete
for the interpreter lock: on loopback, eight threads carry 0.6 times as many httpx
requests as one. So there are as many senders as fit into the time that one request
waits.
"""

from __future__ import annotations

import math
from typing import Final

DECREASE: Final = 0.5
"""The share of the limit that remains after a refusal (RFC 5681)."""

INITIAL: Final = 4
"""The limit before anything is known: an initial window (RFC 3390)."""

_WEIGHT: Final = 0.1  # of the newest request in the moving averages
_MIN_CPU_SECONDS: Final = 1e-5  # the clock's resolution; avoids division by zero

_OVERLOADED: Final = frozenset({429, 503})
_SERVER_ERROR: Final = 500  # may be one event's fault; higher statuses are the server's


class ConcurrencyLimit:
    """Limits the requests in flight, between 1 and ``maximum``.

    It does plain arithmetic, and reads no clock.

    Thread safety: caller holds the shipper's lock.

    Attributes:
        in_flight: The number of requests in flight.
    """

    def __init__(self, maximum: int) -> None:
        """Begin with one request, until the CPU share of a request is known."""
        self.in_flight = 0
        self._maximum: Final = float(maximum)
        self._server_limit = min(float(INITIAL), self._maximum)
        self._threshold = self._maximum  # below it, the limit doubles each round
        self._changed_at = -math.inf  # the instant of the latest decrease
        self._wall: float | None = None  # moving averages of seconds a request
        self._cpu = 0.0

    @property
    def limit(self) -> int:
        """The largest useful number of requests in flight."""
        if self._wall is None:
            return 1
        cpu_limit = self._wall / max(self._cpu, _MIN_CPU_SECONDS)
        return max(1, math.floor(min(self._server_limit, cpu_limit)))

    def on_start(self) -> None:
        """Count a request that is about to be sent."""
        self.in_flight += 1

    def on_end(
        self, status: int | None, now: float, *, wall: float, cpu: float
    ) -> None:
        """Learn from a request that ended.

        Args:
            status: The response's status. If None, there was no response.
            now: The monotonic time, in seconds.
            wall: The seconds that the request took.
            cpu: The CPU seconds that its sender used.
        """
        started = now - wall
        if status in _OVERLOADED:
            self.on_overload(started, now)
        elif status is None or status > _SERVER_ERROR:
            self.on_outage(started, now)
        elif 200 <= status < 300:
            self.on_success(started)
        self.in_flight = max(0, self.in_flight - 1)
        if status is not None:
            self._update_cpu_share(wall, cpu)

    def on_success(self, started: float) -> None:
        """Learn from a success: allow one request more after each full round.

        Args:
            started: The monotonic time at which the request began, in seconds.
        """
        if started < self._changed_at:
            return  # it was sent under the limit that the decrease replaced
        if self.in_flight >= math.floor(self._server_limit):
            # An unused limit proves nothing, and must not grow (RFC 7661).
            slow_start = self._server_limit < self._threshold
            step = 1.0 if slow_start else 1.0 / self._server_limit
            self._server_limit = min(self._maximum, self._server_limit + step)

    def on_overload(self, started: float, ended: float) -> None:
        """Learn from a refusal: halve the limit, once for requests sent together.

        Args:
            started: The monotonic time at which the request began, in seconds.
            ended: The monotonic time at which it ended.
        """
        if started < self._changed_at:
            return
        self._threshold = self._server_limit = max(1.0, self._server_limit * DECREASE)
        self._changed_at = ended

    def on_outage(self, started: float, ended: float) -> None:
        """Learn from a server that is down: begin again with one request.

        Up to half of the limit that held before, growth is fast (RFC 5681, 3.1).

        Args:
            started: The monotonic time at which the request began, in seconds.
            ended: The monotonic time at which it ended.
        """
        self.on_overload(started, ended)
        self._server_limit = 1.0

    def _update_cpu_share(self, wall: float, cpu: float) -> None:
        if self._wall is None:
            self._wall, self._cpu = wall, cpu
            return
        self._wall += _WEIGHT * (wall - self._wall)
        self._cpu += _WEIGHT * (cpu - self._cpu)
