"""Open a ledger that no server uses, to copy from it or to it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.conninfo import make_conninfo

from outlay.server._errors import DatabaseBusyError, DatabaseError
from outlay.server._storage.postgres import connecting
from outlay.server._storage.postgres.history import history_state
from outlay.server._storage.postgres.store import PostgresStore

if TYPE_CHECKING:
    from outlay.server._storage.postgres.connecting import PostgresConnection

_NAME: Final = "outlay store copy"
_SERVERS: Final = (
    "SELECT count(DISTINCT coalesce(client_addr::text, '')) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = ?"
)


def open_alone(url: str, dedupe_window: int) -> PostgresStore:
    """Open a ledger, unless a server is connected to its database.

    Args:
        url: The URL of the database.
        dedupe_window: The time for which a key is remembered, in microseconds.

    Raises:
        DatabaseBusyError: A server is connected.
        DatabaseError: The database cannot be used. The message says what to do.
    """
    try:
        named = make_conninfo(url, application_name=_NAME)
        with closing(connecting.connect(named)) as connection:
            _check_whole(connection, url)
            (machines,) = connection.execute(
                _SERVERS, (connecting.APPLICATION_NAME,)
            ).fetchone()
    except psycopg.Error as error:
        raise connecting.unusable(url, error) from None
    if machines:
        raise DatabaseBusyError(
            f"servers on {machines} machines are connected to "
            f"{connecting.shown(url)}; stop them, and start the copy again"
        )
    return PostgresStore(named, dedupe_window=dedupe_window)


def _check_whole(connection: PostgresConnection, url: str) -> None:
    """Refuse a ledger of which a copy would lack the moved events.

    Raises:
        DatabaseError: Days were moved to ClickHouse.
    """
    (has_tables,) = connection.execute(
        "SELECT to_regclass('moved_days') IS NOT NULL"
    ).fetchone()
    if has_tables and history_state(connection) is not None:
        raise DatabaseError(
            f"days of {connecting.shown(url)} were moved to ClickHouse, and a copy "
            "would lack their events; copy PostgreSQL with pg_dump and ClickHouse with "
            "BACKUP, in this order"
        )
