"""Limit the requests of each API key."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from outlay.server._wire.problems import too_many_requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.server._records import ApiKey


class RateLimit:
    """A token bucket for each key. It holds the requests of one second.

    The buckets are few, because only valid keys have one.

    Thread safety: the event loop's thread.

    Args:
        per_second: The requests per second of one key. If None, there is no limit.
        monotonic: A function that returns seconds since some fixed instant.
    """

    def __init__(
        self, per_second: float | None, monotonic: Callable[[], float]
    ) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._buckets: dict[bytes, tuple[float, float]] = {}  # tokens, and their time

    def spend(self, key: ApiKey) -> None:
        """Take a request from a key's bucket.

        Raises:
            HttpProblem: 429, with the seconds until the next request.
        """
        rate = self._per_second
        if rate is None:
            return
        now = self._monotonic()
        size = max(rate, 1.0)
        tokens, at = self._buckets.get(key.digest, (size, now))
        tokens = min(size, tokens + (now - at) * rate)
        if tokens < 1:
            self._buckets[key.digest] = (tokens, now)
            raise too_many_requests(math.ceil((1 - tokens) / rate))
        self._buckets[key.digest] = (tokens - 1, now)
