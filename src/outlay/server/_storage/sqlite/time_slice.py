"""Bound a slice of background work by time, because posts wait for it.

The same rows take several times as long on another machine, or in a larger file. So a
slice works in small chunks, and looks at the clock after each.
"""

from __future__ import annotations

import time
from typing import Final

SLICE_SECONDS: Final = 0.015
"""The time of a slice. Its last chunk and its commit come on top."""


class TimeSlice:
    """The time of one slice, which begins now.

    Args:
        seconds: Its length. With 0, a slice is one chunk.
    """

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds

    def is_over(self) -> bool:
        """Return whether the slice has to end."""
        return time.monotonic() >= self._ends_at
