"""What failed of capture in this process, counted.

A failure happens where no client may be known yet: while an answer is read, or before.
So it is the process's, and every client's `Stats` and metrics tell of the same ones.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from outlay._fork import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Mapping


class ErrorCounts:
    """Counts failures by kind: what failed, and by which error.

    Thread safety: any thread, re-entrant.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        # Re-entrant: a finaliser may settle a stream, and fail, while another counts.
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()  # guarded by _lock

    def add(self, what: str, error: BaseException) -> int:
        """Count a failure, and return how many of its kind there are by now.

        Args:
            what: failed, such as ``openai``.
            error: that it failed by. Only its class is kept: its message may quote
                what a model was asked.
        """
        kind = f"{what}: {type(error).__name__}"
        with self._lock:
            self._counts[kind] += 1
            return self._counts[kind]

    def snapshot(self) -> Mapping[str, int]:
        """Return how often each kind occurred, such as ``openai: KeyError``."""
        with self._lock:
            return dict(self._counts)

    def reset_after_fork(self) -> None:
        """Begin anew in a forked child: what its parent counted is its parent's."""
        self._begin()


capture_errors: Final = ErrorCounts()
"""Of this process."""

after_fork_in_child(capture_errors.reset_after_fork)
