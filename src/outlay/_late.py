"""Late: imports what not every program needs, when something needs it.

A signal handler or a finaliser may need it at any instruction, also while the code that
it interrupts imports the very same. An import lock lets its own thread in, so a handler
would see a module that is half made. Therefore modules are imported here on a thread of
their own, where no handler runs, and with the garbage collector off, so that no
finaliser does, while those who need them wait. A handler that interrupts one who waits
waits, too.
"""

from __future__ import annotations

import _imp
import _thread
import gc
import sys
import threading
import time
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from outlay._forks import ForkLock, in_child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, ModuleType

_LOOK_SECONDS: Final = 0.05
"""Between looks of one who waits at what might keep the import for ever."""

_MOST_SECONDS: Final = 60.0
"""For an import. An interrupted thread may hold any lock that the import wants."""


def needed(name: str) -> ModuleType:
    """Return a module, imported by now.

    Thread safety: any thread, any signal handler and any finaliser may call it, in any
    state, with no lock held that others take while they import.

    Raises:
        ImportError: the import failed, as others may, too; a later call tries again. Or
            the code that calls has interrupted the import of something that is needed,
            and no wait would end before it returns.
    """
    while (module := _present.get(name)) is None:
        attempt = _attempts.setdefault(name, _Attempt(name))
        attempt.end()
        if attempt.error is not None:
            raise attempt.error
    return module


class _Turn(ForkLock):
    """Whose turn it is to import late: one thread's at a time.

    A child that is forked while a thread of its parent imports a module can never
    import that module: its lock is held by a thread that the child does not have. So
    who forks takes the turn, and waits for it, a few times in the life of a process.
    Re-entrant: an import may fork, and need something late, on its own thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self.holder = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        taken = super().acquire(blocking=blocking)
        if taken:
            self.holder = threading.get_ident()
        return taken

    def release(self) -> None:
        self.holder = 0
        super().release()
        if self.is_mine:
            self.holder = threading.get_ident()


class _Attempt:
    """One import of one module, for all who need it."""

    def __init__(self, name: str) -> None:
        self.error: BaseException | None = None
        self._name = name
        self._begun = False
        self._over = False
        self._waiting: list[threading.Lock] = []

    def end(self) -> None:
        """Have the module imported; return when that is over."""
        if turn.is_mine or not (self._begun or self._start()):
            self._import_here()
        else:
            self._wait()

    def give_up(self) -> None:
        """Let those who wait begin anew: the thread that imported is gone."""
        self._over = True

    # On the thread that imports.

    def _start(self) -> bool:
        # Not `threading.Thread`: the code that was interrupted may hold its locks. If
        # two start one, for one has interrupted the other, the first to run imports.
        if sys.is_finalizing():
            return False  # before Python 3.12, it would start and never run
        try:
            _thread.start_new_thread(self._import_in_turn, ())
        except RuntimeError:  # the process ends, or the system has no more threads
            return False
        return True

    def _import_in_turn(self) -> None:
        turn.acquire()
        self._import()
        turn.release()

    def _import_here(self) -> None:
        """Import on the thread that calls, as there is no other, or it has the turn."""
        if sys.meta_path is None or not turn.acquire(blocking=not sys.is_finalizing()):
            raise self._refusal("Python is shutting down")
        try:
            self._import()
        finally:
            turn.release()
        if not self._over:
            raise self._refusal("called by what interrupted its import")

    def _import(self) -> None:
        was_on = gc.isenabled()
        gc.disable()
        begun, self._begun = self._begun, True  # a finaliser that struck may have
        if not begun:
            try:
                _present[self._name] = import_module(self._name)
            except BaseException as error:  # noqa: BLE001 - raised by those who wait
                self.error = error
            _attempts.pop(self._name, None)
        # From here on, nothing makes objects that would set off the collection that is
        # due: the application's finalisers are not for this thread.
        if was_on:
            gc.enable()
        if not begun:
            self._over = True
            while self._waiting:
                self._waiting.pop().release()

    # On the threads that wait.

    def _wait(self) -> None:
        # A latch for each: an Event's own lock could be held by what was interrupted.
        latch = threading.Lock()
        latch.acquire()
        self._waiting.append(latch)
        deadline = time.monotonic() + _MOST_SECONDS
        with _import_lock_let_go():
            while not self._over and not latch.acquire(timeout=_LOOK_SECONDS):
                self._look(deadline)

    def _look(self, deadline: float) -> None:
        """Raise what there is to say if the wait would not end."""
        module = _held_from(turn.holder)
        if module is not None and not self._over:
            raise self._refusal(f"called from inside of the import of {module}")
        if sys.is_finalizing():
            raise self._refusal("Python is shutting down")
        if time.monotonic() > deadline:
            raise self._refusal(f"not done after {_MOST_SECONDS:.0f} seconds")

    def _refusal(self, why: str) -> ImportError:
        return ImportError(
            f"cannot import {self._name} now: {why}; call outlay.configure() earlier, "
            "when the program starts",
            name=self._name,
        )


@contextmanager
def _import_lock_let_go() -> Iterator[None]:
    """Lend others the lock that every import takes for a moment.

    A signal handler may have interrupted this thread in that very moment.
    """
    depth = 0
    with_it = _imp.lock_held()
    while with_it:
        try:
            _imp.release_lock()
        except RuntimeError:  # another thread's, or no more
            break
        depth += 1
    try:
        yield
    finally:
        for _ in range(depth):
            _imp.acquire_lock()


def _held_from(thread: int) -> str | None:
    """Return which module ``thread`` waits for that this thread is importing.

    Or that another imports which waits for this one, and so on.
    """
    me = threading.get_ident()
    frames = sys._current_frames()  # noqa: SLF001 - for debuggers, and this is one's job
    asked = set[int]()
    while thread not in asked:
        asked.add(thread)
        lock = _module_lock(frames.get(thread))
        if lock is None or lock.owner is None:
            break
        if lock.owner == me:
            return str(lock.name)
        thread = lock.owner
    return None


def _module_lock(frame: FrameType | None) -> Any:  # noqa: ANN401 - a private class
    """Return the lock of a module for which the thread in ``frame`` waits."""
    if frame is None or frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        return None
    return frame.f_locals.get("self") if frame.f_code.co_name == "acquire" else None


def _begin_anew() -> None:
    """In a forked child: those who wait there do so for a thread that it lacks."""
    for attempt in [*_attempts.values()]:
        attempt.give_up()
    _attempts.clear()


_present: Final[dict[str, ModuleType]] = {}
_attempts: Final[dict[str, _Attempt]] = {}

turn: Final = _Turn()
in_child(_begin_anew)
