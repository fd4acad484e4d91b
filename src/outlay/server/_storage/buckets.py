"""Divide time into hours, days, thirds of months, and months.

A period is divided into as few of them as possible.
"""

from __future__ import annotations

from datetime import date
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._records import MICROSECONDS_PER_HOUR
from outlay.server._wire.request_models import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOURS: Final = 24
_MONTHS: Final = 12
_THIRDS: Final = 3  # of a month, which start at its days 1, 11 and 21
_THIRD_DAYS: Final = 10
_FIRST_DAY: Final = date(1970, 1, 1).toordinal()


class Grain(IntEnum):
    """The length of a bucket. Buckets are numbered by hours and days since 1970.

    A month's number is ``12 * year + month - 1``. The number of its first third is
    three times as large.
    """

    HOUR = 0
    DAY = 1
    MONTH = 2
    THIRD = 3


class BucketRange(NamedTuple):
    """The buckets ``first <= number < last`` of one grain.

    The sign is -1 if they are taken off from larger buckets.
    """

    grain: Grain
    first: int
    last: int
    sign: int = 1


class Buckets(NamedTuple):
    """The buckets that contain one instant, in the order of `Grain`."""

    hour: int
    day: int
    month: int
    third: int


@lru_cache(maxsize=4096)
def buckets_of(hour: int) -> Buckets:
    """Return the buckets that contain an hour."""
    day = hour // _HOURS
    month = _month_of(day)
    part = min((day - _first_day_of(month)) // _THIRD_DAYS, _THIRDS - 1)
    return Buckets(hour, day, month, month * _THIRDS + part)


@lru_cache(maxsize=4096)
def start_of(grain: int, number: int) -> int:
    """Return the start of a bucket, in microseconds since 1970."""
    return _first_hour(grain, number) * MICROSECONDS_PER_HOUR


def ranges_between(
    first_hour: int, last_hour: int, window: Window | None
) -> list[BucketRange]:
    """Return ranges of the largest buckets that cover ``first <= hour < last``.

    Args:
        first_hour: The number of the first hour.
        last_hour: The number of the first hour after the period.
        window: The windows of which each bucket must lie in one. If None, there are
            none.
    """
    return [
        found for found in _ranges(first_hour, last_hour, window) if found[1] < found[2]
    ]


def _ranges(first: int, last: int, window: Window | None) -> Iterator[BucketRange]:
    first_day, last_day = -(-first // _HOURS), last // _HOURS
    if window is Window.HOUR or first_day >= last_day:
        yield BucketRange(Grain.HOUR, first, last)
        return
    yield BucketRange(Grain.HOUR, first, first_day * _HOURS)
    yield BucketRange(Grain.HOUR, last_day * _HOURS, last)
    last_month = _month_of(last_day)
    first_month = _month_of(first_day)
    if _first_day_of(first_month) < first_day:
        first_month += 1
    if window is Window.DAY or first_month >= last_month:
        yield BucketRange(Grain.DAY, first_day, last_day)
        return
    yield BucketRange(Grain.DAY, first_day, _first_day_of(first_month))
    yield BucketRange(Grain.DAY, _first_day_of(last_month), last_day)
    yield BucketRange(Grain.MONTH, first_month, last_month)


def signed_ranges_between(
    first_hour: int, last_hour: int, *, has_thirds: bool
) -> list[BucketRange]:
    """Return the fewest buckets that add up to ``first <= hour < last``.

    Larger buckets lie inside of the period, or reach beyond it. The buckets at its
    edges are added to the former, and subtracted from the latter.

    Args:
        first_hour: The number of the first hour.
        last_hour: The number of the first hour after the period.
        has_thirds: Whether there are rollups of the grain `Grain.THIRD`.
    """
    thirds = [Grain.THIRD] if has_thirds else []
    ranges: list[BucketRange] = []
    grain, first, last = Grain.HOUR, first_hour, last_hour
    for larger in (Grain.DAY, *thirds, Grain.MONTH):
        start = _nearest(larger, _first_hour(grain, first))
        end = _nearest(larger, _first_hour(grain, last))
        if start == end:
            break
        ranges += _edge(grain, first, buckets_of(_first_hour(larger, start))[grain])
        ranges += _edge(grain, buckets_of(_first_hour(larger, end))[grain], last)
        grain, first, last = larger, start, end
    return [*ranges, BucketRange(grain, first, last)]


def _edge(grain: Grain, first: int, last: int) -> Iterator[BucketRange]:
    """Yield the buckets from ``first`` to ``last``, negative if they lie in reverse."""
    if first < last:
        yield BucketRange(grain, first, last)
    elif first > last:
        yield BucketRange(grain, last, first, -1)


def _nearest(grain: Grain, hour: int) -> int:
    """Return the bucket whose start is nearest to the start of an hour."""
    number = buckets_of(hour)[grain]
    before, after = _first_hour(grain, number), _first_hour(grain, number + 1)
    return number if hour - before <= after - hour else number + 1


def _first_hour(grain: int, number: int) -> int:
    """Return the first hour of a bucket."""
    if grain == Grain.HOUR:
        return number
    if grain == Grain.DAY:
        return number * _HOURS
    month, part = (number, 0) if grain == Grain.MONTH else divmod(number, _THIRDS)
    return (_first_day_of(month) + part * _THIRD_DAYS) * _HOURS


def _month_of(day: int) -> int:
    found = date.fromordinal(_FIRST_DAY + day)
    return found.year * _MONTHS + found.month - 1


def _first_day_of(month: int) -> int:
    year, month = divmod(month, _MONTHS)
    return date(year, month + 1, 1).toordinal() - _FIRST_DAY
