"""Change the API keys of a database file, also while a server uses it."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Self

from outlay.server._errors import StoreUnavailableError
from outlay.server._storage.page import ALL
from outlay.server._storage.sql.keys import SqlKeyWriter, key_with_id, page_of_keys
from outlay.server._storage.sqlite.file_lock import FileLock
from outlay.server._storage.sqlite.schema import is_current, open_beside, open_writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from outlay.server._records import ApiKey


class KeyFile(SqlKeyWriter):
    """The API keys of a database file. Use as a context manager.

    It takes no server's lock, unless the file must be created or migrated first. A
    server on the file sees each change with its next request.

    Args:
        path: The database file. It is created if it does not exist.

    Raises:
        DatabaseError: The file cannot be used. The message says what to do.
    """

    _connection: sqlite3.Connection

    def __init__(self, path: Path) -> None:
        if not is_current(path):
            _migrate(path)
        self._connection = open_beside(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def keys(self, namespace: str) -> list[ApiKey]:
        """Return all keys of an organization, newest first."""
        keys, _ = page_of_keys(self._connection, namespace, ALL)
        return keys

    def key(self, namespace: str, key_id: str) -> ApiKey | None:
        """Return the key of an organization with this id."""
        return key_with_id(self._connection, namespace, key_id)

    @contextmanager
    def _changing_keys(self) -> Iterator[None]:
        """Commit at the end of the block, or roll back.

        Raises:
            StoreUnavailableError: The file failed to write.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise StoreUnavailableError(
                f"the database failed to write ({error}); try again"
            ) from error


def _migrate(path: Path) -> None:
    lock = FileLock(path)
    try:
        with closing(open_writer(path, durable=True)):
            pass
    finally:
        lock.release()
