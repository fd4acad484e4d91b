"""Open consistent views of a SQLite file, beside its writer or in another process."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from outlay.server._errors import QueryStoppedError, StoreUnavailableError
from outlay.server._storage.query_limit import current_limit
from outlay.server._storage.sqlite.reader import SqliteReader
from outlay.server._storage.sqlite.schema import DAMAGE_REMEDY, is_damage, open_reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STEPS: Final = (
    10_000  # of SQLite's machine between two looks at the limit: some 0.5 ms
)


class SqliteViews:
    """Opens views, and keeps their connections. Thread safety: any thread.

    Args:
        path: The database file. It must exist, with the tables of this version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[SqliteReader] = []  # guarded by _lock
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[SqliteReader]:
        """Open a consistent view. It contains everything that was stored before.

        Raises:
            QueryStoppedError: The current `QueryLimit` ended the query.
            StoreUnavailableError: The database cannot be read.
        """
        limit = current_limit()
        if limit is not None and limit.is_over():
            raise QueryStoppedError("the query was stopped")
        try:
            reader = self._take()
            try:
                if limit is not None:
                    reader.stop_when(limit.is_over, _STEPS)
                with reader.snapshot():
                    yield reader
            finally:
                reader.stop_when(None, 0)
                with self._lock:
                    self._idle.append(reader)
        except sqlite3.Error as error:
            if limit is not None and limit.is_over():
                raise QueryStoppedError("the query was stopped") from None
            raise StoreUnavailableError(
                f"the database cannot be read ({error})"
                + (f"; {DAMAGE_REMEDY}" if is_damage(error) else "")
            ) from error

    def close(self) -> None:
        """Close all connections. No thread may be reading."""
        with self._lock:
            readers, self._idle = self._idle, []
        for reader in readers:
            reader.close()

    def _take(self) -> SqliteReader:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return SqliteReader(open_reader(self._path))
