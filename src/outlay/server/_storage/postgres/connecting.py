"""Connect to PostgreSQL, and say in plain words why that fails."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors as sqlstates
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from outlay.server._errors import (
    DatabaseError,
    QueryStoppedError,
    StoreUnavailableError,
)
from outlay.server._storage.postgres.texts import convert_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from outlay.server._storage.query_limit import QueryLimit
    from outlay.server._storage.sql.connection import Parameters

LedgerError: Final = psycopg.Error
"""An error of the driver, for modules that move days and do not import the driver."""

OLDEST_VERSION: Final = 15
"""The oldest major version of PostgreSQL that the tests run over."""

APPLICATION_NAME: Final = "outlay"
"""The name of a server's connections, as ``pg_stat_activity`` shows it."""

# Seconds. A client waits 5 to 10 s for a response. libpq's names are explained at
# postgresql.org/docs/current/libpq-connect.html (2026-11).
_PARAMETERS: Final = {
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "application_name": APPLICATION_NAME,
    # Of several hosts, the one that takes writes.
    "target_session_attrs": "read-write",
}
_STREAMED_ROWS: Final = 5000
_PLACEHOLDER: Final = re.compile(r"(?<!:):([a-z_]+)|\?|%")


def connect(url: str, **parameters: str) -> PostgresConnection:
    """Open a connection without implicit transactions.

    Args:
        url: The URL of the database.
        parameters: Parameters of libpq, for this connection.

    Raises:
        psycopg.Error: The database cannot be reached.
    """
    given = conninfo_to_dict(url)
    wanted = {**_PARAMETERS, **parameters}
    conninfo = make_conninfo(url, **{k: v for k, v in wanted.items() if k not in given})
    raw = psycopg.connect(
        conninfo,
        autocommit=True,
        # Statements have literals instead of parameters, which works behind a pooler
        # of connections, and needs no types.
        cursor_factory=psycopg.ClientCursor,
        prepare_threshold=None,
    )
    convert_texts(raw)
    return PostgresConnection(raw)


