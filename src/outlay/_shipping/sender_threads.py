"""Start and join the threads that send."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from opentelemetry import context

from outlay._model.rate_limited_log import contain_handler_errors

if TYPE_CHECKING:
    from collections.abc import Callable


class SenderThreads:
    """The main sender of a process, and the extra ones beside it.

    Thread safety: caller holds the shipper's lock, except for `join`.

    Attributes:
        main: The thread that plans, scans and sends. None before the first start.
        extra: The threads that only send. Each ends when it finds no event.
    """

    def __init__(self) -> None:
        self.main: threading.Thread | None = None
        self.extra: set[threading.Thread] = set()

    @property
    def all(self) -> list[threading.Thread]:
        """All threads that have been started and did not leave."""
        return [*self.extra] if self.main is None else [*self.extra, self.main]

    def start_extra(self, run: Callable[[], None]) -> None:
        """Start another sender, if the system has a thread for it."""
        thread = start_thread(run)
        if thread is not None:
            self.extra.add(thread)

    def leave(self) -> None:
        """Remove the calling thread, an extra sender, which is about to end."""
        self.extra.discard(threading.current_thread())


def start_thread(run: Callable[[], None]) -> threading.Thread | None:
    """Start a daemon thread.

    Returns:
        The thread, or None if the interpreter shuts down or the system has no more
        threads. Pending events then stay in the journal.
    """
    if sys.is_finalizing():
        return None  # before Python 3.12, the start would wait for the thread forever
    thread = threading.Thread(
        target=_run_contained, args=(run,), name="outlay-shipper", daemon=True
    )
    try:
        thread.start()
    except (RuntimeError, MemoryError):
        return None
    return thread


def _run_contained(run: Callable[[], None]) -> None:
    """Run with errors of log handlers contained, and without tracing our requests."""
    contain_handler_errors()
    context.attach(context.set_value("suppress_instrumentation", True))  # noqa: FBT003
    run()


def join_threads(
    threads: list[threading.Thread], timeout: float, monotonic: Callable[[], float]
) -> None:
    """Wait for all ``threads`` except the calling one, ``timeout`` seconds in all."""
    deadline = monotonic() + timeout
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(0.0, deadline - monotonic()))
