"""A simulated server that refuses more than it has room for, and its clients."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay._shipping.concurrency import ConcurrencyLimit

SECONDS: Final = 0.05
"""The time that a request takes, there and back."""


class _Request(NamedTuple):
    client: int
    started: float
    status: int


class FullServer:
    """Serves ``room`` requests at the same time, and refuses more with 429.

    Time is simulated: nothing waits. Each client keeps as many requests in flight as
    its `ConcurrencyLimit` allows.

    Attributes:
        room: The number of requests that it serves. Change it between runs.
        served: The requests served in the latest run, by client.
        refusals: The requests refused in the latest run.
    """

    def __init__(self, clients: Sequence[ConcurrencyLimit], *, room: int) -> None:
        """Serve ``clients``, the limits under test."""
        self.room = room
        self.served: Counter[int] = Counter()
        self.refusals = 0
        self._clients: Final = clients
        self._now = 0.0
        self._inside = 0
        self._ends: list[tuple[float, int, _Request]] = []
        self._order: Final = itertools.count()

    def run(self, seconds: float) -> float:
        """Let time pass, and return the requests served a second."""
        self.served.clear()
        self.refusals = 0
        end = self._now + seconds
        self._start_all()
        while self._ends and self._ends[0][0] <= end:
            self._now, _, request = heapq.heappop(self._ends)
            self._end(request)
            self._start_all()
        self._now = end
        return self.served.total() / seconds

    def _start_all(self) -> None:
        for number, client in enumerate(self._clients):
            while client.in_flight < client.limit:
                client.on_start()
                admitted = self._inside < self.room
                self._inside += admitted
                request = _Request(number, self._now, 202 if admitted else 429)
                due = self._now + SECONDS
                heapq.heappush(self._ends, (due, next(self._order), request))

    def _end(self, request: _Request) -> None:
        if request.status == 202:
            self._inside -= 1
            self.served[request.client] += 1
        else:
            self.refusals += 1
        wall = self._now - request.started
        client = self._clients[request.client]
        client.on_end(request.status, self._now, wall=wall, cpu=0.0)
