"""One segment: a mapped file that one thread appends to and one shipper reads.

Writer and reader share nothing but the mapped bytes, so a reader in another process,
or after a crash, does exactly what the reader beside the writer does.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias
from zlib import crc32

from outlay._journal import frames
from outlay._journal.frames import (
    FRAME_HEADER_BYTES,
    FRAME_MAGIC,
    SEGMENT_HEADER_BYTES,
    SETTLED,
    STATE_AT,
    CorruptRange,
    Frame,
    FrameState,
    align_up,
    pack_header_into,
)
from outlay._model.events import add_key
from outlay.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILE_MODE: Final = 0o600
_ZEROS: Final = bytes(1024 * 1024)

_PUBLISHED: Final = int(FrameState.PENDING)

_FINISHED: Final = mmap.mmap(-1, SEGMENT_HEADER_BYTES)
"""What a finished writer has in the place of its segment, which it lets go of."""

OnDamage: TypeAlias = Callable[["SegmentReader", CorruptRange], None]


def create_file(path: Path, size: int, created_ms: int) -> mmap.mmap:
    """Create, allocate and map a segment file of ``size`` bytes.

    All blocks are allocated now: a full disk is an error here, which the caller can
    handle, and not a SIGBUS when a later store touches a hole.

    Raises:
        OSError: the disk is full or read-only, or the folder is gone.
    """
    descriptor = os.open(
        path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _FILE_MODE
    )
    try:
        _allocate(descriptor, size)
        # Written, not stored through the map: a first touch of a fresh map reads ahead
        # all that was allocated, which took 2 ms on ext4.
        os.pwrite(descriptor, frames.segment_header(created_ms), 0)
        return mmap.mmap(descriptor, size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)  # the mapping keeps a descriptor of its own


def create_memory(size: int, created_ms: int) -> mmap.mmap:
    """Return a segment that lives in memory only, and is lost with the process."""
    memory = mmap.mmap(-1, size)
    memory[:SEGMENT_HEADER_BYTES] = frames.segment_header(created_ms)
    return memory


def open_file(path: Path) -> mmap.mmap:
    """Map an existing segment file.

    Raises:
        JournalError: a newer outlay wrote it.
        OSError: it cannot be opened, or is too short to be a segment.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size < SEGMENT_HEADER_BYTES:
            raise OSError(f"{path} is too short to be a segment")
        memory = mmap.mmap(descriptor, 0)
    finally:
        os.close(descriptor)
    version = frames.format_version(memory)
    if version is not None and version > frames.FORMAT_VERSION:
        memory.close()
        raise JournalError(
            f"{path} has journal format {version}, this outlay reads up to "
            f"{frames.FORMAT_VERSION}; upgrade outlay to deliver its events"
        )
    return memory


def map_readonly(path: Path) -> mmap.mmap | None:
    """Map a segment for reading; None if it is gone, or still being created.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # It is allocated in full before its header is written.
        if not frames.is_segment(os.pread(descriptor, SEGMENT_HEADER_BYTES, 0)):
            return None
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


def iter_unsettled(memory: mmap.mmap) -> Iterator[Frame]:
    """Yield the events in a segment that have not met their fate."""
    offset, limit = SEGMENT_HEADER_BYTES, len(memory)
    while found := frames.read_frame(memory, offset, limit, final=True):
        if isinstance(found, Frame) and found.state not in SETTLED:
            yield found
        offset = found.end


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    while size > 0:  # macOS has no posix_fallocate
        size -= os.write(descriptor, _ZEROS[:size])


class SyncFile:
    """A segment's file, opened beside its map to bring it to the disk.

    Not by `mmap.flush`, which holds the interpreter for as long as the disk takes.
    Linux writes what was stored through a map with the rest of the file.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        """Close the file with its writer: in a forked child, too, which drops it."""
        os.close(self._descriptor)

    def sync(self) -> None:
        """Return when the disk has all that was stored before. Raises OSError."""
        os.fdatasync(self._descriptor)


