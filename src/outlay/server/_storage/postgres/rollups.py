"""Write what events add to each metric, and fold it into rows by hour and day.

An append only inserts *deltas*, so that no server waits for another one's row. Upkeep
moves them into ``hours`` and ``days``. A reader adds what is left, so that a late
upkeep makes reads slower, and never wrong. PostgreSQL's ``numeric`` is exact over the
whole range of countable numbers.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from outlay.server._records import Aggregation
from outlay.server._storage.postgres.texts import array_field, copy_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from outlay.server._metering.metric import CompiledMetric, Dimensions
    from outlay.server._storage.combining import Combined
    from outlay.server._storage.postgres.connecting import PostgresConnection

KINDS: Final = {
    Aggregation.SUM: "s",
    Aggregation.AVG: "s",
    Aggregation.COUNT: "c",
    Aggregation.MIN: "-",
    Aggregation.MAX: "+",
    Aggregation.LATEST: "l",
}
"""The way in which the values of an aggregation are combined, in one letter."""

_COPY_DELTAS: Final = (
    "COPY deltas (day, definition, hour, kind, events, skipped, other_currency,"
    " value_at, value_seq, value, grp, customer, dims) FROM STDIN"
)
_FOLDED_DELTAS: Final = 10_000  # of one slice of upkeep

DAY_OF_HOUR: Final = "(hour - (hour % 24 + 24) % 24) / 24"
"""The day of an hour, also before 1970."""

# Of arrays, the greatest begins with the latest time.
_LATEST: Final = (
    "max(ARRAY[value_at, value_seq, value])"
    " FILTER (WHERE kind = 'l' AND value IS NOT NULL)"
)
_SUMS: Final = f"""
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
    ON CONFLICT (definition, bucket, grp, day) DO UPDATE SET
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
"""Adds a row of ``hours AS t`` or ``days AS t`` to the one that is there."""

_VALUES: Final = "events, skipped, other_currency, value_at, value_seq, value"
ROLLUP_COLUMNS: Final = f"day, definition, bucket, grp, kind, {_VALUES}"
# A group is the hash of its customer and dimensions, so that these add no groups here.
_FOLD: Final = f"""
    WITH gone AS (
        DELETE FROM deltas WHERE ctid = ANY (ARRAY(SELECT ctid FROM deltas LIMIT ?))
        RETURNING *
    ), summed (day, definition, hour, grp, kind, {_VALUES}, customer, dims) AS (
        SELECT day, definition, hour, grp, kind, {_SUMS}, customer, dims
        FROM gone WHERE definition IN
            (SELECT definition FROM costs WHERE deleted_at IS NULL)
        GROUP BY definition, hour, grp, day, kind, customer, dims
        ORDER BY definition, hour, grp, day
    ), named AS (
        INSERT INTO groups (definition, grp, customer, dims)
        SELECT DISTINCT ON (definition, grp) definition, grp, customer, dims
        FROM summed ORDER BY definition, grp
        ON CONFLICT DO NOTHING RETURNING 1
    ), by_hour AS (
        INSERT INTO hours AS t ({ROLLUP_COLUMNS})
        SELECT day, definition, hour, grp, kind, {_VALUES} FROM summed
        {MERGED} RETURNING 1
    ), by_day AS (
        INSERT INTO days AS t ({ROLLUP_COLUMNS})
        SELECT day, definition, {DAY_OF_HOUR} AS date, grp, kind, {_SUMS} FROM summed
        GROUP BY definition, date, grp, day, kind
        ORDER BY definition, date, grp, day {MERGED} RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM named),
        (SELECT count(*) FROM by_hour), (SELECT count(*) FROM by_day)
"""


def group_of(customer: str, dimensions: Dimensions) -> str:
    """Return the name of a customer and set of dimensions, in hexadecimal digits."""
    text = msgspec.json.encode((customer, dimensions))
    return blake2b(text, digest_size=16).hexdigest()


@lru_cache(maxsize=65_536)
def _group_fields(customer: str, dimensions: Dimensions) -> str:
    """Return the last columns of a delta: the name of the group, and what it has."""
    name = group_of(customer, dimensions)
    return f"{name}\t{copy_field(customer)}\t{array_field(dimensions)}"


def delta_lines(
    day: int, definition: int, metric: CompiledMetric, combined: Combined
) -> Iterator[str]:
    """Yield combined events as rows of COPY.

    Args:
        day: The day of receipt.
        definition: The number of the metric's definition.
        metric: The metric.
        combined: The events, from `combine`.
    """
    kind = KINDS[metric.aggregation]
    for (hour, customer, dimensions), one in combined.items():
        at, seq = one.at if kind == "l" and one.value is not None else (0, 0)
        value = "\\N" if one.value is None or kind == "c" else format(one.value, "f")
        yield (
            f"{day}\t{definition}\t{hour}\t{kind}\t{one.events}\t{one.skipped}"
            f"\t{one.other_currency}\t{at}\t{seq}\t{value}"
            f"\t{_group_fields(customer, dimensions)}\n"
        )


def write_deltas(connection: PostgresConnection, lines: Iterable[str]) -> None:
    """Store rows of `delta_lines`."""
    text = "".join(lines)
    if text:
        with connection.raw.cursor().copy(_COPY_DELTAS.encode()) as copy:
            copy.write(text)


def fold(connection: PostgresConnection) -> bool:
    """Move a slice of the deltas into the rollups. Return whether it was a full one.

    A row of a rollup changes once for all deltas of a slice, so that few full slices
    take less time than many small ones. The caller holds the lock of upkeep.
    """
    (count, *_) = connection.execute(_FOLD, (_FOLDED_DELTAS,)).fetchone()
    return int(count) == _FOLDED_DELTAS
