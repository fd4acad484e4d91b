"""Let callers wait until the journal is settled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outlay._journal.reader import JournalReader

_RECHECK_SECONDS: Final = 0.2
"""The longest wait between two checks. A signal handler that flushes, too, can let the
wake-up pass between a check and the wait for it."""


class WakeableShipper(Protocol):
    """The shipper, as a flush sees it."""

    needs_wake: bool

    def wake(self) -> None:
        """Ship what is pending."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether the shipper was stopped."""
        ...

    @property
    def server_is_down(self) -> bool:
        """Whether the server is known not to take events now."""
        ...


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
        outage_timeout: float,
        shipper: WakeableShipper,
    ) -> bool:
        """Wait until the journal is settled up to ``targets``.

        Args:
            targets: The end offsets to wait for, by segment.
            timeout: The longest wait, in seconds.
            outage_timeout: The longest wait while the server is down, in seconds.
            shipper: The shipper, which is woken.

        Returns:
            Whether all of it was settled in time.
        """
        # A condition of the lock: a signal handler may flush on a thread that holds the
        # lock already.
        waiter = _Waiter(targets, threading.Condition(self._lock))

        def is_over() -> bool:
            return shipper.is_closed or self._reader.is_settled_up_to(targets)

        self._waiters.append(waiter)
        try:
            shipper.wake()
            while not waiter.settled.wait_for(is_over, min(timeout, _RECHECK_SECONDS)):
                timeout -= _RECHECK_SECONDS
                outage_timeout -= _RECHECK_SECONDS
                given_up = outage_timeout <= 0 and shipper.server_is_down
                if timeout <= 0 or given_up:
                    return False
                if shipper.needs_wake:
                    shipper.wake()  # no thread could be started, or it died
            # A closed journal has released its segments, and so they count as settled.
            return not shipper.is_closed
        finally:
            self._waiters.remove(waiter)

    def notify(self) -> None:
        """Wake the waiters whose targets are settled.

        The waiters do not check by themselves: they would be woken for each event.
        """
        for waiter in self._waiters:
            if self._reader.is_settled_up_to(waiter.targets):
                waiter.settled.notify_all()
