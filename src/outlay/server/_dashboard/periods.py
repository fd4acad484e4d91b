"""Read the period of a page from its query, and split it into buckets.

A period is a month, a week from Monday on, or any span of days. Its days are those of
a time zone. Instants are microseconds since 1970, and a period ends before ``end``.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from outlay.server._records import MICROSECONDS_PER_HOUR
from outlay.server._wire.problems import FieldError, invalid_fields
from outlay.server._wire.response_models import from_microseconds, midnight

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DAY: Final = timedelta(days=1)
_WEEK: Final = 7
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9000  # so that no period before or after leaves the years 1 to 9999
_MOST_DAYS_BY_HOUR: Final = 2
_MOST_DAYS_BY_DAY: Final = 100
_MOST_MONTHS: Final = 120

UTC_NAME: Final = "UTC"
PERIOD_KINDS: Final = ("month", "week")


class Bucket(NamedTuple):
    """One hour, day or month of a period.

    Attributes:
        start: The first instant.
        end: The first instant that no longer counts.
        label: The short name, for an axis.
        name: The full name.
        query: The query parameters of a page about this bucket. Empty for an hour.
    """

    start: int
    end: int
    label: str
    name: str
    query: Mapping[str, str]


class Span(NamedTuple):
    """A span of time with a name."""

    start: int
    end: int
    label: str


class Period(NamedTuple):
    """The period of a page.

    Attributes:
        kind: ``month``, ``week`` or ``days``.
        first: The first day.
        last: The last day.
        zone: The time zone of the days.
        now: The time of the request.
    """

    kind: str
    first: date
    last: date
    zone: ZoneInfo
    now: int

    @property
    def start(self) -> int:
        """The first instant."""
        return midnight(self.first, self.zone)

    @property
    def end(self) -> int:
        """The first instant that no longer counts."""
        return midnight(self.last + _DAY, self.zone)

    @property
    def is_running(self) -> bool:
        """Whether the period has begun and is not over."""
        return self.start <= self.now < self.end

    @property
    def until(self) -> int:
        """The end, or while the period is running, the end of the current hour."""
        if not self.is_running:
            return self.end
        hours = (self.now - self.start) // MICROSECONDS_PER_HOUR + 1
        return min(self.end, self.start + hours * MICROSECONDS_PER_HOUR)

    @property
    def label(self) -> str:
        """The period's name, such as ``October 2026``."""
        if self.kind == "month":
            return f"{self.first:%B %Y}"
        if self.kind == "week":
            week = self.first.isocalendar()
            return f"Week {week.week}, {week.year}"
        return days_label(self.first, self.last)

    @property
    def days(self) -> str:
        """The period's days, such as ``1–31 October 2026``."""
        return days_label(self.first, self.last)

    @property
    def query(self) -> dict[str, str]:
        """The query parameters of this period and its time zone."""
        if self.kind == "month":
            chosen = {"month": f"{self.first:%Y-%m}"}
        elif self.kind == "week":
            chosen = {"week": self.first.isoformat()}
        else:
            chosen = {"from": self.first.isoformat(), "to": self.last.isoformat()}
        return {**chosen, **self.zone_query}

    @property
    def zone_query(self) -> dict[str, str]:
        """The query parameter of the time zone. Empty for UTC."""
        return {} if self.zone.key == UTC_NAME else {"tz": self.zone.key}

    @property
    def earlier(self) -> Period:
        """The period of the same kind before this one."""
        before = self.first - _DAY
        if self.kind == "month":
            return self._replace(first=before.replace(day=1), last=before)
        return self._replace(first=self.first - (self.last - before), last=before)

    @property
    def later(self) -> Period | None:
        """The period of the same kind after this one. None if that has not begun."""
        after = self.last + _DAY
        if midnight(after, self.zone) > self.now:
            return None
        if self.kind == "month":
            return self._replace(first=after, last=_last_of_month(after))
        return self._replace(first=after, last=after + (self.last - self.first))

    @property
    def prior(self) -> Span:
        """The span that this period is compared with.

        It is the period before. While this period is running, it is the same part of
        that period, in whole hours. Otherwise a few days would be compared with a
        whole month.
        """
        before = self.earlier
        if not self.is_running:
            return Span(before.start, before.end, _short_label(before))
        end = min(before.end, before.start + self.until - self.start)
        last = local(end - 1, self.zone).date()
        return Span(before.start, end, _short_days(before.first, last))

    def of_kind(self, kind: str) -> Period:
        """Return the month or week that contains this period's last past day."""
        today = local(self.now, self.zone).date()
        day = max(min(self.last, today), self.first)
        return month_of(self, day) if kind == "month" else week_of(self, day)

    @property
    def grain(self) -> str:
        """The kind of the buckets: ``hour``, ``day`` or ``month``."""
        count = (self.last - self.first).days + 1
        if count <= _MOST_DAYS_BY_HOUR:
            return "hour"
        return "day" if count <= _MOST_DAYS_BY_DAY else "month"

    def buckets(self) -> list[Bucket]:
        """Return the buckets of the period, in order."""
        return [*_BUCKETS[self.grain](self)]


