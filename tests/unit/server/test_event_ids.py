"""Ids of events begin with their time, and none is drawn twice."""

from __future__ import annotations

from outlay.server._services.event_ids import EventIds


def test_ids_are_unique_and_begin_with_their_time() -> None:
    """Small and large draws, across the end of what was drawn before."""
    ids = EventIds()

    drawn = [one for count in (1, 250, 10, 1000, 1) for one in ids.draw(count, 5000)]

    assert len({*drawn}) == 1262
    assert {one[:15] for one in drawn} == {"evt_00000000005"}
    assert {len(one) for one in drawn} == {31}
    assert ids.draw(0, 5000) == []