class SegmentWriter:
    """Appends frames to one segment.

    Thread safety: one thread at a time, which must own the writer exclusively.
    """

    __slots__ = (
        "_file",
        "_memory",
        "_size",
        "_synced",
        "_tail",
        "durable",
        "frame_count",
        "name",
    )

    def __init__(
        self,
        name: str,
        memory: mmap.mmap,
        *,
        durable: bool,
        file: SyncFile | None = None,
    ) -> None:
        """Append to ``memory`` from its start.

        Args:
            name: unique in the destination; sorts by age.
            memory: the mapped segment, new.
            durable: whether it is on disk.
            file: the same segment, where `sync` is wanted.
        """
        self.name = name
        self.durable = durable
        self.frame_count = 0
        self._memory = memory
        self._size = len(memory)
        self._tail = SEGMENT_HEADER_BYTES
        self._file = file
        self._synced = 0

    @property
    def tail(self) -> int:
        """Where the next frame will start, in bytes from the segment's start."""
        return self._tail

    @property
    def mapped(self) -> mmap.mmap | None:
        """The segment; None if it is finished."""
        return None if self._memory is _FINISHED else self._memory

    def append(self, payload: bytes) -> bool:
        """Append an event, and say whether there was room for it.

        Once this returned True the event survives the death of the process.
        """
        memory, offset = self._memory, self._tail
        start = offset + FRAME_HEADER_BYTES
        end = start + len(payload)
        if end > self._size:
            return False
        count = self.frame_count + 1
        try:
            memory[start:end] = payload
            # The header last, and in it the state: a frame that has one is whole.
            pack_header_into(
                memory, offset, FRAME_MAGIC, len(payload), crc32(payload), _PUBLISHED
            )
            self._tail = end + 7 & -8  # aligned(end), without the call
            self.frame_count = count
        except BaseException:
            # A signal handler raised between two steps. The reader may have seen a
            # published frame already: it must never be overwritten.
            if memory[offset + STATE_AT]:
                self._tail = align_up(end)
                self.frame_count = count
            else:  # what a shorter frame leaves of it would pass for damage
                memory[start:end] = bytes(end - start)
            raise
        return True

    def sync(self) -> None:
        """Bring what was appended to the disk. Any thread.

        Raises:
            OSError: the disk failed.
        """
        tail = self._tail
        if self._file is not None and self._synced < tail:
            self._file.sync()
            self._synced = tail

    def seal(self) -> None:
        """Declare the segment finished; there is no room in it any more."""
        self._size = 0
        frames.seal(self._memory)
        self._memory = _FINISHED


class PendingEvent:
    """An event on its way from the journal to the server.

    Attributes:
        payload: the request body, byte for byte the same at each reading.
        first_attempt_ms: wall time of the first attempt whose outcome is not known to
            be a refusal; 0 if there is none; None if the journal lost it.
        in_doubt_since: monotonic seconds of that attempt, as far as this process knows;
            None: it has not sent the event yet.
        attempts: attempts so far, by this process and earlier ones.
        failures: attempts by this process that failed for this event alone.
        probes: attempts by this process that failed with the server as a whole.
    """

    __slots__ = (
        "attempts",
        "event_failures",
        "first_attempt_ms",
        "in_doubt_since",
        "offset",
        "payload",
        "segment",
        "server_failures",
    )

    def __init__(self, segment: SegmentReader, frame: Frame) -> None:
        self.segment = segment
        self.offset = frame.offset
        self.payload = add_key(frame.payload)
        self.first_attempt_ms, self.attempts = frame.stamp
        self.in_doubt_since: float | None = None
        self.event_failures = 0
        self.server_failures = 0


