"""Replace functions of a library, and undo that."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Patches:
    """The functions of one library that are replaced.

    Thread safety: any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._applied: list[tuple[Any, str, Any, Any]] = []  # guarded by _lock

    def apply(self, *patches: tuple[Any, str, Callable[[Any], Any]]) -> None:
        """Replace functions, unless that was done before.

        Args:
            *patches: The class or module that holds each function, and the function's
                name there. The third is a function that takes the original and returns
                the replacement.
        """
        with self._lock:
            if self._applied:
                return
            for owner, name, wrap in patches:
                original = vars(owner)[name]
                setattr(owner, name, wrap(original))
                self._applied.append((owner, name, original, vars(owner)[name]))

    def undo(self) -> None:
        """Restore the originals, except where another package has patched since."""
        with self._lock:
            for owner, name, original, replacement in reversed(self._applied):
                if vars(owner).get(name) is replacement:
                    setattr(owner, name, original)
            self._applied.clear()
