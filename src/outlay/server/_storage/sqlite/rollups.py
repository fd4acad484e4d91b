"""Fold contributions into rollups: all cubes of a metric, at several grains.

SQLite does the arithmetic, on exact integers (`_metering.parts`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from outlay.server._metering.parts import NO_PARTS, Parts, sort_key, split
from outlay.server._records import Aggregation
from outlay.server._storage.buckets import Grain, buckets_of
from outlay.server._storage.cubes import (
    CUSTOMER,
    DETAIL,
    LABEL,
    LABELS,
    TOTAL,
    WITH_THIRDS,
)

if TYPE_CHECKING:
    import sqlite3
    from decimal import Decimal

    from outlay.server._metering.metric import (
        CompiledMetric,
        Dimensions,
        Instant,
    )
    from outlay.server._storage.combining import Combined

ADDED: Final = frozenset({Aggregation.SUM, Aggregation.AVG})
"""Aggregations whose rollups are sums, in parts."""

CHOSEN: Final = frozenset({Aggregation.MIN, Aggregation.MAX, Aggregation.LATEST})
"""Aggregations whose rollups are the one value with the greatest rank."""

# A bare column beside one max() has the value of the row with the greatest rank.
SUMS: Final = (
    "sum(events), sum(skipped), sum(other_currency),"
    " sum(giga), sum(ones), sum(nano), sum(atto),"
    " max(rank), value"
)

THIRDS: Final = """
    -- A query of any days reads few rows of thirds, instead of many of days. Two cubes
    -- have them. A third is from the day 1, 11 or 21 of a month on.
    INSERT INTO rollups
    SELECT metric, cube, 3, 3 * month + min((day - 1) / 10, 2) AS third,
           customer, dimensions, sum(events), sum(skipped), sum(other_currency),
           sum(giga), sum(ones), sum(nano), sum(atto), max(rank), value
    FROM (
        SELECT *,
            12 * CAST(strftime('%Y', bucket * 86400, 'unixepoch') AS INTEGER)
            + CAST(strftime('%m', bucket * 86400, 'unixepoch') AS INTEGER) - 1
            AS month,
            CAST(strftime('%d', bucket * 86400, 'unixepoch') AS INTEGER) AS day
        FROM rollups WHERE cube IN (0, 1) AND grain = 1
    )
    GROUP BY metric, cube, third, customer, dimensions;
"""
"""The migration that adds the rows of the grain `Grain.THIRD`."""

STAGING: Final = """
    CREATE TEMP TABLE staged (
        cube INTEGER, hour INTEGER, day INTEGER, month INTEGER, third INTEGER,
        customer TEXT, dimensions TEXT,
        events INTEGER, skipped INTEGER, other_currency INTEGER,
        giga INTEGER, ones INTEGER, nano INTEGER, atto INTEGER,
        rank BLOB, value TEXT
    )
