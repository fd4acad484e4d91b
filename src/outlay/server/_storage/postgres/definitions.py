"""Fold events for a new definition of a metric, and forget an ended one, in slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._metering.metric import compile_metric
from outlay.server._storage.combining import combine
from outlay.server._storage.postgres import erasing, rollups
from outlay.server._storage.sql.catalog import COST_COLUMNS, cost_of
from outlay.server._storage.sql.events import READING_COLUMNS
from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    from outlay.server._storage.combining import Combined
    from outlay.server._storage.postgres.connecting import PostgresConnection

_SLICE_EVENTS: Final = 2000  # for which posts to this server wait
_DELETED_ROWS: Final = 10_000  # of one slice


def catch_up(connection: PostgresConnection) -> bool:
    """Fold a slice of the events that a new definition lacks."""
    row = connection.execute(
        f"SELECT definition, cutoff, folded_day, folded_seq, {COST_COLUMNS}"
        " FROM costs WHERE folded_day IS NOT NULL AND deleted_at IS NULL"
        # Moved events come first, and the one who moves them folds them.
        " AND NOT EXISTS (SELECT 1 FROM history h"
        " WHERE (folded_day, folded_seq) < (h.day, h.seq))"
        " ORDER BY number LIMIT 1"
    ).fetchone()
    if row is None:
        return False
    definition, cutoff, day, seq, *columns = row
    metric = compile_metric(cost_of(columns))
    (next_day,) = connection.execute(
        "SELECT min(day) FROM events WHERE day >= ? AND (day, seq) > (?, ?)"
        " AND seq <= ?",
        (day, day, seq, cutoff),
    ).fetchone()
    if metric is None or not metric.can_roll_up or next_day is None:
        connection.execute(
            "UPDATE costs SET folded_day = NULL, folded_seq = NULL"
            " WHERE definition = ?",
            (definition,),
        )
        return True
    after = seq if next_day == day else 0
    upto = erasing.slice_end(connection, next_day, after, cutoff, _SLICE_EVENTS)
    rows = connection.execute(
        f"SELECT {READING_COLUMNS} FROM events WHERE day = ? AND seq > ?"
        " AND seq <= ? AND namespace = ? AND type = ?",
        (next_day, after, upto, metric.cost.namespace, metric.cost.event_type),
    )
    combined: Combined = {}
    combine(
        metric,
        combined,
        ((found, at, name, decode_data(data)) for found, at, name, data in rows),
    )
    lines = rollups.delta_lines(definition, metric, combined)
    rollups.write_deltas(connection, lines)
    connection.execute(
        "UPDATE costs SET folded_day = ?, folded_seq = ? WHERE definition = ?",
        (next_day, upto, definition),
    )
    return True


def delete_ended(connection: PostgresConnection) -> bool:
    """Delete some rollups of an ended definition. Return whether there was one."""
    row = connection.execute("SELECT min(definition) FROM ended_definitions").fetchone()
    if row == (None,):
        return False
    for table in ("deltas", "rollups", "groups", "added_hours"):
        deleted = connection.execute(
            f"DELETE FROM {table} WHERE ctid = ANY (ARRAY("
            f"SELECT ctid FROM {table} WHERE definition = ? LIMIT {_DELETED_ROWS}))",
            row,
        ).rowcount
        if deleted:
            return True
    connection.execute("DELETE FROM ended_definitions WHERE definition = ?", row)
    return True