class SegmentReader:
    """Reads pending events from one segment and writes their fates back.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(
        self,
        name: str,
        memory: mmap.mmap,
        *,
        final: bool,
        foreign: bool = False,
        tail: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Read from the start.

        Args:
            name: unique in the destination; sorts by age.
            memory: the mapped segment.
            final: whether its writer is dead; to be set when it dies.
            foreign: whether the writer is another process.
            tail: returns how far the writer is, if it is of this process and not done.
        """
        self.name = name
        self.final = final
        self.iter_unsettled: dict[int, PendingEvent] = {}
        self._memory = memory
        self._limit = len(memory)
        self._foreign = foreign
        self._tail = tail
        self._published = 0  # all before this was, as the writer said
        self._suspected: int | None = None  # offset of what looked like damage
        self._confirmed: int | None = None
        self._reported: int | None = None
        self._cursor = SEGMENT_HEADER_BYTES
        self._at_end = False
        self._parked: set[int] = set()  # offsets

    @property
    def parked_count(self) -> int:
        """How many events are parked."""
        return len(self._parked)

    @property
    def cursor(self) -> int:
        """Everything before this offset has been read."""
        return self._cursor

    @property
    def exhausted(self) -> bool:
        """Whether all that the writer will ever append has been read."""
        return self._at_end

    def take(self, on_damage: OnDamage) -> PendingEvent | None:
        """Return the next pending event, or None if there is none (yet).

        Args:
            on_damage: called with what had to be skipped.
        """
        while not self._at_end:
            # Before the read: what is appended between a read that finds nothing and
            # a look at the flag would be taken for the end.
            final = self.final or frames.is_sealed(self._memory)
            found = self._read(final=final)
            if found is None:
                self._at_end = final
                if not final:
                    self._check_tail(on_damage)
                return None
            if isinstance(found, CorruptRange) and self._may_be_in_flight(
                found, final=final
            ):
                return None
            self._cursor = found.end
            if isinstance(found, CorruptRange):
                on_damage(self, found)
            elif found.state not in SETTLED and found.offset not in self.iter_unsettled:
                event = PendingEvent(self, found)
                self.iter_unsettled[event.offset] = event
                self._parked.discard(event.offset)
                return event
        return None

    def _read(self, *, final: bool) -> Frame | CorruptRange | None:
        memory, at = self._memory, self._cursor
        found = frames.read_frame(memory, at, self._limit, final=final)
        if found is not None or final:
            return found
        # If the last frame has gone bad, no whole one follows it: only its writer can
        # tell that it is not on its way.
        tail = self._tail()
        if tail is None or tail <= at:
            return None
        self._published = tail
        # Once more: it may have been published since. Of zeros, nothing is left to see.
        return frames.read_frame(memory, at, tail, final=True) or CorruptRange(at, tail)

    def _check_tail(self, on_damage: OnDamage) -> None:
        """Report the last frame of another process's segment if it has gone bad.

        Nobody can tell where it ends: reading goes on at the next whole frame.
        """
        damage = CorruptRange(self._cursor, self._limit)
        if (
            self._foreign
            and frames.is_published(self._memory, damage.offset)
            and not self._may_be_in_flight(damage, final=False)
            and self._reported != damage.offset
        ):
            self._reported = damage.offset
            on_damage(self, damage)

    def confirm_damage(self) -> None:
        """Take what looked like damage for damage, if it still does."""
        self._confirmed = self._suspected

    def _may_be_in_flight(self, damage: CorruptRange, *, final: bool) -> bool:
        """Return whether ``damage`` may be a frame that is still on its way.

        Some processors, such as ARM's, let another one see stores out of order for a
        moment: a state before its payload, or a frame before the one in front of it.
        In one process the interpreter's lock keeps the order.
        """
        self._suspected = damage.offset
        return self._foreign and not final and damage.offset != self._confirmed

    def first_pending(self) -> bytes | None:
        """Return the oldest pending event's payload, or None; moves nothing on."""
        if self.iter_unsettled:
            return self.iter_unsettled[min(self.iter_unsettled)].payload
        at = self._cursor
        while found := frames.read_frame(self._memory, at, self._limit, final=False):
            if isinstance(found, Frame) and found.state not in SETTLED:
                return found.payload
            at = found.end
        return None

    def extract_damage(self, damage: CorruptRange) -> tuple[bytes, set[int]]:
        """Return what lies in ``damage``: its bytes, and where events are lost."""
        lost = {*frames.lost_event_offsets(self._memory, damage)}
        stateless = not frames.is_published(self._memory, damage.offset)
        if stateless and damage.end <= self._published:
            lost.add(damage.offset)  # it had a state
        lost -= (
            self.iter_unsettled.keys()
        )  # what is on its way was whole when it was read
        self._parked -= lost
        return self._memory[damage.offset : damage.end], lost

    def stamp(self, event: PendingEvent, first_attempt_ms: int, packed: bytes) -> None:
        """Record an attempt of ``event``, before its first byte leaves."""
        event.first_attempt_ms = first_attempt_ms
        event.attempts += 1
        frames.write_stamp(self._memory, event.offset, packed)

    def reset_stamp(self, event: PendingEvent, first_attempt_ms: int) -> None:
        """Take the clock of ``event`` back after a definite refusal."""
        event.first_attempt_ms = first_attempt_ms
        packed = frames.pack_stamp(first_attempt_ms, event.attempts)
        frames.write_stamp(self._memory, event.offset, packed)

    def settle(self, event: PendingEvent, state: FrameState) -> None:
        """Record the fate of ``event``; it is not read again, unless parked."""
        self._memory[event.offset + STATE_AT] = state
        del self.iter_unsettled[event.offset]
        if state is FrameState.PARKED:
            self._parked.add(event.offset)

    def rewind(self) -> None:
        """Read again from the start, for the parked events."""
        self._cursor = SEGMENT_HEADER_BYTES
        self._at_end = False

    def close(self) -> None:
        """Let go of the segment, which unmaps a file.

        Not closed: one that lives in memory is read again if events in it are parked,
        and a writer may be at its last append.
        """
        del self._memory
