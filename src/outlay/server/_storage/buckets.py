"""Divide time into hours, days and months, and a period into as few as possible."""

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
_FIRST_DAY: Final = date(1970, 1, 1).toordinal()


class Grain(IntEnum):
    """The length of a bucket. Buckets are numbered by hours and days since 1970.

    A month's number is ``12 * year + month - 1``.
    """

    HOUR = 0
    DAY = 1
    MONTH = 2


class BucketRange(NamedTuple):
    """The buckets ``first <= number < last`` of one grain.

    The sign is -1 if they are taken off from larger buckets.
    """

    grain: Grain
    first: int
    last: int
    sign: int = 1


class Buckets(NamedTuple):
    """The buckets of each grain that contain one instant."""

    hour: int
    day: int
    month: int


@lru_cache(maxsize=4096)
def buckets_of(hour: int) -> Buckets:
    """Return the buckets that contain an hour."""
    day = hour // _HOURS
    return Buckets(hour, day, _month_of(day))


@lru_cache(maxsize=4096)
def start_of(grain: int, number: int) -> int:
    """Return the start of a bucket, in microseconds since 1970."""
    if grain == Grain.MONTH:
        number = _first_day_of(number)
    hours = number if grain == Grain.HOUR else number * _HOURS
    return hours * MICROSECONDS_PER_HOUR


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


def signed_ranges_between(first_hour: int, last_hour: int) -> list[BucketRange]:
    """Return the fewest buckets that add up to ``first <= hour < last``.

    Buckets at the edges are added to the larger buckets inside of the period, or taken
    off from one that reaches beyond it.
    """
    first_day, last_day = _nearest_day(first_hour), _nearest_day(last_hour)
    if first_day == last_day:
        return ranges_between(first_hour, last_hour, Window.HOUR)
    ranges = [
        *_edge(Grain.HOUR, first_hour, first_day * _HOURS),
        *_edge(Grain.HOUR, last_day * _HOURS, last_hour),
    ]
    first_month, last_month = _nearest_month(first_day), _nearest_month(last_day)
    if first_month == last_month:
        return [*ranges, BucketRange(Grain.DAY, first_day, last_day)]
    return [
        *ranges,
        *_edge(Grain.DAY, first_day, _first_day_of(first_month)),
        *_edge(Grain.DAY, _first_day_of(last_month), last_day),
        BucketRange(Grain.MONTH, first_month, last_month),
    ]


def _edge(grain: Grain, first: int, last: int) -> Iterator[BucketRange]:
    """Yield the buckets from ``first`` to ``last``, negative if they lie in reverse."""
    if first < last:
        yield BucketRange(grain, first, last)
    elif first > last:
        yield BucketRange(grain, last, first, -1)


def _nearest_day(hour: int) -> int:
    return (hour + _HOURS // 2) // _HOURS


def _nearest_month(day: int) -> int:
    """Return the month whose start is nearest to a day."""
    month = _month_of(day)
    before, after = _first_day_of(month), _first_day_of(month + 1)
    return month if day - before <= after - day else month + 1


def _month_of(day: int) -> int:
    found = date.fromordinal(_FIRST_DAY + day)
    return found.year * _MONTHS + found.month - 1


def _first_day_of(month: int) -> int:
    year, month = divmod(month, _MONTHS)
    return date(year, month + 1, 1).toordinal() - _FIRST_DAY
