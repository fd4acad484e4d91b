"""Stop a query that takes too long, or whose client is gone.

A limit is current in the thread that runs the query. Each view that the thread opens
takes it over, so that no service has to pass it on.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class QueryLimit:
    """The end of one query. Thread safety: any thread.

    Args:
        seconds: The time that the query may take, from `begin` on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at: float | None = None
        self._is_stopped = False
        self.on_stop: Callable[[], None] | None = None

    def begin(self) -> None:
        """Start the time, unless it runs."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + self._seconds

    def stop(self) -> None:
        """End the query as soon as possible."""
        self._is_stopped = True
        if self.on_stop is not None:
            self.on_stop()

    @property
    def seconds_left(self) -> float:
        """The rest of the time, in seconds. Not below 0."""
        if self._ends_at is None:
            return self._seconds
        return max(0.0, self._ends_at - time.monotonic())

    def is_over(self) -> bool:
        """Return whether the query must end."""
        return self._is_stopped or not self.seconds_left


_current: Final[ContextVar[QueryLimit | None]] = ContextVar("limit", default=None)


def current_limit() -> QueryLimit | None:
    """Return the limit of the query that this thread runs, or None."""
    return _current.get()


@contextmanager
def limited(limit: QueryLimit) -> Iterator[None]:
    """Let ``limit`` end the views of the block. Its time starts now, unless it runs."""
    limit.begin()
    token = _current.set(limit)
    try:
        yield
    finally:
        _current.reset(token)
