"""Open consistent views of a ledger, in any thread or process."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg

from outlay.server._errors import QueryStoppedError
from outlay.server._storage.postgres import connecting
from outlay.server._storage.postgres.history import (
    HISTORY_STATE,
    HistoryState,
    history_needed,
    state_of,
)
from outlay.server._storage.postgres.reader import PostgresReader
from outlay.server._storage.query_limit import current_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.server._storage.postgres.connecting import PostgresConnection

_MOST_IDLE: Final = 4
# A client that is gone ends its query, also if this process was killed. A parameter of
# the connection would be refused by poolers.
_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
    " SET LOCAL client_connection_check_interval = '5s';"
    # Each query reads few rows, and would spend most of its time in these.
    " SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0;"
    f" {HISTORY_STATE}"
)


class PostgresViews:
    """Opens views, and keeps some connections. Thread safety: any thread.

    Args:
        url: The URL of the database. It has the tables of this version.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[PostgresConnection] = []  # guarded by _lock
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[PostgresReader]:
        """Open a consistent view. It contains everything that was stored before.

        Raises:
            QueryStoppedError: The current `QueryLimit` ended the query.
            StoreUnavailableError: The database cannot be read.
        """
        limit = current_limit()
        if limit is not None and limit.is_over():
            raise QueryStoppedError("the query was stopped")
        try:
            connection, moved = self._begin()
            connection.limit = limit
            try:
                yield self._reader(connection, moved)
            finally:
                connection.limit = None
                self._end(connection)
        except psycopg.errors.QueryCanceled as error:
            if limit is not None and limit.is_over():
                raise QueryStoppedError("the query was stopped") from None
            raise connecting.unreadable(error) from error
        except psycopg.Error as error:
            raise connecting.unreadable(error) from error

    def close(self) -> None:
        """Close all connections. No thread may be reading."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _reader(
        self, connection: PostgresConnection, moved: HistoryState | None
    ) -> PostgresReader:
        """Return a reader of a transaction.

        Args:
            connection: The connection, in the transaction.
            moved: How far days are moved to ClickHouse. None if none ever was.

        Raises:
            StoreUnavailableError: Only a server that knows ClickHouse reads all events.
        """
        if moved is not None:
            raise history_needed(self._url)
        return PostgresReader(connection)

    def _begin(self) -> tuple[PostgresConnection, HistoryState | None]:
        """Return a connection in a new transaction, and what it sees of the history."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            try:
                return connection, state_of(connection.execute(_BEGIN))
            except psycopg.Error:  # PostgreSQL was restarted since its last use
                connection.close()
        connection = connecting.connect(self._url, target_session_attrs="any")
        return connection, state_of(connection.execute(_BEGIN))

    def _end(self, connection: PostgresConnection) -> None:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()
            return
        with self._lock:
            is_kept = not self._closed and len(self._idle) < _MOST_IDLE
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            connection.close()
