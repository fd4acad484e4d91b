"""Query the rollups of one metric."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay.server._metering.decimals import ZERO
from outlay.server._metering.metric import CompiledMetric, Contribution, Instant
from outlay.server._metering.parts import join
from outlay.server._records import Aggregation
from outlay.server._storage.buckets import BucketRange, start_of
from outlay.server._storage.cubes import CUSTOMER, DETAIL, LABEL, LABELS, TOTAL
from outlay.server._storage.sqlite.rollups import (
    ADDED,
    CHOSEN,
    decode_dimensions,
    latest_at,
)
from outlay.server._storage.store import CUSTOMER_NAME

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import (
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from outlay.server._wire.request_models import Window

_GROUPED_BY: Final = {
    TOTAL: "metric",
    CUSTOMER: "customer",
    DETAIL: "customer, dimensions",
}
"""The columns in which the rows of a cube differ. Others differ in their dimensions."""

_MOST_LOOKUPS: Final = 5000
"""The most single rows to look up. Beyond it, a scan of whole buckets is faster."""

_NEVER_NEGATIVE: Final = ("skipped", "other_currency", "ones", "nano", "atto")
"""Columns that are 0 in each row if their sum is."""

_NO_TIME: Final[Instant] = (0, 0)


class RollupQuery:
    """Reads the rollups of one metric from one cube.

    Args:
        connection: The reading connection.
        metric: The metric.
        number: The metric's row number.
        cube: The cube, from `cube_for`.
        ranges: The buckets to read. Only a metric that can subtract has negative ones.
        where: The allowed values of dimensions, by name.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        metric: CompiledMetric,
        number: int,
        *,
        cube: int,
        ranges: Sequence[BucketRange],
        where: Mapping[str, frozenset[str]],
    ) -> None:
        self._connection = connection
        self._metric = metric
        self._number = number
        self._cube = cube
        self._where = where
        self._ranges = ranges
        self._is_signed = any(one.sign < 0 for one in ranges)

    def contributions(
        self, start: int, window: Window | None
    ) -> Iterator[Contribution]:
        """Return contributions that have the dimensions of the cube.

        Those of other values than ``where`` allows may be among them.

        Args:
            start: The start of the period, in microseconds since 1970.
            window: The windows of which each contribution lies in one. If None, all
                buckets are in one window.
        """
        cube = self._cube
        keys = _keys(cube)
        if window is None:
            columns = f"{start:d}, 0, {keys}, {self._sums(cube)}"
            group_by = _GROUPED_BY.get(cube, "dimensions")
            rows = self._select(cube, columns, group_by, self._filters(cube))
            return self._read(rows, cube, lambda start, _: start)
        # Each row of the ranges has a bucket, and so a window, of its own.
        columns = f"grain, bucket, {keys}, {self._columns()}"
        rows = self._select(cube, columns, "", self._filters(cube))
        return self._read(rows, cube, start_of)

    def _read(
        self, rows: Iterable[Any], cube: int, at_of: Callable[[int, int], int]
    ) -> Iterator[Contribution]:
        """Yield the contribution of each row that has events.

        Args:
            rows: The rows of `_select`.
            cube: The cube that they are from.
            at_of: A function that returns the time of the first two columns.
        """
        dimensions_of, value_of = self._dimensions_reader(cube), self._value_reader()
        is_latest = self._metric.aggregation is Aggregation.LATEST
        for one, two, customer, dimensions, events, skipped, other, *rest in rows:
            # Without events, all of them were taken off again.
            if events:
                has_value = events != skipped
                yield Contribution(
                    at_of(one, two),
                    customer,
                    dimensions_of(dimensions),
                    events,
                    skipped,
                    value_of(*rest) if has_value else None,
                    latest_at(rest[0]) if is_latest and has_value else _NO_TIME,
                    other,
                )

    def _sums(self, cube: int) -> str:
        """Return the columns that the aggregation needs, and nothing in the others.

        SQLite sorts the rows with all columns that it reads.
        """
        aggregation = self._metric.aggregation
        zeros = self._zeros() if cube in {CUSTOMER, DETAIL} else set()
        sums = [
            "0"
            if column in zeros
            else f"sum(sign * {column})"
            if self._is_signed
            else f"sum({column})"
            for column in self._added_columns()
        ]
        if aggregation in CHOSEN:
            # A bare column beside one max() has the value of the greatest row.
            sums += ["max(rank)", "value"]
        return ", ".join(sums)

    def _added_columns(self) -> list[str]:
        """Return the columns that are added."""
        columns = ["events", "skipped", "other_currency"]
        if self._metric.aggregation in ADDED:
            columns += ["giga", "ones", "nano", "atto"]
        return columns

    def _columns(self) -> str:
        """Return the same columns as `_sums`, of single rows."""
        columns = self._added_columns()
        if self._metric.aggregation in CHOSEN:
            columns += ["rank", "value"]
        return ", ".join(columns)

    def _zeros(self) -> set[str]:
        """Return the columns that have nothing in any row of the ranges.

        The few rows of the total tell it.
        """
        sums = ", ".join(f"sum({column})" for column in _NEVER_NEGATIVE)
        [row] = self._select(TOTAL, sums, "metric", {}).fetchall() or [()]
        return {
            column
            for column, total in zip(_NEVER_NEGATIVE, row, strict=False)
            if not total
        }

    def _filters(self, cube: int) -> dict[str, frozenset[str]]:
        """Return the texts that the columns of the cube may have."""
        filters: dict[str, frozenset[str]] = {}
        labels = {**self._where}
        if CUSTOMER_NAME in labels:
            filters["customer"] = labels.pop(CUSTOMER_NAME)
        if labels and cube >= LABEL:
            [filters["dimensions"]] = labels.values()
        elif labels and len(self._metric.names) == 1:
            [values] = labels.values()
            filters["dimensions"] = frozenset(_json([value]) for value in values)
        elif labels and cube == DETAIL:
            filters["dimensions"] = self._matching_labels(labels)
        # SQLite's functions for JSON cut texts at a NUL. The caller filters as well.
        return {
            column: values
            for column, values in filters.items()
            if not any("\0" in value for value in values)
        }

    def _matching_labels(self, wanted: Mapping[str, frozenset[str]]) -> frozenset[str]:
        """Return the sets of dimensions with the wanted values, of which few exist."""
        rows = self._select(LABELS, "dimensions", "dimensions", {})
        allowed = [
            (self._metric.names.index(name), values) for name, values in wanted.items()
        ]
        found: set[str] = set()
        for (text,) in rows:
            dimensions = decode_dimensions(text)
            if all(dimensions[position] in values for position, values in allowed):
                found.add(text)
        return frozenset(found)

    def _select(
        self,
        cube: int,
        columns: str,
        group_by: str,
        filters: Mapping[str, frozenset[str]],
    ) -> sqlite3.Cursor:
        first = next(iter(filters.values()), frozenset())
        lookups = len(first) * sum(one.last - one.first for one in self._ranges)
        where = "metric = :metric AND cube = :cube"
        parameters: dict[str, object] = {"metric": self._number, "cube": cube}
        if filters and lookups <= _MOST_LOOKUPS:
            # One look-up for each bucket and value of the first column of the key.
            tables = _bucket_table(self._ranges)
            source = "buckets CROSS JOIN rollups USING (grain, bucket)"
            for place, one in enumerate(self._ranges):
                parameters[f"buckets{place}"] = _json([*range(one.first, one.last)])
            if cube not in {CUSTOMER, DETAIL}:
                where += " AND customer = ''"
        else:
            tables = _range_table(self._ranges)
            source = "ranges CROSS JOIN rollups USING (grain)"
            where += " AND bucket >= first AND bucket < last"
        for column, values in filters.items():
            parameters[column] = _json(sorted(values))
            where += f" AND {column} IN (SELECT value FROM json_each(:{column}))"  # noqa: S608 - a constant
        if group_by:
            where += f" GROUP BY {group_by}"
        return self._connection.execute(
            f"{tables} SELECT {columns} FROM {source} WHERE {where}",  # noqa: S608 - constants and integers
            parameters,
        )

    def _dimensions_reader(self, cube: int) -> Callable[[str], tuple[str, ...]]:
        """Return a function that returns the dimensions of a row's text."""
        if cube in {LABELS, DETAIL}:
            return decode_dimensions
        before = ("",) * (cube - LABEL if cube >= LABEL else len(self._metric.names))
        if cube < LABEL:
            return lambda _: before
        after = ("",) * (len(self._metric.names) - len(before) - 1)
        return lambda text: (*before, text, *after)

    def _value_reader(self) -> Callable[..., Decimal]:
        """Return a function that returns the value of a row's last columns."""
        aggregation = self._metric.aggregation
        if aggregation in ADDED:
            return join
        if aggregation is Aggregation.COUNT:
            return lambda: ZERO
        return lambda _, value: Decimal(value)


