"""Forks: what a forked child does first, however it was forked.

Python tells of the forks that it makes. A server that forks below it, as uWSGI does
unless it is told otherwise, tells nobody, and its workers would write into the segments
of their parent, over each other's events. So there is a page that the kernel wipes in a
child, and a look at it, at each event, costs 15 ns; to ask for the process id, 120 ns.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_MADV_WIPEONFORK: Final = 18  # Linux 4.14; madvise(2). Python has no name for it


class ForkDetector(Protocol):
    """``mark[0]`` is 0 in a child that has not begun anew, and 1 elsewhere."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class PidForkDetector:
    """Knows a child by its process id, where no page is wiped."""

    def __init__(self) -> None:
        self._process = 0

    def __getitem__(self, index: int, /) -> int:
        return int(self._process == os.getpid())

    def __setitem__(self, index: int, value: int, /) -> None:
        self._process = os.getpid() if value else 0


def _wipe_on_fork_page() -> ForkDetector:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=flags)
    page.madvise(_MADV_WIPEONFORK)
    return page


def _make_mark() -> ForkDetector:
    try:
        mark = _wipe_on_fork_page()
    except (AttributeError, OSError):  # an older kernel, or another one
        mark = PidForkDetector()
    mark[0] = 1
    return mark


class ForkLock:
    """A re-entrant lock that a fork waits for.

    Else a child could have it held by a thread that the child has not.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._forking = False  # written by whoever holds the lock
        os.register_at_fork(
            before=self._acquire_before_fork, after_in_parent=self._release_after_fork
        )
        after_fork_in_child(self._release_after_fork)

    def acquire(self, *, blocking: bool = True) -> bool:
        """Take the lock, and say whether that was possible."""
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """Let go of it, once for each time it was taken."""
        self._lock.release()

    @property
    def is_mine(self) -> bool:
        """Whether this thread holds it."""
        # Conditions ask it, too, of any lock. A note of our own would be late: whoever
        # strikes before it is made would wait for the thread that it runs on.
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined] # noqa: SLF001
        return owned

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _acquire_before_fork(self) -> None:
        self.acquire()
        self._forking = True

    def _release_after_fork(self) -> None:
        if self._forking:
            self._forking = False
            self.release()
        else:  # nobody told of the fork, and whoever holds it may be another's thread
            self._lock = threading.RLock()


def after_fork_in_child(action: Callable[[], object]) -> None:
    """Have a forked child call ``action`` before its first event; the first one first.

    The locks of its parent may be held, by threads that the child has not.
    """
    _actions.append(action)


def ensure_forked_state() -> None:
    """Begin anew, if this is a child that has not; any thread.

    A signal handler that strikes here, and tracks, begins first. What it tracked is
    then left to whoever adopts the dead: this process, when it looks for them.
    """
    if fork_detector[0]:
        return
    with _beginning:
        if fork_detector[0]:
            return  # another thread was first
        for action in _actions:
            action()
        fork_detector[0] = 1


_actions: Final[list[Callable[[], object]]] = []
_beginning: Final = threading.RLock()

fork_detector: Final = _make_mark()
"""See `Mark`. Whoever writes for the process looks at it first, and calls `begin`."""


def _forked() -> None:
    fork_detector[0] = 0  # it is wiped already, if it can be
    ensure_forked_state()


os.register_at_fork(after_in_child=_forked)
