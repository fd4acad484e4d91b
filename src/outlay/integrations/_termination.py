"""End a program that gets SIGTERM as its normal end does, with exit hooks."""

from __future__ import annotations

import signal
import sys
import threading


def exit_on_sigterm() -> None:
    """Let SIGTERM end the program with its exit hooks, which ship pending events.

    Without this, Python ends at once, and pending events stay on a disk that the
    platform discards. A handler that the program has installed remains.

    Call it on the main thread. On others it does nothing, because Python allows signal
    handlers only there.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _: object) -> None:
    sys.exit(128 + number)  # as shells report a program that a signal has ended
