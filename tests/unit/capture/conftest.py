"""What the tests of capture share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from outlay._capture.operations.state import current_operation_state
from outlay._model.attribution import UNATTRIBUTED, current_attribution
from outlay.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.testing import Costs


@pytest.fixture
def costs() -> Iterator[Costs]:
    """Return what the default client tracks."""
    with recording() as recorded:
        yield recorded
    assert current_operation_state.get() is None
    assert current_attribution.get() is UNATTRIBUTED
