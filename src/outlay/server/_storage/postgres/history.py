"""Know which events of a ledger are in ClickHouse.

A view of the ledger sees an event either in its tables or before the noted place, and
never in both or in neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server._errors import StoreUnavailableError
from outlay.server._storage.postgres import connecting

if TYPE_CHECKING:
    from outlay.server._storage.postgres.connecting import PostgresConnection

HISTORY_STATE: Final = "SELECT id, day, seq FROM history WHERE day > 0"
"""The query of which `state_of` reads the row."""


class Place(NamedTuple):
    """A place in the order of moving: the day of receipt, and the order within it."""

    day: int
    seq: int


class HistoryState(NamedTuple):
    """How far days are moved.

    Attributes:
        ledger: The id of the ledger, which ClickHouse has as well.
        place: All events up to this place are in ClickHouse, and no later one counts
            there.
    """

    ledger: str
    place: Place


def has_history(connection: PostgresConnection) -> bool:
    """Return whether days move to ClickHouse, or will."""
    (found,) = connection.execute("SELECT EXISTS (SELECT 1 FROM history)").fetchone()
    return bool(found)


def history_state(connection: PostgresConnection) -> HistoryState | None:
    """Return how far days are moved. None if none ever was."""
    return state_of(connection.execute(HISTORY_STATE))


def state_of(cursor: Any) -> HistoryState | None:  # noqa: ANN401 - psycopg's, of any row
    """Return the state from the last result of a cursor."""
    row = connecting.last_result(cursor).fetchone()
    return None if row is None else HistoryState(row[0], Place(*row[1:]))


def history_needed(url: str) -> StoreUnavailableError:
    """Return the error of a server that does not know where moved days are."""
    return StoreUnavailableError(
        f"days of {connecting.shown(url)} were moved to ClickHouse; restart this "
        "server with --history, or with OUTLAY_SERVER_HISTORY"
    )
