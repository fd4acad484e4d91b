"""A composer with a clock that stands still, and sound arguments for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from outlay._model.event_composer import EventComposer, Labels
from tests.support.clock import ManualClock
from tests.support.composing import key_and_body

if TYPE_CHECKING:
    from collections.abc import Callable

SOUND: dict[str, Any] = {
    "event_type": "cost.ai.inference",
    "amount": "0.0042",
    "customer_id": "cus_123",
    "operation_id": "job-42",
    "provider": None,
    "operation": None,
    "region": None,
    "line": None,
    "quantity": None,
    "unit": None,
    "provenance": "manual",
    "timestamp": None,
    "data": None,
}


@pytest.fixture
def clock() -> ManualClock:
    """The clock of `make_compose`."""
    return ManualClock()


@pytest.fixture
def make_compose(
    clock: ManualClock,
) -> Callable[..., Callable[..., tuple[str, bytes]]]:
    """Make a function that composes `SOUND`, but for the fields it is given."""

    def make(
        *,
        source: str = "https://api.myapp.com",
        namespace: str | None = None,
        allow_credits: bool = False,
    ) -> Callable[..., tuple[str, bytes]]:
        composer = EventComposer(
            source=source, namespace=namespace, allow_credits=allow_credits, clock=clock
        )

        def compose(**given: Any) -> tuple[str, bytes]:  # noqa: ANN401 - wrong types too
            fields = {**SOUND, **given}
            labels = Labels(**{name: fields.pop(name) for name in Labels._fields})
            return key_and_body(composer.compose(labels, **fields))

        return compose

    return make


@pytest.fixture
def compose(
    make_compose: Callable[..., Callable[..., tuple[str, bytes]]],
) -> Callable[..., tuple[str, bytes]]:
    """Compose with the default settings: ``compose(amount="1") -> key, payload``."""
    return make_compose()
