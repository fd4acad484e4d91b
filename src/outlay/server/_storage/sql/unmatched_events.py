"""Find the events that no cost metric counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from outlay.server._storage.sql.connection import Connection

# The types are found one by one, by the index on namespace, type and time. So the query
# reads no event that a metric counts.
_UNMATCHED: Final = """
    WITH RECURSIVE types (type) AS (
        SELECT min(type) FROM events WHERE namespace = :namespace
        UNION ALL
        SELECT (
            SELECT min(type) FROM events
            WHERE namespace = :namespace AND type > types.type
        )
        FROM types WHERE type IS NOT NULL
    )
    SELECT type, (
        SELECT count(*) FROM events
        WHERE namespace = :namespace AND events.type = types.type
        AND at >= :start AND at < :end{received}
    )
    FROM types
    WHERE type IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM costs
        WHERE namespace = :namespace AND event_type = types.type
        AND aggregation IS NOT NULL AND deleted_at IS NULL
    )
"""


def unmatched_types(
    connection: Connection,
    namespace: str,
    start: int,
    end: int,
    *,
    as_of: int | None = None,
) -> dict[str, int]:
    """Return the number of events in ``start <= at < end`` that no metric counts.

    Args:
        connection: The database.
        namespace: The organization.
        start: The first instant that counts, in microseconds since 1970.
        end: The first instant that no longer counts, in the same unit.
        as_of: The last instant of receipt that counts. If None, all count.

    Returns:
        The numbers by event type, without zeros.
    """
    wanted = {"namespace": namespace, "start": start, "end": end}
    received = ""
    if as_of is not None:  # the index alone does not have the time of receipt
        wanted["as_of"] = as_of
        received = " AND received_at <= :as_of"
    rows = connection.execute(_UNMATCHED.format(received=received), wanted)
    return {event_type: events for event_type, events in rows if events}
