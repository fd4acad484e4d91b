"""Draw the ids of new events."""

from __future__ import annotations

import os
from typing import Final

_TIME_DIGITS: Final = 11  # hexadecimal, of milliseconds: until the year 2527
_RANDOM_DIGITS: Final = 16  # hexadecimal: 64 bits
_DRAWN_IDS: Final = 256  # with one system call, which takes as long as 30 ids


class EventIds:
    """A source of new ids.

    An id begins with its time, so that an index of ids stays small. The source draws
    the random digits of many ids with one system call, because each such call lets
    another thread run first.

    Thread safety: the event loop's thread. A forked child draws the same digits as its
    parent, so a server must not fork while it serves.
    """

    def __init__(self) -> None:
        self._digits = ""
        self._used = 0

    def draw(self, count: int, now: int) -> list[str]:
        """Return new ids.

        Args:
            count: The number of ids.
            now: The time in microseconds since 1970.
        """
        start = self._used
        end = start + count * _RANDOM_DIGITS
        if end > len(self._digits):
            drawn = max(count, _DRAWN_IDS) * _RANDOM_DIGITS
            self._digits = os.urandom(drawn // 2).hex()
            start, end = 0, count * _RANDOM_DIGITS
        self._used = end
        prefix = f"evt_{now // 1000:0{_TIME_DIGITS}x}"
        return [
            prefix + self._digits[at : at + _RANDOM_DIGITS]
            for at in range(start, end, _RANDOM_DIGITS)
        ]
