"""Read the period of a query from ``--month``, ``--from`` and ``--to``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._cli.exit_codes import UsageError
from outlay._cli.options import parse_time
from outlay._model.clock import SystemClock, from_ms

if TYPE_CHECKING:
    import argparse

_INSTANT: Final = timedelta(microseconds=1)
_HOUR: Final = timedelta(hours=1)
_OVER_A_MONTH: Final = timedelta(days=31)  # from a first: in the next month


class Period(NamedTuple):
    """The period ``start <= t < end``. Both are aware."""

    start: datetime
    end: datetime


def add_period_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--month``, ``--from``, ``--to`` and ``--as-of``."""
    add = parser.add_argument
    add(
        "--month",
        type=parse_time,
        metavar="MONTH",
        help="the period, such as 2026-10 (default: this month)",
    )
    add(
        "--from",
        dest="start",
        type=parse_time,
        metavar="TIME",
        help="start of the period, such as 2026-11-01 (default: start of the month)",
    )
    add(
        "--to",
        dest="end",
        type=parse_time,
        metavar="TIME",
        help="end of the period, which itself does not count (default: end of the "
        "month)",
    )
    add_as_of_option(parser)


def add_as_of_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--as-of``."""
    parser.add_argument(
        "--as-of",
        type=parse_time,
        metavar="TIME",
        help="the state of that time, without what came later (default: now)",
    )


def period_of(arguments: argparse.Namespace) -> Period:
    """Return the period. A missing end of it is the start or the end of the month.

    Raises:
        UsageError: The arguments make no period. The message says why.
    """
    start, end = arguments.start, arguments.end
    if arguments.month is not None:
        if start or end:
            raise UsageError("pass --month, or --from and --to, but not both")
        start = first_of_month(arguments.month)
    try:
        if start is None:
            last = end - _INSTANT if end else from_ms(SystemClock().now_ms())
            start = first_of_month(last)
        if end is None:
            end = first_of_month(first_of_month(start) + _OVER_A_MONTH)
    except OverflowError:
        raise UsageError("the calendar ends there; pass both --from and --to") from None
    if start >= end:
        raise UsageError(
            f"--from {short_time(start)} is not before --to {short_time(end)}"
        )
    return Period(start, end)


def period_before(period: Period) -> Period:
    """Return the period to compare with.

    That is the month before a month, and the same length of time before another period.
    If the period is not over, only its part up to now counts, in whole hours.

    Raises:
        UsageError: That period would leave the years 1 to 9999.
    """
    start, end = period
    try:
        before = _whole_period_before(start, end)
    except OverflowError:
        raise UsageError(
            "the calendar has no such period before; pass a later or shorter one"
        ) from None
    elapsed = from_ms(SystemClock().now_ms()) - start
    if timedelta() < elapsed < end - start:
        hours = -(-elapsed // _HOUR)
        before = before._replace(end=min(before.start + hours * _HOUR, before.end))
    return before


def _whole_period_before(start: datetime, end: datetime) -> Period:
    if start == first_of_month(start) and end == first_of_month(start + _OVER_A_MONTH):
        return Period(first_of_month(start - _INSTANT), start)
    return Period(start - (end - start), start)


def first_of_month(moment: datetime) -> datetime:
    """Return the start of the month of ``moment``, in UTC."""
    return datetime(moment.year, moment.month, 1, tzinfo=UTC)


def short_time(moment: datetime) -> str:
    """Return ``moment`` in UTC, without a time of day or seconds that are zero."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return text.removesuffix(":00").removesuffix(" 00:00")


def period_text(start: datetime, end: datetime) -> str:
    """Return the period ``start <= t < end`` in UTC, without its exclusive end.

    A person takes the second date of a period for its last day. So whole months and
    whole days have their last one: ``2026-10``, ``2026-08 to 2026-10``, or
    ``2026-10-05 to 2026-10-11``. Other periods end ``until`` an instant.
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    last = end - _INSTANT
    if start == first_of_month(start) and end == first_of_month(end):
        return _span(f"{start:%Y-%m}", f"{last:%Y-%m}")
    if start == _midnight(start) and end == _midnight(end):
        return _span(f"{start:%Y-%m-%d}", f"{last:%Y-%m-%d}")
    return f"{_time(start)} until {_time(end)}"


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00")


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


def _midnight(moment: datetime) -> datetime:
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
