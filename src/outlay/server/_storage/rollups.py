"""Hourly rollups: what many events add to a cost, in one row.

Contributions are combined in memory first, so that a thousand events of the same hour,
customer and dimensions cost one upsert. The upsert combines in SQL, with exact decimal
functions that the connection was given (``_schema``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from outlay.server._metering.metric import (
    CompiledMetric,
    Contribution,
    Dimensions,
    NumberAccumulator,
)
from outlay.server._records import MICROSECONDS_PER_HOUR, Aggregation

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

# How a rollup takes in another, per aggregation; None: nothing to roll up.
_COMBINE: Final[dict[Aggregation, str | None]] = {
    Aggregation.SUM: "decimal_add(value, excluded.value)",
    Aggregation.AVG: "decimal_add(value, excluded.value)",
    Aggregation.COUNT: "value",
    Aggregation.MIN: "decimal_min(value, excluded.value)",
    Aggregation.MAX: "decimal_max(value, excluded.value)",
    Aggregation.LATEST: (
        "CASE WHEN excluded.value IS NOT NULL AND (value IS NULL OR"
        " (excluded.value_at, excluded.value_seq) > (value_at, value_seq))"
        " THEN excluded.value ELSE value END"
    ),
    Aggregation.UNIQUE_COUNT: None,
}

_encode_json: Final = msgspec.json.Encoder().encode


def add_to_rollups(
    connection: sqlite3.Connection,
    number: int,
    meter: CompiledMetric,
    contributions: Iterable[Contribution],
) -> None:
    """Add contributions to the rollups of a cost.

    Args:
        connection: inside of a transaction.
        number: the cost's row number.
        meter: the cost, compiled.
        contributions: of events that its rollups do not hold yet.
    """
    combine = _COMBINE[meter.aggregation]
    if combine is None:
        return
    tallies: dict[tuple[int, str, Dimensions], NumberAccumulator] = {}
    for one in contributions:
        hour = one.bucket_at // MICROSECONDS_PER_HOUR
        name = (hour, one.customer, one.dimensions)
        tally = tallies.get(name)
        if tally is None:
            tally = tallies[name] = NumberAccumulator(meter.aggregation)
        tally.add(one)
    connection.executemany(
        "INSERT INTO rollups VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET"  # noqa: S608 - from a table of constants
        " events = events + excluded.events, skipped = skipped + excluded.skipped,"
        f" value = {combine},"
        " value_seq = CASE WHEN excluded.value_at > value_at"
        "  THEN excluded.value_seq WHEN excluded.value_at = value_at"
        "  THEN max(value_seq, excluded.value_seq) ELSE value_seq END,"
        " value_at = max(value_at, excluded.value_at)",
        [
            (
                number,
                hour,
                customer,
                _encode_json(dimensions).decode(),
                tally.events,
                tally.skipped,
                None if tally.value is None else format(tally.value, "f"),
                *tally.at,
            )
            for (hour, customer, dimensions), tally in tallies.items()
        ],
    )
