"""Bound the bytes that requests hold in memory."""

from __future__ import annotations


class ByteBudget:
    """A number of bytes that several holders share.

    Thread safety: the event loop's thread.

    Attributes:
        limit: The most bytes that all holders have together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0

    def take(self, count: int) -> bool:
        """Take ``count`` bytes. Return False, and take none, if they are not there."""
        if self._used + count > self.limit:
            return False
        self._used += count
        return True

    def give_back(self, count: int) -> None:
        """Give back bytes that were taken."""
        self._used -= count
