"""The one module that reads the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from outlay._model.clock import (
    SystemClock,
    format_rfc3339,
    from_ms,
    thread_cpu_seconds,
    to_ms,
)


def test_the_system_clock_tells_the_time_in_all_units() -> None:
    """Events are dated in nanoseconds cut to milliseconds; attempts in milliseconds."""
    clock = SystemClock()
    before = time.time_ns()

    now_ns, now_ms = clock.now_ns(), clock.now_ms()
    after = time.time_ns()
    assert before <= now_ns <= after
    assert before // 1_000_000 <= now_ms <= after // 1_000_000


def test_monotonic_time_does_not_step_back() -> None:
    """Waits are measured by it, whatever an administrator does to the date."""
    clock = SystemClock()

    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.serial
def test_a_threads_time_is_what_the_thread_computed() -> None:
    """The shipper tells computing from waiting by it."""
    wall, used = time.perf_counter(), thread_cpu_seconds()

    sum(range(1_000_000))
    used = thread_cpu_seconds() - used
    wall = time.perf_counter() - wall
    assert 0 < used <= wall + time.get_clock_info("thread_time").resolution


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_767_268_800_123, "2026-01-01T12:00:00.123Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_milliseconds_and_text_agree(ms: int, text: str) -> None:
    """Always three digits and Z, so that texts sort as the times do."""
    assert format_rfc3339(ms) == text
    assert to_ms(datetime.fromisoformat(text)) == ms
    assert from_ms(ms) == datetime.fromisoformat(text)


def test_fractions_of_a_millisecond_are_cut_in_any_zone() -> None:
    """Down and not towards zero, so that the order of events stays as it was."""
    zone = timezone(timedelta(hours=-3, minutes=-30))
    moment = datetime(1969, 12, 31, 20, 29, 59, 999_999, tzinfo=zone)

    assert to_ms(moment) == -1
    assert to_ms(datetime(1970, 1, 1, 0, 0, 0, 1999, tzinfo=UTC)) == 1
