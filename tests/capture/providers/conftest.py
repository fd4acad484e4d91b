"""What the tests of providers' libraries share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from outlay._capture.instrumentation.library import CaptureOptions
from outlay._model.error_counts import capture_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from outlay._capture.instrumentation.library import Library
    from outlay._capture.observation import Observation

    Capture = Callable[..., AbstractContextManager[list[Observation]]]


@pytest.fixture
def capture() -> Iterator[Capture]:
    """Return what captures a library's calls, or one client's, within ``with``.

    Nothing may fail within capture: the guard hides it from the caller, not from here.
    """
    before = dict(capture_errors.snapshot())

    @contextmanager
    def capturing(
        library: Library, client: object = None, **options: object
    ) -> Iterator[list[Observation]]:
        seen: list[Observation] = []
        chosen = CaptureOptions(record=seen.append, **options)  # type: ignore[arg-type]
        if client is None:
            library.instrument_all(chosen)
        else:
            library.instrument_client(client, chosen)
        try:
            yield seen
        finally:
            library.uninstrument(client)

    yield capturing
    assert dict(capture_errors.snapshot()) == before
