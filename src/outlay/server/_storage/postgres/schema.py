"""Define the tables in PostgreSQL, and migrate them while other servers run.

One server migrates. The others wait for it, and find the new version. A migration
only adds, so that the servers of the version before go on, meanwhile and afterwards.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import psycopg

from outlay.server._errors import DatabaseError, NewerDatabaseError
from outlay.server._logs import UPDATE_LOGGER
from outlay.server._storage.postgres import connecting
from outlay.server._storage.postgres.locks import Lock, Locks
from outlay.server._storage.sql import (
    budgets,
    corrections,
    ended_tokens,
    reconciliations,
    revenue,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay.server._storage.postgres.connecting import PostgresConnection

log: Final = logging.getLogger(UPDATE_LOGGER)

RING: Final = 6
"""The number of the tables of receipts. Each holds a quarter of the dedupe window."""


def _postgres(tables: str) -> str:
    """Return the shared definitions of tables in PostgreSQL's words.

    Texts are compared by their code points, as in Python and in SQLite.
    """
    for old, new in (
        ("INTEGER PRIMARY KEY", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
        ("INTEGER", "bigint"),
        ("TEXT", 'text COLLATE "C"'),
        ("BLOB", "bytea"),
        (") WITHOUT ROWID", ")"),
    ):
        tables = tables.replace(old, new)
    return tables


# One entry for each schema version. A released entry never changes. Each entry after
# the first only adds: tables, indexes, and columns that are nullable or have a default.
# So the servers of the version before go on. Instants are microseconds since 1970, and
# days are days since 1970.
MIGRATIONS: Final = (
    _postgres(
        """
    -- registry: grows when appends must read costs, closed periods or erasures again.
    -- keys: grows with each change of an API key. epoch: the current table of receipts.
    CREATE TABLE outlay_state (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        schema_version int NOT NULL,
        registry bigint NOT NULL DEFAULT 1,
        keys bigint NOT NULL DEFAULT 1,
        epoch int NOT NULL DEFAULT 0,
        epoch_since bigint NOT NULL DEFAULT 0
    );
    INSERT INTO outlay_state (schema_version) VALUES (0);
    CREATE SEQUENCE batches;
    CREATE SEQUENCE definitions AS int;

    -- The keys within the dedupe window. key_hash: BLAKE2b-128 of organization and key.
    CREATE TABLE receipts (
        epoch int NOT NULL,
        key_hash uuid NOT NULL,
        received_at bigint NOT NULL,
        seq bigint NOT NULL,
        PRIMARY KEY (key_hash, epoch)
    ) PARTITION BY LIST (epoch);

    -- day: of receipt. seq: the order of receipt, batch << 14 | place.
    CREATE TABLE events (
        day int NOT NULL,
        seq bigint NOT NULL,
        at bigint NOT NULL,
        received_at bigint NOT NULL,
        id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        type TEXT NOT NULL,
        source TEXT NOT NULL,
        subject TEXT,
        external_subject TEXT,
        external_id TEXT,
        data TEXT NOT NULL,
        PRIMARY KEY (day, seq)
    ) PARTITION BY RANGE (day);
    CREATE INDEX events_by_time ON events (namespace, type, at);
    CREATE INDEX events_by_id ON events (id);

    -- definition: the number under which a cost has its rollups. Appends fold events
    -- after cutoff. folded: the place up to which earlier events are folded; NULL: all.
    CREATE TABLE costs (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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
        created_at bigint NOT NULL,
        updated_at bigint NOT NULL,
        billable TEXT,
        deleted_at bigint,
        definition int NOT NULL UNIQUE DEFAULT nextval('definitions'),
        cutoff bigint NOT NULL,
        folded_day int,
        folded_seq bigint
    );
    CREATE INDEX costs_by_type ON costs (namespace, event_type);

    -- What an append adds to a definition. It only inserts, so that no server waits for
    -- another one's row. kind: the way in which values are combined (`rollups`).
    CREATE TABLE deltas (
        definition int NOT NULL,
        hour int NOT NULL,
        kind "char" NOT NULL,
        events bigint NOT NULL,
        skipped bigint NOT NULL,
        other_currency bigint NOT NULL,
        value_at bigint NOT NULL,
        value_seq bigint NOT NULL,
        value numeric,
        customer TEXT NOT NULL,
        dims text[] NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);

    -- grp: a digest of customer and dimensions, of which a cube leaves some empty. Rows
    -- of rollups have it, because an entry of an index has at most 2,704 bytes.
    CREATE TABLE groups (
        definition int NOT NULL,
        cube smallint NOT NULL,
        grp uuid NOT NULL,
        customer TEXT NOT NULL,
        dims text[] NOT NULL,
        PRIMARY KEY (definition, cube, grp)
    );
    CREATE INDEX groups_by_customer ON groups (definition, cube, customer);
    -- grain, bucket: as in `buckets`. A read locks each partition of a table, and
    -- rollups stay for years, so they are one table. Its pages have room, so that the
    -- changes of a row need no new entries of the index.
    CREATE TABLE rollups (
        definition int NOT NULL,
        cube smallint NOT NULL,
        grain smallint NOT NULL,
        bucket int NOT NULL,
        grp uuid NOT NULL,
        kind "char" NOT NULL,
        events bigint NOT NULL,
        skipped bigint NOT NULL,
        other_currency bigint NOT NULL,
        value_at bigint NOT NULL,
        value_seq bigint NOT NULL,
        value numeric,
        PRIMARY KEY (definition, cube, grain, bucket, grp)
    ) WITH (fillfactor = 70);
    -- The rows of hours up to this one are in those of larger grains (`larger_grains`).
    CREATE TABLE added_hours (
        definition int NOT NULL,
        cube smallint NOT NULL,
        last_hour int NOT NULL,
        last_grp uuid NOT NULL,
        PRIMARY KEY (definition, cube)
    );
    CREATE TABLE ended_definitions (definition int PRIMARY KEY);

    CREATE TABLE products (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        metadata TEXT NOT NULL,
        created_at bigint NOT NULL,
        updated_at bigint NOT NULL,
        UNIQUE (namespace, id)
    );
    CREATE TABLE api_keys (
        digest BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        namespace TEXT NOT NULL,
        permissions TEXT NOT NULL,
        created_at bigint NOT NULL,
        id TEXT NOT NULL UNIQUE,
        hint TEXT NOT NULL,
        expires_at bigint,
        revoked_at bigint,
        last_used_at bigint
    );

    CREATE TABLE erasures (
        number INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        customer TEXT NOT NULL,
        pseudonym TEXT NOT NULL,
        started_at bigint NOT NULL,
        last_seq bigint NOT NULL,
        done_day int NOT NULL,
        done_seq bigint NOT NULL,
        rewritten_day int NOT NULL DEFAULT -2147483648,
        UNIQUE (namespace, customer)
    );
    CREATE TABLE retention (
        namespace TEXT PRIMARY KEY,
        keep bigint NOT NULL
    );
    CREATE TABLE deleted_events (
        namespace TEXT NOT NULL,
        type TEXT NOT NULL,
        deleted_before bigint NOT NULL,
        deleted_seq bigint NOT NULL,
        PRIMARY KEY (namespace, type)
    );
    """
    )
    + "".join(
        f"CREATE TABLE receipts_{epoch} PARTITION OF receipts FOR VALUES IN ({epoch});"
        for epoch in range(RING)
    )
    + _postgres(corrections.TABLES)
    + _postgres(revenue.TABLES)
    + _postgres(budgets.TABLES)
    + _postgres(budgets.OLD_SECRETS_COLUMN)
    + _postgres(ended_tokens.TABLES),
    _postgres(
        """
    -- All events before the place after (day, seq) are in ClickHouse. copied_day: the
    -- day that is copied, and moves slice by slice. moved: its moved events.
    CREATE TABLE history (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        id TEXT NOT NULL,
        day int NOT NULL DEFAULT 0,
        seq bigint NOT NULL DEFAULT 0,
        copied_day int,
        moved bigint NOT NULL DEFAULT 0
    );
    -- is_changing: old events of the day are being deleted in ClickHouse.
    CREATE TABLE moved_days (
        day int PRIMARY KEY,
        events bigint NOT NULL,
        moved_at bigint NOT NULL,
        is_emptied boolean NOT NULL DEFAULT false,
        is_changing boolean NOT NULL DEFAULT false
    );
    -- No copied event of a type is earlier or later.
    CREATE TABLE moved_types (
        namespace TEXT NOT NULL,
        type TEXT NOT NULL,
        first_at bigint NOT NULL,
        last_at bigint NOT NULL,
        PRIMARY KEY (namespace, type)
    );
    -- Moved events that no view counts on any more, and that will be deleted.
    CREATE TABLE moved_deletions (
        namespace TEXT NOT NULL,
        type TEXT NOT NULL,
        deleted_before bigint NOT NULL,
        noted_at bigint NOT NULL,
        PRIMARY KEY (namespace, type)
    );
    """
    ),
    _postgres(reconciliations.TABLES),
    _postgres(reconciliations.WITHDRAWALS),
)


_LOCK_TIMEOUT: Final = "2s"
"""A query that reads for minutes must not make a migration stop all others so long."""

_ATTEMPTS: Final = 60  # with the waits for locks, some two minutes

_TABLES: Final = (
    "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')"
    " AND relnamespace = current_schema()::regnamespace"
)


def open_ledger(
    url: str, migrations: Sequence[str] = MIGRATIONS
) -> tuple[PostgresConnection, Locks]:
    """Connect, and create or migrate the tables as needed.

    Args:
        url: The URL of the database.
        migrations: One script for each schema version. Defaults to those of this
            version of outlay.

    Raises:
        DatabaseError: The database cannot be used. The message says what to do.
        NewerDatabaseError: A newer version of outlay wrote it.
    """
    try:
        connection = connecting.connect(url)
    except psycopg.Error as error:
        raise connecting.unusable(url, error) from None
    try:
        _check_server(connection, url)
        locks = Locks(connection)
        _migrate(connection, url, locks, migrations)
    except psycopg.Error as error:
        connection.close()
        raise connecting.unusable(url, error) from None
    except BaseException:
        connection.close()
        raise
    return connection, locks


def check_version(number: int, place: str) -> None:
    """Check that a server is one of those that outlay is tested over.

    Args:
        number: Its ``server_version_num``, such as 150004.
        place: The database, as a message shows it.

    Raises:
        DatabaseError: It is too old.
    """
    version = number // 10_000
    if version < connecting.OLDEST_VERSION:
        raise DatabaseError(
            f"{place} is PostgreSQL {version}; outlay needs "
            f"{connecting.OLDEST_VERSION} or later; upgrade it"
        )


def _check_server(connection: PostgresConnection, url: str) -> None:
    check_version(connection.raw.info.server_version, connecting.shown(url))
    (is_standby, schema, encoding) = connection.execute(
        "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,"
        " current_schema(), current_setting('server_encoding')"
    ).fetchone()
    if is_standby:
        raise DatabaseError(
            f"{connecting.shown(url)} is a standby, or read-only; name the primary"
        )
    if schema is None:
        raise DatabaseError(
            f"{connecting.shown(url)} has no schema in the search_path of the user; "
            "create the schema 'public', or set search_path"
        )
    if encoding != "UTF8":
        raise DatabaseError(
            f"{connecting.shown(url)} has the encoding {encoding}, which cannot hold "
            "every text; create the database with ENCODING 'UTF8'"
        )


def _migrate(
    connection: PostgresConnection, url: str, locks: Locks, migrations: Sequence[str]
) -> None:
    """Migrate the tables. Try again if transactions of other servers are in the way.

    Between two tries, the transactions that waited for this one go on.

    Raises:
        psycopg.Error: Others were in the way for too long, or a migration failed.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return _migrate_once(connection, url, locks, migrations)
        except psycopg.Error as error:
            if not connecting.is_conflict(error):
                raise
    return _migrate_once(connection, url, locks, migrations)


