"""Query the rollups of one metric."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from outlay.server._metering.decimals import ZERO
from outlay.server._metering.metric import CompiledMetric, Contribution, Instant
from outlay.server._metering.parts import join
from outlay.server._records import Aggregation
from outlay.server._storage.buckets import BucketRange, start_of
from outlay.server._storage.sqlite.rollups import (
    ADDED,
    CHOSEN,
    CUSTOMER,
    DETAIL,
    LABEL,
    LABELS,
    TOTAL,
    decode_dimensions,
    latest_at,
)
from outlay.server._storage.store import CUSTOMER_NAME

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from outlay.server._wire.request_models import Window

_KEYS: Final = {
    TOTAL: "metric",
    CUSTOMER: "customer",
    DETAIL: "customer, dimensions",
}
"""The columns in which the rows of a cube differ. Others differ in their dimensions."""

_MOST_LOOKUPS: Final = 5000
"""The most single rows to look up. Beyond it, a scan of whole buckets is faster."""

_encode_json: Final = msgspec.json.Encoder().encode


class RollupQuery:
    """Reads the rollups of one metric from the smallest cube with the dimensions.

    Args:
        connection: The reading connection.
        metric: The metric.
        number: The metric's row number.
        ranges: The buckets to read.
        where: The allowed values of dimensions, by name.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        metric: CompiledMetric,
        number: int,
        ranges: Sequence[BucketRange],
        where: Mapping[str, frozenset[str]],
    ) -> None:
        self._connection = connection
        self._metric = metric
        self._number = number
        self._where = where
        self._ranges = ranges
        # Integers only, so that they can be a part of the statement.
        values = ",".join(
            f"({grain:d},{first:d},{last:d})" for grain, first, last in ranges
        )
        self._with = f"WITH ranges (grain, first, last) AS (VALUES {values})"

    def contributions(
        self, names: Collection[str], window: Window | None
    ) -> Iterator[Contribution]:
        """Yield contributions that have the dimensions ``names`` and of ``where``.

        Those of other values than ``where`` allows may be among them.

        Args:
            names: The dimensions that each contribution needs.
            window: The windows of which each contribution lies in one. If None, all
                buckets are in one window.
        """
        cube = _cube_for(self._metric, {*names, *self._where})
        key = _KEYS.get(cube, "dimensions")
        rows = self._select(
            cube,
            f"grain, bucket, customer, dimensions, {self._sums()}",
            key if window is None else f"grain, bucket, {key}",
            self._filters(cube),
        )
        for grain, bucket, customer, dimensions, *sums in rows:
            yield Contribution(
                start_of(grain, bucket),
                customer,
                self._dimensions_of(cube, dimensions),
                *self._sums_of(*sums),
            )

    def _sums(self) -> str:
        """Return the columns that the aggregation needs, and nothing in the others.

        SQLite sorts the rows with all columns that it reads.
        """
        counts = "sum(events), sum(skipped), sum(other_currency)"
        if self._metric.aggregation in ADDED:
            return f"{counts}, sum(giga), sum(ones), sum(nano), sum(atto), x'', NULL"
        if self._metric.aggregation in CHOSEN:
            # A bare column beside one max() has the value of the greatest row.
            return f"{counts}, 0, 0, 0, 0, max(rank), value"
        return f"{counts}, 0, 0, 0, 0, x'', NULL"

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
            filters["dimensions"] = frozenset(
                _encode_json([value]).decode() for value in values
            )
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
        tables, source = self._with, "ranges CROSS JOIN rollups USING (grain)"
        where = (
            "metric = :metric AND cube = :cube AND bucket >= first AND bucket < last"
        )
        first = next(iter(filters.values()), frozenset())
        lookups = len(first) * sum(last - first for _, first, last in self._ranges)
        if filters and lookups <= _MOST_LOOKUPS:
            # One look-up for each bucket and value of the first column of the key.
            tables += (
                ", buckets (grain, bucket, last) AS ("
                "SELECT * FROM ranges UNION ALL SELECT grain, bucket + 1, last"
                " FROM buckets WHERE bucket + 1 < last)"
            )
            source = "buckets CROSS JOIN rollups USING (grain, bucket)"
            where = "metric = :metric AND cube = :cube"
            if cube not in {CUSTOMER, DETAIL}:
                where += " AND customer = ''"
        for column in filters:
            where += f" AND {column} IN (SELECT value FROM json_each(:{column}))"  # noqa: S608 - a constant
        return self._connection.execute(
            f"{tables} SELECT {columns} FROM {source}"  # noqa: S608 - constants and integers
            f" WHERE {where} GROUP BY {group_by}",
            {
                "metric": self._number,
                "cube": cube,
                **{
                    column: _encode_json(sorted(values)).decode()
                    for column, values in filters.items()
                },
            },
        )

    def _dimensions_of(self, cube: int, text: str) -> tuple[str, ...]:
        if cube in {LABELS, DETAIL}:
            return decode_dimensions(text)
        dimensions = [""] * len(self._metric.names)
        if cube >= LABEL:
            dimensions[cube - LABEL] = text
        return tuple(dimensions)

    def _sums_of(  # noqa: PLR0917 - the columns of a row
        self,
        events: int,
        skipped: int,
        other_currency: int,
        giga: int,
        ones: int,
        nano: int,
        atto: int,
        rank: bytes,
        value: str | None,
    ) -> tuple[int, int, Decimal | None, Instant, int]:
        aggregation = self._metric.aggregation
        at = latest_at(rank) if rank and aggregation is Aggregation.LATEST else (0, 0)
        number: Decimal | None = None
        if aggregation in ADDED and events > skipped:
            number = join(giga, ones, nano, atto)
        elif aggregation is Aggregation.COUNT:
            number = ZERO
        elif value is not None:
            number = Decimal(value)
        return events, skipped, number, at, other_currency


def _cube_for(metric: CompiledMetric, needed: set[str]) -> int:
    """Return the smallest cube that has the needed dimensions."""
    if not needed:
        return TOTAL
    if CUSTOMER_NAME in needed:
        return CUSTOMER if len(needed) == 1 else DETAIL
    if len(needed) == 1 and len(metric.names) > 1:
        return LABEL + metric.names.index(needed.pop())
    return LABELS
