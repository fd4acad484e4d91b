"""Leave out a file whose tests take long to collect."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Return True for the requests of schemathesis, unless slow tests are wanted."""
    is_large = collection_path.name == "test_openapi_requests.py"
    return True if is_large and "not slow" in config.option.markexpr else None