def read_period(query: Mapping[str, str], now: int) -> Period:
    """Return the period of a query: ``month``, ``week``, or ``from`` and ``to``.

    Without any, it is the current month. ``tz`` is an IANA time zone, and else UTC.

    Raises:
        HttpProblem: 400, with the parameter and an example.
    """
    zone = _zone(query.get("tz") or UTC_NAME)
    today = local(now, zone).date()
    empty = Period("month", today, today, zone, now)
    if "from" in query or "to" in query:
        first = _day("from", query.get("from", ""))
        last = _day("to", query.get("to", ""))
        if last < first:
            raise _refused("to", "must not be before 'from'")
        if (last - first).days > _MOST_MONTHS * 31:
            raise _refused("to", f"must be within {_MOST_MONTHS} months of 'from'")
        return empty._replace(kind="days", first=first, last=last)
    if "week" in query:
        return week_of(empty, _day("week", query["week"]))
    if "month" in query:
        return month_of(empty, _day("month", query["month"] + "-01"))
    return month_of(empty, today)


def month_of(period: Period, day: date) -> Period:
    """Return the month of ``day``, in the zone of ``period``."""
    first = day.replace(day=1)
    return period._replace(kind="month", first=first, last=_last_of_month(first))


def week_of(period: Period, day: date) -> Period:
    """Return the week of ``day`` from Monday on, in the zone of ``period``."""
    first = day - timedelta(days=day.weekday())
    last = first + timedelta(days=_WEEK - 1)
    return period._replace(kind="week", first=first, last=last)


def local(at: int, zone: ZoneInfo) -> datetime:
    """Return the time of an instant in ``zone``.

    The first and last hours of all time may have none. Their time is that of UTC.
    """
    moment = from_microseconds(at)
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment


def days_label(first: date, last: date) -> str:
    """Return a span of days for a person, such as ``1–31 October 2026``."""
    if first == last:
        return f"{first.day} {first:%B %Y}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{last.day} {last:%B %Y}"
    if first.year == last.year:
        return f"{first.day} {first:%B} – {last.day} {last:%B %Y}"
    return f"{first.day} {first:%B %Y} – {last.day} {last:%B %Y}"


def _short_label(period: Period) -> str:
    if period.kind == "month":
        return f"{period.first:%b %Y}"
    return _short_days(period.first, period.last)


def _short_days(first: date, last: date) -> str:
    if first == last:
        return f"{first.day} {first:%b}"
    if first.month == last.month:
        return f"{first.day}–{last.day} {last:%b}"
    return f"{first.day} {first:%b} – {last.day} {last:%b}"


def _hours(period: Period) -> Iterator[Bucket]:
    for start in range(period.start, period.end, MICROSECONDS_PER_HOUR):
        at = local(start, period.zone)
        name = f"{at.day} {at:%B %Y, %H:%M}"
        yield Bucket(start, start + MICROSECONDS_PER_HOUR, f"{at:%H}", name, {})


def _days(period: Period) -> Iterator[Bucket]:
    is_long = (period.first.month, period.first.year) != (
        period.last.month,
        period.last.year,
    )
    day = period.first
    while day <= period.last:
        label = f"{day.day} {day:%b}" if is_long else f"{day.day}"
        yield Bucket(
            midnight(day, period.zone),
            midnight(day + _DAY, period.zone),
            label,
            f"{day.day} {day:%B %Y}",
            {"from": day.isoformat(), "to": day.isoformat(), **period.zone_query},
        )
        day += _DAY


def _months(period: Period) -> Iterator[Bucket]:
    first = period.first
    while first <= period.last:
        last = min(_last_of_month(first), period.last)
        yield Bucket(
            midnight(first, period.zone),
            midnight(last + _DAY, period.zone),
            f"{first:%b}",
            f"{first:%B %Y}",
            {"from": first.isoformat(), "to": last.isoformat(), **period.zone_query},
        )
        first = last + _DAY


_BUCKETS: Final = {"hour": _hours, "day": _days, "month": _months}


def _last_of_month(day: date) -> date:
    return day.replace(day=monthrange(day.year, day.month)[1])


def _zone(name: str) -> ZoneInfo:
    # Only known names, because ZoneInfo opens any other name as a file.
    if name != UTC_NAME and name not in _zone_names():
        raise _refused(
            "tz", f"{name!r} is no IANA time zone; use one such as Europe/Berlin"
        )
    return ZoneInfo(name)


@cache
def _zone_names() -> set[str]:
    return available_timezones()  # It searches folders, some 30 ms each time.


def _day(field: str, text: str) -> date:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        example = "2026-10" if field == "month" else "2026-10-01"
        raise _refused(field, f"must be a date such as {example}") from None
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise _refused(field, f"must be in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return day


def _refused(field: str, message: str) -> Exception:
    return invalid_fields([FieldError(field, message)])
