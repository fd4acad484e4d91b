"""Observes what captured calls cost, without pricing or tracking it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from outlay._capture.instrumentation.library import CaptureOptions
from outlay._capture.providers import libraries, library
from outlay._model.error_counts import capture_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay._capture.observation import Observation


@contextmanager
def observing(
    target: object,
    **options: Any,  # noqa: ANN401 - of `Options`
) -> Iterator[list[Observation]]:
    """Instrument a client, or a library by its name; afterwards nothing is left.

    Raises:
        AssertionError: capture failed meanwhile.
    """
    seen: list[Observation] = []
    before = capture_errors.snapshot()
    made = CaptureOptions(record=seen.append, **options)
    if isinstance(target, str):
        owner = library(target)
        owner.instrument_all(made)
    else:
        owner = next(one for one in libraries() if one.is_client(target))
        owner.instrument_client(target, made)
    try:
        yield seen
    finally:
        owner.uninstrument()
    assert before == capture_errors.snapshot(), capture_errors.snapshot()
