"""The byte layout of a segment: no files, no locks.

    segment  =  header (64 bytes)  frame*  zeros
    frame    =  magic · length · CRC-32 · state · stamp · payload · padding to 8 bytes
                └────── fixed once written ─┘ └ mutable ┘  └ the event, as composed

A frame exists from the moment that its state byte is set, and the writer sets it last.
A frame that a kill cut short has no state, and its event was never acknowledged.
Afterwards only the state and the stamp change, each by one store in place. So after any
crash the disk says, for each event, whether and when it was first attempted.

All integers are little-endian. Format changes raise `FORMAT_VERSION`.
"""

from __future__ import annotations

import enum
import mmap
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator

Buffer: TypeAlias = mmap.mmap | bytearray

FORMAT_VERSION: Final = 2

# magic, format version, sealed flag, created at (ms since 1970), length, file number
_SEGMENT_HEADER: Final = Struct("<8sHB5xQQQ24x")
_SEGMENT_MAGIC: Final = b"OUTLAYSG"
SEGMENT_HEADER_BYTES: Final = _SEGMENT_HEADER.size
_SEALED_AT: Final = 10
_SEALED: Final = 0xA5  # four bits from 0: no flipped bit ends a segment too early
_LENGTH_AT: Final = 24
_FILE_NUMBER_AT: Final = 32

# magic, payload length, CRC-32 of the payload, state, stamp
_FRAME_HEADER: Final = Struct("<4sIIB3xQ")
FRAME_MAGIC: Final = b"\xf0FR\xa5"
FRAME_HEADER_BYTES: Final = _FRAME_HEADER.size
STATE_AT: Final = 12
_STAMP_AT: Final = 16
_CHECKED: Final = Struct("<Q")  # 56 bits and 8 bits of check
_FILE_NUMBER_MASK: Final = (1 << 56) - 1
_ALIGNMENT: Final = 8  # frames start where a search after damage need look

pack_header_into = Struct("<4sIIB").pack_into
"""Write a frame's header: magic, payload length, CRC-32, state, in this order.

It leaves the stamp out, which is 0 in a new segment. An agent may write the stamp as
soon as it sees the state, and a later store would undo that.

A kill between two of its stores leaves a frame without a state. `track_cost` has not
returned to the caller yet."""

_unpack_header = _FRAME_HEADER.unpack_from


class FrameState(enum.IntEnum):
    """The state of an event.

    The codes are words of the Reed-Muller code RM(1,3). Any two differ in at least four
    bits, so no flipped bit turns one state into another unnoticed.
    """

    UNWRITTEN = 0x00
    PENDING = 0x0F
    PARKED = 0x33
    DELIVERED = 0x55
    DEAD = 0x3C
    QUARANTINED = 0x5A


SETTLED: Final = frozenset(
    {FrameState.DELIVERED, FrameState.DEAD, FrameState.QUARANTINED}
)

_STATES: Final = frozenset(FrameState)


class AttemptStamp(NamedTuple):
    """The time of an event's first attempt, and the number of its attempts.

    Attributes:
        first_attempt_ms: The wall time of the first attempt, in ms since 1970. 0 if
            there was none, or if the server certainly counted none. None if the stamp
            is damaged, so that the age is unknown.
        attempts: The number of attempts so far. It stays at 255 once there.
    """

    first_attempt_ms: int | None
    attempts: int


NEVER_ATTEMPTED: Final = AttemptStamp(0, 0)
_UNKNOWN: Final = AttemptStamp(None, 0)


class Frame(NamedTuple):
    """One event in a segment."""

    offset: int
    end: int
    state: int
    stamp: AttemptStamp
    payload: bytes


class CorruptRange(NamedTuple):
    """Bytes that are no frame, from ``offset`` to ``end``, where reading goes on."""

    offset: int
    end: int


def align_up(offset: int) -> int:
    """Return the first offset at or after ``offset`` where a frame may start."""
    return (offset + _ALIGNMENT - 1) & -_ALIGNMENT


