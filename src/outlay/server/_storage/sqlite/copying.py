"""Copy a database file as a whole, check the copy, and exchange one for another."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from itertools import count
from typing import TYPE_CHECKING, Final

from outlay.server._errors import DamagedDatabaseError, DatabaseError
from outlay.server._storage.sqlite.file_lock import FileLock, private_opener
from outlay.server._storage.sqlite.schema import open_beside, unusable

if TYPE_CHECKING:
    from pathlib import Path

_COMPANIONS: Final = ("-wal", "-shm", "-journal")  # that SQLite has beside a database


def copy_database(source: Path, target: Path) -> int:
    """Copy a database to a new file, also while a server writes to it.

    The copy is of one instant, and one file. It appears under its name only when it is
    complete, on the disk, and checked.

    Args:
        source: The database.
        target: The new file. Only its owner can read it.

    Returns:
        The number of events in the copy.

    Raises:
        DamagedDatabaseError: The source has wrong bytes.
        DatabaseError: The source cannot be read, or the target exists or cannot be
            written.
    """
    if not source.is_file():
        raise DatabaseError(f"there is no database {source}; name another file")
    if target.exists():
        raise DatabaseError(f"{target} exists; name a new file")
    partial = target.with_name(f"{target.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        os.close(private_opener(str(partial), os.O_CREAT | os.O_EXCL | os.O_RDWR))
        events = _copy(source, partial)
        partial.rename(target)
        _sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise unusable(target, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return events


def restore_database(backup: Path, target: Path) -> Path | None:
    """Put a copy of ``backup`` in the place of a database that no server uses.

    The file is exchanged in one step, so that a crash leaves one database or the other.

    Returns:
        The new name of the earlier database, or None if there was none.

    Raises:
        DatabaseBusyError: A server uses the database.
        DatabaseError: A file cannot be used. The earlier database stays.
    """
    fresh = target.with_name(f"{target.name}.restored")
    lock = FileLock(target)
    try:
        fresh.unlink(missing_ok=True)
        copy_database(backup, fresh)
        earlier = _set_aside(target) if target.exists() else None
        fresh.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise unusable(target, error) from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        lock.release()
    return earlier


def _copy(source: Path, target: Path) -> int:
    try:
        with closing(open_beside(source)) as reading:
            # One reading transaction, which does not hold up the server's writer. The
            # backup API would copy the unused parts of pages as well, in which erased
            # ids can remain.
            reading.execute("VACUUM INTO ?", (str(target),))
        with closing(sqlite3.connect(target)) as copy:
            # One file, without a log beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
            _check(copy, source)
            (events,) = copy.execute("SELECT count(*) FROM events").fetchone()
    except sqlite3.Error as error:
        raise unusable(source, error) from error
    with target.open("rb") as file:
        os.fsync(file.fileno())
    return int(events)


def _check(connection: sqlite3.Connection, source: Path) -> None:
    """Read each page of a copy."""
    (result,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if result != "ok":
        raise DamagedDatabaseError(
            f"{source} is damaged ({result}); keep it, check the disk, and restore an "
            "earlier backup with 'outlay restore'"
        )


def _set_aside(target: Path) -> Path:
    """Give the earlier database a second name, and move its log away."""
    with suppress(sqlite3.Error, DatabaseError), closing(open_beside(target)) as old:
        # The file alone is whole then. SQLite removes the log with the connection.
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    earlier = _free_name(target)
    for ending in _COMPANIONS:
        companion = target.with_name(target.name + ending)
        if companion.exists():
            # A log of the earlier file must never be applied to the new one.
            companion.rename(earlier.with_name(earlier.name + ending))
    os.link(target, earlier)
    return earlier


def _free_name(target: Path) -> Path:
    names = (target.with_name(f"{target.name}.before-restore-{n}") for n in count(1))
    return next(name for name in names if not name.exists())


def _sync(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
