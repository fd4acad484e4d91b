"""Allow one server per database file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from outlay.server._errors import DatabaseBusyError, DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: SQLite's own locks still guard the data
    fcntl = None  # type: ignore[assignment]


def private_opener(path: str, flags: int) -> int:
    """Open a file that only its owner may read and write, if it is created."""
    return os.open(path, flags, 0o600)


class FileLock:
    """Holds ``<path>.lock`` while this process uses ``path``.

    The server keeps the list of costs in memory, and would not see the changes of a
    second writer. The lock is on a separate file, because closing any descriptor of
    the database would drop SQLite's own locks. The system releases the lock when the
    process dies.

    Raises:
        DatabaseBusyError: Another server holds the lock.
        DatabaseError: The lock file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        path = path.resolve()  # A symbolic link has the lock of its file.
        name = path.with_name(path.name + ".lock")
        try:
            self._file = open(name, "a", opener=private_opener)  # noqa: SIM115 - held open
        except OSError as error:
            raise DatabaseError(
                f"{path} cannot be used as database ({error.strerror}: {name}); "
                "check that its folder exists and can be written"
            ) from error
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise DatabaseBusyError(
                f"another outlay server has {path} open; stop it, or name another file"
            ) from error

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        self._file.close()
