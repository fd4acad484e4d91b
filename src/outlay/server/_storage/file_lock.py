"""At most one server per database file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay.server._errors import DatabaseBusyError, DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: SQLite's own locks still guard the data
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """Holds ``<path>.lock`` for as long as this process uses ``path``.

    The server keeps which costs exist in memory, so a second writer would be unknown
    to it. A separate file, because closing any descriptor of the database itself
    would drop SQLite's own locks on it. The system releases the lock when the process
    dies, however it dies.

    Raises:
        DatabaseBusyError: another process, or another server in this one, holds it.
        DatabaseError: the lock file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        name = path.with_name(path.name + ".lock")
        try:
            self._file = name.open("a")
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
        """Let others have the file. Does nothing the second time."""
        self._file.close()
