"""Count the failures of capture in this process.

Capture may fail before any client is known, such as while it reads a response. So the
counts belong to the process, and the `Stats` of every client show the same ones.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from outlay._fork import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Mapping


class ErrorCounts:
    """Counts failures by kind: the part that failed, and the class of the error.

    Thread safety: any thread, re-entrant.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        # Re-entrant: a finaliser may finish a stream, and fail, inside of `add`.
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()  # guarded by _lock

    def add(self, what: str, error: BaseException) -> int:
        """Count a failure, and return the number of failures of its kind so far.

        Args:
            what: The part that failed, such as ``openai``.
            error: The error. Only its class is kept, because its message may quote a
                prompt.
        """
        kind = f"{what}: {type(error).__name__}"
        with self._lock:
            self._counts[kind] += 1
            return self._counts[kind]

    def snapshot(self) -> Mapping[str, int]:
        """Return the number of failures by kind, such as ``openai: KeyError``."""
        with self._lock:
            return dict(self._counts)

    def reset_after_fork(self) -> None:
        """Count from zero in a forked child: the parent reports its own failures."""
        self._reset()


capture_errors: Final = ErrorCounts()
"""The failures of capture in this process."""

after_fork_in_child(capture_errors.reset_after_fork)
