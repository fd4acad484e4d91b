"""How many requests should be under way at once.

A request costs the process CPU time and then waits for the network. While waiting
dominates, more senders help; once the CPU does, they only fight for the interpreter
lock: measured on loopback, eight threads carry 0.6 times as many httpx requests as one
does. So there are as many senders as fit into one request's waiting time.
"""

from __future__ import annotations

import math
from typing import Final

_WEIGHT: Final = 0.1  # of the newest request in the moving averages
_MIN_CPU_SECONDS: Final = 1e-5  # below the clock's resolution; avoids division by zero


class Pacing:
    """Says how many senders are worth running.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self, max_senders: int) -> None:
        self._max_senders = max_senders
        self._wall: float | None = None
        self._cpu = 0.0

    def record(self, wall: float, cpu: float) -> None:
        """Learn from a request of ``wall`` seconds, ``cpu`` of them computing."""
        if self._wall is None:
            self._wall, self._cpu = wall, cpu
            return
        self._wall += _WEIGHT * (wall - self._wall)
        self._cpu += _WEIGHT * (cpu - self._cpu)

    @property
    def senders(self) -> int:
        """How many requests to have under way, 1 to ``max_senders``."""
        if self._wall is None:
            return 1
        fits = self._wall / max(self._cpu, _MIN_CPU_SECONDS)
        return max(1, min(self._max_senders, math.floor(fits)))
