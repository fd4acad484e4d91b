"""Open the store that the settings name."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from outlay.server._storage.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from outlay.server._settings import ServerSettings
    from outlay.server._storage.store import Store


def open_store(settings: ServerSettings) -> Store:
    """Open the store of a server.

    Raises:
        DatabaseError: The database cannot be used. The message says what to do.
    """
    window = settings.dedupe_window // timedelta(microseconds=1)
    if settings.database == ":memory:":
        return _TemporaryStore(window)
    return SqliteStore(Path(settings.database), dedupe_window=window)


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
