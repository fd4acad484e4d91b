"""The wanted part of a list."""

from __future__ import annotations

from typing import Final, NamedTuple


class Page(NamedTuple):
    """The wanted part of a list: ``limit`` items after the first ``offset``."""

    limit: int
    offset: int


ALL: Final = Page(2**53, 0)
"""The page with all items."""
