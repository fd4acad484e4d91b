"""What all tests share."""

from __future__ import annotations

import gc
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


def pytest_collection_finish() -> None:
    """Keep the collector from all that is imported: it takes 0.3 s to look through.

    What tests make afterwards is collected as ever.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_stays_captured() -> Iterator[None]:
    """What one test leaves captured, as users may, another must not find so."""
    yield
    # By the package and not by all of `sys.modules`, of which there are thousands.
    package = sys.modules.get("outlay._capture.providers")
    for module in [*vars(package).values()] if package else ():
        library = getattr(module, "LIBRARY", None)
        if library is not None:
            library.uninstrument()
