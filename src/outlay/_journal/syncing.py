"""Group commit: many threads wait for one sync to disk.

A sync costs a disk about the same for one event as for a thousand. So the first who
needs one leads: it syncs for all who have appended by then, and those who come
meanwhile are served by the next.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay._model.notices import Notices


class GroupCommit:
    """Shares syncs between threads.

    Thread safety: any thread, re-entrant.
    """

    def __init__(self, sync: Callable[[], None], notices: Notices) -> None:
        """Share ``sync``, which brings all that was appended to the disk.

        Args:
            sync: raises OSError if the disk fails.
            notices: where that is reported.
        """
        self._sync = sync
        self._notices = notices
        # Re-entrant: a signal handler may track a cost inside a locked block.
        self._changed = threading.Condition(threading.RLock())
        self._started = 0  # syncs so far; this and the rest: guarded by _changed
        self._ended = 0
        self._leader: int | None = None
        self._failed: set[int] = set()  # syncs that others may still ask about

    def commit(self) -> bool:
        """Return once all that was appended before the call is on the disk.

        Returns:
            False if the disk failed; what was appended survives the process all the
            same, but perhaps not the machine.
        """
        with self._changed:
            # A sync that runs already may have begun before our append.
            mine = self._started + 1
            while self._ended < mine:
                if self._leader is None:
                    return self._lead()
                if self._leader == threading.get_ident():
                    # A signal handler or finaliser on top of the leader itself:
                    # waiting for it would never end.
                    return self._attempt()
                self._changed.wait()
            return mine not in self._failed

    def _lead(self) -> bool:
        self._leader = threading.get_ident()
        self._started += 1
        number = self._started
        done = False
        self._changed.release()  # others append, and line up for the next
        try:
            done = self._attempt()
        finally:
            self._changed.acquire()
            if not done:
                self._failed = {number}
            self._ended = number
            self._leader = None
            self._changed.notify_all()
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
