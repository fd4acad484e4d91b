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
    """The buckets ``first <= number < last`` of one grain."""

    grain: Grain
    first: int
    last: int


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


def _month_of(day: int) -> int:
    found = date.fromordinal(_FIRST_DAY + day)
    return found.year * _MONTHS + found.month - 1


def _first_day_of(month: int) -> int:
    year, month = divmod(month, _MONTHS)
    return date(year, month + 1, 1).toordinal() - _FIRST_DAY
