"""Find the process that holds a writer's folder, without touching its locks.

Trying a lock would tell too, but could turn an adopter away at that moment. Linux lists
the locks of all processes that the reader can see (proc_locks(5)), so not those of
other containers. On other systems, the process in the folder's name counts as its
holder while it lives. The result is for people to read. Decisions about events use the
locks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from outlay._journal.folders import SHIPPER_LOCK, WRITER_LOCK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_LOCKS: Final = Path("/proc/locks")

_Inode: TypeAlias = tuple[int, int, int]
"""The major and minor number of the device, and the number of the inode."""


class LockOwners:
    """The holders of all locks at one moment."""

    def __init__(self, by_lock: Mapping[_Inode, int] | None) -> None:
        """Remember the holders.

        Args:
            by_lock: The process ids by lock. None if the system does not list them.
        """
        self._by_lock = by_lock

    @classmethod
    def read(cls, locks: Path = _LOCKS) -> Self:
        """Return the holders now.

        Args:
            locks: The system's list. Defaults to that of Linux.
        """
        try:
            return cls(_parse(locks.read_text()))
        except OSError:
            return cls(None)

    def shipper_of(self, writer: Path) -> int | None:
        """Return the id of the process that ships a writer's events, or None."""
        return self._of(writer, SHIPPER_LOCK)

    def writer_of(self, writer: Path) -> int | None:
        """Return the id of the process that may append to a folder, or None."""
        return self._of(writer, WRITER_LOCK)

    def _of(self, writer: Path, lock: str) -> int | None:
        if self._by_lock is None:
            return _process_in_name(writer)
        try:
            found = (writer / lock).stat()
        except OSError:  # never locked, or just removed
            return None
        device = os.major(found.st_dev), os.minor(found.st_dev)
        return self._by_lock.get((*device, found.st_ino))


def _parse(text: str) -> dict[_Inode, int]:
    holders = {}
    for line in text.splitlines():
        # 1: FLOCK  ADVISORY  WRITE 20878 fe:00:2151419 0 EOF
        # A line with "->" before FLOCK is of a process that waits.
        _, kind, _, _, process, inode, *_ = line.split()
        if kind == "FLOCK":
            major, minor, number = inode.split(":")
            holders[int(major, 16), int(minor, 16), int(number)] = int(process)
    return holders


def _process_in_name(writer: Path) -> int | None:
    """Return the process that ``writer`` is named after, if it lives."""
    number = writer.name.partition("-")[2].partition("-")[0]
    if not number.isdecimal():
        return None
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # it lives, as another user
    return int(number)
