"""Periods: months, weeks and days of any time zone, in buckets."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.server._dashboard.periods import read_period
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.response_models import to_microseconds

NOW = to_microseconds(datetime(2026, 10, 29, 13, 20, tzinfo=UTC))
HOUR = 3_600_000_000


def at(*parts: int) -> int:
    """Return an instant in UTC, in microseconds since 1970."""
    return to_microseconds(datetime(*parts, tzinfo=UTC))  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("query", "label", "start", "end"),
    [
        ({}, "October 2026", at(2026, 10, 1), at(2026, 11, 1)),
        ({"month": "2026-02"}, "February 2026", at(2026, 2, 1), at(2026, 3, 1)),
        ({"week": "2026-10-07"}, "Week 41, 2026", at(2026, 10, 5), at(2026, 10, 12)),
        (
            {"from": "2026-09-30", "to": "2026-10-01"},
            "30 September – 1 October 2026",
            at(2026, 9, 30),
            at(2026, 10, 2),
        ),
        (
            {"from": "2026-10-07", "to": "2026-10-07", "tz": "Asia/Kolkata"},
            "7 October 2026",
            at(2026, 10, 6, 18, 30),
            at(2026, 10, 7, 18, 30),
        ),
    ],
)
def test_a_query_names_a_period(
    query: dict[str, str], label: str, start: int, end: int
) -> None:
    """The ends are midnights of the zone."""
    period = read_period(query, NOW)
    assert (period.label, period.start, period.end) == (label, start, end)
    assert read_period(period.query, NOW)[:4] == period[:4]


@given(
    st.dates(min_value=date(1971, 1, 1), max_value=date(2200, 1, 1)),
    st.integers(0, 400),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Apia"]),
)
def test_buckets_cover_the_period_exactly(first: date, days: int, zone: str) -> None:
    """No instant is lost and none is in two, also when clocks change."""
    last = first + timedelta(days=days)
    query = {"from": first.isoformat(), "to": last.isoformat(), "tz": zone}
    period = read_period(query, NOW)
    buckets = period.buckets()
    assert buckets[0].start == period.start
    assert buckets[-1].end == period.end
    assert all(one.end == two.start for one, two in pairwise(buckets))
    assert all(
        bucket.start < bucket.end or zone == "Pacific/Apia" for bucket in buckets
    )


def test_the_day_when_clocks_change_has_its_own_length() -> None:
    """In Berlin, 25 October 2026 has 25 hours."""
    query = {"from": "2026-10-24", "to": "2026-10-26", "tz": "Europe/Berlin"}
    lengths = [
        (bucket.end - bucket.start) // HOUR
        for bucket in read_period(query, NOW).buckets()
    ]
    assert lengths == [24, 25, 24]


def test_a_running_period_is_compared_with_the_same_part() -> None:
    """In whole hours, so that rollups answer."""
    prior = read_period({}, NOW).prior
    assert (prior.start, prior.end) == (at(2026, 9, 1), at(2026, 9, 29, 14))
    assert prior.label == "1–29 Sep"
    march = read_period({"month": "2026-03"}, at(2026, 3, 31, 12)).prior
    assert (march.start, march.end) == (at(2026, 2, 1), at(2026, 3, 1))


def test_a_past_period_is_compared_with_the_whole_one_before() -> None:
    """Months differ in length, and are compared as months."""
    prior = read_period({"month": "2026-03"}, NOW).prior
    assert (prior.start, prior.end) == (at(2026, 2, 1), at(2026, 3, 1))
    assert prior.label == "Feb 2026"


def test_periods_lead_to_their_neighbours() -> None:
    """But not into the future."""
    october = read_period({}, NOW)
    assert october.later is None
    september = october.earlier
    assert september.query == {"month": "2026-09"}
    assert september.later is not None
    assert september.later.query == {"month": "2026-10"}
    week = october.of_kind("week")
    assert week.query == {"week": "2026-10-26"}
    assert week.earlier.query == {"week": "2026-10-19"}
    assert week.of_kind("month").query == {"month": "2026-10"}
    days = read_period({"from": "2026-10-05", "to": "2026-10-06"}, NOW)
    assert days.earlier.query == {"from": "2026-10-03", "to": "2026-10-04"}


@pytest.mark.parametrize(
    "query",
    [
        {"month": "2026-13"},
        {"month": "9999-12"},
        {"week": "now"},
        {"from": "0001-01-01", "to": "0001-01-02"},
        {"from": "2000-01-01", "to": "2026-01-01"},
        {"to": "2026-01-01"},
        {"tz": "../etc/passwd"},
        {"tz": "Europe"},
    ],
)
def test_a_wrong_period_is_refused(query: dict[str, str]) -> None:
    """With 400, and never with a file that is no zone."""
    with pytest.raises(HttpProblem) as caught:
        read_period(query, NOW)
    assert caught.value.status == 400
