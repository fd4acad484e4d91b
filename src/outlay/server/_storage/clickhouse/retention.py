"""Delete old events of moved days. Their rollups stay in the ledger, and so do totals.

First the ledger notes what will be deleted, so that no later view counts on it. When no
earlier view is left, ClickHouse deletes the events day by day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay.server._storage.clickhouse.connection import text
from outlay.server._storage.clickhouse.days import contents, drop_day
from outlay.server._storage.clickhouse.moved_ranges import MovedRanges
from outlay.server._storage.postgres.locks import Lock
from outlay.server._storage.postgres.retention import delete_old_events, old_types

if TYPE_CHECKING:
    from outlay.server._storage.clickhouse.connection import Connection
    from outlay.server._storage.postgres.connecting import PostgresConnection
    from outlay.server._storage.postgres.locks import Locks


def delete_next(
    ledger: PostgresConnection,
    locks: Locks,
    clickhouse: Connection,
    *,
    now: int,
    window: int,
    longest_read: int,
) -> bool:
    """Do a slice of deleting old events. Return whether there may be more.

    Args:
        ledger: The connection to the ledger, in a transaction with the lock of moves,
            while no day is copied.
        locks: The locks of the ledger.
        clickhouse: The connection to ClickHouse.
        now: The time, in microseconds since 1970.
        window: The time for which a key is remembered, in microseconds.
        longest_read: The time after which no earlier view is left, in microseconds.

    Raises:
        HistoryUnavailableError: ClickHouse does not respond.
    """
    if _delete_noted(ledger, clickhouse, now - longest_read):
        return True
    locks.take(ledger, Lock.UPKEEP)
    return _note_next(ledger, clickhouse, now) or delete_old_events(
        ledger, now, now - window
    )


def _note_next(ledger: PostgresConnection, clickhouse: Connection, now: int) -> bool:
    """Note the old events of a type, in the transaction that checks its rule."""
    for namespace, event_type, before in old_types(ledger, now):
        moved = MovedRanges(ledger, namespace).of(event_type)
        if moved is None or moved.first_at >= before:
            continue
        (is_noted,) = ledger.execute(
            "SELECT EXISTS (SELECT 1 FROM moved_deletions"
            " WHERE namespace = ? AND type = ?)",
            (namespace, event_type),
        ).fetchone()
        if is_noted:
            continue
        [(count, last)] = clickhouse.rows(
            f"SELECT count(), max(seq) FROM {clickhouse.database}.events"
            f" WHERE {_condition(namespace, event_type, before)}"
        )
        if not count:
            _note_first(ledger, namespace, event_type, before)
            continue
        ledger.execute(
            "INSERT INTO moved_deletions VALUES (?,?,?,?)",
            (namespace, event_type, before, now),
        )
        ledger.execute(
            "INSERT INTO deleted_events AS d VALUES (?,?,?,?)"
            " ON CONFLICT (namespace, type) DO UPDATE SET"
            " deleted_before = greatest(d.deleted_before, excluded.deleted_before),"
            " deleted_seq = greatest(d.deleted_seq, excluded.deleted_seq)",
            (namespace, event_type, before, last),
        )
        return True
    return False


def _delete_noted(
    ledger: PostgresConnection, clickhouse: Connection, noted_before: int
) -> bool:
    """Delete the noted events of a day, or note the next day."""
    noted = ledger.execute(
        "SELECT namespace, type, deleted_before FROM moved_deletions"
        " WHERE noted_at <= ? ORDER BY noted_at, namespace, type",
        (noted_before,),
    ).fetchall()
    (changing,) = ledger.execute(
        "SELECT min(day) FROM moved_days WHERE is_changing"
    ).fetchone()
    if changing is not None:
        _delete_of_day(clickhouse, changing, [_condition(*row) for row in noted])
        ledger.execute(
            "UPDATE moved_days SET events = ?, is_changing = false WHERE day = ?",
            (contents(clickhouse, changing).events, changing),
        )
        return True
    if not noted:
        return False
    [(count, day)] = clickhouse.rows(
        f"SELECT count(), min(day) FROM {clickhouse.database}.events"
        f" WHERE {_condition(*noted[0])}"
    )
    if count:
        # In a transaction of its own, before the count changes.
        ledger.execute("UPDATE moved_days SET is_changing = true WHERE day = ?", (day,))
        return True
    _note_first(ledger, *noted[0])
    ledger.execute(
        "DELETE FROM moved_deletions WHERE namespace = ? AND type = ?", noted[0][:2]
    )
    return True


def _delete_of_day(clickhouse: Connection, day: int, conditions: list[str]) -> None:
    """Delete events of a day. The day itself is dropped if no other is left."""
    if not conditions:
        return
    table = f"{clickhouse.database}.events"
    condition = f"({' OR '.join(conditions)})"
    [(others,)] = clickhouse.rows(
        f"SELECT count() FROM {table} WHERE day = {day:d} AND NOT {condition}"
    )
    if others:
        clickhouse.command(
            f"DELETE FROM {clickhouse.local('events')} WHERE day = {day:d}"
            f" AND {condition}"
        )
    else:
        drop_day(clickhouse, day)


def _note_first(
    ledger: PostgresConnection, namespace: str, event_type: str, before: int
) -> None:
    """Note that no moved event of a type is earlier."""
    ledger.execute(
        "UPDATE moved_types SET first_at = greatest(first_at, ?)"
        " WHERE namespace = ? AND type = ?",
        (before, namespace, event_type),
    )


def _condition(namespace: str, event_type: str, before: int) -> str:
    return (
        f"(namespace = {text(namespace)} AND type = {text(event_type)}"
        f" AND at < {before:d})"
    )
