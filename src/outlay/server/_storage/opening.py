"""Open the store that the settings name."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from outlay.errors import install_extra
from outlay.server._errors import DatabaseError
from outlay.server._storage.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.server._settings import ServerSettings
    from outlay.server._storage.store import Store
    from outlay.server._storage.store_copy import CopiedStore


def open_store(settings: ServerSettings) -> Store:
    """Open the store of a server.

    Raises:
        DatabaseError: The database cannot be used. The message says what to do.
    """
    window = settings.dedupe_window // timedelta(microseconds=1)
    if settings.store is not None and settings.history is not None:
        return _open_history(settings.store, settings.history, window)
    if settings.store is not None:
        with _optional_packages():
            from outlay.server._storage.postgres.store import PostgresStore  # noqa: PLC0415 - an optional package
        return PostgresStore(settings.store, dedupe_window=window, follows_clock=True)
    if settings.database == ":memory:":
        return _TemporaryStore(window)
    return SqliteStore(Path(settings.database), dedupe_window=window)


def _open_history(url: str, history: str, window: int) -> Store:
    with _optional_packages("clickhouse"):
        from outlay.server._storage.clickhouse.store import HistoryStore  # noqa: PLC0415 - an optional package
    return HistoryStore(
        url, history, dedupe_window=window, follows_clock=True, moves_days=True
    )


@contextmanager
def _optional_packages(extra: str = "postgres") -> Iterator[None]:
    """Say which packages to install, if an import in the block fails.

    Raises:
        DatabaseError: A package is missing.
    """
    try:
        yield
    except ImportError as error:
        raise DatabaseError(
            f"this store needs more packages ({error}); {install_extra(extra)}"
        ) from error


def is_postgres_url(name: str) -> bool:
    """Return whether a store's name is the URL of a PostgreSQL database."""
    return name.startswith(("postgresql://", "postgres://"))


def open_copied(
    name: str, dedupe_window: timedelta, *, must_exist: bool = False
) -> CopiedStore:
    """Open a store that is copied, or copied to.

    Args:
        name: A SQLite file, or the URL of a PostgreSQL database.
        dedupe_window: The time for which a key is remembered.
        must_exist: Whether a missing file is refused. Defaults to no.

    Raises:
        DatabaseBusyError: A server uses the store.
        DatabaseError: The store cannot be used. The message says what to do.
    """
    window = dedupe_window // timedelta(microseconds=1)
    if is_postgres_url(name):
        with _optional_packages():
            from outlay.server._storage.postgres.copying import open_alone  # noqa: PLC0415 - an optional package
        return open_alone(name, window)
    path = Path(name)
    if must_exist and not path.is_file():
        raise DatabaseError(f"there is no database {path}; name another file")
    return SqliteStore(path, dedupe_window=window)


class _TemporaryStore(SqliteStore):
    """A store whose file is deleted when it is closed.

    It is a file, because readers beside the writer must share it.
    """

    def __init__(self, dedupe_window: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="outlay-server-")
        path = Path(self._folder.name) / "outlay.db"
        super().__init__(path, dedupe_window=dedupe_window, durable=False)

    def close(self) -> None:
        """Close and delete the file."""
        super().close()
        self._folder.cleanup()
