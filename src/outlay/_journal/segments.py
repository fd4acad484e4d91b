"""Create, map, append to and sync one segment file.

Writer and reader share nothing but the mapped bytes. So a reader in another process, or
after a crash, does exactly what the reader beside the writer does.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from zlib import crc32

from outlay._journal import frames
from outlay._journal.folders import PART_SUFFIX, sync_folder
from outlay._journal.frames import (
    FRAME_HEADER_BYTES,
    FRAME_MAGIC,
    NEVER_ATTEMPTED,
    SEGMENT_HEADER_BYTES,
    SETTLED,
    STATE_AT,
    AttemptStamp,
    CorruptRange,
    Frame,
    FrameState,
    align_up,
    pack_header_into,
)
from outlay.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_FILE_MODE: Final = 0o600
_ZEROS: Final = bytes(1024 * 1024)
_NEVER: Final[Mapping[bytes, int | None]] = MappingProxyType({})

_PUBLISHED: Final = int(FrameState.PENDING)

_FINISHED: Final = mmap.mmap(-1, SEGMENT_HEADER_BYTES)
"""Stands in for the mapping of a sealed segment, so that the file can be unmapped."""


def create_file(path: Path, size: int, created_ms: int) -> mmap.mmap:
    """Create, allocate and map a segment file of ``size`` bytes.

    All blocks are allocated now. So a full disk is an error here, which the caller can
    handle. Otherwise a later store would touch a hole, and raise SIGBUS.

    Raises:
        OSError: The disk is full or read-only, or the folder is gone.
    """
    descriptor = os.open(
        path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _FILE_MODE
    )
    try:
        _allocate(descriptor, size)
        # Written, not stored through the map: a first touch of a fresh map reads ahead
        # all that was allocated, which took 2 ms on ext4.
        number = os.fstat(descriptor).st_ino
        os.pwrite(descriptor, frames.segment_header(created_ms, size, number), 0)
        return mmap.mmap(descriptor, size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)  # the mapping keeps a descriptor of its own


def create_memory(size: int, created_ms: int) -> mmap.mmap:
    """Return a segment that lives in memory only, and is lost with the process."""
    memory = mmap.mmap(-1, size)
    memory[:SEGMENT_HEADER_BYTES] = frames.segment_header(created_ms, size)
    return memory


def open_file(path: Path) -> mmap.mmap:
    """Map an existing segment file.

    Raises:
        JournalError: A newer outlay wrote it.
        OSError: It cannot be opened, or is too short to be a segment.
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
    """Map a segment for reading. None if it is gone, or still being created.

    Raises:
        OSError: It cannot be opened.
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


def is_copy(path: Path) -> bool:
    """Return whether a segment is a copy, such as one restored from a backup.

    Raises:
        OSError: It cannot be opened.
    """
    with path.open("rb", buffering=0) as file:
        header = file.read(SEGMENT_HEADER_BYTES)
        number = os.fstat(file.fileno()).st_ino
    return len(header) == SEGMENT_HEADER_BYTES and frames.is_copy(header, number)


def iter_unsettled(memory: frames.Buffer) -> Iterator[Frame]:
    """Yield the events in a segment that are not settled; skip damage."""
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


def _cut(memory: mmap.mmap, used: int) -> None:
    """Cut the file of a sealed segment to the bytes that are used.

    A reader in another process may have seen no seal yet, and look for a frame after
    the last one. A page more than that stays, so that the look does not kill it.
    """
    page = mmap.PAGESIZE
    size = (used + page - 1) // page * page + page
    if size < len(memory):
        # macOS cannot remap, and some file systems cannot cut: it stays as it is.
        with contextlib.suppress(SystemError, OSError, ValueError, BufferError):
            memory.resize(size)


def trim(path: Path) -> None:
    """Seal and cut the segment of a dead writer. One that is damaged stays as it is.

    The caller holds both locks of the folder.

    Raises:
        OSError: It cannot be opened.
    """
    with open_file(path) as memory:
        length = frames.declared_length(memory)
        if length is None or length > len(memory):
            return  # an early release wrote it, or it was cut by other means
        if frames.is_sealed(memory):
            _cut(memory, length)
            return
        end = SEGMENT_HEADER_BYTES
        while found := frames.read_frame(memory, end, len(memory), final=True):
            if isinstance(found, CorruptRange):
                return
            end = found.end
        frames.seal(memory, end)
        _cut(memory, end)


class SyncFile:
    """The file of a segment, opened beside its mapping to bring it to the disk.

    `mmap.flush` would hold the interpreter for as long as the disk takes. Linux writes
    the bytes that were stored through a mapping with the rest of the file.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        """Close the file with its writer, also in a forked child, which drops it."""
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
            name: The name, which is unique in the destination and sorts by age.
            memory: The mapped segment, new.
            durable: Whether it is on disk.
            file: The same segment, if `sync` must reach the disk. Defaults to None.
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
        """The offset of the next frame, in bytes from the segment's start."""
        return self._tail

    @property
    def mapped(self) -> mmap.mmap | None:
        """The segment. None if it is sealed."""
        return None if self._memory is _FINISHED else self._memory

    def append(self, payload: bytes) -> bool:
        """Append an event, and return whether there was room for it.

        Once this returned True, the event survives the death of the process.
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
            self._tail = end + 7 & -8  # align_up(end), without the call
            self.frame_count = count
        except BaseException:
            # A signal handler raised between two steps. The reader may have seen a
            # published frame already: it must never be overwritten.
            if memory[offset + STATE_AT]:
                self._tail = align_up(end)
                self.frame_count = count
            else:  # the rest of it behind a shorter frame would look like damage
                memory[start:end] = bytes(end - start)
            raise
        return True

    def sync(self) -> None:
        """Bring all that was appended to the disk. Any thread may call it.

        Raises:
            OSError: The disk failed.
        """
        tail = self._tail
        if self._file is not None and self._synced < tail:
            self._file.sync()
            self._synced = tail

    def seal(self) -> None:
        """Declare the segment finished. It takes no more events, and no more room."""
        self._size = 0
        memory = self._memory
        if memory is not _FINISHED:
            frames.seal(memory, self._tail)
            self._memory = _FINISHED
            if self.durable:
                _cut(memory, self._tail)


def segment_size(payloads: Sequence[bytes]) -> int:
    """Return the least size of a segment for these events, in bytes."""
    return least_size(map(len, payloads))


def least_size(payload_bytes: Iterable[int]) -> int:
    """Return the least size of a segment for events of these sizes, in bytes."""
    sizes = (align_up(FRAME_HEADER_BYTES + size) for size in payload_bytes)
    return SEGMENT_HEADER_BYTES + sum(sizes)


def write_segment(
    path: Path,
    payloads: Sequence[bytes],
    now_ms: int,
    *,
    attempted: Mapping[bytes, int | None] = _NEVER,
) -> None:
    """Return when a new segment with these events is on the disk.

    Args:
        path: The path of the segment.
        payloads: The events.
        now_ms: The wall time, in ms since 1970.
        attempted: The time at which an event may first have been sent, in ms since
            1970, by its payload. Defaults to never.

    Raises:
        OSError: The disk failed.
    """
    known = {
        payload: first for payload, first in attempted.items() if first is not None
    }
    stamps = [
        AttemptStamp(known[payload], 1) if payload in known else NEVER_ATTEMPTED
        for payload in payloads
    ]
    _write_segment(path, payloads, stamps, now_ms)


def copy_frames(path: Path, copied: Sequence[Frame], now_ms: int) -> None:
    """Do the same with events of other segments. Their stamps are copied, too."""
    payloads = [frame.payload for frame in copied]
    _write_segment(path, payloads, [frame.stamp for frame in copied], now_ms)


def _write_segment(
    path: Path,
    payloads: Sequence[bytes],
    stamps: Sequence[AttemptStamp],
    now_ms: int,
) -> None:
    memory = create_file(path, segment_size(payloads), now_ms)
    writer = SegmentWriter(path.name, memory, durable=True, file=SyncFile(path))
    for payload, stamp in zip(payloads, stamps, strict=True):
        offset = writer.tail
        writer.append(payload)
        if stamp != NEVER_ATTEMPTED:
            packed = frames.pack_stamp(stamp.first_attempt_ms or 0, stamp.attempts)
            frames.write_stamp(memory, offset, packed)
    writer.sync()
    for folder in (path.parent, path.parent.parent):
        sync_folder(folder)  # a file without a name is lost, too


def write_segment_atomically(
    path: Path,
    payloads: Sequence[bytes],
    now_ms: int,
    *,
    attempted: Mapping[bytes, int | None],
) -> None:
    """Do the same as `write_segment`. After a kill, all of the events exist or none.

    Raises:
        OSError: The disk failed, and none of the events exists.
    """
    part = path.with_name(f"{path.name}{PART_SUFFIX}")
    try:
        write_segment(part, payloads, now_ms, attempted=attempted)
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