def shown(url: str) -> str:
    """Return the place of a database, without user, password and parameters."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        return "PostgreSQL"
    hosts = str(given.get("host") or "localhost").split(",")
    ports = str(given.get("port") or "").split(",")
    if len(ports) != len(hosts):  # one port is that of all hosts
        ports = ports[:1] * len(hosts)
    pairs = zip(hosts, ports, strict=True)
    places = (f"{host}:{port}".rstrip(":") for host, port in pairs)
    return f"postgresql://{','.join(places)}/{given.get('dbname', '')}"


class PostgresConnection:
    """A connection that understands the shared statements of `_storage.sql`.

    Thread safety: one thread at a time.

    Attributes:
        raw: The connection of psycopg.
        limit: The limit that ends its queries, or None.
    """

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self.raw = raw
        self.limit: QueryLimit | None = None

    def execute(self, query: str, parameters: Parameters = (), /) -> Any:  # noqa: ANN401 - rows of any statement
        """Execute a statement, with placeholders as in SQLite.

        Raises:
            psycopg.Error: The statement failed.
            QueryStoppedError: The limit is over.
        """
        if self.limit is not None:
            self._apply(self.limit)
        # Not None, with which psycopg leaves doubled percent signs.
        return self.raw.execute(translated(query), parameters)

    def executemany(self, query: str, parameters: Iterable[Parameters], /) -> None:
        """Execute a statement once for each element of ``parameters``."""
        rows = [*parameters]
        if rows:
            with self.raw.cursor() as cursor:
                cursor.executemany(translated(query), rows)

    def stream(self, query: str, parameters: Parameters = ()) -> Iterator[Any]:
        """Yield the rows of a query, without all of them in memory.

        The cursor ends with the transaction.
        """
        name = f"rows_{next(_numbers)}"
        self.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {query}", parameters)
        while rows := self.execute(f"FETCH {_STREAMED_ROWS} FROM {name}").fetchall():
            yield from rows

    @property
    def is_usable(self) -> bool:
        """Whether it is connected, and in no transaction."""
        status = self.raw.info.transaction_status
        return not self.raw.closed and status == psycopg.pq.TransactionStatus.IDLE

    def close(self) -> None:
        """Close the connection."""
        self.raw.close()

    def _apply(self, limit: QueryLimit) -> None:
        if limit.is_over():
            raise QueryStoppedError("the query was stopped")
        milliseconds = max(1, int(limit.seconds_left * 1000))
        self.raw.execute(f"SET LOCAL statement_timeout = {milliseconds}".encode())


def last_result(cursor: Any) -> Any:  # noqa: ANN401 - psycopg's, of any row
    """Return a cursor at the result of the last of several statements."""
    while cursor.nextset():
        pass
    return cursor


_numbers: Final = itertools.count()
_translations: Final[dict[str, bytes]] = {}


def translated(query: str) -> bytes:
    """Return a statement with the placeholders of psycopg."""
    found = _translations.get(query)
    if found is None:
        found = _PLACEHOLDER.sub(_placeholder, query).encode()
        if len(_translations) < _MOST_TRANSLATIONS:
            _translations[query] = found
    return found


_MOST_TRANSLATIONS: Final = 1000


def _placeholder(found: re.Match[str]) -> str:
    if found[0] == "%":
        return "%%"
    return "%s" if found[0] == "?" else f"%({found[1]})s"


# -- errors

_REMEDIES: Final[tuple[tuple[type[psycopg.Error], str], ...]] = (
    (sqlstates.DiskFull, "the disk of PostgreSQL is full; free some space"),
    (
        sqlstates.TooManyConnections,
        "raise max_connections of PostgreSQL, or stop other programs",
    ),
    (
        sqlstates.ReadOnlySqlTransaction,
        "this PostgreSQL is a standby, or read-only; name the primary",
    ),
    (sqlstates.InsufficientPrivilege, "grant the user all rights on the schema"),
    (sqlstates.OutOfMemory, "PostgreSQL has too little memory"),
    (sqlstates.UndefinedTable, "the tables are gone; restart the server"),
)

# Errors of connecting have no code. Their texts are those of PostgreSQL's server, libpq
# and PgBouncer in English, and are only used to choose a hint.
_CONNECT_REMEDIES: Final = (
    ("password authentication failed", "check the user and the password in the URL"),
    ("no password supplied", "add the password to the URL, or to the file ~/.pgpass"),
    ("does not exist", "check the names of the database and the user in the URL"),
    ("too many clients", "raise max_connections of PostgreSQL, or stop other programs"),
    ("remaining connection slots", "raise max_connections of PostgreSQL"),
    ("too many connections", "raise the limit of the user or database in PostgreSQL"),
    ("does not support SSL", "use sslmode=disable, or switch on TLS in PostgreSQL"),
    ("server does not support", "use sslmode=disable, or switch on TLS in PostgreSQL"),
    ("no encryption", "add sslmode=require to the URL"),
    ("certificate", "check sslmode, sslrootcert and the host in the URL"),
    ("session is read-only", "it is a standby, or read-only; name the primary"),
    ("not currently accepting", "it starts or stops; try again soon"),
    ("starting up", "it starts; try again soon"),
    ("shutting down", "it stops; try again when it runs"),
    ("Connection refused", "check that PostgreSQL runs, and the host and port"),
    ("could not translate host name", "check the host in the URL"),
    ("failed to resolve host", "check the host in the URL"),
    ("invalid URI", "correct the URL, such as postgresql://host:5432/name"),
    ("statement pooling mode", "set pool_mode = transaction in PgBouncer"),
    (
        "unsupported startup parameter",
        "leave that parameter out of the URL, or let the pooler ignore it",
    ),
    ("no more connections allowed", "raise max_client_conn of PgBouncer"),
    ("query_wait_timeout", "raise default_pool_size of PgBouncer"),
    ("timeout expired", "check the host and port, and the firewall"),
)


def remedy(error: psycopg.Error) -> str:
    """Return what a person can do about an error."""
    message = str(error)
    if "out of shared memory" in message:  # of which locks are a part
        return "raise max_locks_per_transaction of PostgreSQL"
    for kind, text in _REMEDIES:
        if isinstance(error, kind):
            return text
    for part, text in _CONNECT_REMEDIES:
        if part in message:
            return text
    return "check that PostgreSQL runs"


def reason(error: psycopg.Error) -> str:
    """Return the first line of an error. It never has the password."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("connection failed: ")


def unusable(url: str, error: psycopg.Error) -> DatabaseError:
    """Return the error that says why a server cannot start on a database."""
    return DatabaseError(
        f"{shown(url)} cannot be used ({reason(error)}); {remedy(error)}"
    )


def unreadable(error: psycopg.Error) -> StoreUnavailableError:
    """Return the error of a failed read."""
    return StoreUnavailableError(
        f"PostgreSQL cannot be read ({reason(error)}); {remedy(error)}"
    )


def unwritable(
    error: psycopg.Error, *, is_outcome_known: bool
) -> StoreUnavailableError:
    """Return the error of a failed write.

    Args:
        error: The error.
        is_outcome_known: Whether surely nothing was stored. The outcome of a commit is
            unknown if the connection broke meanwhile.
    """
    outcome = (
        "nothing of this request was accepted"
        if is_outcome_known
        else "it is unknown whether this request was stored, and its key decides"
    )
    return StoreUnavailableError(
        f"PostgreSQL failed to write ({reason(error)}); {outcome}; send it again; "
        f"{remedy(error)}"
    )


def is_conflict(error: BaseException) -> bool:
    """Return whether another transaction is the reason, so that a retry helps."""
    return isinstance(
        error,
        (
            sqlstates.DeadlockDetected,
            sqlstates.SerializationFailure,
            sqlstates.LockNotAvailable,
        ),
    )
