"""Unpriced costs on disk, kept until a price is known.

One file of JSON lines for each process, like dead letters. A line is written before the
caller goes on, so it survives the death of the process; its state is changed in place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay._journal.folders import Lock
from outlay._model.unpriced import OPENINGS, State, UnpricedCost
from outlay.errors import SpillFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from outlay._journal.folders import DestinationFolder
    from outlay._model.clock import Clock
    from outlay._model.notices import Notices

_FILE_MODE: Final = 0o600
_MEASURED_EVERY: Final = 128  # lines; others write to the same folder
_FILES: Final = 16  # so many of one process fill the folder
SUFFIX: Final = ".jsonl"


class Kept(NamedTuple):
    """Where an unpriced cost was put.

    Attributes:
        path: the file; None: in memory.
        offset: of the line in it.
        line: the line.
    """

    path: Path | None
    offset: int
    line: bytes

    @property
    def durable(self) -> bool:
        """Whether it survives the death of the process."""
        return self.path is not None


class UnpricedCosts:
    """Keeps the unpriced costs of one process.

    Thread safety: any thread, re-entrant.
    """

    def __init__(
        self,
        folder: Callable[[], DestinationFolder | None],
        *,
        max_bytes: int,
        synced: bool,
        clock: Clock,
        notices: Notices,
    ) -> None:
        """Keep costs in a folder, made at the first one.

        Args:
            folder: returns the destination's, made if need be; None: keep them in
                memory. It may raise OSError.
            max_bytes: limit of what all processes keep there.
            synced: return only when the disk has it.
            clock: names the files.
            notices: where trouble is reported.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._synced = synced
        self._clock = clock
        self._notices = notices
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # re-entrant: finalisers record streams
        self._file: _File | None = None  # this and the rest: guarded by _lock
        self._memory: dict[int, bytes] = {}
        self._used = 0
        self._until_measured = 0
        self._kept = 0

    @property
    def count(self) -> int:
        """How many this process keeps, as far as it knows."""
        return self._kept

    @property
    def in_memory(self) -> int:
        """How many are lost when the process ends."""
        return len(self._memory)

    def keep(self, cost: UnpricedCost) -> Kept:
        """Keep ``cost``.

        Raises:
            SpillFullError: there is no room.
        """
        line = msgspec.json.encode(cost) + b"\n"
        with self._lock:
            kept = self._keep(line)
            self._used += len(line)
            self._kept += 1
        return kept

    def withdraw(self, kept: Kept) -> None:
        """Mark a cost of this process as done: its price came by another door."""
        with self._lock:
            self._kept -= 1
            if kept.path is None:
                self._used -= len(self._memory.pop(kept.offset, b""))
                return
        with contextlib.suppress(FileNotFoundError):
            # A handler that kept a cost in the midst of this one may have moved it.
            if bytes_at(kept.path, kept.offset, len(kept.line)) == kept.line:
                mark(kept.path, [kept.offset], "done")

    def forked(self) -> None:
        """Begin anew in a forked child: the files are the parent's."""
        if self._file is not None:
            self._file.close()
        self._begin()

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _keep(self, line: bytes) -> Kept:
        try:
            file = self._writable()
        except OSError as error:
            self._notices.warn("unpriced disk", _NOT_ON_DISK, error)
            file = None
        self._check_room(len(line))
        if file is not None:
            try:
                return file.append(line, synced=self._synced)
            except OSError as error:
                self._notices.warn("unpriced disk", _NOT_ON_DISK, error)
        number = self._kept
        self._memory[number] = line
        return Kept(None, number, line)

    def _writable(self) -> _File | None:
        if self._file is not None and self._file.size >= self._max_bytes // _FILES:
            self.close()  # so that it can be deleted some day
        if self._file is None:
            folder = self._folder()
            if folder is None:
                return None
            self._file = _File.create(folder, self._clock.now_ms())
            self._until_measured = 0
        return self._file

    def _check_room(self, size: int) -> None:
        if self._until_measured <= 0 and self._file is not None:
            self._used = _size_of(self._file.path.parent)
            self._until_measured = _MEASURED_EVERY
        self._until_measured -= 1
        if self._used + size > self._max_bytes:
            raise SpillFullError(
                f"unpriced costs take {self._used} of max_unpriced_bytes="
                f"{self._max_bytes} bytes; run 'outlay reprice', or raise "
                "OUTLAY_MAX_UNPRICED_BYTES"
            )


_NOT_ON_DISK: Final = (
    "unpriced costs cannot be written to disk (%s); they are kept in memory only, and "
    "a crash loses them"
)


class _File:
    """The file that a living process appends to, and its lock on it."""

    def __init__(self, path: Path, descriptor: int, lock: Lock) -> None:
        self.path = path
        self.size = 0
        self._descriptor = descriptor
        self._lock = lock

    @classmethod
    def create(cls, folder: DestinationFolder, now_ms: int) -> _File:
        folder.unpriced_path.mkdir(mode=0o700, exist_ok=True)
        name = f"{now_ms:013d}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        path = folder.unpriced_path / name
        flags = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(path, flags, _FILE_MODE)
        lock = Lock(path)
        lock.acquire()
        return cls(path, descriptor, lock)

    def append(self, line: bytes, *, synced: bool) -> Kept:
        offset = self.size
        if os.write(self._descriptor, line) < len(line):
            # The disk filled up within the line. Half of it is no cost.
            os.ftruncate(self._descriptor, offset)
            raise OSError(errno.ENOSPC, "no room for an unpriced cost", self.path.name)
        self.size += len(line)
        if synced:
            os.fdatasync(self._descriptor)
        return Kept(self.path, offset, line)

    def close(self) -> None:
        os.close(self._descriptor)
        self._lock.abandon()


def mark(path: Path, offsets: Iterable[int], state: State) -> None:
    """Note in a file what became of the costs at ``offsets``."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for offset in offsets:
            os.pwrite(descriptor, OPENINGS[state], offset)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def bytes_at(path: Path, offset: int, size: int) -> bytes:
    """Return what a file holds somewhere."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