def segment_header(created_ms: int, length: int, file_number: int = 0) -> bytes:
    """Return the first bytes of a new segment.

    Args:
        created_ms: The wall time, in ms since 1970.
        length: The size of the segment, in bytes.
        file_number: The inode of the file. Defaults to 0: it is in memory.
    """
    return _SEGMENT_HEADER.pack(
        _SEGMENT_MAGIC,
        FORMAT_VERSION,
        0,
        created_ms,
        _add_check(length),
        _add_check(file_number & _FILE_NUMBER_MASK),
    )


def seal(segment: Buffer, used: int) -> None:
    """Declare that ``segment`` ends after ``used`` bytes and gets no more frames."""
    # The length first: a reader that sees the flag must find the length of the end.
    segment[_LENGTH_AT : _LENGTH_AT + _CHECKED.size] = _CHECKED.pack(_add_check(used))
    segment[_SEALED_AT] = _SEALED


def is_segment(header: bytes) -> bool:
    """Return whether a segment's header has been written."""
    return header.startswith(_SEGMENT_MAGIC)


def is_sealed(segment: Buffer) -> bool:
    """Return whether the writer has finished ``segment``."""
    return segment[_SEALED_AT] == _SEALED


def declared_length(segment: Buffer) -> int | None:
    """Return the bytes that a segment has according to its header.

    They are those that were allocated, or, once it is sealed, those that are used. None
    if the header is damaged, or from a release that did not write them.
    """
    return _checked_value(*_CHECKED.unpack_from(segment, _LENGTH_AT))


def is_copy(header: bytes, file_number: int) -> bool:
    """Return whether a segment lies in another file than the one it was written to.

    Args:
        header: The first bytes of the segment.
        file_number: The inode of the file in which they are.
    """
    written = _checked_value(*_CHECKED.unpack_from(header, _FILE_NUMBER_AT))
    return bool(written) and written != file_number & _FILE_NUMBER_MASK


def format_version(segment: Buffer) -> int | None:
    """Return the format version of ``segment``, or None if its header is damaged."""
    magic, version, *_ = _SEGMENT_HEADER.unpack_from(segment, 0)
    return version if magic == _SEGMENT_MAGIC else None


def pack_stamp(first_attempt_ms: int, attempts: int) -> bytes:
    """Return the eight bytes of a stamp: 48 bits of time, attempts, and a check."""
    return _CHECKED.pack(_add_check(first_attempt_ms << 8 | min(attempts, 255)))


def write_stamp(segment: Buffer, offset: int, packed: bytes) -> None:
    """Write a packed stamp into the frame at ``offset``, in one aligned store."""
    segment[offset + _STAMP_AT : offset + _STAMP_AT + _CHECKED.size] = packed


def read_frame(
    segment: Buffer, offset: int, limit: int, *, final: bool
) -> Frame | CorruptRange | None:
    """Read at ``offset``.

    Args:
        segment: The mapped segment.
        offset: Where a frame may start, in bytes.
        limit: The end of the segment, in bytes.
        final: Whether the writer appends no more. If it does, a frame that looks
            damaged may be on its way, unless a whole one follows.

    Returns:
        The frame. Or the damage, up to the next whole frame or to ``limit``. Or None if
        nothing (more) was published: a frame that a kill cut short is not damage.
    """
    if offset + FRAME_HEADER_BYTES > limit:
        return None
    magic, length, checksum, state, stamp = _unpack_header(segment, offset)
    if state == FrameState.UNWRITTEN and not final:
        return None
    start = offset + FRAME_HEADER_BYTES
    end = start + length
    # No event is empty. On a processor that lets others see stores out of order, a
    # length of 0 has not arrived yet.
    if magic == FRAME_MAGIC and state and length and end <= limit:
        payload = bytes(segment[start:end])
        if crc32(payload) == checksum:
            if state in _STATES:
                return Frame(
                    offset, align_up(end), state, _unpack_stamp(stamp), payload
                )
            # The event is whole but its state is not: it may have been sent.
            return Frame(offset, align_up(end), FrameState.PENDING, _UNKNOWN, payload)
    return _damage(segment, offset, limit, final=final)


class FrameHeader(NamedTuple):
    """The header of a frame, unchecked if the event is settled."""

    offset: int
    end: int
    state: int
    attempted: bool
    damaged: bool = False


