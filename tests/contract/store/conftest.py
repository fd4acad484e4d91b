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


_KEYS_OF_MOVED = {
    "test_expiry_of_an_old_key_keeps_the_newer_event_of_the_key",
    "test_an_event_is_found_by_its_key_at_once_and_later",
}
"""Tests that ask for the event of a key. No server moves it before the key is free."""


@pytest.fixture(params=_PARAMS)
def lane(request: pytest.FixtureRequest) -> Iterator[StoreLane]:
    """Return a kind of store, without data."""
    if request.param == "history" and request.node.originalname in _KEYS_OF_MOVED:
        pytest.skip("this lane moves events whose keys are still remembered")
    lane = ALL_LANES[request.param]()
    yield lane
    lane.close()


@pytest.fixture
def store(lane: StoreLane) -> Store:
    """Return an empty store."""
    return lane.open()
