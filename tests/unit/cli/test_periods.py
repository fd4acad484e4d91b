"""The period that another one is compared with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from outlay._cli.periods import Period, period_before, period_text


def utc(*parts: int) -> datetime:
    """Return an instant."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc] # of ints


@pytest.mark.parametrize(
    ("period", "before"),
    [
        (
            Period(utc(2026, 3, 1), utc(2026, 4, 1)),
            Period(utc(2026, 2, 1), utc(2026, 3, 1)),
        ),
        (
            Period(utc(2026, 1, 1), utc(2026, 2, 1)),
            Period(utc(2025, 12, 1), utc(2026, 1, 1)),
        ),
        (
            Period(utc(2026, 3, 9), utc(2026, 3, 16)),
            Period(utc(2026, 3, 2), utc(2026, 3, 9)),
        ),
        (
            Period(utc(2999, 3, 1), utc(2999, 4, 1)),
            Period(utc(2999, 2, 1), utc(2999, 3, 1)),
        ),
    ],
    ids=["a month", "January", "a week", "a period to come"],
)
def test_a_period_that_is_over_has_a_whole_one_before(
    period: Period, before: Period
) -> None:
    """Months are of different lengths, and are still compared."""
    assert period_before(period) == before


def test_a_running_period_is_compared_with_the_same_part() -> None:
    """A month that has just begun would otherwise look cheap."""
    start, end = utc(2000, 1, 1), utc(3000, 1, 1)

    before = period_before(Period(start, end))

    assert before.start == start - (end - start)
    assert before.start < before.end < start
    assert (before.end - before.start).total_seconds() % 3600 == 0


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (utc(2026, 10, 1), utc(2026, 11, 1), "2026-10"),
        (utc(2026, 11, 1), utc(2027, 2, 1), "2026-11 to 2027-01"),
        (utc(2026, 10, 1), utc(2026, 10, 2), "2026-10-01"),
        (utc(2026, 10, 1), utc(2026, 10, 31), "2026-10-01 to 2026-10-30"),
        (
            utc(2026, 10, 1),
            utc(2026, 10, 1, 6),
            "2026-10-01 00:00 until 2026-10-01 06:00",
        ),
        (utc(2026, 10, 1), utc(9999, 12, 31), "2026-10-01 to 9999-12-30"),
    ],
    ids=["a month", "months", "a day", "days", "hours", "all time"],
)
def test_a_period_is_named_by_its_last_day(
    start: datetime, end: datetime, text: str
) -> None:
    """A person reads "to 2026-11-01" as if the first of November counted."""
    assert period_text(start, end) == text


def test_a_period_of_another_zone_is_named_in_utc() -> None:
    """The command line says UTC beside it."""
    berlin = timezone(timedelta(hours=1))

    text = period_text(
        datetime(2026, 10, 1, 1, tzinfo=berlin), datetime(2026, 11, 1, 1, tzinfo=berlin)
    )

    assert text == "2026-10"