def _range_table(ranges: Sequence[BucketRange]) -> str:
    """Return the clause of the table ``ranges``, for scans of whole buckets."""
    # Integers only, so that they can be a part of the statement.
    values = ",".join(
        f"({grain:d},{first:d},{last:d},{sign:d})"
        for grain, first, last, sign in ranges
    )
    return f"WITH ranges (grain, first, last, sign) AS (VALUES {values})"


def _bucket_table(ranges: Sequence[BucketRange]) -> str:
    """Return the clause of the table ``buckets``, which has each bucket of the ranges.

    The numbers of each range's buckets are a list in a parameter.
    """
    selects = " UNION ALL ".join(
        f"SELECT {one.grain:d}, value, {one.sign:d} FROM json_each(:buckets{place})"  # noqa: S608 - integers
        for place, one in enumerate(ranges)
    )
    return f"WITH buckets (grain, bucket, sign) AS ({selects})"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _keys(cube: int) -> str:
    """Return the customer and the dimensions of a cube's rows.

    SQLite sorts the rows with all columns that it reads, so a cube's empty columns are
    constants.
    """
    customer = "customer" if cube in {CUSTOMER, DETAIL} else "''"
    return f"{customer}, " + ("''" if cube in {TOTAL, CUSTOMER} else "dimensions")
