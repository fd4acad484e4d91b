"""What the tests of faults share."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support import disks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 1 MiB."""
    with contextlib.ExitStack() as mounted:
        try:
            disk = mounted.enter_context(disks.small_disk(tmp_path / "disk"))
        except PermissionError as error:
            pytest.skip(str(error))
        yield disk
