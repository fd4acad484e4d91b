"""A PostgreSQL for measurements: durable, with the settings of the manual page."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.support.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS: Final = (
    "fsync=on",
    "full_page_writes=on",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "wal_compression=lz4",
    "checkpoint_timeout=15min",
)


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL with a new folder, whose commits wait for the disk."""
    server = PostgresServer(*_SETTINGS)
    try:
        server.start()
        yield server
    finally:
        server.remove()
