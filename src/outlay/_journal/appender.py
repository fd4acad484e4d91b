"""Append events to segments: the caller's side, and the hot path.

Each segment writer belongs to one thread for the length of one append. A call takes an
idle writer off a list and puts it back. Both steps are single operations of a list,
atomic in CPython. So threads, signal handlers and finalisers that interrupt each other
get different writers. There is no lock to wait for, and none to deadlock on. There are
as many segments as there ever were appends at the same time.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from outlay.errors import JournalFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outlay._journal.segments import SegmentWriter


class Appender:
    """Appends events to any segment that is free.

    Thread safety: any thread, re-entrant.
    """

    def __init__(
        self,
        open_segment: Callable[[int], SegmentWriter],
        open_on_disk: Callable[[int], SegmentWriter | None],
        publish: Callable[[SegmentWriter], None],
    ) -> None:
        """Append to segments that ``open_segment`` makes.

        Args:
            open_segment: A function that returns a new writer with room for an event of
                so many bytes. It raises JournalFullError when there is none.
            open_on_disk: The same on disk only. It returns None while there is no disk.
            publish: A function that announces a writer to the reader.
        """
        self._open_segment = open_segment
        self._open_on_disk = open_on_disk
        self._publish = publish
        self._idle: list[SegmentWriter] = []
        # Re-entrant: a signal handler may track a cost inside a locked block.
        self._lock = threading.RLock()
        self._live: dict[str, SegmentWriter] = {}  # guarded by _lock
        self._opening_count = 0  # segments on their way into _live; guarded by _lock
        self._unsynced: set[SegmentWriter] = set()  # sealed; guarded by _lock
        self._sealed_count = 0  # events in sealed segments; guarded by _lock
        self._failed_syncs = 0  # guarded by _lock

    def append(self, payload: bytes) -> bool:
        """Append an event; return whether it survives the death of the process.

        Raises:
            JournalFullError: There is no room, and the event was not appended.
        """
        idle = self._idle
        try:
            writer = idle.pop()
        except IndexError:
            writer = self._open(len(payload))
        try:
            if not writer.durable:
                writer = self._prefer_disk(writer, len(payload))
            while not writer.append(payload):
                self._seal(writer)
                writer = self._open(len(payload))
        finally:
            idle.append(writer)
        return writer.durable

    def append_synced(self, payload: bytes, commit: Callable[[], bool]) -> bool:
        """Append an event; return whether it survives the death of the machine.

        Args:
            payload: The event.
            commit: A function that syncs all segments: `GroupCommit.commit`.

        Raises:
            JournalFullError: There is no room, and the event was not appended.
        """
        failed = self._failed_syncs
        if not (self.append(payload) and commit()):
            return False
        # The system reports a failure once, perhaps to another thread that sealed the
        # segment. The next sync succeeds, without the bytes that the failed one lost.
        return self._failed_syncs == failed

    @property
    def has_open_segments(self) -> bool:
        """Whether there are segments that may still get an event."""
        with self._lock:
            return bool(self._opening_count or self._live)

    def appended_count(self) -> int:
        """Return the number of events that were appended since the start."""
        with self._lock:
            live = sum(writer.frame_count for writer in self._live.values())
            return self._sealed_count + live

    def end_offsets(self) -> dict[str, int]:
        """Return the offset of the next append, by segment."""
        with self._lock:
            return {writer.name: writer.tail for writer in self._live.values()}

    def end_offset(self, segment: str) -> int | None:
        """Return the offset of the next append to a segment. None if it is sealed."""
        writer = self._live.get(segment)  # one operation of a dict: no lock
        return None if writer is None else writer.tail

    def sync_all(self) -> None:
        """Bring everything appended so far to the disk.

        Raises:
            OSError: The disk failed.
        """
        with self._lock:
            writers = [*self._live.values(), *self._unsynced]
        for writer in writers:
            self._sync(writer)
        with self._lock:
            self._unsynced.difference_update(writers)

    def seal_all(self) -> None:
        """Finish all segments. The next append opens a new one."""
        # Only idle ones. A writer that is not in the list is inside of an append. Its
        # frame would come after the reader had seen the end.
        while self._idle:
            self._seal(self._idle.pop())

    def _open(self, payload_bytes: int) -> SegmentWriter:
        with self._counted_as_opening():
            return self._register(self._open_segment(payload_bytes))

    def _prefer_disk(self, writer: SegmentWriter, payload_bytes: int) -> SegmentWriter:
        """Return a writer to disk if there is a disk again, or else ``writer``."""
        with contextlib.suppress(JournalFullError), self._counted_as_opening():
            if (on_disk := self._open_on_disk(payload_bytes)) is not None:
                self._seal(writer)
                return self._register(on_disk)
        return writer

    @contextlib.contextmanager
    def _counted_as_opening(self) -> Iterator[None]:
        with self._lock:
            self._opening_count += 1
        try:
            yield
        finally:
            with self._lock:
                self._opening_count -= 1

    def _register(self, writer: SegmentWriter) -> SegmentWriter:
        with self._lock:
            self._live[writer.name] = writer
        # Not earlier: to a flush, a segment that is not live is a finished one.
        self._publish(writer)
        return writer

    def _sync(self, writer: SegmentWriter) -> None:
        try:
            writer.sync()
        except OSError:
            with self._lock:
                self._failed_syncs += 1
            raise

    def _seal(self, writer: SegmentWriter) -> None:
        try:
            self._sync(writer)  # while it is live: afterwards no commit syncs it
        except OSError:
            with self._lock:
                self._unsynced.add(writer)  # `sync_all` tries again, and reports
        with self._lock:
            # A full writer comes again when no successor could be opened.
            if writer.name in self._live:
                # First. If a signal handler raises here, it is merely sealed twice.
                writer.seal()
                self._sealed_count += writer.frame_count
                del self._live[writer.name]