"""
"""The table that `add_to_rollups` needs on its connection."""

_STAGE: Final = "INSERT INTO staged VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_STAGE_SUMS: Final = (
    "INSERT INTO staged SELECT ?, hour, day, month, third, {customer}, {dimensions},"
    " {sums} FROM staged WHERE cube = ? GROUP BY hour, {customer}, {dimensions}"
)
ON_CONFLICT: Final = (
    " ON CONFLICT DO UPDATE SET"
    " events = events + excluded.events, skipped = skipped + excluded.skipped,"
    " other_currency = other_currency + excluded.other_currency,"
    " giga = giga + excluded.giga, ones = ones + excluded.ones,"
    " nano = nano + excluded.nano, atto = atto + excluded.atto,"
    " value = CASE WHEN excluded.rank > rank THEN excluded.value ELSE value END,"
    " rank = max(rank, excluded.rank)"
)
"""Adds an inserted row of rollups to the one that is there."""

_FOLD: Final = (
    "INSERT INTO rollups SELECT ?, cube, ?, {bucket}, customer, dimensions, {values}"  # noqa: S608 - constants
    " FROM staged WHERE {cubes} {group_by}" + ON_CONFLICT
)
_VALUES: Final = "events, skipped, other_currency, giga, ones, nano, atto, rank, value"
_CUBES: Final = {
    **dict.fromkeys(Grain, "true"),
    Grain.THIRD: f"cube IN ({', '.join(map(str, sorted(WITH_THIRDS)))})",
}
_FOLD_HOUR: Final = tuple(
    (
        grain,
        _FOLD.format(
            bucket=grain.name.lower(), values=_VALUES, cubes=cubes, group_by=""
        ),
    )
    for grain, cubes in _CUBES.items()
)
_FOLD_HOURS: Final = tuple(
    (
        grain,
        _FOLD.format(
            bucket=grain.name.lower(),
            values=SUMS,
            cubes=cubes,
            group_by=f"GROUP BY cube, {grain.name.lower()}, customer, dimensions",
        ),
    )
    for grain, cubes in _CUBES.items()
)
_BY_CUSTOMER: Final = _STAGE_SUMS.format(
    customer="customer", dimensions="''", sums=SUMS
)
_BY_LABELS: Final = _STAGE_SUMS.format(
    customer="''", dimensions="dimensions", sums=SUMS
)
_IN_TOTAL: Final = _STAGE_SUMS.format(customer="''", dimensions="''", sums=SUMS)

_encode_json: Final = msgspec.json.Encoder().encode
_decode_texts: Final = msgspec.json.Decoder(tuple[str, ...]).decode

_NO_RANK: Final = b""


def add_to_rollups(
    connection: sqlite3.Connection,
    number: int,
    metric: CompiledMetric,
    combined: Combined,
) -> None:
    """Add combined events to the rollups of a metric.

    Args:
        connection: The writing connection, in a transaction, with the table `STAGING`.
        number: The number of the metric's definition.
        metric: The metric.
        combined: The events that its rollups do not hold yet, from `combine`.
    """
    if not combined:
        return
    has_labels = bool(metric.names)
    _stage(connection, number, metric, combined)
    if has_labels:
        connection.execute(_BY_CUSTOMER, (CUSTOMER, DETAIL))
        connection.execute(_BY_LABELS, (LABELS, DETAIL))
    if len(metric.names) > 1:
        _stage_single_labels(connection)
    connection.execute(_IN_TOTAL, (TOTAL, LABELS if has_labels else CUSTOMER))
    # The rows of a single hour need no grouping. Labels taken apart may repeat.
    hours = {hour for hour, _, _ in combined}
    for grain, fold in _FOLD_HOUR if len(hours) == 1 else _FOLD_HOURS:
        connection.execute(fold, (number, grain))
    connection.execute("DELETE FROM staged")


@lru_cache(maxsize=4096)
def encode_dimensions(dimensions: Dimensions) -> str:
    """Return the text that the cubes `LABELS` and `DETAIL` have for dimensions."""
    return _encode_json(dimensions).decode()


def decode_dimensions(text: str) -> Dimensions:
    """Return the dimensions of a row of the cubes `LABELS` and `DETAIL`."""
    return _decode_texts(text) if text else ()


def latest_at(rank: bytes) -> Instant:
    """Return the instant of the value with ``rank``, of the aggregation LATEST."""
    return int.from_bytes(rank[:8], "big") - 2**63, int.from_bytes(rank[8:], "big")


def _stage(
    connection: sqlite3.Connection,
    number: int,
    metric: CompiledMetric,
    combined: Combined,
) -> None:
    """Write the rows of the most detailed cube to the table `STAGING`."""
    cube = DETAIL if metric.names else CUSTOMER
    staged: list[tuple[object, ...]] = []
    wide: list[tuple[object, ...]] = []
    for (hour, customer, dimensions), one in combined.items():
        parts: Parts | None = NO_PARTS
        rank, value = _NO_RANK, None
        if one.value is None:
            pass
        elif metric.aggregation in ADDED:
            parts = split(one.value)
        elif metric.aggregation in CHOSEN:
            rank = _rank(metric.aggregation, one.value, one.at)
            value = format(one.value, "f")
        text = encode_dimensions(dimensions) if metric.names else ""
        if parts is None:
            parts = NO_PARTS
            wide.append((number, hour, customer, text, format(one.value, "f")))
        staged.append(
            (
                cube,
                *buckets_of(hour),
                customer,
                text,
                one.events,
                one.skipped,
                one.other_currency,
                *parts,
                rank,
                value,
            )
        )
    connection.executemany(_STAGE, staged)
    connection.executemany("INSERT INTO wide_sums VALUES (?,?,?,?,?)", wide)


def _rank(aggregation: Aggregation, value: Decimal, at: Instant) -> bytes:
    """Return bytes that are greatest for the value that the aggregation chooses."""
    if aggregation is Aggregation.LATEST:
        time, seq = at
        return (time + 2**63).to_bytes(8, "big") + seq.to_bytes(8, "big")
    if aggregation is Aggregation.MIN:
        return sort_key(value.copy_negate())
    return sort_key(value)


def _stage_single_labels(connection: sqlite3.Connection) -> None:
    """Stage the cube of each dimension alone, from the few rows of `LABELS`.

    Python takes the dimensions apart, because SQLite's functions for JSON cut texts at
    a NUL.
    """
    rows = connection.execute(
        "SELECT hour, day, month, third, dimensions, events, skipped, other_currency,"
        " giga, ones, nano, atto, rank, value FROM staged WHERE cube = ?",
        (LABELS,),
    ).fetchall()
    connection.executemany(
        _STAGE,
        [
            (LABEL + position, hour, day, month, third, "", label, *sums)
            for hour, day, month, third, dimensions, *sums in rows
            for position, label in enumerate(_decode_texts(dimensions))
        ],
    )
