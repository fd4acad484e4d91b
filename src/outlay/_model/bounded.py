"""A dictionary with a limit on its size."""

from __future__ import annotations

from itertools import islice
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(dict[K, V]):
    """A dictionary that forgets the older half of its entries at a limit.

    It serves as a cache, or as a memory of recent things. At least the ``limit // 2``
    keys that were added last are kept. A key that is set again keeps its age.

    Reading costs as much as with a plain dictionary. Set entries by ``[]`` or
    `setdefault` only: the other methods of `dict` do not check the limit.

    Thread safety: any thread, re-entrant. It needs no lock, because it consists of
    single operations of a dictionary. Two threads that race may forget more.
    """

    def __init__(self, limit: int) -> None:
        """Create an empty dictionary.

        Args:
            limit: The largest number of entries. At least 2.
        """
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self._limit:
            self._forget_older_half()

    def setdefault(self, key: K, default: V) -> V:
        """Return the value of ``key``. Set it to ``default`` first if it is missing."""
        value = super().setdefault(key, default)
        if len(self) > self._limit:
            self._forget_older_half()
        return value

    def _forget_older_half(self) -> None:
        # list() copies all keys in one step. A loop over the dictionary itself would
        # fail if another thread added a key.
        for key in islice(list(self), self._limit // 2 + 1):
            self.pop(key, None)
