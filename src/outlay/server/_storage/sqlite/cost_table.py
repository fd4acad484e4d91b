"""Write costs and billable metrics, in the caller's transaction.

Each definition of a cost has a number, under which its rollups are stored. A cost whose
quantities change gets the next number. The caller folds all events before it changes a
definition. So a new one lags behind these, and is folded with the others from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay.server._storage.sql.catalog import (
    COST_COLUMNS,
    cost_of,
    metrics_of_type,
    row_of_cost,
)
from outlay.server._storage.sql.deleted_events import deleted_before, events_deleted
from outlay.server._storage.store import keep_all

if TYPE_CHECKING:
    import sqlite3

    from outlay.server._records import CostMetric
    from outlay.server._storage.store import Change, Review


class CostTable:
    """The costs of one database. Thread safety: the commit thread.

    Args:
        connection: The writing connection.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, cost: CostMetric, review: Review = keep_all) -> None:
        """Store a new cost, and delete those that it replaces."""
        self._replace(cost, review)
        self._connection.execute(
            f"INSERT INTO costs ({COST_COLUMNS}, folded_seq, since_seq, definition)"  # noqa: S608 - a constant
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,"
            " (SELECT folded_seq FROM progress),?)",
            (*row_of_cost(cost), self._new_definition()),
        )

    def change(
        self, namespace: str, cost_id: str, change: Change, review: Review
    ) -> tuple[CostMetric, CostMetric] | None:
        """Change a cost, and return the old and the new one.

        Its rollups begin again only if its quantities change.
        """
        found = self._find(namespace, cost_id)
        if found is None:
            return None
        definition, old = found
        new = change(old)
        if new.event_type != old.event_type:
            self._replace(new, review)
        self._connection.execute(
            f"UPDATE costs SET ({COST_COLUMNS}) = (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - a constant
            " WHERE definition = ?",
            (*row_of_cost(new), definition),
        )
        if not new.has_same_quantities(old):
            self._check_events_are_left(old)
            self._end_definition(definition)
            self._connection.execute(
                "UPDATE costs SET folded_seq = 0,"
                " since_seq = (SELECT folded_seq FROM progress), definition = ?"
                " WHERE definition = ?",
                (self._new_definition(), definition),
            )
        return old, new

    def delete(self, namespace: str, cost_id: str, now: int) -> CostMetric | None:
        """Delete a cost, and return it. A billable metric cannot be deleted."""
        found = self._find(namespace, cost_id)
        if found is None or found[1].billable is not None:
            return None
        self._delete(cost_id, now)
        return found[1]

    def _replace(self, cost: CostMetric, review: Review) -> None:
        """Delete the costs that a cost of a new type of event replaces."""
        metrics = metrics_of_type(self._connection, cost.namespace, cost.event_type)
        for cost_id in review([one for one in metrics if one.id != cost.id]):
            self._delete(cost_id, cost.updated_at)

    def _delete(self, cost_id: str, now: int) -> None:
        (definition,) = self._connection.execute(
            "UPDATE costs SET deleted_at = ? WHERE id = ? RETURNING definition",
            (now, cost_id),
        ).fetchone()
        self._end_definition(definition)

    def _find(self, namespace: str, cost_id: str) -> tuple[int, CostMetric] | None:
        """Return a cost that is not deleted, and its definition."""
        row = self._connection.execute(
            f"SELECT definition, {COST_COLUMNS} FROM costs"  # noqa: S608 - a constant
            " WHERE id = ? AND namespace = ? AND deleted_at IS NULL",
            (cost_id, namespace),
        ).fetchone()
        return None if row is None else (row[0], cost_of(row[1:]))

    def _check_events_are_left(self, cost: CostMetric) -> None:
        """Refuse to compute quantities again whose events are deleted."""
        found = deleted_before(self._connection, cost.namespace, cost.event_type)
        if found is not None:
            raise events_deleted(found[0])

    def _new_definition(self) -> int:
        [(number,)] = self._connection.execute(
            "UPDATE progress SET last_definition = last_definition + 1"
            " RETURNING last_definition"
        ).fetchall()
        return int(number)

    def _end_definition(self, definition: int) -> None:
        """Let background work delete the rollups of a definition."""
        self._connection.execute(
            "INSERT INTO ended_definitions VALUES (?)", (definition,)
        )
