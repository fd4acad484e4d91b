"""Query the rollups and deltas of one metric. PostgreSQL adds them up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server._metering.decimals import ZERO
from outlay.server._metering.metric import CompiledMetric, Contribution, Instant
from outlay.server._records import MICROSECONDS_PER_HOUR, Aggregation
from outlay.server._storage.buckets import Grain, ranges_between, start_of
from outlay.server._storage.postgres.rollups import DAY_OF_HOUR
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.request_models import Window

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from decimal import Decimal

    from outlay.server._storage.postgres.connecting import PostgresConnection

_HOURS: Final = 24

_VALUES: Final = {
    Aggregation.SUM: ("value", "sum(value)"),
    Aggregation.AVG: ("value", "sum(value)"),
    Aggregation.COUNT: ("NULL::numeric", "NULL::numeric"),
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


class HourRange(NamedTuple):
    """The hours ``first <= hour < last``."""

    first: int
    last: int


def contributions(
    connection: PostgresConnection,
    metric: CompiledMetric,
    definition: int,
    hours: HourRange,
    *,
    names: Collection[str],
    where: Mapping[str, frozenset[str]],
    window: Window | None,
) -> Iterator[Contribution]:
    """Yield what the rollups and deltas have for a period of whole hours.

    Args:
        connection: The reading connection.
        metric: The metric.
        definition: The number of its definition.
        hours: The period.
        names: The dimensions that each contribution needs.
        where: The allowed values of dimensions, by name.
        window: The windows of which each contribution lies in one.
    """
    query = _Query(metric, definition, hours, window, {*names, *where})
    text, parameters = query.statement(where)
    for hour, events, skipped, other_currency, value, *labels in connection.execute(
        text, parameters
    ):
        customer, dimensions = query.labels_of(labels)
        number, at = _value_of(metric.aggregation, value)
        yield Contribution(
            hour * MICROSECONDS_PER_HOUR,
            customer,
            dimensions,
            events,
            skipped,
            number,
            at,
            other_currency,
        )


class _Query:
    """The statement for one question."""

    def __init__(
        self,
        metric: CompiledMetric,
        definition: int,
        hours: HourRange,
        window: Window | None,
        needed: set[str],
    ) -> None:
        self._metric = metric
        self._definition = definition
        self._hours = hours
        self._window = window
        self._has_customer = CUSTOMER_NAME in needed
        self._positions = [
            position for position, name in enumerate(metric.names) if name in needed
        ]
        self._value, self._combined = _VALUES[metric.aggregation]

    def statement(
        self, where: Mapping[str, frozenset[str]]
    ) -> tuple[str, dict[str, list[str]]]:
        """Return the statement and its parameters."""
        labels = [
            *(["customer"] if self._has_customer else []),
            *(f"dims[{position + 1:d}]" for position in self._positions),
        ]
        conditions, parameters = self._conditions(where)
        if labels:
            # First by the narrow groups, then by their labels, of which there are few.
            rollups = (
                "SELECT g.hour, g.events, g.skipped, g.other_currency, g.value,"
                f" n.customer, n.dims FROM (SELECT {self._sums()}, r.grp"
                f" FROM ({self._rows(conditions)}) r"
                f" GROUP BY {', '.join(['r.grp', *self._windows()])}) g"
                f" JOIN groups n ON n.grp = g.grp AND n.definition = {self._definition}"
            )
        else:
            rollups = (
                "SELECT hour, events, skipped, other_currency, value,"
                f" NULL::text, NULL::text[] FROM ({self._rows('')}) r"
            )
        deltas = (
            "SELECT hour, events, skipped, other_currency,"
            f" {self._value}, customer, dims FROM deltas"
            f" WHERE definition = {self._definition}"
            f" AND hour >= {self._hours.first} AND hour < {self._hours.last}"
        )
        # A total groups by a constant, so that no rows give no row.
        group_by = ", ".join([*self._windows(), *labels] or ["0 * hour"])
        return (
            (
                f"SELECT {self._sums()}{''.join(f', {label}' for label in labels)} FROM"
                f" ({rollups} UNION ALL {deltas})"
                " AS t (hour, events, skipped, other_currency, value, customer, dims)"
                f" {conditions and f'WHERE {conditions}'} GROUP BY {group_by}"
            ),
            parameters,
        )

    def labels_of(self, labels: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        """Return the customer and the dimensions of a row, '' for those not needed."""
        customer = labels[0] if self._has_customer else ""
        dimensions = [""] * len(self._metric.names)
        for position, label in zip(
            self._positions, labels[self._has_customer :], strict=True
        ):
            dimensions[position] = label
        return customer, tuple(dimensions)

    def _windows(self) -> list[str]:
        """Return the number of the window of a row, if there are windows.

        One more expression to group by makes the planner expect far too many groups. It
        would read all rows in the order of an index, each from another page.
        """
        return [] if self._window is None else [_WINDOWS[self._window]]

    def _sums(self) -> str:
        return (
            "min(hour) AS hour, sum(events)::bigint AS events,"
            " sum(skipped)::bigint AS skipped,"
            f" sum(other_currency)::bigint AS other_currency, {self._combined} AS value"
        )

    def _rows(self, conditions: str) -> str:
        """Return the query of the rows of both tables that cover the period.

        Args:
            conditions: Those of the wanted groups. "" wants all.
        """
        wanted = ""
        if conditions:
            wanted = (
                f" AND grp IN (SELECT grp FROM groups WHERE definition ="
                f" {self._definition} AND {conditions})"
            )
        parts: list[str] = []
        for grain, first, last, _ in ranges_between(
            self._hours.first, self._hours.last, self._window
        ):
            table, hour = ("hours", "bucket")
            if grain is not Grain.HOUR:
                table, hour = ("days", f"bucket * {_HOURS}")
                unit = MICROSECONDS_PER_HOUR * _HOURS
                first, last = (start_of(grain, one) // unit for one in (first, last))  # noqa: PLW2901 - months become days
            parts.append(
                f"SELECT {hour} AS hour, grp, events, skipped, other_currency,"
                f" {self._value} AS value FROM {table}"
                f" WHERE definition = {self._definition}"
                f" AND bucket >= {first} AND bucket < {last}{wanted}"
            )
        return " UNION ALL ".join(parts)

    def _conditions(
        self, where: Mapping[str, frozenset[str]]
    ) -> tuple[str, dict[str, list[str]]]:
        conditions: list[str] = []
        parameters: dict[str, list[str]] = {}
        for number, (name, values) in enumerate(where.items()):
            column = "customer"
            if name != CUSTOMER_NAME:
                column = f"dims[{self._metric.names.index(name) + 1:d}]"
            key = "values_" + "x" * number
            conditions.append(f"{column} = ANY (:{key})")
            parameters[key] = sorted(values)
        return " AND ".join(conditions), parameters


def _value_of(aggregation: Aggregation, value: Any) -> tuple[Decimal | None, Instant]:  # noqa: ANN401 - a number, or an array of them
    if aggregation is Aggregation.COUNT:
        return ZERO, (0, 0)
    if aggregation is Aggregation.LATEST and value is not None:
        at, seq, number = value
        return number, (int(at), int(seq))
    return value, (0, 0)
