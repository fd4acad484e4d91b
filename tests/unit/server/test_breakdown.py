"""Windows of time: aligned to UTC, half-open, without gaps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.server._services.breakdown import window_at
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import (
    FIRST_INSTANT,
    LAST_INSTANT,
    format_instant,
    to_microseconds,
)

instants = st.integers(FIRST_INSTANT, LAST_INSTANT)


@given(instants, st.sampled_from(Window))
def test_an_instant_lies_in_its_window(at: int, window: Window) -> None:
    """Before 1970 as well: remainders of negative numbers are easy to get wrong."""
    start, end = window_at(window, at)

    assert start <= at <= end
    assert window_at(window, start) == (start, end)
    assert format_instant(start)


@given(st.integers(FIRST_INSTANT, LAST_INSTANT - 32 * 86_400_000_000))
def test_the_next_window_starts_where_one_ends(at: int) -> None:
    """Leap years included."""
    for window in Window:
        bucket = window_at(window, at)
        assert window_at(window, bucket.end).start == bucket.end


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        ("2024-02-29T12:00:00", "2024-02-01T00:00:00.000Z", "2024-03-01T00:00:00.000Z"),
        ("2025-12-31T23:59:59", "2025-12-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z"),
        (
            "9999-12-31T00:00:00",
            "9999-12-01T00:00:00.000Z",
            "9999-12-31T23:59:59.999999Z",
        ),
    ],
)
def test_months_have_their_own_lengths(moment: str, start: str, end: str) -> None:
    """The last month there is ends with the last instant there is."""
    at = to_microseconds(datetime.fromisoformat(moment).replace(tzinfo=UTC))

    bucket = window_at(Window.MONTH, at)

    assert (format_instant(bucket.start), format_instant(bucket.end)) == (start, end)
