"""Group commit: many threads wait for one sync to disk.

A sync costs a disk about the same for one event as for a thousand. Whoever finds no
group that is yet to be synced opens one, and leads it: waits for its turn, closes the
group, and syncs. Those who come before it is closed follow, and wait for its end.

Like the appends, it has no lock to get into trouble with: a group is found, opened and
closed by single operations of a dict, atomic in CPython. To close it too early costs
a sync, and nothing else. Who is waited for is always another thread: code on top of a
leader, such as a signal handler, syncs for itself.
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

_PATIENCE: Final = 0.5
"""How long a leader waits for more to come, as a share of what the last sync took: so
a waiting thread gains a sync, or loses half of one."""

_MOST_PATIENCE: Final = 0.005  # seconds; enough for a hundred threads to come back


class _Group:
    """Threads that share a sync.

    Attributes:
        size: how many they are; a thread may be missed where two come at once.
        ended: locked until the sync has ended.
        synced: whether the disk has all of it; None: the leader never got there.
    """

    __slots__ = ("_is_full", "_wanted", "ended", "size", "synced")

    def __init__(self) -> None:
        self.size = 1
        self.ended = threading.Lock()
        self.ended.acquire()
        self.synced: bool | None = None
        self._wanted = 0
        self._is_full: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wait(self) -> bool | None:
        """Join the group, and return `synced` when its sync has ended."""
        self.size += 1
        if 0 < self._wanted <= self.size:
            self._is_full.put(None)
        with self.ended:  # in turn: each wakes the next
            return self.synced

    def wait_for_members(self, wanted: int, patience: float) -> None:
        """Wait until ``wanted`` threads are here, at most ``patience`` seconds."""
        self._wanted = wanted
        if self.size < wanted and patience > 0:
            with contextlib.suppress(queue.Empty):
                self._is_full.get(timeout=patience)


class GroupCommit:
    """Shares syncs between threads.

    Thread safety: any thread, re-entrant.
    """

    def __init__(
        self, sync: Callable[[], None], clock: Clock, notices: RateLimitedLog
    ) -> None:
        """Share ``sync``, which brings all that was appended to the disk.

        Args:
            sync: raises OSError if the disk fails.
            clock: measures it.
            notices: where failures are reported.
        """
        self._sync = sync
        self._clock = clock
        self._notices = notices
        self._open: dict[str, _Group] = {}  # the next to be synced, if there is one
        self._turn = threading.Lock()  # held by the leader that syncs
        self._leaders: set[int] = set()  # threads
        self._expected_members = 1  # threads there were when the last sync ended
        self._max_wait = 0.0

    def commit(self) -> bool:
        """Return once all that was appended before the call is on the disk.

        Returns:
            False if the disk failed; what was appended survives the process all the
            same, but perhaps not the machine.
        """
        me = threading.get_ident()
        while me not in self._leaders:
            group = self._open.get(_NEXT_GROUP)
            synced = self._lead(me) if group is None else group.wait()
            if synced is not None:
                return synced
            if group is not None:  # its leader was interrupted for good
                self._close(group)
        # On top of the leader itself: waiting for it would never end.
        return self._attempt()

    def _lead(self, me: int) -> bool | None:
        """Sync for a new group; None: somebody else has opened one."""
        mine = _Group()
        try:
            self._leaders.add(me)  # before anybody can wait for it
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
            # First of all: a signal handler that raises here must not leave them.
            mine.ended.release()
            self._leaders.discard(me)

    def _close(self, group: _Group) -> None:
        """Let nobody join ``group`` any more."""
        if self._open.get(_NEXT_GROUP) is group:
            self._open.pop(_NEXT_GROUP, None)

    def _measured_attempt(self) -> bool:
        started = self._clock.monotonic()
        done = self._attempt()
        seconds = self._clock.monotonic() - started
        self._max_wait = min(_PATIENCE * seconds, _MOST_PATIENCE)
        return done

    def _attempt(self) -> bool:
        try:
            self._sync()
        except OSError as error:
            self._notices.warn(
                "sync",
                "the disk does not take what is written to it (%s); events survive "
                "the process, but perhaps not the machine",
                error,
            )
            return False
        return True