def iter_headers(segment: Buffer, offset: int) -> Iterator[FrameHeader]:
    """Yield the headers of the published frames from ``offset`` on.

    The writer uses it to see the progress of its events. To the writer, a published
    frame that is not whole is damaged, and never on its way. Skipping over a settled
    frame takes a fifth of the time of reading it.
    """
    limit = len(segment)
    while offset + FRAME_HEADER_BYTES <= limit:
        magic, length, _, state, stamp = _unpack_header(segment, offset)
        if state == FrameState.UNWRITTEN:
            return
        end = offset + FRAME_HEADER_BYTES + length
        fits = magic == FRAME_MAGIC and length and end <= limit
        if fits and (state in SETTLED or _is_intact(segment, offset, limit)):
            offset, start = align_up(end), offset
            yield FrameHeader(start, offset, state, stamp != 0)
            continue
        damage = _damage(segment, offset, limit, final=True)
        if damage is None:
            return
        for lost in lost_event_offsets(segment, damage):
            yield FrameHeader(
                lost, damage.end, FrameState.PENDING, attempted=True, damaged=True
            )
        offset = damage.end


def is_published(segment: Buffer, offset: int) -> bool:
    """Return whether the frame at ``offset`` has a state."""
    if offset + FRAME_HEADER_BYTES > len(segment):
        return False
    return bool(segment[offset + STATE_AT] != FrameState.UNWRITTEN)


def published_end(segment: Buffer) -> int:
    """Return the offset at which the next frame will be appended."""
    end = SEGMENT_HEADER_BYTES
    while found := read_frame(segment, end, len(segment), final=False):
        end = found.end
    return end


def _damage(
    segment: Buffer, offset: int, limit: int, *, final: bool
) -> CorruptRange | None:
    """Return the range from damage at ``offset`` to the next whole frame.

    None if there is none, and what is at ``offset`` is on its way, or unfinished.
    """
    resume = offset
    while (resume := segment.find(FRAME_MAGIC, resume + 1, limit)) >= 0:
        if resume % _ALIGNMENT == 0 and _is_intact(segment, resume, limit):
            return CorruptRange(offset, resume)
    rest = CorruptRange(offset, limit)
    # Without a state anywhere, this is the frame that the writer was killed in.
    is_damaged = final and next(_published_offsets(segment, rest), None) is not None
    return rest if is_damaged else None


def lost_event_offsets(segment: Buffer, damage: CorruptRange) -> Iterator[int]:
    """Yield the offsets in ``damage`` of events that were not settled.

    A frame without a state was never published. Neighbours whose magic numbers are all
    destroyed count as one event.
    """
    for offset in _published_offsets(segment, damage):
        if segment[offset + STATE_AT] not in SETTLED:
            yield offset


def _published_offsets(segment: Buffer, damage: CorruptRange) -> Iterator[int]:
    offset, end = damage
    while offset >= 0 and offset + FRAME_HEADER_BYTES <= end:
        if offset % _ALIGNMENT == 0 and segment[offset + STATE_AT]:
            yield offset
        offset = segment.find(FRAME_MAGIC, offset + 1, end)


def _is_intact(segment: Buffer, offset: int, limit: int) -> bool:
    if offset + FRAME_HEADER_BYTES > limit:
        return False
    _, length, checksum, _, _ = _unpack_header(segment, offset)
    start = offset + FRAME_HEADER_BYTES
    end = start + length
    return bool(end <= limit and crc32(segment[start:end]) == checksum)


def _unpack_stamp(value: int) -> AttemptStamp:
    if not value:
        return NEVER_ATTEMPTED
    body = _checked_value(value)
    return _UNKNOWN if body is None else AttemptStamp(body >> 8, body & 0xFF)


def _add_check(body: int) -> int:
    return body << 8 | _check(body)


def _checked_value(value: int) -> int | None:
    body, check = value >> 8, value & 0xFF
    return body if check == _check(body) else None


def _check(body: int) -> int:
    # Never 0, so that a stamp is never mistaken for "never attempted".
    return crc32(body.to_bytes(7, "little")) & 0xFF | 1
