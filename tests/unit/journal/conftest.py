"""What every test of a journal needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.journals import close_journals

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _close_journals() -> Iterator[None]:
    """Close the journals that the test opened."""
    yield
    close_journals()
