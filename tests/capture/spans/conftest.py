"""What the tests of spans share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import TracerProvider

import outlay
from outlay.otel import CostSpanProcessor
from tests.support.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Return a client that tells what it tracked; afterwards nothing is captured."""
    with Recorded() as recorded:
        yield recorded
        outlay.uninstrument()


@pytest.fixture
def provider(recorded: Recorded) -> Iterator[TracerProvider]:
    """Return a tracer provider whose spans' costs are recorded."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(CostSpanProcessor(recorded.client))
    yield provider
    provider.shutdown()
