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
def _nothing_stays_captured() -> Iterator[None]:
    """What one test leaves captured, as users may, another must not find so."""
    yield
    for name, module in [*sys.modules.items()]:
        if name.startswith("outlay._capture.providers."):
            library = getattr(module, "LIBRARY", None)
            if library is not None:
                library.release()
