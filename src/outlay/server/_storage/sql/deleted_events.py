"""Know which events may be deleted, and how long an organization keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay.server._records import Retention
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.response_models import format_instant

if TYPE_CHECKING:
    from outlay.server._storage.sql.connection import Connection


def set_retention(connection: Connection, namespace: str, keep: int | None) -> None:
    """Set how long an organization's events are kept, in a transaction.

    Args:
        connection: The connection.
        namespace: The organization.
        keep: The time in microseconds. None keeps them without a limit.
    """
    if keep is None:
        connection.execute("DELETE FROM retention WHERE namespace = ?", (namespace,))
    else:
        connection.execute(
            "INSERT INTO retention VALUES (?,?)"
            " ON CONFLICT (namespace) DO UPDATE SET keep = excluded.keep",
            (namespace, keep),
        )


def deleted_before(
    connection: Connection, namespace: str, event_type: str | None
) -> tuple[int, int] | None:
    """Return the time before which, and the order up to which, events may be gone."""
    row = connection.execute(
        "SELECT deleted_before, deleted_seq FROM deleted_events"
        " WHERE namespace = ? AND type = ?",
        (namespace, event_type),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def retention_of(connection: Connection, namespace: str) -> Retention:
    """Return an organization's rule, and the time before which events may be gone."""
    keep, before = connection.execute(
        "SELECT (SELECT keep FROM retention WHERE namespace = :namespace),"
        " (SELECT max(deleted_before) FROM deleted_events"
        " WHERE namespace = :namespace)",
        {"namespace": namespace},
    ).fetchone()
    return Retention(keep, before)


def events_deleted(before: int) -> HttpProblem:
    """Return the 409 for a quantity that needs events that are deleted."""
    return HttpProblem(
        409,
        f"events before {format_instant(before)} are deleted, and totals by the hour "
        "are left; let the period start and end on full hours, in windows of an hour "
        "or more",
        code="EVENTS_DELETED",
    )
