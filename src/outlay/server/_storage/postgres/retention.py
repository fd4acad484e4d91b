"""Delete old events, slice by slice. Their rollups stay, and so does each total.

An event is deleted only if nothing needs it any more: its rollups hold it, its key is
forgotten, all metrics of its type have rollups, and its organization has no corrections
and no closed periods, which read events again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._records import MICROSECONDS_PER_HOUR

if TYPE_CHECKING:
    from outlay.server._storage.postgres.connecting import PostgresConnection

_BATCH: Final = 2000

# Types whose metrics all have rollups, and have folded all events. UNIQUE_COUNT of a
# property has none.
_TYPES: Final = """
    SELECT r.namespace, r.keep, c.event_type
    FROM retention r JOIN costs c ON c.namespace = r.namespace
    WHERE c.event_type IS NOT NULL AND c.deleted_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.namespace = r.namespace)
    AND NOT EXISTS (SELECT 1 FROM closed_periods p WHERE p.namespace = r.namespace)
    GROUP BY r.namespace, r.keep, c.event_type
    HAVING bool_and(c.folded_day IS NULL AND (c.aggregation IS NULL
        OR c.aggregation <> 'UNIQUE_COUNT' OR c.value_property IS NULL))
"""
_DELETE: Final = """
    WITH old AS (
        SELECT day, seq FROM events WHERE namespace = :namespace AND type = :type
        AND at < :before AND received_at <= :received ORDER BY at LIMIT :limit
    ), gone AS (
        DELETE FROM events e USING old WHERE e.day = old.day AND e.seq = old.seq
        RETURNING e.seq
    ), noted AS (
        INSERT INTO deleted_events AS d
        SELECT :namespace, :type, :before, max(seq) FROM gone HAVING count(*) > 0
        ON CONFLICT (namespace, type) DO UPDATE SET
        deleted_before = greatest(d.deleted_before, excluded.deleted_before),
        deleted_seq = greatest(d.deleted_seq, excluded.deleted_seq) RETURNING 1
    )
    SELECT count(*) FROM gone
"""


def old_types(connection: PostgresConnection, now: int) -> list[tuple[str, str, int]]:
    """Return the organizations and types with old events, and the time before which.

    Args:
        connection: The connection, in a transaction with the lock of upkeep.
        now: The time, in microseconds since 1970.
    """
    return [
        (
            namespace,
            event_type,
            (now - keep) // MICROSECONDS_PER_HOUR * MICROSECONDS_PER_HOUR,
        )
        for namespace, keep, event_type in connection.execute(_TYPES).fetchall()
    ]


def delete_old_events(
    connection: PostgresConnection, now: int, received_before: int
) -> bool:
    """Delete a slice of old events. Return whether there were any.

    Args:
        connection: The connection, in a transaction with the lock of upkeep.
        now: The time, in microseconds since 1970.
        received_before: The last time of receipt of an event whose key is forgotten, in
            the same unit.
    """
    for namespace, event_type, before in old_types(connection, now):
        (count,) = connection.execute(
            _DELETE,
            {
                "namespace": namespace,
                "type": event_type,
                "before": before,
                "received": received_before,
                "limit": _BATCH,
            },
        ).fetchone()
        if count:
            return True
    return False
