"""Signal handlers and finalisers that strike between any two instructions."""

from __future__ import annotations

import dis
import functools
import itertools
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

import outlay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

_Trace: TypeAlias = "Callable[[FrameType, str, object], _Trace | None]"


def skip_if_blind() -> None:
    """Skip the test on Python 3.13, whose settrace misses code that has run before.

    To be called before a process is forked or started that watches: it cannot skip.
    """
    if sys.version_info >= (3, 13):
        pytest.skip("settrace of Python 3.13 misses instructions of code once run")


class Interrupts:
    """Calls ``strike`` once, before the ``at``-th instruction of the watched code.

    This is what CPython does for a signal, and nearly what it does for a finaliser
    that the garbage collector runs; but at a place of the test's choosing.

    Attributes:
        struck: whether it came to that.
        seen: how many instructions came before; of all of them, if it never struck.
    """

    def __init__(
        self,
        strike: Callable[[], object],
        at: int,
        *modules: str,
        as_signals: bool = False,
    ) -> None:
        """Watch the code of ``modules``, named by the end of their files' paths.

        With ``as_signals``, the instructions that count are those before which CPython
        looks for signals: no others need to bear a strike that raises.
        """
        _check_that_files_exist(modules)
        self.struck = False
        self.seen = 0
        self._strike = strike
        self._at = at
        self._modules = modules
        self._counts = _after_a_look if as_signals else _always

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the calls made by this thread inside the block.

        Skips the test where they cannot be watched.
        """
        skip_if_blind()
        earlier = sys.gettrace()
        # From Python 3.12 on, settrace reports instructions only if some frame has
        # asked for them by then.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(earlier)

    def _call(self, frame: FrameType, event: str, _: object) -> _Trace | None:
        if event == "call" and frame.f_code.co_filename.endswith(self._modules):
            frame.f_trace_opcodes = True
            return self._step
        return None

    def _step(self, frame: FrameType, event: str, _: object) -> _Trace:
        if event == "opcode" and not self.struck and self._counts(frame):
            if self.seen == self._at:
                self.struck = True
                self._strike()
            else:
                self.seen += 1
        return self._step


def killed_at(work: Callable[[], object], at: int, *modules: str) -> bool:
    """Do ``work`` in a process that is killed by SIGKILL; return whether it was.

    Args:
        work: runs in a forked child.
        at: the instruction of the watched code before which the child is killed.
        *modules: whose code is watched, by the end of their files' paths.
    """
    skip_if_blind()
    child = os.fork()
    if child == 0:
        interrupts = Interrupts(
            lambda: os.kill(os.getpid(), signal.SIGKILL), at, *modules
        )
        try:
            with interrupts.watching():
                work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@functools.cache
def _check_that_files_exist(modules: tuple[str, ...]) -> None:
    """Refuse a name that a moved file had: a test would watch nothing, and pass."""
    files = [str(path) for path in Path(outlay.__file__).parent.rglob("*.py")]
    for module in modules:
        if "/" in module and not any(path.endswith(module) for path in files):
            raise ValueError(f"no file of outlay ends with {module}")


def _always(_: FrameType) -> bool:
    return True


def _after_a_look(frame: FrameType) -> bool:
    return frame.f_lasti in _looks(frame.f_code)


@functools.cache
def _looks(code: CodeType) -> frozenset[int]:
    """Return the offsets of instructions before which CPython looks for signals.

    It does so when a function is entered, when a call returns, and when a loop jumps
    back.
    """
    instructions = list(dis.get_instructions(code))
    found = {
        after.offset
        for each, after in itertools.pairwise(instructions)
        if each.opname.startswith(("CALL", "RESUME"))
    }
    found |= {
        each.argval for each in instructions if each.opname.startswith("JUMP_BACKWARD")
    }
    return frozenset(found)
