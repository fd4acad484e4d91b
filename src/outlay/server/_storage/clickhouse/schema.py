"""Define the tables of the history, and create or migrate them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._errors import DatabaseError, NewerDatabaseError

if TYPE_CHECKING:
    from outlay.server._storage.clickhouse.connection import Connection

_DURABLE: Final = "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"

# One entry for each schema version. A released entry never changes. Each statement can
# be repeated, because ClickHouse has no transaction around several.
_MIGRATIONS: Final = (
    (
        # A whole day of receipt is one partition. Instants are microseconds since 1970,
        # days are days since 1970.
        f"""
        CREATE TABLE IF NOT EXISTS {{db}}.events (
            day Int32 CODEC(Delta, ZSTD(1)),
            seq Int64 CODEC(Delta, ZSTD(1)),
            at Int64 CODEC(Delta, ZSTD(1)),
            received_at Int64 CODEC(Delta, ZSTD(1)),
            id String CODEC(ZSTD(1)),
            namespace LowCardinality(String),
            key String CODEC(ZSTD(1)),
            type LowCardinality(String),
            source LowCardinality(String),
            subject Nullable(String),
            external_subject Nullable(String),
            external_id Nullable(String),
            customer String MATERIALIZED
                coalesce(nullIf(subject, ''), external_subject, ''),
            data String CODEC(ZSTD(3)),
            INDEX by_id id TYPE bloom_filter(0.001) GRANULARITY 4,
            INDEX by_key key TYPE bloom_filter(0.001) GRANULARITY 4
        )
        ENGINE = MergeTree PARTITION BY day
        ORDER BY (namespace, type, intDiv(at, 3600000000), customer, at, seq)
        {_DURABLE}
        """,
        # The ledger whose days these are.
        """
        CREATE TABLE IF NOT EXISTS {db}.ledger (id String)
        ENGINE = MergeTree ORDER BY id
        """,
        # A day that is written again, before it replaces the old one.
        "CREATE TABLE IF NOT EXISTS {db}.rewritten AS {db}.events",
    ),
)

SCHEMA_VERSION: Final = len(_MIGRATIONS)
_VERSIONS: Final = "outlay_schema"


def migrate(connection: Connection) -> None:
    """Create the database and its tables, or bring them to this version.

    Several servers may do so at the same time.

    Raises:
        DatabaseError: The database belongs to another program.
        NewerDatabaseError: A newer version of outlay wrote it.
        HistoryUnavailableError: ClickHouse does not respond.
    """
    database = connection.database
    connection.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    tables = {name for (name,) in connection.rows(f"SHOW TABLES FROM {database}")}
    if tables and _VERSIONS not in tables:
        raise DatabaseError(
            f"{connection} has tables of another program; name a database of its own"
        )
    connection.command(
        f"CREATE TABLE IF NOT EXISTS {database}.{_VERSIONS} (version Int32)"
        " ENGINE = MergeTree ORDER BY version"
    )
    [(version,)] = connection.rows(f"SELECT max(version) FROM {database}.{_VERSIONS}")
    if version > SCHEMA_VERSION:
        raise NewerDatabaseError(
            f"{connection} has schema version {version}, this outlay knows up to "
            f"{SCHEMA_VERSION}; upgrade outlay, or name another database"
        )
    for number, statements in enumerate(_MIGRATIONS[version:], version + 1):
        for statement in statements:
            connection.command(statement.format(db=database))
        connection.insert(_VERSIONS, ["version"], [[number]])
