"""Open new segments: on disk, or in bounded memory when there is no disk.

The slow path of an append.
"""

from __future__ import annotations

import errno
import functools
import itertools
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._journal import folders, segments
from outlay._journal.folders import DestinationFolder, WriterFolder
from outlay._journal.locks import check_locks_exclude
from outlay._journal.reader import SegmentHandle
from outlay._journal.segments import SegmentWriter, SyncFile
from outlay.errors import JournalFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from outlay._journal.frames import Frame
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._model.settings import Settings

_WRITER: Final = "writer"
_MEMORY_SEGMENT_BYTES: Final = 1024 * 1024
_IN_MEMORY: Final = "memory/"  # the start of the names of segments in memory
_DISK_RETRY_SECONDS: Final = 1.0  # a dead or full disk must not slow down each call
_NOT_OURS_ERRNOS: Final = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""Errors that mean that the default folder is not usable, so that a temporary one is
used. A full disk is not among them."""


class Destination(NamedTuple):
    """Where events go. Events of two destinations never share a folder."""

    base_url: str
    namespace: str | None
    credential: str

    @classmethod
    def from_settings(cls, settings: Settings) -> Destination:
        """Return the destination of ``settings``."""
        key = settings.api_key
        credential = key.get_secret_value() if key else ""
        return cls(settings.base_url, settings.namespace, credential)


class JournalLimits(NamedTuple):
    """Limits of a journal, in bytes."""

    segment_bytes: int
    max_journal_bytes: int
    max_memory_bytes: int

    @classmethod
    def from_settings(cls, settings: Settings) -> JournalLimits:
        """Return the limits in ``settings``."""
        return cls(
            settings.segment_bytes,
            settings.max_journal_bytes,
            settings.max_memory_bytes,
        )


class _FullNotice(NamedTuple):
    """The folder had reached its limit at ``at``, in monotonic seconds."""

    at: float
    message: str

    def still_holds(self, now: float) -> bool:
        """Return whether it is too early to measure the folder again."""
        return now - self.at < _DISK_RETRY_SECONDS


def is_in_memory(handle: SegmentHandle) -> bool:
    """Return whether a segment is in memory only."""
    return handle.name.startswith(_IN_MEMORY)


class SegmentOpener:
    """Opens the segments of one process, and owns the folder that they are in.

    Thread safety: any thread, re-entrant.
    """

    def __init__(
        self,
        destination: Destination,
        limits: JournalLimits,
        *,
        journal_dir: Path | None,
        in_memory: bool,
        synced: bool,
        shipped_here: bool,
        discard: Callable[[WriterFolder, Path], None],
        clock: Clock,
        log: RateLimitedLog,
    ) -> None:
        """Prepare to open segments. Nothing is written yet.

        Args:
            destination: Where the events go.
            limits: The limits of the journal.
            journal_dir: The root folder. If None, the platform's state folder.
            in_memory: Whether to leave the disk alone.
            synced: Whether segments can be synced to disk.
            shipped_here: Whether this process ships the events itself.
            discard: A function that deletes a settled segment of a folder.
            clock: The clock that dates folders and segments.
            log: The log for warnings.
        """
        self.in_memory = in_memory
        self._destination = destination
        self._limits = limits
        self._synced = synced
        self._shipped_here = shipped_here
        self._discard = discard
        self._clock = clock
        self._log = log
        self._journal_dir = journal_dir or folders.default_journal_dir()
        self._name = folders.destination_name(*destination)
        self._may_move = journal_dir is None
        self.reset()

    def reset(self) -> None:
        """Start without a folder and without segments: at first, and after a fork."""
        self._lock = threading.RLock()  # re-entrant: a signal handler may track
        self._owned: dict[str, WriterFolder] = {}  # guarded by _lock; one, or none yet
        self._memory_bytes = 0  # guarded by _lock
        self._disk_failed_at: float | None = None
        self._full: _FullNotice | None = None
        self._locks_checked = False
        self._numbers = itertools.count(1)
        self._handles: dict[str, SegmentHandle] = {}  # of writers not announced yet

    @property
    def folder(self) -> DestinationFolder:
        """The folder of this destination."""
        return DestinationFolder(self._journal_dir / self._name)

    @property
    def writer(self) -> WriterFolder | None:
        """The folder of this process. None before its first event on disk."""
        return self._owned.get(_WRITER)

    @property
    def disk_works(self) -> bool:
        """Whether the last attempt to open a segment on disk worked."""
        return self._disk_failed_at is None

    @property
    def uses_memory(self) -> bool:
        """Whether events are in memory only."""
        return self._memory_bytes > 0

    def take_handle(self, name: str) -> SegmentHandle:
        """Return the handle of a new segment, once."""
        return self._handles.pop(name)

    def note_room(self) -> None:
        """Measure the folder again before the next segment: one was deleted."""
        self._full = None

    def open(self, payload_bytes: int) -> SegmentWriter:
        """Open a segment with room for an event of so many bytes.

        Raises:
            JournalFullError: There is no room for another segment.
        """
        on_disk = self.open_on_disk(payload_bytes)
        return on_disk or self._open_memory(
            max(segments.least_size([payload_bytes]), _MEMORY_SEGMENT_BYTES)
        )

    def open_on_disk(self, payload_bytes: int) -> SegmentWriter | None:
        """Do the same on disk only. Return None while there is no disk."""
        if self.in_memory or not self._disk_is_due():
            return None
        size = max(segments.least_size([payload_bytes]), self._limits.segment_bytes)
        if self._full is not None and self._full.still_holds(self._clock.monotonic()):
            raise JournalFullError(self._full.message)
        try:
            return self._open_file(size)
        except JournalFullError as error:
            self._full = _FullNotice(self._clock.monotonic(), str(error))
            raise
        except OSError as error:
            self._disk_failed_at = self._clock.monotonic()
            self._log.warn(
                "disk",
                "the journal cannot write to %s (%s); events are kept in memory only, "
                "and a crash loses them. Free space, or set OUTLAY_JOURNAL_DIR to a "
                "folder that is writable",
                self._journal_dir,
                error,
            )
            return None

    def _disk_is_due(self) -> bool:
        failed_at = self._disk_failed_at
        return (
            failed_at is None
            or self._clock.monotonic() - failed_at >= _DISK_RETRY_SECONDS
        )

    def _open_file(self, size: int) -> SegmentWriter:
        folder = self._writer_folder()
        self.folder.check_room(size, self._limits.max_journal_bytes)
        path = folder.segment_path(next(self._numbers))
        try:
            memory = segments.create_file(path, size, self._clock.now_ms())
        except FileNotFoundError:
            # The folder was deleted. Its events are out of reach, and the next ones go
            # to a new folder.
            with self._lock:
                self._owned.clear()
            folder.close()
            folder = self._writer_folder()
            path = folder.segment_path(next(self._numbers))
            memory = segments.create_file(path, size, self._clock.now_ms())
        file = self._sync_file(path) if self._synced else None
        self._disk_failed_at = None
        self._log.resolved("disk", "the journal writes to %s again", path.parent)
        handle = SegmentHandle(
            f"{folder.name}/{path.name}",
            functools.partial(segments.open_file, path),
            functools.partial(self._discard, folder, path),
            recovered=False,
            final=False,
        )
        self._handles[handle.name] = handle
        return SegmentWriter(handle.name, memory, durable=True, file=file)

    def _sync_file(self, path: Path) -> SyncFile:
        """Open a new segment for syncing. Its name is on the disk then.

        Raises:
            OSError: That failed, and the segment is gone.
        """
        try:
            file = SyncFile(path)
            for each in (path.parent, self.folder.path, self._journal_dir):
                folders.sync_folder(each)  # a file without a name is lost, too
        except OSError:
            # It is empty, and the next attempts would fill the folder with such files.
            path.unlink(missing_ok=True)
            raise
        return file

    def _open_memory(self, size: int) -> SegmentWriter:
        with self._lock:
            if self._memory_bytes + size > self._limits.max_memory_bytes:
                raise JournalFullError(
                    "the memory buffer is full (max_memory_bytes="
                    f"{self._limits.max_memory_bytes}) and there is no disk for the "
                    "journal; make OUTLAY_JOURNAL_DIR writable, or raise "
                    "OUTLAY_MAX_MEMORY_BYTES"
                )
            self._memory_bytes += size
        try:
            memory = segments.create_memory(size, self._clock.now_ms())
        except OSError as error:
            self._free_memory(size)
            raise JournalFullError(
                f"there is neither a disk nor memory for the journal ({error})"
            ) from error
        name = f"{_IN_MEMORY}{next(self._numbers):08d}"
        self._handles[name] = SegmentHandle(
            name,
            lambda: memory,
            functools.partial(self._free_memory, size),
            recovered=False,
            final=False,
        )
        return SegmentWriter(name, memory, durable=False)

    def _free_memory(self, size: int) -> None:
        with self._lock:
            self._memory_bytes -= size

    def persist(self, events: Sequence[Frame]) -> bool:
        """Write events to a segment of their own; return whether that worked."""
        if self.in_memory:
            return False
        payloads = [event.payload for event in events]
        first = {
            event.payload: event.stamp.first_attempt_ms or None for event in events
        }
        try:
            path = self._writer_folder().segment_path(next(self._numbers))
            size = segments.segment_size(payloads)
            self.folder.check_room(size, self._limits.max_journal_bytes)
            segments.write_segment_atomically(
                path, payloads, self._clock.now_ms(), attempted=first
            )
        except OSError as error:
            self._log.warn("save", "cannot save events to disk: %s", error)
            return False
        return True

    def release(self, *, is_busy: Callable[[], bool] = lambda: False) -> None:
        """Stop using this process's folder.

        Args:
            is_busy: A function that returns whether the folder must stay. Defaults to
                no.
        """
        with self._lock:
            writer = None if is_busy() else self._owned.pop(_WRITER, None)
        if writer is not None:
            writer.release()

    def _writer_folder(self) -> WriterFolder:
        with self._lock:
            if (writer := self.writer) is None:
                made = self._make_writer_folder()
                # In one step: a signal handler on this thread may be faster. A folder
                # that is forgotten would stay locked, with an event in it.
                writer = self._owned.setdefault(_WRITER, made)
                if writer is not made:
                    made.release()
            return writer

    def _make_writer_folder(self) -> WriterFolder:
        now_ms = self._clock.now_ms()
        self._prepare_or_move(now_ms)
        if not self._locks_checked:
            check_locks_exclude(self.folder.path)
            self._locks_checked = True
        return WriterFolder.create(
            self.folder.path, now_ms, shipped_here=self._shipped_here
        )

    def prepared_folder(self) -> DestinationFolder | None:
        """Return this destination's folder, made if missing. None if there is no disk.

        Raises:
            OSError: It cannot be made.
        """
        if self.in_memory:
            return None
        with self._lock:
            self._prepare_or_move(self._clock.now_ms())
        return self.folder

    def _prepare_or_move(self, now_ms: int) -> None:
        try:
            self._prepare(now_ms)
        except OSError as error:
            if not self._may_move or error.errno not in _NOT_OURS_ERRNOS:
                raise
            self._may_move = False
            moved_to = folders.temporary_journal_dir()
            self._log.warn(
                "moved",
                "cannot use %s (%s); the journal is in %s, which may not survive a "
                "reboot: set OUTLAY_JOURNAL_DIR",
                self._journal_dir,
                error.strerror,
                moved_to,
            )
            self._journal_dir = moved_to
            self._prepare(now_ms)

    def _prepare(self, now_ms: int) -> None:
        self.folder.prepare(
            base_url=self._destination.base_url,
            namespace=self._destination.namespace,
            now_ms=now_ms,
        )
