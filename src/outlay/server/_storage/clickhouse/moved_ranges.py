"""Know, without ClickHouse, whether a moved event may be wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outlay.server._storage.postgres.connecting import PostgresConnection

NOTE_DAY: Final = """
    INSERT INTO moved_types AS m (namespace, type, first_at, last_at)
    SELECT namespace, type, min(at), max(at) FROM events WHERE day = ?
    GROUP BY namespace, type
    ON CONFLICT (namespace, type) DO UPDATE SET
    first_at = least(m.first_at, excluded.first_at),
    last_at = greatest(m.last_at, excluded.last_at)
"""
"""The statement that notes the events of a day before they move."""


class Range(NamedTuple):
    """No moved event of a type is earlier or later. Microseconds since 1970."""

    first_at: int
    last_at: int


class MovedRanges:
    """The times of an organization's moved events. Immutable.

    Args:
        connection: A connection to the ledger, in a transaction.
        namespace: The organization.
    """

    def __init__(self, connection: PostgresConnection, namespace: str) -> None:
        rows = connection.execute(
            "SELECT type, first_at, last_at FROM moved_types WHERE namespace = ?"
            " ORDER BY type",
            (namespace,),
        )
        self._by_type = {name: Range(*times) for name, *times in rows}

    def of(self, event_type: str | None) -> Range | None:
        """Return the times of a type. None if none of it was ever moved."""
        return self._by_type.get(event_type or "")

    def types(
        self,
        wanted: Iterable[str] | None = None,
        start: int | None = None,
        end: int | None = None,
    ) -> list[str]:
        """Return the types of which an event may be in ``start <= at < end``.

        Args:
            wanted: The only types that count. Defaults to all.
            start: The first instant, in microseconds since 1970. Defaults to any.
            end: The instant after the last, in the same unit. Defaults to any.
        """
        allowed = None if wanted is None else {*wanted}
        return [
            name
            for name, times in self._by_type.items()
            if (allowed is None or name in allowed)
            and (start is None or times.last_at >= start)
            and (end is None or times.first_at < end)
        ]

    def last_at(self, types: Iterable[str]) -> int:
        """Return the time after which no event of some types is, of one at least."""
        return max(self._by_type[name].last_at for name in types)
