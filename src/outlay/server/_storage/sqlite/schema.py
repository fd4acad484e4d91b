"""Define the tables of the database file, migrate them, and open the file."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from outlay.server._errors import (
    DamagedDatabaseError,
    DatabaseError,
    NewerDatabaseError,
)
from outlay.server._logs import UPDATE_LOGGER
from outlay.server._storage.sql import (
    budgets,
    corrections,
    ended_tokens,
    reconciliations,
    revenue,
)
from outlay.server._storage.sqlite import erasing, retention, rollups
from outlay.server._storage.sqlite.file_lock import private_opener
from outlay.server._storage.sqlite.view_connection import ViewConnection

if TYPE_CHECKING:
    from pathlib import Path

ConnectionT = TypeVar("ConnectionT", bound=sqlite3.Connection)

APPLICATION_ID: Final = 0x6F75_746C  # "outl" marks our files among SQLite files

# One entry for each schema version. A released entry never changes.
_MIGRATIONS: Final = (
    """
    -- What was received, in order of receipt. Instants are microseconds since 1970.
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        type TEXT NOT NULL,
        source TEXT NOT NULL,
        subject TEXT,
        external_subject TEXT,
        external_id TEXT,
        at INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        data TEXT NOT NULL
    );
    CREATE INDEX events_by_time ON events (namespace, type, at);

    -- Which event an idempotency key stands for. Only keys inside of the dedupe
    -- window are kept, so that looking one up does not get slower with the years.
    CREATE TABLE receipts (
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (namespace, key)
    ) WITHOUT ROWID;

    -- One row: receipts of events up to this one have been looked at and dropped.
    CREATE TABLE progress (forgotten_seq INTEGER NOT NULL);
    INSERT INTO progress VALUES (0);

    -- folded_seq: rollups hold the events up to this one; NULL: they hold all.
    CREATE TABLE costs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        unit_cost TEXT NOT NULL,
        currency TEXT NOT NULL,
        product_id TEXT NOT NULL,
        event_type TEXT,
        aggregation TEXT,
        value_property TEXT,
        group_by TEXT NOT NULL,
        unit TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        deleted_at INTEGER,
        folded_seq INTEGER
    );

    -- What the events of an hour add to a cost, per customer and set of dimensions.
    -- dimensions: JSON array of values, ordered by dimension name.
    -- value: exact decimal text; a sum, extreme or latest value, as the cost says.
    CREATE TABLE rollups (
        cost INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        customer TEXT NOT NULL,
        dimensions TEXT NOT NULL,
        events INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        value TEXT,
        value_at INTEGER NOT NULL,
        value_seq INTEGER NOT NULL,
        PRIMARY KEY (cost, hour, customer, dimensions)
    ) WITHOUT ROWID;

    CREATE TABLE products (
        id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        metadata TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (namespace, id)
    );

    CREATE TABLE api_keys (
        digest BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        namespace TEXT NOT NULL,
        permissions TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    -- Receipts hold the keys of events up to noted_seq; the later events say theirs.
    ALTER TABLE progress ADD COLUMN noted_seq INTEGER NOT NULL DEFAULT 0;
    UPDATE progress SET noted_seq = (SELECT coalesce(max(seq), 0) FROM events);
    """,
    """
    -- What the events of an hour, day or month add to a metric. cube: which of the
    -- dimensions are kept. giga to atto: a sum in exact integers. rank: orders value,
    -- if that is an extreme or the latest one.
    DROP TABLE rollups;
    CREATE TABLE rollups (
        metric INTEGER NOT NULL,
        cube INTEGER NOT NULL,
        grain INTEGER NOT NULL,
        bucket INTEGER NOT NULL,
        customer TEXT NOT NULL,
        dimensions TEXT NOT NULL,
        events INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        other_currency INTEGER NOT NULL,
        giga INTEGER NOT NULL,
        ones INTEGER NOT NULL,
        nano INTEGER NOT NULL,
        atto INTEGER NOT NULL,
        rank BLOB NOT NULL,
        value TEXT,
        PRIMARY KEY (metric, cube, grain, bucket, customer, dimensions)
    ) WITHOUT ROWID;

    -- Sums of an hour that are outside of the range of these integers.
    CREATE TABLE wide_sums (
        metric INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        customer TEXT NOT NULL,
        dimensions TEXT NOT NULL,
        value TEXT NOT NULL
    );
    CREATE INDEX wide_sums_by_hour ON wide_sums (metric, hour);

    -- Rollups of current metrics (folded_seq NULL) hold the events up to this one.
    ALTER TABLE progress ADD COLUMN folded_seq INTEGER NOT NULL DEFAULT 0;
    UPDATE progress SET folded_seq = (SELECT coalesce(max(seq), 0) FROM events);
    UPDATE costs SET folded_seq = 0;
    """,
    """
    -- Keys have a public id, and may end. hint: the last characters of the key.
    ALTER TABLE api_keys ADD COLUMN id TEXT NOT NULL DEFAULT '';
    ALTER TABLE api_keys ADD COLUMN hint TEXT NOT NULL DEFAULT '';
    ALTER TABLE api_keys ADD COLUMN expires_at INTEGER;
    ALTER TABLE api_keys ADD COLUMN revoked_at INTEGER;
    ALTER TABLE api_keys ADD COLUMN last_used_at INTEGER;
    UPDATE api_keys SET id = 'key_' || lower(hex(randomblob(12)));
    CREATE UNIQUE INDEX api_keys_by_id ON api_keys (id);
    """,
    """
    -- A new cost looks at the others of its event type only.
    CREATE INDEX costs_by_type ON costs (namespace, event_type);
    """,
    revenue.TABLES,
    """
    -- definition: the number under which a cost has its rollups. A changed cost gets
    -- the next one, so that its old rollups can be deleted slice by slice.
    ALTER TABLE costs ADD COLUMN definition INTEGER NOT NULL DEFAULT 0;
    UPDATE costs SET definition = number;
    ALTER TABLE progress ADD COLUMN last_definition INTEGER NOT NULL DEFAULT 0;
    UPDATE progress SET last_definition = (SELECT coalesce(max(number), 0) FROM costs);
    CREATE UNIQUE INDEX costs_by_definition ON costs (definition);
    CREATE TABLE ended_definitions (definition INTEGER PRIMARY KEY);
    """,
    """
    -- New ids begin with their time, so that this index grows at its end.
    CREATE INDEX events_by_id ON events (id);
    """,
    corrections.TABLES,
    erasing.TABLES,
    """
    -- The other fields of a billable metric, as JSON. NULL for a cost.
    ALTER TABLE costs ADD COLUMN billable TEXT;
    """,
    retention.TABLES,
    budgets.TABLES,
    budgets.ROTATION,
    ended_tokens.TABLES,
    budgets.OLD_SECRETS,
    rollups.THIRDS,
    """
    -- access_version changes with each key or token that begins or ends, so that the
    -- commits of events do not. Each program that writes to the file changes it.
    ALTER TABLE progress ADD COLUMN access_version INTEGER NOT NULL DEFAULT 0;
    CREATE TRIGGER access_of_new_key AFTER INSERT ON api_keys
    BEGIN UPDATE progress SET access_version = access_version + 1; END;
    CREATE TRIGGER access_of_changed_key AFTER UPDATE OF
        digest, namespace, permissions, expires_at, revoked_at ON api_keys
    BEGIN UPDATE progress SET access_version = access_version + 1; END;
    CREATE TRIGGER access_of_deleted_key AFTER DELETE ON api_keys
    BEGIN UPDATE progress SET access_version = access_version + 1; END;
    CREATE TRIGGER access_of_ended_token AFTER INSERT ON ended_tokens
    BEGIN UPDATE progress SET access_version = access_version + 1; END;
    """,
    reconciliations.TABLES,
    reconciliations.WITHDRAWALS,
    """
    -- While a definition lags, its rollups hold the events up to folded_seq, and those
    -- after since_seq that the rollups of all definitions hold. One that lagged before
    -- begins again.
    ALTER TABLE costs ADD COLUMN since_seq INTEGER NOT NULL DEFAULT 0;
    INSERT INTO ended_definitions SELECT definition FROM costs
    WHERE folded_seq IS NOT NULL AND deleted_at IS NULL;
    UPDATE costs SET folded_seq = 0,
        since_seq = (SELECT folded_seq FROM progress),
        definition = number + (SELECT last_definition FROM progress)
    WHERE folded_seq IS NOT NULL AND deleted_at IS NULL;
    UPDATE progress SET last_definition =
        (SELECT max(last_definition, coalesce(max(definition), 0)) FROM costs);
    """,
)

SCHEMA_VERSION: Final = len(_MIGRATIONS)

LOG_BYTES: Final = 32 * 1024 * 1024
"""The size to which a log is cut that a long query let grow."""

_PRIMARY_CODE: Final = 0xFF  # the rest of an error's code tells details

# For Python's sqlite3 it means "no implicit transactions". Ours are explicit.
_AUTOCOMMIT: Final = None

# Another program may lock the file for a moment. Clients wait 5 to 10 s for a response,
# and a request can wait behind another one.
_BUSY_SECONDS: Final = 2.0
_CACHE_KIB: Final = 65_536  # holds the day's receipts and the newest rollups
_READER_CACHE_KIB: Final = 16_384  # of each reader; holds a customer's hours

log: Final = logging.getLogger(UPDATE_LOGGER)


def open_writer(path: Path, *, durable: bool) -> sqlite3.Connection:
    """Open ``path`` for writing, creating or migrating it as needed.

    Args:
        path: The database file. Its folder must exist.
        durable: Whether a commit waits for the disk.

    Raises:
        DatabaseError: The file cannot be used, or belongs to another program.
        NewerDatabaseError: A newer version of outlay wrote the file.
    """
    try:
        _check_single_name(path)
        if not path.exists():
            os.close(private_opener(str(path), os.O_CREAT | os.O_RDWR))
        connection = _connect(path, sqlite3.Connection)
    except (OSError, sqlite3.Error) as error:
        raise unusable(path, error) from error
    try:
        _prepare(connection, path, durable=durable)
    except sqlite3.Error as error:
        connection.close()
        raise unusable(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_beside(path: Path) -> sqlite3.Connection:
    """Open a connection to ``path`` that writes beside a server.

    Its transactions must be short, because the server waits for them.

    Raises:
        DatabaseError: The file cannot be used, or belongs to another program.
        NewerDatabaseError: A newer version of outlay wrote the file.
    """
    _check_single_name(path)
    try:
        connection = _connect(path, sqlite3.Connection)
        try:
            _check_ours(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise unusable(path, error) from error
    return connection


def is_current(path: Path) -> bool:
    """Return whether ``path`` exists, and has this version's schema.

    Raises:
        DatabaseError: The file cannot be read, or belongs to another program.
    """
    if not path.exists():
        return False
    with closing(open_beside(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version == SCHEMA_VERSION)


def open_checkpointer(path: Path, *, durable: bool) -> sqlite3.Connection:
    """Open a connection to ``path`` that copies its log."""
    connection = _connect(path, sqlite3.Connection)
    _set_durability(connection, durable=durable)
    return connection


def open_reader(path: Path) -> ViewConnection:
    """Open a connection to ``path`` that reads beside the writer."""
    connection = _connect(path, ViewConnection)
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")
    return connection


def _check_single_name(path: Path) -> None:
    """Refuse a file with hard links.

    SQLite names its log after the database. Under two names there would be two logs,
    and each server would destroy what the other writes (sqlite.org/howtocorrupt.html,
    section 2.5, 2026-11).
    """
    if path.is_file() and path.stat().st_nlink > 1:
        raise DatabaseError(
            f"{path} has {path.stat().st_nlink} names (hard links), and another server "
            "may use it under another one; delete the other names"
        )


def _connect(path: Path, kind: type[ConnectionT]) -> ConnectionT:
    # Several threads use a connection, one at a time.
    return sqlite3.connect(
        path,
        timeout=_BUSY_SECONDS,
        isolation_level=_AUTOCOMMIT,
        check_same_thread=False,
        factory=kind,
    )


def _prepare(connection: sqlite3.Connection, path: Path, *, durable: bool) -> None:
    _check_ours(connection, path)
    # An earlier version created the file for all to read. SQLite's other files get the
    # mode of this one. If another user owns it, that user decides.
    with suppress(PermissionError):
        path.chmod(0o600)
    connection.execute("PRAGMA journal_mode = WAL")
    _set_durability(connection, durable=durable)
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    # A thread of its own copies the log (`checkpoints`).
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    connection.execute("PRAGMA temp_store = MEMORY")
    _migrate(connection)


def _set_durability(connection: sqlite3.Connection, *, durable: bool) -> None:
    # FULL means that a commit returns after the log is on the disk, past its cache.
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        raise DatabaseError(
            f"{path} is a SQLite database of another program; name another file"
        )
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise NewerDatabaseError(
            f"{path} has schema version {version}, this outlay knows up to "
            f"{SCHEMA_VERSION}; upgrade outlay, or name another file"
        )


def _migrate(connection: sqlite3.Connection) -> None:
    """Update the tables. It also proves that the file can be written."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        migrations = _MIGRATIONS[version:]
        for number, migration in enumerate(migrations, 1):
            if version:  # A large file takes minutes, and the server is silent so long.
                log.info(
                    "updating the database: step %d of %d", number, len(migrations)
                )
            for statement in migration.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def is_damage(error: BaseException) -> bool:
    """Return whether an error of SQLite means that the file has wrong bytes."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & _PRIMARY_CODE == sqlite3.SQLITE_CORRUPT


DAMAGE_REMEDY: Final = (
    "the database file is damaged; stop the server, check the disk, and restore the "
    "last backup with 'outlay restore'"
)


def unusable(path: Path, error: OSError | sqlite3.Error) -> DatabaseError:
    """Return the error that says why a file cannot be used, and what to do."""
    if is_damage(error):
        return DamagedDatabaseError(f"{path} cannot be read ({error}); {DAMAGE_REMEDY}")
    return DatabaseError(
        f"{path} cannot be used as database ({error}); check that its folder exists, "
        "that both can be written, and that it is no other kind of file"
    )
