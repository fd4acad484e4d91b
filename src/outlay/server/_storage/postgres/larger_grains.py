"""Add rollups of hours that are over to those of days, thirds of months, and months.

A row of a larger grain would change with each fold. So it changes only when an hour is
over: rows of the hour are added up to a place, in the order of hour and group. What a
fold adds to a row up to that place is added to the larger grains at once. A reader adds
the rows after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._storage.buckets import Grain
from outlay.server._storage.cubes import WITH_THIRDS

if TYPE_CHECKING:
    from outlay.server._storage.postgres.connecting import PostgresConnection
    from outlay.server._storage.sql.connection import Connection

_ADDED_ROWS: Final = 10_000  # of one slice
_LAST_HOUR: Final = 2**31 - 1
_LAST_GROUP: Final = "f" * 32

# Of arrays, the greatest begins with the latest time.
_LATEST: Final = (
    "max(ARRAY[value_at, value_seq, value])"
    " FILTER (WHERE kind = 'l' AND value IS NOT NULL)"
)
SUMS: Final = f"""
    sum(events)::bigint, sum(skipped)::bigint, sum(other_currency)::bigint,
    coalesce(({_LATEST})[1], 0)::bigint, coalesce(({_LATEST})[2], 0)::bigint,
    CASE kind WHEN 's' THEN sum(value) WHEN '-' THEN min(value)
        WHEN '+' THEN max(value) WHEN 'l' THEN ({_LATEST})[3] END
"""
_IS_LATER: Final = (
    "excluded.value IS NOT NULL AND (t.value IS NULL OR"
    " (excluded.value_at, excluded.value_seq) > (t.value_at, t.value_seq))"
)
MERGED: Final = f"""
    ON CONFLICT (definition, cube, grain, bucket, grp) DO UPDATE SET
    events = t.events + excluded.events, skipped = t.skipped + excluded.skipped,
    other_currency = t.other_currency + excluded.other_currency,
    value = CASE t.kind
        WHEN 's' THEN CASE WHEN t.value IS NULL THEN excluded.value
            ELSE t.value + coalesce(excluded.value, 0) END
        WHEN '-' THEN least(t.value, excluded.value)
        WHEN '+' THEN greatest(t.value, excluded.value)
        WHEN 'l' THEN CASE WHEN {_IS_LATER} THEN excluded.value ELSE t.value END END,
    value_at = CASE WHEN {_IS_LATER} THEN excluded.value_at ELSE t.value_at END,
    value_seq = CASE WHEN {_IS_LATER} THEN excluded.value_seq ELSE t.value_seq END
"""
"""Adds a row of ``rollups AS t`` to the one that is there."""

VALUES: Final = "events, skipped, other_currency, value_at, value_seq, value"
ROLLUP_COLUMNS: Final = f"definition, cube, grain, bucket, grp, kind, {VALUES}"

DAY_OF_HOUR: Final = "(hour - (hour % 24 + 24) % 24) / 24"
"""The day of an hour, also before 1970."""

HAS_GRAIN: Final = (
    f"(grain <> {Grain.THIRD:d} OR cube IN ({', '.join(map(str, WITH_THIRDS))}))"
)


def larger_buckets(hours: str) -> str:
    """Return the query of the larger buckets of each hour of a query of that name."""
    return f"""
        SELECT hour, grain, bucket FROM (SELECT hour, {DAY_OF_HOUR} AS day
            FROM (SELECT DISTINCT hour FROM {hours}) AS hours) AS days,
        LATERAL (SELECT DATE '1970-01-01' + day AS date) AS dates,
        LATERAL (SELECT 12 * extract(year FROM date)::int
            + extract(month FROM date)::int - 1 AS month,
            least((extract(day FROM date)::int - 1) / 10, 2) AS part) AS months,
        LATERAL (VALUES ({Grain.DAY:d}, day), ({Grain.MONTH:d}, month),
            ({Grain.THIRD:d}, 3 * month + part)) AS larger (grain, bucket)
    """


_DUE: Final = f"""
    SELECT definition, cube, bucket AS hour, grp, kind, {VALUES} FROM rollups
    WHERE definition = :definition AND cube = :cube AND grain = {Grain.HOUR:d}
    AND (bucket, grp) > (:last_hour, (:last_grp)::uuid) AND bucket < :before
    AND definition IN (SELECT definition FROM costs WHERE deleted_at IS NULL)
    ORDER BY bucket, grp LIMIT :rows
