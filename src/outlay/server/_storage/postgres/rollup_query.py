"""Query the rollups and deltas of one metric. PostgreSQL adds them up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay.server._metering.metric import CompiledMetric, Contribution, Instant
from outlay.server._records import MICROSECONDS_PER_HOUR, Aggregation
from outlay.server._storage.buckets import BucketRange, Grain, start_of
from outlay.server._storage.cubes import LABEL
from outlay.server._storage.postgres.larger_grains import DAY_OF_HOUR
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.request_models import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from decimal import Decimal

    from outlay.server._storage.postgres.connecting import PostgresConnection
    from outlay.server._storage.postgres.larger_grains import AddedPlace
    from outlay.server._storage.sql.gross_quantities import RollupQuestion

_NO_TIME: Final[Instant] = (0, 0)

_COLUMNS: Final = "hour, events, skipped, other_currency, value"

_MOST_LOOKUPS: Final = 5000
"""The most single rows to look up. Beyond it, a scan of whole buckets is faster."""

_MOST_GROUPS: Final = 100  # whose names a statement has

_VALUES: Final = {
    Aggregation.SUM: ("value", "sum(value)"),
    Aggregation.AVG: ("value", "sum(value)"),
    Aggregation.COUNT: ("0::numeric", "0::numeric"),
    Aggregation.MIN: ("value", "min(value)"),
    Aggregation.MAX: ("value", "max(value)"),
    Aggregation.LATEST: (
        "CASE WHEN value IS NOT NULL THEN ARRAY[value_at, value_seq, value] END",
        "max(value)",
    ),
}
"""The value of a row, and the combined value of several, by aggregation."""

_WINDOWS: Final = {
    Window.HOUR: "hour",
    Window.DAY: DAY_OF_HOUR,
    Window.MONTH: f"date_trunc('month', DATE '1970-01-01' + {DAY_OF_HOUR})",
}
"""The number of the window that contains an hour."""

_FIRST_HOURS: Final = {
    Grain.HOUR: "bucket",
    Grain.DAY: "bucket * 24",
    Grain.MONTH: (
        "(make_date(bucket / 12, bucket % 12 + 1, 1) - DATE '1970-01-01') * 24"
    ),
}
"""The first hour of a bucket of each grain that may lie in a window."""


def contributions(
    connection: PostgresConnection,
    metric: CompiledMetric,
    definition: int,
    added: AddedPlace,
    question: RollupQuestion,
) -> Iterator[Contribution]:
    """Yield what the rollups and deltas have for a period of whole hours.

    Args:
        connection: The reading connection.
        metric: The metric.
        definition: The number of its definition.
        added: The last row of an hour of the cube that is in larger grains.
        question: The period and the wanted groups.
    """
    query = _Query(connection, metric, definition, added, question)
    for hour, events, skipped, other_currency, value, *labels in query.rows():
        if not events:  # all of them were taken off again
            continue
        customer, dimensions = query.labels_of(labels)
        number, at = _value_of(metric.aggregation, value)
        yield Contribution(
            question.start if question.window is None else hour * MICROSECONDS_PER_HOUR,
            customer,
            dimensions,
            events,
            skipped,
            number if events != skipped else None,
            at,
            other_currency,
        )


class _Query:
    """The statement for one question.

    It adds up the rollups by their narrow groups first, and then by the labels of the
    groups, with the few deltas.
    """

    def __init__(
        self,
        connection: PostgresConnection,
        metric: CompiledMetric,
        definition: int,
        added: AddedPlace,
        question: RollupQuestion,
    ) -> None:
        self._connection = connection
        self._metric = metric
        self._question = question
        self._added = added
        self._definition = f"definition = {definition:d}"
        self._cube = f"{self._definition} AND cube = {question.cube:d}"
        needed = {*question.names, *question.where}
        self._has_customer = CUSTOMER_NAME in needed
        self._positions = [
            position for position, name in enumerate(metric.names) if name in needed
        ]
        self._value, self._combined = _VALUES[metric.aggregation]
        self._parameters = {
            _parameter(place): sorted(values)
            for place, values in enumerate(question.where.values())
        }

    def rows(self) -> Iterator[Sequence[Any]]:
        """Return the sums and labels of each window and group."""
        labels = [
            *(["customer"] if self._has_customer else []),
            *(f"label_{position:d}" for position in self._positions),
        ]
        columns = ", ".join([_COLUMNS, *labels])
        # A total groups by a constant, so that no rows give no row.
        group_by = ", ".join([*self._windows(), *labels] or ["0 * hour"])
        rows: Iterator[Sequence[Any]] = self._connection.execute(
            f"SELECT {', '.join([self._sums(), *labels])} FROM"
            f" ({self._rollups()} UNION ALL {self._deltas()}) AS t ({columns})"
            f" GROUP BY {group_by}",
            self._parameters,
        )
        return rows

    def labels_of(self, labels: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        """Return the customer and the dimensions of a row, '' for those not needed."""
        customer = labels[0] if self._has_customer else ""
        dimensions = [""] * len(self._metric.names)
        for position, label in zip(
            self._positions, labels[self._has_customer :], strict=True
        ):
            dimensions[position] = label
        return customer, tuple(dimensions)

    def _rollups(self) -> str:
        """Return the query of the rollups."""
        return (
            f"SELECT {', '.join([_COLUMNS, *self._labels(self._place_in_cube)])} FROM"
            f" (SELECT {self._sums()}, grp FROM ({self._buckets()}) AS b"
            f" GROUP BY {', '.join(['grp', *self._windows()])}) AS s"
            f" JOIN (SELECT grp, customer, dims FROM groups WHERE {self._cube}) AS g"
            " USING (grp)"
        )

    def _deltas(self) -> str:
        """Return the query of the deltas, which have all dimensions."""
        columns = ["hour, events, skipped, other_currency", self._value]
        conditions = [
            self._definition,
            f"hour >= {self._question.first_hour:d}",
            f"hour < {self._question.last_hour:d}",
            *self._conditions(_place),
        ]
        return (
            f"SELECT {', '.join([*columns, *self._labels(_place)])} FROM deltas"
            f" WHERE {' AND '.join(conditions)}"
        )

    def _buckets(self) -> str:
        """Return the query of the rows of all ranges."""
        groups = self._few_groups()
        if groups is not None:
            self._parameters["groups"] = groups
            wanted = " AND grp = ANY ((:groups)::uuid[])"
        elif self._question.where:
            wanted = f" AND grp IN ({self._groups()})"
        else:
            wanted = ""
        parts = [
            self._range(one, _numbers(one) if groups is not None else _between(one))
            for one in self._question.ranges
        ]
        parts += map(self._not_added, self._question.ranges)
        return " UNION ALL ".join(part + wanted for part in parts if part)

    def _range(self, one: BucketRange, buckets: str) -> str:
        """Return the query of the rows of one range."""
        sign = "-" if one.sign < 0 else ""
        first_hour = f"{self._question.first_hour:d}"
        if self._question.window is not None:
            first_hour = _FIRST_HOURS[Grain(one.grain)]
        return (
            f"SELECT {first_hour} AS hour, grp, {sign}events AS events,"
            f" {sign}skipped AS skipped, {sign}other_currency AS other_currency,"
            f" {sign}{self._value} AS value FROM rollups"
            f" WHERE {self._cube} AND grain = {one.grain:d} AND {buckets}"
        )

    def _not_added(self, one: BucketRange) -> str:
        """Return the query of the hours that the larger buckets of a range lack.

        It is "" if they lack none.
        """
        first, last = (
            start_of(one.grain, number) // MICROSECONDS_PER_HOUR
            for number in (one.first, one.last)
        )
        hour, group = self._added
        if one.grain == Grain.HOUR or last <= hour:
            return ""
        hours = BucketRange(Grain.HOUR, max(first, hour), last, one.sign)
        place = f"(bucket, grp) > ({hour:d}, '{group}'::uuid)"
        return f"{self._range(hours, _between(hours))} AND {place}"

    def _few_groups(self) -> list[str] | None:
        """Return the wanted groups, if it is fast to look up each of their rows."""
        if not self._question.where:
            return None
        buckets = sum(one.last - one.first for one in self._question.ranges)
        most = min(_MOST_GROUPS, _MOST_LOOKUPS // buckets)
        rows = self._connection.execute(
            f"{self._groups()} LIMIT {most + 1:d}", self._parameters
        ).fetchall()
        return [str(group) for (group,) in rows] if len(rows) <= most else None

    def _groups(self) -> str:
        """Return the query of the wanted groups."""
        conditions = [self._cube, *self._conditions(self._place_in_cube)]
        return f"SELECT grp FROM groups WHERE {' AND '.join(conditions)}"

    def _conditions(self, place_of: Callable[[int], str]) -> Iterator[str]:
        """Yield the conditions of the wanted groups."""
        for number, name in enumerate(self._question.where):
            column = "customer"
            if name != CUSTOMER_NAME:
                column = place_of(self._metric.names.index(name))
            yield f"{column} = ANY (:{_parameter(number)})"

    def _labels(self, place_of: Callable[[int], str]) -> list[str]:
        """Return the columns of the needed customer and dimensions."""
        return [
            *(["customer"] if self._has_customer else []),
            *map(place_of, self._positions),
        ]

    def _place_in_cube(self, position: int) -> str:
        """Return the column of a dimension in the groups of the cube."""
        return _place(0 if self._question.cube >= LABEL else position)

    def _windows(self) -> list[str]:
        """Return the number of the window of a row, if there are windows.

        One more expression to group by makes the planner expect far too many groups. It
        would read all rows in the order of an index, each from another page.
        """
        window = self._question.window
        return [] if window is None else [_WINDOWS[window]]

    def _sums(self) -> str:
        return (
            "min(hour) AS hour, sum(events)::bigint AS events,"
            " sum(skipped)::bigint AS skipped,"
            f" sum(other_currency)::bigint AS other_currency, {self._combined} AS value"
        )


def _place(position: int) -> str:
    """Return the column of a dimension."""
    return f"dims[{position + 1:d}]"


def _parameter(number: int) -> str:
    """Return the name of the parameter of a filter. A name has letters only."""
    return "values_" + "x" * number


def _between(one: BucketRange) -> str:
    return f"bucket >= {one.first:d} AND bucket < {one.last:d}"


def _numbers(one: BucketRange) -> str:
    numbers = ",".join(map(str, range(one.first, one.last)))
    return f"bucket = ANY ('{{{numbers}}}'::int[])"


def _value_of(aggregation: Aggregation, value: Any) -> tuple[Decimal | None, Instant]:  # noqa: ANN401 - a number, or an array of them
    if aggregation is Aggregation.LATEST and value is not None:
        at, seq, number = value
        return number, (int(at), int(seq))
    return value, _NO_TIME
