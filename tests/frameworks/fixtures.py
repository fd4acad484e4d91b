"""Fixtures of the suites that call frameworks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import outlay
from outlay.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders


@pytest.fixture
def costs() -> Iterator[Costs]:
    """Return what is tracked while every supported package is captured."""
    with recording() as recorded:
        outlay.instrument()
        yield recorded
        outlay.uninstrument()
    assert not recorded.unpriced


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch) -> FakeProviders:
    """Return the providers that respond to the frameworks."""
    # The module imports packages that only the lanes have.
    from tests.frameworks.fake_providers import FakeProviders  # noqa: PLC0415

    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    installed = FakeProviders()
    installed.install(monkeypatch)
    return installed
