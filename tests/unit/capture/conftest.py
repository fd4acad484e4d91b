"""What the tests of capture share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from outlay._capture.enclosure import enclosing
from outlay._model.attribution import NOBODY, attribution
from outlay.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.testing import Costs


@pytest.fixture
def costs() -> Iterator[Costs]:
    """Return what the default client tracks."""
    with recording() as recorded:
        yield recorded
    assert enclosing.get() is None
    assert attribution.get() is NOBODY
