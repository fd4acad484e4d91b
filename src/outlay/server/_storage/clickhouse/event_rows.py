"""Read single events of moved days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay.server._records import Event
from outlay.server._storage.clickhouse.connection import text, texts
from outlay.server._storage.clickhouse.moving import MovedEvent
from outlay.server._storage.event_filter import event_matcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from outlay.server._storage.clickhouse.connection import Connection
    from outlay.server._storage.event_store import EventFilter

_COLUMNS: Final = (
    "seq, received_at, id, namespace, key, type, source, subject, external_subject,"
    " external_id, at, data"
)
_CHUNK: Final = 1000  # rows of one query


class MovedEvents:
    """The events of some days of receipt. Thread safety: any thread.

    Args:
        connection: The connection.
        after: The last day that is deleted, in days since 1970.
        upto: The last day that is in ClickHouse.

    Raises:
        HistoryUnavailableError: ClickHouse does not respond. Each method may raise it.
    """

    def __init__(self, connection: Connection, after: int, upto: int) -> None:
        self._connection = connection
        self._from = (
            f"FROM {connection.database}.events WHERE day > {after:d}"
            f" AND day <= {upto:d}"
        )

    def event(self, namespace: str, event_id: str) -> MovedEvent | None:
        """Return the event with this id."""
        rows = self._connection.rows(
            f"SELECT {_COLUMNS} {self._from} AND id = {text(event_id)}"
            f" AND namespace = {text(namespace)} LIMIT 1"
        )
        return _moved(rows[0]) if rows else None

    def count(self, namespace: str, where: EventFilter) -> int:
        """Return the number of wanted events. The filter names no values."""
        [(count,)] = self._connection.rows(
            f"SELECT count() {self._from} AND {_conditions(namespace, where)}"
        )
        return int(count)

    def before(
        self, namespace: str, where: EventFilter, place: tuple[int, int]
    ) -> Iterator[MovedEvent]:
        """Yield the wanted events before a time and order of receipt, newest first."""
        matches = event_matcher(where)
        while True:
            at, seq = place
            rows = self._connection.rows(
                f"SELECT {_COLUMNS} {self._from} AND {_conditions(namespace, where)}"
                f" AND at <= {at:d} AND (at, seq) < ({at:d}, {seq:d})"
                f" ORDER BY at DESC, seq DESC LIMIT {_CHUNK}"
            )
            for one in map(_moved, rows):
                place = (one.event.at, one.seq)
                if matches(one.event):
                    yield one
            if len(rows) < _CHUNK:
                return

    def time_range(
        self, namespace: str, event_type: str | None
    ) -> tuple[int, int] | None:
        """Return the times of the first and last event of a type."""
        [(count, first, last)] = self._connection.rows(
            f"SELECT count(), min(at), max(at) {self._from}"
            f" AND namespace = {text(namespace)} AND type = {text(event_type or '')}"
        )
        return (first, last) if count else None

    def types(self, namespace: str, start: int, end: int) -> dict[str, int]:
        """Return the number of events in ``start <= at < end`` by type."""
        rows = self._connection.rows(
            f"SELECT type, count() {self._from} AND namespace = {text(namespace)}"
            f" AND at >= {start:d} AND at < {end:d} GROUP BY type ORDER BY type"
        )
        return {str(name): int(count) for name, count in rows}


def _conditions(namespace: str, where: EventFilter) -> str:
    found = [f"namespace = {text(namespace)}"]
    for column, allowed in (("type", where.types), ("customer", where.customers)):
        if allowed is not None:
            found.append(f"coalesce({column} IN {texts(allowed)}, false)")
    for column, one in (
        ("key", where.key),
        ("external_id", where.external_id),
        ("external_subject", where.external_subject),
    ):
        if one is not None:
            found.append(f"{column} = {text(one)}")
    if where.start is not None:
        found.append(f"at >= {where.start:d}")
    if where.end is not None:
        found.append(f"at < {where.end:d}")
    return " AND ".join(found)


def _moved(row: Sequence[Any]) -> MovedEvent:
    seq, received_at, event_id, namespace, key, kind, source, *rest = row
    return MovedEvent(
        seq, received_at, Event(event_id, namespace, key, kind, source, *rest)
    )
