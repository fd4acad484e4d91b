"""Settings and fixtures that all tests share."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tests never assert a time, and Hypothesis's own limits would on a busy machine.
# In CI the examples are fixed, so that a red run is red again when it is repeated.
settings.register_profile(
    "outlay",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("outlay")

# A program that a test starts would import the plugins of logfire for half a second.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"


def pytest_configure() -> None:
    """Restore SIGINT where a shell started pytest in the background and ignores it.

    A program inherits an ignored signal, and Python then installs no handler. Tests
    that interrupt a program would wait for its end in vain.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Exempt all imported objects from garbage collection.

    Looking through them takes 0.3 s. Objects that tests create are still collected.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_stays_captured() -> Iterator[None]:
    """Remove the patches that a test leaves, so that the next test starts without."""
    yield
    # Walk the package, because `sys.modules` holds thousands of modules.
    package = sys.modules.get("outlay._capture.providers")
    for module in [*vars(package).values()] if package else ():
        library = getattr(module, "LIBRARY", None)
        if library is not None:
            library.uninstrument()
