"""Write what events add to each metric, and fold it into rollups of all grains.

An append only inserts *deltas*, so that no server waits for another one's row. Upkeep
moves them into the rollups of each cube by hour. When an hour is over, its rows are
added to those of the larger grains, which change once for many deltas so. A reader adds
what is left of both, so that a late upkeep makes reads slower, and never wrong.
PostgreSQL's ``numeric`` is exact over the whole range of countable numbers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from outlay.server._records import Aggregation
from outlay.server._storage.buckets import Grain
from outlay.server._storage.cubes import (
    CUSTOMER,
    DETAIL,
    LABEL,
    LABELS,
    TOTAL,
)
from outlay.server._storage.postgres.larger_grains import (
    HAS_GRAIN,
    MERGED,
    ROLLUP_COLUMNS,
    SUMS,
    VALUES,
    larger_buckets,
)
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
    "COPY deltas (definition, hour, kind, events, skipped, other_currency,"
    " value_at, value_seq, value, customer, dims) FROM STDIN"
)
_FOLDED_DELTAS: Final = 20_000  # of one slice of upkeep

GROUP_NAME: Final = (
    "encode(substring(sha256(convert_to("
    "ROW({customer}, {dims})::text, 'UTF8')) FOR 16), 'hex')::uuid"
)
"""The expression of the name of a customer and set of dimensions."""

_FOLD: Final = f"""
    WITH gone AS (
        DELETE FROM deltas WHERE ctid = ANY (ARRAY(SELECT ctid FROM deltas LIMIT ?))
        RETURNING *
    ), detailed (definition, kind, hour, customer, dims, {VALUES}) AS (
        SELECT definition, kind, hour, customer, dims, {SUMS}
        FROM gone WHERE definition IN
            (SELECT definition FROM costs WHERE deleted_at IS NULL)
        GROUP BY definition, kind, hour, customer, dims
    ), labelled (definition, kind, hour, dims, {VALUES}) AS (
        SELECT definition, kind, hour, dims, {SUMS} FROM detailed
        GROUP BY definition, kind, hour, dims
    ), cubes (cube, definition, kind, hour, customer, dims, {VALUES}) AS (
        SELECT {DETAIL}, * FROM detailed WHERE cardinality(dims) > 0
        UNION ALL
        SELECT {CUSTOMER}, definition, kind, hour, customer, '{{}}', {SUMS}
        FROM detailed GROUP BY definition, kind, hour, customer
        UNION ALL
        SELECT {LABELS}, definition, kind, hour, '', dims, {VALUES}
        FROM labelled WHERE cardinality(dims) > 0
        UNION ALL
        SELECT {LABEL} + place - 1, definition, kind, hour, '', ARRAY[label], {SUMS}
        FROM labelled, unnest(dims) WITH ORDINALITY AS label (label, place)
        WHERE cardinality(dims) > 1 GROUP BY place, definition, kind, hour, label
        UNION ALL
        SELECT {TOTAL}, definition, kind, hour, '', '{{}}', {SUMS}
        FROM labelled GROUP BY definition, kind, hour
    ), named AS (
        SELECT *, {GROUP_NAME.format(customer="customer", dims="dims")} AS grp
        FROM cubes
    ), grouped AS (
        INSERT INTO groups (definition, cube, grp, customer, dims)
        SELECT DISTINCT ON (definition, cube, grp)
            definition, cube, grp, customer, dims
        FROM named ORDER BY definition, cube, grp
        ON CONFLICT DO NOTHING RETURNING 1
    ), larger AS ({larger_buckets("detailed")}
    ), folded AS (
        INSERT INTO rollups AS t ({ROLLUP_COLUMNS})
        SELECT definition, cube, {Grain.HOUR:d}, hour, grp, kind, {VALUES} FROM named
        UNION ALL
        SELECT definition, cube, grain, bucket, grp, kind, {SUMS}
        FROM named JOIN larger USING (hour) JOIN added_hours USING (definition, cube)
        WHERE (hour, grp) <= (last_hour, last_grp) AND {HAS_GRAIN}
        GROUP BY definition, cube, grain, bucket, grp, kind
        ORDER BY 1, 2, 3, 4, 5 {MERGED} RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM grouped),
        (SELECT count(*) FROM folded)
"""


@lru_cache(maxsize=65_536)
def _group_fields(customer: str, dimensions: Dimensions) -> str:
    """Return the last columns of a delta."""
    return f"{copy_field(customer)}\t{array_field(dimensions)}"


def delta_lines(
    definition: int, metric: CompiledMetric, combined: Combined
) -> Iterator[str]:
    """Yield combined events as rows of COPY.

    Args:
        definition: The number of the metric's definition.
        metric: The metric.
        combined: The events, from `combine`.
    """
    kind = KINDS[metric.aggregation]
    for (hour, customer, dimensions), one in combined.items():
        at, seq = one.at if kind == "l" and one.value is not None else (0, 0)
        value = "\\N" if one.value is None or kind == "c" else format(one.value, "f")
        yield (
            f"{definition}\t{hour}\t{kind}\t{one.events}\t{one.skipped}"
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
    count, *_ = connection.execute(_FOLD, (_FOLDED_DELTAS,)).fetchone()
    return int(count) == _FOLDED_DELTAS
