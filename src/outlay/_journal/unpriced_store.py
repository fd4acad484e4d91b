"""Unpriced costs on disk, kept until a price is known.

One file of JSON lines for each process, like dead letters. A line is written before the
caller goes on, so it survives the death of the process; its state is changed in place.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay._journal.folders import Lock
from outlay._model.unpriced_cost import (
    STATE_PREFIXES,
    UNSETTLED_STATES,
    State,
    UnpricedCost,
)
from outlay.errors import JournalFullError, OutlayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from outlay._journal.folders import DestinationFolder
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog

_FILE_MODE: Final = 0o600
_MEASURED_EVERY: Final = 128  # lines; others write to the same folder
_FILES: Final = 16  # so many of one process fill the folder
SUFFIX: Final = ".jsonl"


class StoredCost(NamedTuple):
    """Where an unpriced cost was put.

    Attributes:
        path: the file; None: in memory.
        offset: of the line in it; in memory, what names it there.
        line: the line.
    """

    path: Path | None
    offset: int
    line: bytes

    @property
    def durable(self) -> bool:
        """Whether it survives the death of the process."""
        return self.path is not None


class UnpricedStore:
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
        notices: RateLimitedLog,
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
        self._names = itertools.count()  # a child's differ from its parent's
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # re-entrant: finalisers record streams
        self._file: _LineFile | None = None  # this and the rest: guarded by _lock
        self._memory: dict[int, bytes] = {}  # lines that no disk has taken yet
        self._saved: dict[int, StoredCost] = {}  # and those that one took since
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

    def add(self, cost: UnpricedCost) -> StoredCost:
        """Keep ``cost``.

        Raises:
            JournalFullError: there is no room.
        """
        line = msgspec.json.encode(cost) + b"\n"
        with self._lock:
            kept = self._keep(line)
            self._used += len(line)
            self._kept += 1
        return kept

    @contextlib.contextmanager
    def replacing(self, kept: StoredCost) -> Iterator[bool]:
        """Withdraw a cost of this process, whose event is tracked inside of the block.

        That is noted before and after: who finds only the first note, after a kill,
        knows that the event may have been tracked, and not before the cost was kept.

        Returns:
            Whether the cost still waits; else a command has settled it meanwhile, and
            there is nothing to track.

        Raises:
            OSError: it cannot be noted. Nothing may be tracked: the cost waits.
        """
        waits = self._set_state(kept, "held")
        try:
            yield waits
        except OutlayError:
            self._set_state(kept, "open")  # it was refused, so it was not tracked
            raise
        self._set_state(kept, "done")
        with self._lock:
            self._kept -= 1
            if kept.path is None:
                self._used -= len(self._memory.pop(kept.offset, b""))
                self._saved.pop(kept.offset, None)

    def _set_state(self, kept: StoredCost, state: State) -> bool:
        """Change the state of a cost, if it waits, and return whether it does."""
        if kept.path is None:
            kept = self._saved.get(kept.offset, kept)
        if kept.path is None:
            return True
        try:
            found = bytes_at(kept.path, kept.offset, len(kept.line))
            rest = kept.line[len(STATE_PREFIXES["open"]) :]
            waits = any(
                found == STATE_PREFIXES[each] + rest for each in UNSETTLED_STATES
            )
            if waits:
                set_state(kept.path, [kept.offset], state, synced=self._synced)
        except FileNotFoundError:
            return True  # somebody deleted it: rather track the cost than forget it
        return waits

    def forked(self) -> None:
        """Begin anew in a forked child: the files are the parent's."""
        if self._file is not None:
            self._file.close()
        self._begin()

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        with self._lock:
            with self._warning_on_error():  # the disk may have room again
                self._flush_memory()
            self._close_file()

    def _keep(self, line: bytes) -> StoredCost:
        file = None
        with self._warning_on_error():
            file = self._writable()
        self._check_room(len(line))
        kept = None
        if file is not None:
            with self._warning_on_error():
                kept = file.append(line, synced=self._synced)
                self._flush_memory()
        if kept is None:
            kept = StoredCost(None, next(self._names), line)
            self._memory[kept.offset] = line
        return kept

    @contextlib.contextmanager
    def _warning_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._notices.warn("unpriced disk", _NOT_ON_DISK, error)

    def _flush_memory(self) -> None:
        """Bring to the disk what was kept in memory while there was none."""
        file = self._writable() if self._memory else None
        if file is not None:
            for name, line in tuple(self._memory.items()):
                self._saved[name] = file.append(line, synced=self._synced)
                self._memory.pop(name, None)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _writable(self) -> _LineFile | None:
        if self._file is not None and self._file.size >= self._max_bytes // _FILES:
            self._close_file()  # so that it can be deleted some day
        if self._file is None:
            folder = self._folder()
            if folder is None:
                return None
            self._file = _LineFile.create(folder, self._clock.now_ms())
            self._until_measured = 0
        return self._file

    def _check_room(self, size: int) -> None:
        if self._until_measured <= 0 and self._file is not None:
            self._used = _size_of(self._file.path.parent)
            self._until_measured = _MEASURED_EVERY
        self._until_measured -= 1
        if self._used + size > self._max_bytes:
            raise JournalFullError(
                f"unpriced costs take {self._used} of max_unpriced_bytes="
                f"{self._max_bytes} bytes; run 'outlay reprice', or raise "
                "OUTLAY_MAX_UNPRICED_BYTES"
            )


_NOT_ON_DISK: Final = (
    "unpriced costs cannot be written to disk (%s); they are kept in memory only, and "
    "a crash loses them"
)


class _LineFile:
    """The file that a living process appends to, and its lock on it."""

    def __init__(self, path: Path, descriptor: int, lock: Lock) -> None:
        self.path = path
        self.size = 0
        self._descriptor = descriptor
        self._lock = lock

    @classmethod
    def create(cls, folder: DestinationFolder, now_ms: int) -> _LineFile:
        folder.unpriced_path.mkdir(mode=0o700, exist_ok=True)
        name = f"{now_ms:013d}-{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
        path = folder.unpriced_path / name
        flags = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(path, flags, _FILE_MODE)
        lock = Lock(path)
        lock.acquire()
        return cls(path, descriptor, lock)

    def append(self, line: bytes, *, synced: bool) -> StoredCost:
        offset = self.size
        if os.write(self._descriptor, line) < len(line):
            # The disk filled up within the line. Half of it is no cost.
            os.ftruncate(self._descriptor, offset)
            raise OSError(errno.ENOSPC, "no room for an unpriced cost", self.path.name)
        self.size += len(line)
        if synced:
            os.fdatasync(self._descriptor)
        return StoredCost(self.path, offset, line)

    def close(self) -> None:
        os.close(self._descriptor)
        self._lock.close()


def set_state(
    path: Path, offsets: Iterable[int], state: State, *, synced: bool = True
) -> None:
    """Note in a file what became of the costs at ``offsets``.

    Args:
        path: of the file.
        offsets: where their lines begin.
        state: of all of them from now on.
        synced: return only when the disk has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for offset in offsets:
            os.pwrite(descriptor, STATE_PREFIXES[state], offset)
        if synced:
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
