"""Fold moved events for a metric that came later, or that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._metering.metric import compile_metric
from outlay.server._storage.clickhouse.event_rows import MovedEvents
from outlay.server._storage.combining import combine
from outlay.server._storage.postgres import rollups
from outlay.server._storage.postgres.history import Place
from outlay.server._storage.postgres.locks import Lock
from outlay.server._storage.sql.catalog import COST_COLUMNS, cost_of

if TYPE_CHECKING:
    from outlay.server._storage.clickhouse.connection import Connection
    from outlay.server._storage.combining import Combined
    from outlay.server._storage.postgres.connecting import PostgresConnection
    from outlay.server._storage.postgres.locks import Locks

_NEXT: Final = f"""
    SELECT definition, cutoff, folded_day, folded_seq, {COST_COLUMNS} FROM costs
    WHERE (folded_day, folded_seq) < (?, ?) AND deleted_at IS NULL
    ORDER BY number LIMIT 1
"""
_NEXT_DAY: Final = """
    SELECT min(day) FROM (
        SELECT day FROM moved_days UNION ALL SELECT day FROM history WHERE seq > 0
    ) d WHERE day >= ?
"""


def fold_day(
    ledger: PostgresConnection, locks: Locks, clickhouse: Connection, upto: Place
) -> bool:
    """Fold the moved events of a day that a definition lacks.

    ClickHouse is read without a lock. The rollups change only if the definition and its
    place are still the same.

    Args:
        ledger: The connection to the ledger, in a transaction with the lock of moves.
        locks: The locks of the ledger.
        clickhouse: The connection to ClickHouse.
        upto: The last place that is moved.

    Returns:
        Whether there was one.

    Raises:
        HistoryUnavailableError: ClickHouse does not respond.
    """
    row = ledger.execute(_NEXT, upto).fetchone()
    if row is None:
        return False
    definition, cutoff, folded_day, folded_seq, *columns = row
    metric = compile_metric(cost_of(columns))
    (day,) = ledger.execute(_NEXT_DAY, (folded_day,)).fetchone()
    lines: list[str] = []
    place = upto
    if metric is not None and day is not None:
        place = min(upto, Place(day + 1, 0))
        after = folded_seq if day == folded_day else 0
        events = MovedEvents(clickhouse, upto).metered(metric, day, after, cutoff)
        combined: Combined = {}
        combine(metric, combined, events)
        lines += rollups.delta_lines(definition, metric, combined)
    locks.take(ledger, Lock.UPKEEP)
    changed = ledger.execute(
        "UPDATE costs SET folded_day = ?, folded_seq = ? WHERE definition = ?"
        " AND (folded_day, folded_seq) = (?, ?) AND deleted_at IS NULL",
        (*place, definition, folded_day, folded_seq),
    ).rowcount
    if changed:
        rollups.write_deltas(ledger, lines)
    return True
