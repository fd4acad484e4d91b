"""Talk to ClickHouse over HTTP, and say in a sentence what went wrong."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from urllib3 import Timeout
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as UrllibTimeoutError

from outlay.server._errors import (
    DatabaseError,
    QueryStoppedError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from clickhouse_connect.driver.httpclient import HttpClient

    from outlay.server._storage.query_limit import QueryLimit

_SCHEME: Final = "clickhouse"
_PORT: Final = 8123
_TLS_PORT: Final = 8443
_CONNECT_SECONDS: Final = 3
_GREETING_SECONDS: Final = 5
"""The longest wait for the first response of a connection."""
_SILENCE_SECONDS: Final = 10
"""The time after a missed greeting for which no query waits for another one."""
_NO_RESPONSE: Final = (
    "does not respond; recent days are answered, older ones when it is back; check "
    "that it runs, and its address"
)
_STOPPED: Final = "the query was stopped"
_LEAST_SECONDS: Final = 0.001  # because a wait of 0 is none at all
_NAME: Final = re.compile(r"\w{1,64}", re.ASCII)

# Codes of ClickHouse (src/Common/ErrorCodes.cpp, 2026-11).
_REFUSED_USER: Final = {192, 193, 194, 516}
_REFUSED_ACT: Final = {164, 497}
_NO_SPACE: Final = 243
_TIMEOUT: Final = 159

# The library logs each failed attempt with a traceback. The caller logs it once.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)


class HistoryUnavailableError(StoreUnavailableError):
    """ClickHouse does not respond. Recent days are in PostgreSQL, and not concerned."""


class Connection:
    """Connections to one database, opened as they are used. Thread safety: any thread.

    Each query waits in a connection of its own, and only until its limit. So one that
    gets no response holds up no other, which may have its own from PostgreSQL.

    Args:
        url: Such as ``clickhouse://user@host:8123/outlay?secure=true``. The password
            may be in the variable ``CLICKHOUSE_PASSWORD`` instead. ``cluster=name``
            names the cluster of sharded tables.
        response_seconds: The seconds that ClickHouse may be silent. Defaults to 120.

    Raises:
        DatabaseError: The URL has a mistake.
    """

    def __init__(self, url: str, *, response_seconds: int = 120) -> None:
        parts = urlsplit(url)
        self.database: Final = parts.path.strip("/") or "default"
        try:
            port = parts.port
        except ValueError:  # its text may have a part of the password
            raise _malformed() from None
        is_cut = "@" in parts.path + parts.query or parts.fragment
        if parts.scheme != _SCHEME or not parts.hostname or is_cut:
            raise _malformed()
        if not _NAME.fullmatch(self.database):
            raise DatabaseError(
                f"{self.database!r} is no name of a database; use letters, digits and _"
            )
        options = parse_qs(parts.query)
        self.is_secure: Final = options.get("secure", [""])[-1] in {"1", "true"}
        self._cluster: Final = options.get("cluster", [""])[-1]
        if self._cluster and not _NAME.fullmatch(self._cluster):
            raise DatabaseError(
                f"{self._cluster!r} is no name of a cluster; use letters, digits and _"
            )
        self._host: Final = parts.hostname
        self._port: Final = port or (_TLS_PORT if self.is_secure else _PORT)
        self._user: Final = unquote(parts.username or "default")
        password = unquote(parts.password or "")
        self._password: Final = password or os.environ.get("CLICKHOUSE_PASSWORD", "")
        self._response_seconds: Final = response_seconds
        self._lock: Final = threading.Lock()
        self._idle: list[HttpClient] = []  # guarded by _lock
        self._silent_until = float("-inf")  # of the monotonic clock
        self._ledger: str | None = None  # the one that was checked

    def __str__(self) -> str:
        """Return the place, without the user and the password."""
        return f"{_SCHEME}://{self._host}:{self._port}/{self.database}"

    def local(self, table: str) -> str:
        """Return a table as the object of a change of partitions or rows.

        A sharded table is changed on each shard, in the table that has its rows.
        """
        if not self._cluster:
            return f"{self.database}.{table}"
        return f"{self.database}.{table}_local ON CLUSTER {self._cluster}"

    def replace_partition(self, table: str, day: int, source: str) -> str:
        """Return the statement that replaces a day of a table by that of another."""
        suffix = "_local" if self._cluster else ""
        return (
            f"ALTER TABLE {self.local(table)} REPLACE PARTITION {day:d}"
            f" FROM {self.database}.{source}{suffix}"
        )

    def command(self, statement: str) -> None:
        """Execute a statement without rows.

        Raises:
            HistoryUnavailableError: ClickHouse does not respond, refuses the user or
                the statement, or is full.
        """
        with self._client() as client:
            client.command(statement)

    def rows(self, query: str, limit: QueryLimit | None = None) -> list[Sequence[Any]]:
        """Return all rows of a query.

        Args:
            query: The query.
            limit: The limit that ends it. Defaults to none.

        Raises:
            QueryStoppedError: The limit is over. It raises as `command` does as well.
        """
        with self._client(limit) as client:
            return list(client.query(_limited(query, limit)).result_rows)

    def stream(
        self, query: str, limit: QueryLimit | None = None
    ) -> Iterator[Sequence[Any]]:
        """Yield the rows of a query block by block. It raises as `rows` does."""
        with (
            self._client(limit) as client,
            client.query_row_block_stream(_limited(query, limit)) as blocks,
        ):
            for block in blocks:
                yield from block
                _check(limit)

    def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Insert rows in one step. It raises as `command` does."""
        with self._client() as client:
            client.insert(table, rows, column_names=columns, database=self.database)

    def check_ledger(self, ledger: str, limit: QueryLimit | None = None) -> None:
        """Check, once, that the database has the days of a ledger.

        Args:
            ledger: The id of the ledger.
            limit: The limit that ends the check. Defaults to none.

        Raises:
            HistoryUnavailableError: It has those of another one, or does not respond.
            QueryStoppedError: The limit is over.
        """
        if self._ledger == ledger:
            return
        rows = self.rows(f"SELECT id FROM {self.database}.ledger", limit)
        if {row[0] for row in rows} != {ledger}:
            raise HistoryUnavailableError(
                f"{self} does not have the days of this ledger; name the database that "
                "its servers used before"
            )
        self._ledger = ledger

    def close(self) -> None:
        """Close all connections. No thread may use one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for client in idle:
            client.close()

    @contextmanager
    def _client(self, limit: QueryLimit | None = None) -> Iterator[HttpClient]:
        """Lend a client to one thread, because its timeouts are those of the query.

        Raises:
            HistoryUnavailableError: ClickHouse fails, or is silent.
            QueryStoppedError: The limit is over.
        """
        _check(limit)
        is_short = limit is not None and limit.seconds_left < _GREETING_SECONDS
        with self._lock:
            client = self._idle.pop() if self._idle else None
        if client is None:
            client = self._greet(limit, is_short=is_short)
        seconds = float(self._response_seconds)
        if limit is not None:
            seconds = max(_LEAST_SECONDS, min(seconds, limit.seconds_left))
        client.timeout = Timeout(connect=min(_CONNECT_SECONDS, seconds), read=seconds)
        has_to_greet = False
        try:
            yield client
        except (ClickHouseError, HTTPError) as error:
            has_to_greet = _is_silence(error) and not is_short
            raise self._failed(error, limit) from error
        finally:
            if has_to_greet:
                client.close()
            else:
                with self._lock:
                    self._idle.append(client)

    def _greet(self, limit: QueryLimit | None, *, is_short: bool) -> HttpClient:
        """Return a new client, whose connection was responded to.

        A query with little time tries for as short, and another one decides then.
        """
        if time.monotonic() < self._silent_until:
            if is_short:
                raise QueryStoppedError(_STOPPED)
            raise self._unavailable(_NO_RESPONSE)
        seconds = min(_GREETING_SECONDS, self._response_seconds)
        if limit is not None:
            seconds = max(1, min(seconds, round(limit.seconds_left)))  # as it takes it
        try:
            client = clickhouse_connect.get_client(
                host=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                secure=self.is_secure,
                # The database may not exist yet. Statements name it.
                database="__default__",
                autogenerate_session_id=False,
                connect_timeout=min(_CONNECT_SECONDS, seconds),
                send_receive_timeout=seconds,
                compress="lz4",
            )
        except ClickHouseError as error:
            if _is_silence(error):
                self._silent_until = time.monotonic() + _SILENCE_SECONDS
            raise self._failed(error, limit) from error
        return cast("HttpClient", client)  # as its interface is HTTP

    def _failed(
        self, error: ClickHouseError | HTTPError, limit: QueryLimit | None
    ) -> HistoryUnavailableError | QueryStoppedError:
        code = getattr(error, "code", None)
        if code == _TIMEOUT or (limit is not None and limit.is_over()):
            return QueryStoppedError(_STOPPED)
        if code is None and isinstance(error, (OperationalError, HTTPError)):
            reason = _NO_RESPONSE
        elif code in _REFUSED_USER:
            reason = (
                f"refuses the user {self._user!r}; check the name, and the password in "
                "CLICKHOUSE_PASSWORD"
            )
        elif code in _REFUSED_ACT:
            reason = (
                f"does not let the user {self._user!r} do that; grant it ALL on the "
                "database"
            )
        elif code == _NO_SPACE:
            reason = (
                "has a full disk; days stay in PostgreSQL until it has room; free some"
            )
        else:
            reason = f"failed: {str(error).splitlines()[0]}"
        return self._unavailable(reason)

    def _unavailable(self, reason: str) -> HistoryUnavailableError:
        return HistoryUnavailableError(f"ClickHouse at {self} {reason}")


def _is_silence(error: ClickHouseError | HTTPError) -> bool:
    """Return whether nothing came in time. A refusal is no silence."""
    cause = error if isinstance(error, HTTPError) else error.__cause__
    reason = getattr(cause, "reason", cause)
    # urllib3 counts a refusal among the time-outs.
    is_refused = isinstance(reason, NewConnectionError)
    return isinstance(reason, UrllibTimeoutError) and not is_refused


def _malformed() -> DatabaseError:
    return DatabaseError(
        "the history must be a URL such as clickhouse://user@host:8123/outlay; write "
        "/, #, ? and @ of a password as %2F, %23, %3F and %40, or set "
        "CLICKHOUSE_PASSWORD"
    )


def _limited(query: str, limit: QueryLimit | None) -> str:
    """Return a query that ClickHouse itself ends when its time is over."""
    if limit is None:
        return query
    _check(limit)
    return f"{query} SETTINGS max_execution_time = {max(1, round(limit.seconds_left))}"


def _check(limit: QueryLimit | None) -> None:
    if limit is not None and limit.is_over():
        raise QueryStoppedError(_STOPPED)


_ESCAPES: Final = str.maketrans({"\\": "\\\\", "'": "\\'", "\0": "\\0"})


def text(value: str) -> str:
    """Return a text as a literal of SQL."""
    return f"'{value.translate(_ESCAPES)}'"


def texts(values: Iterable[str]) -> str:
    """Return texts as a list for ``IN``. An empty list contains nothing."""
    return f"({', '.join(map(text, sorted(values)))})" if values else "(NULL)"
