"""Store unpriced costs on disk until a price is known.

One file of JSON lines for each process, like dead letters. A line is written before the
caller goes on, so it survives the death of the process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._journal import marked_lines
from outlay._journal.folders import new_writer_name
from outlay._journal.locks import Lock
from outlay._journal.marked_lines import MarkedLine
from outlay._model.unpriced_cost import (
    LONGEST_STATE,
    UNSETTLED_STATES,
    State,
    UnpricedCost,
)
from outlay.errors import JournalFullError, OutlayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from outlay._journal.folders import DestinationFolder
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog

_MEASURED_EVERY: Final = 128  # lines; other processes write to the same folder
_FILES: Final = 16  # so many of one process fill the folder


class StoredCost(NamedTuple):
    """An unpriced cost of this process.

    Attributes:
        line: The line on disk. None if the cost is in memory only.
        name: The name of a cost in memory.
    """

    line: MarkedLine | None
    name: int = 0

    @property
    def durable(self) -> bool:
        """Whether it survives the death of the process."""
        return self.line is not None


class UnpricedStore:
    """Stores the unpriced costs of one process.

    Thread safety: any thread, re-entrant.
    """

    def __init__(
        self,
        folder: Callable[[], DestinationFolder | None],
        *,
        max_bytes: int,
        synced: bool,
        clock: Clock,
        log: RateLimitedLog,
    ) -> None:
        """Prepare to store costs. The folder is made at the first one.

        Args:
            folder: A function that returns the destination's folder, made if missing.
                None means that costs stay in memory. It may raise OSError.
            max_bytes: The limit of the costs of all processes in the folder, in bytes.
            synced: Whether to return only when the disk has a cost.
            clock: The clock that names the files.
            log: The log for warnings.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._synced = synced
        self._clock = clock
        self._log = log
        self._names = itertools.count(1)  # a child's differ from its parent's
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()  # re-entrant: finalisers record streams
        self._file: _LineFile | None = None  # guarded by _lock, as the rest
        self._memory: dict[int, bytes] = {}  # lines that are not on disk, by name
        self._saved: dict[int, StoredCost] = {}  # lines that went to disk later
        self._used = 0
        self._until_measured = 0
        self._count = 0

    @property
    def count(self) -> int:
        """The number of costs that this process stores, as far as it knows."""
        return self._count

    @property
    def in_memory(self) -> int:
        """The number of costs that are lost when the process ends."""
        return len(self._memory)

    def add(self, cost: UnpricedCost) -> StoredCost:
        """Store ``cost``.

        Raises:
            JournalFullError: There is no room.
        """
        line = marked_lines.encode(cost, LONGEST_STATE)
        with self._lock:
            stored = self._store(line)
            self._used += len(line)
            self._count += 1
        return stored

    @contextlib.contextmanager
    def replacing(self, stored: StoredCost) -> Iterator[bool]:
        """Replace a cost of this process by an event, tracked inside of the block.

        The state is written before and after. If a kill leaves only the first one, the
        event may have been tracked, but not before the cost was stored.

        Returns:
            Whether the cost still waits. If not, a command has settled it meanwhile,
            and the caller must track nothing.

        Raises:
            OSError: The state cannot be written. The caller must track nothing.
        """
        waits = self._set_state(stored, "replacing")
        try:
            yield waits
        except OutlayError:
            self._set_state(stored, "waiting")  # it was refused, so it was not tracked
            raise
        self._set_state(stored, "tracked")
        with self._lock:
            self._count -= 1
            if stored.line is None:
                self._used -= len(self._memory.pop(stored.name, b""))
                self._saved.pop(stored.name, None)

    def _set_state(self, stored: StoredCost, state: State) -> bool:
        """Change the state of a cost if it waits, and return whether it does."""
        if stored.line is None:
            stored = self._saved.get(stored.name, stored)
        line = stored.line
        if line is None:
            return True
        try:
            waits = marked_lines.current_state(line) in UNSETTLED_STATES
            if waits:
                marked_lines.set_state(
                    line.path, [line.offset], state, synced=self._synced
                )
        except FileNotFoundError:
            return True  # the file was deleted: rather track the cost than forget it
        return waits

    def reset_after_fork(self) -> None:
        """Start without costs in a forked child: the files are the parent's."""
        if self._file is not None:
            self._file.close()
        self._reset()

    def close(self) -> None:
        """Close the file. Its lines stay."""
        with self._lock:
            with self._warning_on_error():  # the disk may have room again
                self._flush_memory()
            self._close_file()

    def _store(self, line: bytes) -> StoredCost:
        file = None
        with self._warning_on_error():
            file = self._writable()
        self._check_room(len(line))
        stored = None
        if file is not None:
            with self._warning_on_error():
                stored = file.append(line, synced=self._synced)
                self._flush_memory()
        if stored is None:
            stored = StoredCost(None, next(self._names))
            self._memory[stored.name] = line
        return stored

    @contextlib.contextmanager
    def _warning_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._log.warn("unpriced disk", _NOT_ON_DISK, error)

    def _flush_memory(self) -> None:
        """Write the lines to disk that are in memory because there was no disk."""
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
            self._close_file()  # a command deletes it when all of it is settled
        if self._file is None:
            folder = self._folder()
            if folder is None:
                return None
            self._file = _LineFile.create(folder, self._clock.now_ms())
            self._until_measured = 0
        return self._file

    def _check_room(self, size: int) -> None:
        if self._until_measured <= 0 and self._file is not None:
            self._used = marked_lines.size_of(self._file.path.parent)
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
    "a crash loses them. Free space, or make the journal folder writable"
)


class _LineFile:
    """The file that a living process appends to, and its lock on the file."""

    def __init__(self, path: Path, descriptor: int, lock: Lock) -> None:
        self.path = path
        self.size = 0
        self._descriptor = descriptor
        self._lock = lock

    @classmethod
    def create(cls, folder: DestinationFolder, now_ms: int) -> _LineFile:
        folder.unpriced_path.mkdir(mode=0o700, exist_ok=True)
        name = f"{new_writer_name(now_ms)}{marked_lines.SUFFIX}"
        path = folder.unpriced_path / name
        descriptor = marked_lines.open_for_append(path, new=True)
        lock = Lock(path)
        lock.acquire()
        return cls(path, descriptor, lock)

    def append(self, line: bytes, *, synced: bool) -> StoredCost:
        offset = marked_lines.append(self._descriptor, line, self.path.name)
        self.size = offset + len(line)
        if synced:
            os.fdatasync(self._descriptor)
        return StoredCost(MarkedLine(self.path, offset, line))

    def close(self) -> None:
        os.close(self._descriptor)
        self._lock.close()
