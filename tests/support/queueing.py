"""A simulated server with a queue, and clients that follow their own limit."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay._shipping.concurrency import ConcurrencyLimit


class _Arrival(NamedTuple):
    client: int
    started: float


class QueueServer:
    """Serves ``workers`` requests at once; all others queue up, or are refused.

    Simulated time: nothing waits. Clients keep as many requests under way as their
    `Congestion` allows, and start the next one when one ends.

    Attributes:
        workers: change it between runs.
        served: answers by client, in the latest run.
        refusals: in the latest run.
        now: simulated seconds.
    """

    def __init__(
        self,
        clients: Sequence[ConcurrencyLimit],
        *,
        workers: int,
        seconds: float = 0.02,
        way: float = 0.03,
        room: int | None = None,
    ) -> None:
        """Make a server.

        Args:
            clients: the limits under test.
            workers: requests served at the same time.
            seconds: that each takes.
            way: seconds on the network, there and back.
            room: how many may be there at all; more are answered 429. None: any.
        """
        self.workers = workers
        self.way = way
        self.now = 0.0
        self.served: Counter[int] = Counter()
        self.refusals = 0
        self._seconds: Final = seconds
        self._room: Final = room
        self._clients: Final = clients
        self._busy = [0] * len(clients)
        self._serving = 0
        self._queue: deque[_Arrival] = deque()
        self._events: list[tuple[float, int, str, _Arrival]] = []
        self._order: Final = itertools.count()

    def run(self, seconds: float) -> float:
        """Let time pass; return the requests served a second."""
        self.served.clear()
        self.refusals = 0
        end = self.now + seconds
        self._fill()
        while self._events and self._events[0][0] <= end:
            self.now, _, kind, arrival = heapq.heappop(self._events)
            getattr(self, f"_{kind}")(arrival)
            self._fill()
        self.now = end
        return self.served.total() / seconds

    def _at(self, delay: float, kind: str, arrival: _Arrival) -> None:
        due = self.now + delay
        heapq.heappush(self._events, (due, next(self._order), kind, arrival))

    def _fill(self) -> None:
        for client, congestion in enumerate(self._clients):
            while self._busy[client] < congestion.limit:
                self._busy[client] += 1
                self._at(self.way / 2, "arrive", _Arrival(client, self.now))

    def _arrive(self, arrival: _Arrival) -> None:
        if self._room is not None and self._serving + len(self._queue) >= self._room:
            self._at(self.way / 2, "refuse", arrival)
            return
        self._queue.append(arrival)
        self._serve()

    def _serve(self) -> None:
        while self._queue and self._serving < self.workers:
            self._serving += 1
            self._at(self._seconds, "finish", self._queue.popleft())

    def _finish(self, arrival: _Arrival) -> None:
        self._serving -= 1
        self._serve()
        self._at(self.way / 2, "answer", arrival)

    def _answer(self, arrival: _Arrival) -> None:
        client, started = arrival
        self.served[client] += 1
        self._clients[client].on_success(started, self.now, busy=self._busy[client])
        self._busy[client] -= 1

    def _refuse(self, arrival: _Arrival) -> None:
        client, started = arrival
        self.refusals += 1
        self._clients[client].on_overload(started, self.now)
        self._busy[client] -= 1
