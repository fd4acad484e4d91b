"""Days and months of a bill, and the time that they stand for."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import tzinfo

_MARGIN: Final = timedelta(hours=14)  # the most that a time zone is off


class Window(NamedTuple):
    """The time whose events the reconciliation needs. Both ends are aware."""

    start: datetime
    end: datetime


class Span(NamedTuple):
    """The first and the last day, such as ``2026-10-01``, or month."""

    first: str
    last: str

    def contains(self, day: str) -> bool:
        """Return whether a day or month is within."""
        return self.first[: len(day)] <= day <= self.last[: len(day)]

    def whole_days(self) -> Span:
        """Return the span from its first day to its last day, also of months."""
        last = _day_after(self.last) - timedelta(days=1)
        return Span(_first_day(self.first).isoformat(), last.isoformat())

    def window(self, zone: tzinfo) -> Window:
        """Return the time of the span, with a margin for other time zones."""
        start, end = self.bounds(zone)
        return Window(start - _MARGIN, end + _MARGIN)

    def bounds(self, zone: tzinfo) -> Window:
        """Return the time of the span in a time zone."""
        return Window(
            datetime.combine(_first_day(self.first), datetime.min.time(), zone),
            datetime.combine(_day_after(self.last), datetime.min.time(), zone),
        )


def _first_day(day: str) -> date:
    return date.fromisoformat(day if len(day) > len("2026-10") else f"{day}-01")


def _day_after(day: str) -> date:
    if len(day) > len("2026-10"):
        return date.fromisoformat(day) + timedelta(days=1)
    first = _first_day(day)
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1)
