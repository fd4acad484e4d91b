"""Every test of this folder runs over each kind of store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.stores import ALL_LANES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.server._storage.store import Store
    from tests.support.stores import StoreLane


_PARAMS = [
    pytest.param(name, marks=pytest.mark.slow) if name == "history" else name
    for name in ALL_LANES
]


@pytest.fixture(params=_PARAMS)
def lane(request: pytest.FixtureRequest) -> Iterator[StoreLane]:
    """Return a kind of store, without data."""
    lane = ALL_LANES[request.param]()
    yield lane
    lane.close()


@pytest.fixture
def store(lane: StoreLane) -> Store:
    """Return an empty store."""
    return lane.open()
