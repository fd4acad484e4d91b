"""What all tests share."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tests never assert a time: on a busy machine, Hypothesis's own deadline would. And
# where nobody looks at the example, a red run must be red again.
settings.register_profile("outlay", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("outlay")


@pytest.fixture(autouse=True)
def _no_library_stays_captured() -> Iterator[None]:
    """A test that leaves one captured spoils others, which then fail at random."""
    yield
    left = [
        name
        for name, module in sys.modules.items()
        if name.startswith("outlay._capture.providers.")
        and (library := getattr(module, "LIBRARY", None)) is not None
        and not library.scope.is_empty()
    ]
    for name in left:
        sys.modules[name].LIBRARY.release()
    assert left == [], "the test leaves libraries captured"
