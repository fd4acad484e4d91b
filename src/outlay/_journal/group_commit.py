"""Share one sync to disk between many threads that wait for it.

A sync takes a disk about the same time for one event as for a thousand. A thread that
finds no open group opens one, and leads it. The leader waits for its turn, closes the
group, and syncs. Threads that come before it is closed wait for the end of that sync.

Like the appends, it has no lock to deadlock on. A group is found, opened and closed by
single operations of a dict, atomic in CPython. Closing it too early costs a sync, and
nothing else. A thread only waits for another thread: code that interrupts a leader,
such as a signal handler, syncs by itself.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog

_NEXT_GROUP: Final = "next"

_WAIT_SHARE: Final = 0.5
"""The wait of a leader for members, as a share of the last sync's time. So a waiting
thread gains a sync, or loses half of one."""

_LONGEST_WAIT: Final = 0.005  # seconds; enough for a hundred threads to come back


class _Group:
    """Threads that share a sync.

    Attributes:
        size: The number of threads. One may be missed if two join at the same time.
        ended: A lock that is held until the sync has ended.
        synced: Whether the disk has all of it. None if the leader never got there.
    """

    __slots__ = ("_expected", "_is_full", "ended", "size", "synced")

    def __init__(self) -> None:
        self.size = 1
        self.ended = threading.Lock()
        self.ended.acquire()
        self.synced: bool | None = None
        self._expected = 0
        self._is_full: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wait(self) -> bool | None:
        """Join the group, and return `synced` when its sync has ended."""
        self.size += 1
        if 0 < self._expected <= self.size:
            self._is_full.put(None)
        with self.ended:  # one after the other: each wakes the next
            return self.synced

    def wait_for_members(self, expected: int, timeout: float) -> None:
        """Wait until ``expected`` threads have joined, at most ``timeout`` seconds."""
        self._expected = expected
        if self.size < expected and timeout > 0:
            with contextlib.suppress(queue.Empty):
                self._is_full.get(timeout=timeout)


class GroupCommit:
    """Shares syncs between threads.

    Thread safety: any thread, re-entrant.
    """

    def __init__(
        self, sync: Callable[[], None], clock: Clock, log: RateLimitedLog
    ) -> None:
        """Share ``sync`` between threads.

        Args:
            sync: A function that brings all that was appended to the disk. It raises
                OSError if the disk fails.
            clock: The clock that measures it.
            log: The log for warnings.
        """
        self._sync = sync
        self._clock = clock
        self._log = log
        self._open: dict[str, _Group] = {}  # the next group, if there is one
        self._turn = threading.Lock()  # the leader that syncs holds it
        self._leaders: set[int] = set()  # threads
        self._expected_members = 1  # the number of threads when the last sync ended
        self._max_wait = 0.0

    def commit(self) -> bool:
        """Return when all that was appended before the call is on the disk.

        Returns:
            False if the disk failed. The events still survive the process, but perhaps
            not the machine.
        """
        me = threading.get_ident()
        while me not in self._leaders:
            group = self._open.get(_NEXT_GROUP)
            synced = self._lead(me) if group is None else group.wait()
            if synced is not None:
                return synced
            if group is not None:  # its leader was interrupted and will not return
                self._close(group)
        # This interrupts the leader itself, and waiting for it would never end.
        return self._attempt()

    def _lead(self, me: int) -> bool | None:
        """Sync for a new group. Return None if another thread has opened one."""
        mine = _Group()
        try:
            self._leaders.add(me)  # before another thread can wait for it
            if self._open.setdefault(_NEXT_GROUP, mine) is not mine:
                return None
            with self._turn:
                mine.wait_for_members(self._expected_members, self._max_wait)
                self._close(mine)
                mine.synced = self._measured_attempt()
                following = self._open.get(_NEXT_GROUP)
                self._expected_members = mine.size + (
                    following.size if following else 0
                )
            return mine.synced
        finally:
            # First: a signal handler that raises here must not leave them waiting.
            mine.ended.release()
            self._leaders.discard(me)

    def _close(self, group: _Group) -> None:
        """Let no more threads join ``group``."""
        if self._open.get(_NEXT_GROUP) is group:
            self._open.pop(_NEXT_GROUP, None)

    def _measured_attempt(self) -> bool:
        started = self._clock.monotonic()
        done = self._attempt()
        seconds = self._clock.monotonic() - started
        self._max_wait = min(_WAIT_SHARE * seconds, _LONGEST_WAIT)
        return done

    def _attempt(self) -> bool:
        try:
            self._sync()
        except OSError as error:
            self._log.warn(
                "sync",
                "the disk does not store what is written to it (%s); events survive "
                "the process, and may be lost with the machine. Check the disk",
                error,
            )
            return False
        return True