def _migrate_once(
    connection: PostgresConnection, url: str, locks: Locks, migrations: Sequence[str]
) -> None:
    connection.execute("BEGIN")
    try:
        locks.take(connection, Lock.MIGRATION)
        connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        version = _version(connection, url, newest=len(migrations))
        steps = migrations[version:]
        for number, step in enumerate(steps, 1):
            # A large table takes minutes, and the server is silent so long.
            if version:
                log.info("updating the database: step %d of %d", number, len(steps))
            connection.raw.execute(step.encode())
        if steps:
            connection.execute(
                "UPDATE outlay_state SET schema_version = ?", (len(migrations),)
            )
    except BaseException:
        if not connection.raw.closed:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: PostgresConnection, url: str, *, newest: int) -> int:
    tables = {name for (name,) in connection.execute(_TABLES)}
    if not tables:
        return 0
    if "outlay_state" not in tables:
        raise DatabaseError(
            f"{connecting.shown(url)} has tables of another program; create a database "
            "for outlay, and name that one"
        )
    (version,) = connection.execute(
        "SELECT schema_version FROM outlay_state"
    ).fetchone()
    if version > newest:
        raise NewerDatabaseError(
            f"{connecting.shown(url)} has schema version {version}, this outlay knows "
            f"up to {newest}; upgrade outlay, or name another database"
        )
    return int(version)
