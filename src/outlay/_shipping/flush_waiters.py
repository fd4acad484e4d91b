"""Let callers wait until the journal is settled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from outlay._journal.reader import JournalReader

_RECHECK_SECONDS: Final = 0.2
"""The longest wait between two checks. A signal handler that flushes, too, can let the
wake-up pass between a check and the wait for it."""


class _Waiter(NamedTuple):
    targets: Mapping[str, float]
    settled: threading.Condition


class FlushWaiters:
    """The callers that wait in a flush.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self, lock: threading.RLock, reader: JournalReader) -> None:
        """Begin without waiters.

        Args:
            lock: The shipper's lock, which a waiter gives up while it waits.
            reader: The journal's reader.
        """
        self._lock: Final = lock
        self._reader: Final = reader
        self._waiters: list[_Waiter] = []

    def __bool__(self) -> bool:
        """Return whether a caller waits."""
        return bool(self._waiters)

    def wait(
        self,
        targets: Mapping[str, float],
        timeout: float,
        *,
        is_closed: Callable[[], bool],
        start: Callable[[], None],
    ) -> bool:
        """Wait until the journal is settled up to ``targets``.

        Args:
            targets: The end offsets to wait for, by segment.
            timeout: The longest wait, in seconds.
            is_closed: A function that returns whether the shipper was closed.
            start: A function that wakes the shipper. It is called first.

        Returns:
            Whether all of it was settled within ``timeout``.
        """
        # A condition of the lock: a signal handler may flush on a thread that holds the
        # lock already.
        waiter = _Waiter(targets, threading.Condition(self._lock))

        def is_over() -> bool:
            return is_closed() or self._reader.is_settled_up_to(targets)

        self._waiters.append(waiter)
        try:
            start()
            while not waiter.settled.wait_for(is_over, min(timeout, _RECHECK_SECONDS)):
                timeout -= _RECHECK_SECONDS
                if timeout <= 0:
                    return False
            # A closed journal has released its segments, and so they count as settled.
            return not is_closed()
        finally:
            self._waiters.remove(waiter)

    def notify(self) -> None:
        """Wake the waiters whose targets are settled.

        The waiters do not check by themselves: they would be woken for each event.
        """
        for waiter in self._waiters:
            if self._reader.is_settled_up_to(waiter.targets):
                waiter.settled.notify_all()