"""
_ADD: Final = f"""
    WITH due AS ({_DUE}
    ), larger AS ({larger_buckets("due")}
    ), added AS (
        INSERT INTO rollups AS t ({ROLLUP_COLUMNS})
        SELECT definition, cube, grain, bucket, grp, kind, {SUMS}
        FROM due JOIN larger USING (hour) WHERE {HAS_GRAIN}
        GROUP BY definition, cube, grain, bucket, grp, kind
        ORDER BY 1, 2, 3, 4, 5 {MERGED} RETURNING 1
    ), noted AS (
        INSERT INTO added_hours
        SELECT definition, cube, hour, grp FROM due ORDER BY hour DESC, grp DESC LIMIT 1
        ON CONFLICT (definition, cube) DO UPDATE SET
        last_hour = excluded.last_hour, last_grp = excluded.last_grp RETURNING 1
    )
    SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM added),
        (SELECT count(*) FROM noted)
"""
_DUE_CUBES: Final = f"""
    SELECT c.definition, k.cube FROM costs c CROSS JOIN LATERAL generate_series(
        0, (SELECT max(cube) FROM groups g WHERE g.definition = c.definition)
    ) AS k (cube) LEFT JOIN added_hours a USING (definition, cube)
    WHERE c.deleted_at IS NULL AND EXISTS (
        SELECT 1 FROM rollups r WHERE r.definition = c.definition AND r.cube = k.cube
        AND r.grain = {Grain.HOUR:d} AND r.bucket < :before AND (r.bucket, r.grp)
        > (coalesce(a.last_hour, :hour), coalesce(a.last_grp, (:group)::uuid)))
"""


class AddedPlace(NamedTuple):
    """The last row of an hour that is in the larger grains, too."""

    hour: int
    group: str


_NONE: Final = AddedPlace(-(2**31), "0" * 32)


def added_place(connection: Connection, definition: int, cube: int) -> AddedPlace:
    """Return the last added row of a cube."""
    row = connection.execute(
        "SELECT last_hour, last_grp FROM added_hours WHERE definition = ? AND cube = ?",
        (definition, cube),
    ).fetchone()
    return _NONE if row is None else AddedPlace(row[0], str(row[1]))


def due_cubes(connection: PostgresConnection, before: int) -> list[tuple[int, int]]:
    """Return each definition and cube with hours to add, up to ``before``."""
    rows = connection.execute(_DUE_CUBES, {**_NONE._asdict(), "before": before})
    return [(definition, cube) for definition, cube in rows]


def add_hours(
    connection: PostgresConnection,
    definition: int,
    cube: int,
    before: int,
    *,
    rows: int = _ADDED_ROWS,
) -> bool:
    """Add a slice of the hours of a cube. Return whether it was a full one.

    The caller holds the lock of upkeep.

    Args:
        connection: The connection, in a transaction.
        definition: The number of the metric's definition.
        cube: The cube.
        before: The first hour that is not over, in hours since 1970.
        rows: The most rows of the slice. Defaults to 10,000.
    """
    place = added_place(connection, definition, cube)
    count, *_ = connection.execute(
        _ADD,
        {
            "definition": definition,
            "cube": cube,
            "last_hour": place.hour,
            "last_grp": place.group,
            "before": before,
            "rows": rows,
        },
    ).fetchone()
    return int(count) == rows


def add_all_hours(connection: PostgresConnection, definition: int, cube: int) -> None:
    """Add all hours of a cube, and note so for any group of them."""
    while add_hours(connection, definition, cube, _LAST_HOUR):
        pass
    connection.execute(
        "UPDATE added_hours SET last_grp = ? WHERE definition = ? AND cube = ?",
        (_LAST_GROUP, definition, cube),
    )
