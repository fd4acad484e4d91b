"""Advisory locks on files, which a forked child does not keep."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Final

from outlay._fork import ForkLock, after_fork_in_child
from outlay.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

_FILE_MODE: Final = 0o600
_PROBE: Final = ".lock-probe"


class Lock:
    """An advisory lock on a file, held until it is released or the process dies.

    ``flock`` belongs to the open file, so two clients in one process exclude each other
    too. A forked child would share the lock, and keep the file locked after its
    parent's death. So a child closes its copies first of all.
    """

    def __init__(self, path: Path) -> None:
        """Open the lock file. It is created if missing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with _opening_lock:
            self._descriptor = os.open(path, flags, _FILE_MODE)
            _open_locks.add(self)

    def acquire(self) -> bool:
        """Take the lock if it is free, and return whether it was.

        Raises:
            JournalError: The file system has no locks.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise JournalError(
                f"the journal folder's file system does not lock files ({error}); set "
                "OUTLAY_JOURNAL_DIR to a local folder"
            ) from error
        return True

    def release(self) -> None:
        """Unlock the file, also where a child forked meanwhile shares it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which unlocks it unless a forked process shares it.

        A second call does nothing, because two threads may find the folder gone.
        """
        descriptor, self._descriptor = self._descriptor, -1
        _open_locks.discard(self)
        if descriptor >= 0:
            os.close(descriptor)


# The locks of all journals. Some belong to a forgotten client, and some are being
# opened by another thread at the moment of a fork. The references are strong, because a
# lock without an owner still has a descriptor. A fork waits for a thread that has a
# descriptor and has not noted it yet. Re-entrant: a signal handler may fork.
_open_locks: Final[set[Lock]] = set()
_opening_lock: Final = ForkLock()


def _close_all_after_fork() -> None:
    for lock in [*_open_locks]:
        lock.close()


after_fork_in_child(_close_all_after_fork)


def check_locks_exclude(folder: Path) -> None:
    """Refuse a folder in which two holders can have the same lock.

    Some network file systems, and some that are shared with a virtual machine, grant
    every lock. Two processes would then ship the same events.

    Raises:
        JournalError: Locks do not exclude there, or the file system has none.
        OSError: The folder cannot be written to.
    """
    probe = folder / f"{_PROBE}-{os.getpid()}-{os.urandom(4).hex()}"
    with contextlib.ExitStack() as undo:
        first = Lock(probe)
        undo.callback(probe.unlink, missing_ok=True)
        undo.callback(first.close)
        second = Lock(probe)
        undo.callback(second.close)
        if first.acquire() and second.acquire():
            raise JournalError(
                f"locks on files in {folder} do not exclude each other, so events "
                "would be sent twice; set OUTLAY_JOURNAL_DIR to a local folder"
            )
