"""Read quantities of moved days: from their rollups, and from events at the edges."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server._metering.decimals import ZERO
from outlay.server._metering.metric import Contribution
from outlay.server._records import MICROSECONDS_PER_HOUR, Aggregation
from outlay.server._storage.clickhouse.connection import text, texts
from outlay.server._storage.event_filter import contribution_matcher
from outlay.server._storage.net_quantities import contributions_from_rows
from outlay.server._storage.store import CUSTOMER_NAME, NO_FILTER
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import FIRST_INSTANT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from outlay.server._metering.metric import CompiledMetric
    from outlay.server._storage.clickhouse.connection import Connection

_HOURS: Final = 24

_VALUES: Final = {
    Aggregation.SUM: "sum(value)",
    Aggregation.AVG: "sum(value)",
    Aggregation.COUNT: "NULL",
    Aggregation.MIN: "min(value)",
    Aggregation.MAX: "max(value)",
    # A tuple, because the aggregate function would skip a value of NULL.
    Aggregation.LATEST: "argMax(tuple(value, odd), (value_at, value_seq))",
}
"""The combined value of several rows, without the values that are texts."""


class Moved(NamedTuple):
    """The days that a view reads from ClickHouse, as the ledger has them.

    Attributes:
        after: The last day that retention has deleted, in days since 1970.
        upto: The last day that is in ClickHouse. Later ones are in the ledger.
        loads: The number of the rollups of each day, for one metric. A day without is
            read from its events.
    """

    after: int
    upto: int
    loads: Mapping[int, int]


class _Rollups(NamedTuple):
    """Some rows of a table of rollups."""

    table: str
    first: int
    last: int


def contributions(
    connection: Connection,
    metric: CompiledMetric,
    moved: Moved,
    start: int,
    end: int,
    *,
    names: Collection[str] = (),
    where: Mapping[str, frozenset[str]] = NO_FILTER,
    window: Window | None = None,
) -> Iterator[Contribution]:
    """Yield the contributions of moved events in ``start <= at < end``, unordered.

    See `Reader.contributions`. Corrections are the ledger's.

    Raises:
        HistoryUnavailableError: ClickHouse does not respond.
    """
    start = max(start, FIRST_INSTANT)
    if moved.upto <= moved.after or start >= end:
        return
    matches = contribution_matcher(metric, where)
    first_hour = -(-start // MICROSECONDS_PER_HOUR)
    last_hour = end // MICROSECONDS_PER_HOUR
    days = f"day > {moved.after:d} AND day <= {moved.upto:d}"
    if window is Window.MINUTE or not metric.can_roll_up or first_hour >= last_hour:
        yield from filter(matches, from_events(connection, metric, days, start, end))
        return
    whole = (first_hour * MICROSECONDS_PER_HOUR, last_hour * MICROSECONDS_PER_HOUR)
    for edge in ((start, whole[0]), (whole[1], end)):
        yield from filter(matches, from_events(connection, metric, days, *edge))
    loaded = {
        day: load
        for day, load in moved.loads.items()
        if moved.after < day <= moved.upto
    }
    if len(loaded) < moved.upto - moved.after:
        known = ", ".join(map(str, loaded)) or "NULL"
        raw = f"{days} AND NOT coalesce(day IN ({known}), false)"
        yield from filter(matches, from_events(connection, metric, raw, *whole))
    if loaded:
        query = _Query(metric, [*loaded.values()], names, where, window)
        for part in _parts(first_hour, last_hour, window):
            rows = connection.stream(query.sql(connection.database, part))
            yield from filter(matches, query.contributions(rows, part))


def from_events(
    connection: Connection, metric: CompiledMetric, days: str, start: int, end: int
) -> Iterator[Contribution]:
    """Yield the contribution of each event of some days of receipt."""
    if start >= end:
        return iter(())
    rows = connection.stream(
        f"SELECT seq, at, customer, data FROM {connection.database}.events"  # noqa: S608 - quoted
        f" WHERE {days} AND namespace = {text(metric.cost.namespace)}"
        f" AND type = {text(metric.cost.event_type or '')}"
        f" AND at >= {start:d} AND at < {end:d}"
    )
    return contributions_from_rows(metric, rows)


def _parts(first: int, last: int, window: Window | None) -> list[_Rollups]:
    """Return whole days from the table of days, and the other hours."""
    first_day, last_day = -(-first // _HOURS), last // _HOURS
    if window is Window.HOUR or first_day >= last_day:
        return [_Rollups("hours", first, last)]
    parts = [
        _Rollups("hours", first, first_day * _HOURS),
        _Rollups("days", first_day, last_day),
        _Rollups("hours", last_day * _HOURS, last),
    ]
    return [part for part in parts if part.first < part.last]


class _Query:
    """A query of rollups, and the meaning of its rows."""

    def __init__(
        self,
        metric: CompiledMetric,
        loads: Sequence[int],
        names: Collection[str],
        where: Mapping[str, frozenset[str]],
        window: Window | None,
    ) -> None:
        self._metric = metric
        self._loads = loads
        self._needed = {*names, *where}
        self._where = where
        self._is_by_bucket = window is not None

    def sql(self, database: str, part: _Rollups) -> str:
        """Return the statement for a part of the period."""
        keys = ["bucket"] if self._is_by_bucket else []
        if CUSTOMER_NAME in self._needed:
            keys.append("customer")
        keys += [self._dimension(name) for name in self._names()]
        # All rows of a load are of one metric and one day.
        conditions = [
            f"load IN ({', '.join(map(str, self._loads))})",
            f"bucket >= {part.first:d} AND bucket < {part.last:d}",
        ]
        for name, allowed in self._where.items():
            column = "customer" if name == CUSTOMER_NAME else self._dimension(name)
            conditions.append(f"coalesce({column} IN {texts(allowed)}, false)")
        columns = [
            *keys,
            "sum(events)",
            "sum(skipped)",
            "sum(other_currency)",
            _VALUES[self._metric.aggregation],
            "groupArrayIf(odd, odd != '')",
            "maxIf((value_at, value_seq), value IS NOT NULL OR odd != '')",
        ]
        group_by = f" GROUP BY {', '.join(keys)}" if keys else " HAVING count() > 0"
        return (
            f"SELECT {', '.join(columns)} FROM {database}.{part.table}"  # noqa: S608 - quoted
            f" WHERE {' AND '.join(conditions)}{group_by}"
        )

    def contributions(
        self, rows: Iterator[Sequence[Any]], part: _Rollups
    ) -> Iterator[Contribution]:
        """Yield what the rows of a part contribute."""
        hours = _HOURS if part.table == "days" else 1
        for row in rows:
            *keys, events, skipped, other, value, odd, at = row
            bucket = keys.pop(0) if self._is_by_bucket else part.first
            customer = keys.pop(0) if CUSTOMER_NAME in self._needed else ""
            found = dict(zip(self._names(), keys, strict=True))
            dimensions = tuple(found.get(name, "") for name in self._metric.names)
            values = self._values_of(value, odd)
            bucket_at = bucket * hours * MICROSECONDS_PER_HOUR
            for number, one in enumerate(values):
                # The counts belong to the first of several values.
                is_first = number == 0
                yield Contribution(
                    bucket_at,
                    customer,
                    dimensions,
                    events if is_first else 0,
                    skipped if is_first else 0,
                    one,
                    tuple(at),
                    other if is_first else 0,
                )

    def _values_of(self, value: Any, odd: list[str]) -> list[Decimal | None]:  # noqa: ANN401 - a column
        if self._metric.aggregation is Aggregation.COUNT:
            return [ZERO]
        if self._metric.aggregation is Aggregation.LATEST:
            plain, written = value
            return [plain if not written else Decimal(written)]
        values = [Decimal(one) for one in odd]
        return [*([] if value is None else [value]), *values] or [None]

    def _names(self) -> list[str]:
        return [name for name in self._metric.names if name in self._needed]

    def _dimension(self, name: str) -> str:
        return f"dims[{self._metric.names.index(name) + 1}]"
