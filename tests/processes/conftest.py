"""What the tests of many processes need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.processes.ledger import Ledger, keeping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return a fresh reference server on loopback, and a fresh folder for events."""
    with keeping(tmp_path / "journal") as running:
        yield running
