"""Run functions first in a forked child, whichever way it was forked.

Python reports the forks that it makes. A server that forks below it, as uWSGI does by
default, reports nothing. Its workers would write into the segments of their parent,
over each other's events. So the kernel wipes one page of memory in a child. To read it
at each event takes 15 ns. To ask for the process id would take 120 ns.
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
    """``detector[0]`` is 0 in a child whose functions have not run, and 1 elsewhere."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class PidForkDetector:
    """Detects a child by its process id, where the kernel cannot wipe a page."""

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


def _make_detector() -> ForkDetector:
    detector: ForkDetector
    try:
        detector = _wipe_on_fork_page()
    except (AttributeError, OSError):  # an older kernel, or another system
        detector = PidForkDetector()
    detector[0] = 1
    return detector


class ForkLock:
    """A re-entrant lock that a fork waits for.

    Otherwise a child could inherit it locked by a thread that the child does not have.

    Thread safety: any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._forking = False  # written with the lock held
        os.register_at_fork(
            before=self._acquire_before_fork, after_in_parent=self._release_after_fork
        )
        after_fork_in_child(self._release_after_fork)

    def acquire(self, *, blocking: bool = True) -> bool:
        """Take the lock, and return whether it was free."""
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """Release the lock. Call it once for each `acquire`."""
        self._lock.release()

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
        else:  # a fork below Python: the holder may be a thread that is gone
            self._lock = threading.RLock()


def after_fork_in_child(action: Callable[[], object]) -> None:
    """Register a function that a forked child runs before its first event.

    Functions run in the order of registration. In the child, locks of the parent may be
    held by threads that do not exist there.
    """
    _actions.append(action)


def ensure_forked_state() -> None:
    """Run the registered functions, if this is a child in which they have not run.

    A signal handler that interrupts this function and tracks runs them first. Then the
    rest of this call resets its state again. The handler's events stay in its folder,
    and this process adopts them.

    Thread safety: any thread.
    """
    if fork_detector[0]:
        return
    with _beginning:
        if fork_detector[0]:
            return  # another thread was faster
        for action in _actions:
            action()
        fork_detector[0] = 1


_actions: Final[list[Callable[[], object]]] = []
_beginning: Final = threading.RLock()

fork_detector: Final = _make_detector()
"""The detector of this process. Code that writes for the process reads it first, and
calls `ensure_forked_state` if it is 0."""


def _after_python_fork() -> None:
    fork_detector[0] = 0  # the kernel has wiped it already, if it can
    ensure_forked_state()


os.register_at_fork(after_in_child=_after_python_fork)
