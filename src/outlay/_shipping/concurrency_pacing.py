"""How many requests should be under way at once.

Two limits, and the lower one holds. The server's: see `congestion`. And our own: a
request costs the process CPU time and then waits for the network. While waiting
dominates, more senders help; once the CPU does, they only fight for the interpreter
lock: measured on loopback, eight threads carry 0.6 times as many httpx requests as one
does. So there are as many senders as fit into one request's waiting time.
"""

from __future__ import annotations

import math
from typing import Final

from outlay._shipping.concurrency import ConcurrencyLimit

_WEIGHT: Final = 0.1  # of the newest request in the moving averages
_MIN_CPU_SECONDS: Final = 1e-5  # below the clock's resolution; avoids division by zero

_TOO_MUCH: Final = frozenset({429, 503})
_ONE_EVENTS_FAULT: Final = 500  # what is above it says that the server is in trouble


class Pacing:
    """Says how many senders are worth running.

    Thread safety: caller holds the shipper's lock.

    Attributes:
        busy: how many requests are under way.
    """

    def __init__(self, max_senders: int) -> None:
        self.in_flight = 0
        self._max_senders = max_senders
        self._congestion = ConcurrencyLimit(max_senders)
        self._wall: float | None = None
        self._cpu = 0.0

    def on_start(self) -> None:
        """Count a request that is on its way."""
        self.in_flight += 1

    def on_end(
        self, status: int | None, now: float, *, wall: float, cpu: float, alike: bool
    ) -> None:
        """Learn from a request.

        Args:
            status: of the answer; None: there was none.
            now: monotonic seconds.
            wall: seconds that it took.
            cpu: seconds of them that the sender computed.
            alike: whether it was about as large as the others, so that the time it
                took can be compared.
        """
        self._update_limit(status, now - wall, now, alike=alike)
        self.in_flight = max(0, self.in_flight - 1)
        if status is not None:
            self._update_cpu_share(wall, cpu)

    def _update_limit(
        self, status: int | None, started: float, now: float, *, alike: bool
    ) -> None:
        if status in _TOO_MUCH:
            self._congestion.on_overload(started, now)
        elif status is None or status > _ONE_EVENTS_FAULT:
            self._congestion.on_outage(started, now)
        elif 200 <= status < 300:
            # Refusals are too quick to compare: nothing was stored.
            self._congestion.on_success(started, now, busy=self.in_flight, alike=alike)

    def _update_cpu_share(self, wall: float, cpu: float) -> None:
        if self._wall is None:
            self._wall, self._cpu = wall, cpu
            return
        self._wall += _WEIGHT * (wall - self._wall)
        self._cpu += _WEIGHT * (cpu - self._cpu)

    @property
    def limit(self) -> int:
        """How many requests to have under way, 1 to ``max_senders``."""
        if self._wall is None:
            return 1
        fits = self._wall / max(self._cpu, _MIN_CPU_SECONDS)
        most = min(self._max_senders, self._congestion.limit)
        return max(1, min(most, math.floor(fits)))
