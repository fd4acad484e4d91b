"""Keep the suites of `scripts.lanes` out of environments without their packages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def only_in_lane(name: str) -> Callable[[Path, pytest.Collector], pytest.Module | None]:
    """Return a hook that skips the modules of a suite outside of its lane.

    In the lane, a package that cannot be imported is an error.

    Args:
        name: The name of the lane, of its suite and of its extra ``test-NAME``.
    """

    def collect_module(
        module_path: Path, parent: pytest.Collector
    ) -> pytest.Module | None:
        if f"test-{name}" in os.environ.get("OUTLAY_TEST_EXTRAS", "").split():
            return None  # pytest's own way
        skipped: _Skipped = _Skipped.from_parent(parent, path=module_path)
        skipped.reason = "needs an environment of its own: make frameworks"
        return skipped

    return collect_module


class _Skipped(pytest.Module):
    """A module that is reported, and not imported."""

    reason = ""

    def collect(self) -> Iterator[pytest.Item]:
        """Skip the module, with its reason."""
        raise pytest.skip.Exception(self.reason, allow_module_level=True)
