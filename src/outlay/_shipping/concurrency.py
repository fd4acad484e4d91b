"""How many requests at once the server can take, learnt from its answers.

Additive increase, multiplicative decrease, the rule by which TCP shares a network: each
round of answers in good time allows one request more, each sign of too much takes half
away at once. Clients that follow it converge to equal shares, without knowing of each
other (Chiu and Jain 1989, "Analysis of the increase and decrease algorithms for
congestion avoidance in computer networks"; RFC 5681).

Signs of too much are refusals (429, 503), and answers of which even the quickest take
much longer than the quickest lately: then requests queue up in the server, and more of
them would only make the queue longer. That is the idea of TCP Vegas, and of Netflix's
concurrency-limits; to compare the quickest and not the mean, so that a server whose
times vary is not taken for a full one, is HyStart's (RFC 9406).

Plain arithmetic: no threads, waiting or clock here.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

DECREASE: Final = 0.5
"""What is left of the limit after a sign of too much (RFC 5681). Less than 1 / `FAR`,
so that each decrease empties the queue, and an answer without one is seen again."""

FAR: Final = 1.5
"""Times the quickest answer's time, from which on there is a queue."""

SAMPLE: Final = 8
"""Answers of which the quickest is compared (N_RTT_SAMPLE of RFC 9406)."""

GRACE: Final = 0.005
"""Seconds that schedulers may add to any answer; they say nothing about a queue."""

MEMORY: Final = 10.0
"""Seconds for which the quickest answer is remembered, as in BBR: long enough to meet
a moment with an empty queue, short enough to learn that the way has become longer."""

INITIAL: Final = 4
"""Requests at once before anything is known: an initial window (RFC 3390)."""


class ConcurrencyLimit:
    """Limits the requests under way at once, 1 to ``most``.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self, most: int) -> None:
        """Begin with a few requests at once; grow fast until the first trouble."""
        self._most: Final = float(most)
        self._limit = min(float(INITIAL), self._most)
        self._threshold = self._most  # below it, the limit doubles each round
        self._changed_at = -math.inf  # when the latest decrease was
        self._quickest = _Lowest()
        self._latest: deque[float] = deque(maxlen=SAMPLE)  # since that decrease

    @property
    def limit(self) -> int:
        """How many requests may be under way at once."""
        return math.floor(self._limit)

    def on_success(
        self, started: float, ended: float, *, busy: int, alike: bool = True
    ) -> None:
        """Learn from an answer in good order.

        Args:
            started: monotonic seconds, as ``ended``.
            ended: when the answer was there.
            busy: how many requests were under way, with this one.
            alike: whether it was as large as the others, so that times compare.
        """
        if alike:
            self._quickest.add(ended - started, ended)
        if started < self._changed_at:
            return  # it stood in the queue that the decrease was meant for
        if alike:
            self._latest.append(ended - started)
        if self._queueing():
            self.on_overload(started, ended)
        elif busy >= self.limit:
            # An unused limit proves nothing, and must not grow (RFC 7661).
            step = 1.0 if self._limit < self._threshold else 1.0 / self._limit
            self._limit = min(self._most, self._limit + step)

    def on_overload(self, started: float, ended: float) -> None:
        """Learn that it was too much; what was sent together counts once."""
        if started < self._changed_at:
            return
        self._threshold = self._limit = max(1.0, self._limit * DECREASE)
        self._changed_at = ended
        self._latest.clear()

    def on_outage(self, started: float, ended: float) -> None:
        """Learn that the server is out of order: begin again with one request.

        Up to half of what went well before, growth is fast then (RFC 5681, 3.1).
        """
        self.on_overload(started, ended)
        self._limit = 1.0

    def _queueing(self) -> bool:
        if len(self._latest) < SAMPLE:
            return False
        return min(self._latest) > FAR * self._quickest.value + GRACE


class _Lowest:
    """The lowest of the values of the last `MEMORY` seconds, or of half as many."""

    def __init__(self) -> None:
        self._since = -math.inf
        self._current = self._previous = math.inf

    def add(self, value: float, now: float) -> None:
        """Take in a value; ``now`` in monotonic seconds."""
        age = now - self._since
        if age >= MEMORY / 2:
            self._previous = self._current if age < MEMORY else math.inf
            self._current = math.inf
            self._since = now
        self._current = min(self._current, value)

    @property
    def value(self) -> float:
        """The lowest."""
        return min(self._current, self._previous)
