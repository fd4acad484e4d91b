"""The byte layout of a segment, and nothing else: no files, no locks.

    segment  =  header (64 bytes)  frame*  zeros
    frame    =  magic · length · CRC-32 · state · stamp · payload · padding to 8 bytes
                └────── fixed once written ─┘ └ mutable ┘  └ the event, as composed

A frame exists from the moment its state byte is set, which the writer does last: what
a killed writer left half-written has no state, and nobody was told that it was tracked.
Afterwards only the state and the stamp change, each by one store in place, so that
after any crash the disk says, for each event, whether and when it was first attempted.

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

# magic, format version, sealed flag, created at (ms since 1970)
_SEGMENT_HEADER: Final = Struct("<8sHB5xQ40x")
_SEGMENT_MAGIC: Final = b"OUTLAYSG"
SEGMENT_HEADER_BYTES: Final = _SEGMENT_HEADER.size
_SEALED_AT: Final = 10
_SEALED: Final = 0xA5  # four bits from 0: no flipped bit ends a segment too early

# magic, payload length, CRC-32 of the payload, state, stamp
_FRAME_HEADER: Final = Struct("<4sIIB3xQ")
FRAME_MAGIC: Final = b"\xf0FR\xa5"
FRAME_HEADER_BYTES: Final = _FRAME_HEADER.size
STATE_AT: Final = 12
_STAMP_AT: Final = 16
_STAMP: Final = Struct("<Q")
_ALIGNMENT: Final = 8  # frames start where a search after damage need look

pack_header_into = Struct("<4sIIB").pack_into
"""Writes a frame's header: magic, payload length, CRC-32, state; in this order.

Not the stamp, which is 0 in a new segment: an agent may write it from the moment that
it sees the state, and a later store would take it back.

A kill between two of its stores leaves a frame without a state, or one whose checksum
fails; and nobody has been told yet that the event was tracked."""

_unpack_header = _FRAME_HEADER.unpack_from


class FrameState(enum.IntEnum):
    """What became of an event.

    The codes are words of the Reed-Muller code RM(1,3): any two differ in at least
    four bits, so no flipped bit turns one fate into another unnoticed.
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
    """When an event was first attempted, and how often.

    Attributes:
        first_attempt_ms: wall time in ms since 1970; 0: never attempted, or only with
            a definite refusal. None: the stamp is damaged, so the age is unknown.
        attempts: attempts so far; stays at 255 once there.
    """

    first_attempt_ms: int | None
    attempts: int


NEVER_ATTEMPTED: Final = AttemptStamp(0, 0)
_UNKNOWN: Final = AttemptStamp(None, 0)


class Frame(NamedTuple):
    """One event as it lies in a segment."""

    offset: int
    end: int
    state: int
    stamp: AttemptStamp
    payload: bytes


class CorruptRange(NamedTuple):
    """Bytes that are no frame: ``offset`` up to ``end``, where reading goes on."""

    offset: int
    end: int


def align_up(offset: int) -> int:
    """Return the first place at or after ``offset`` where a frame may start."""
    return (offset + _ALIGNMENT - 1) & -_ALIGNMENT


def segment_header(created_ms: int) -> bytes:
    """Return the first bytes of a new segment."""
    return _SEGMENT_HEADER.pack(_SEGMENT_MAGIC, FORMAT_VERSION, 0, created_ms)


def seal(segment: Buffer) -> None:
    """Say that nothing will be appended to ``segment`` any more."""
    segment[_SEALED_AT] = _SEALED


def is_segment(header: bytes) -> bool:
    """Return whether a segment's header has been written."""
    return header.startswith(_SEGMENT_MAGIC)


def is_sealed(segment: Buffer) -> bool:
    """Return whether its writer has finished with ``segment``."""
    return segment[_SEALED_AT] == _SEALED


def format_version(segment: Buffer) -> int | None:
    """Return the version ``segment`` was written in; None if its header is damaged."""
    magic, version, _, _ = _SEGMENT_HEADER.unpack_from(segment, 0)
    return version if magic == _SEGMENT_MAGIC else None


def pack_stamp(first_attempt_ms: int, attempts: int) -> bytes:
    """Return the eight bytes of a stamp: 48 bits of time, attempts, and a check."""
    body = first_attempt_ms << 8 | min(attempts, 255)
    return _STAMP.pack(body << 8 | _check(body))


def write_stamp(segment: Buffer, offset: int, packed: bytes) -> None:
    """Write a packed stamp into the frame at ``offset``, in one aligned store."""
    segment[offset + _STAMP_AT : offset + _STAMP_AT + _STAMP.size] = packed


def read_frame(
    segment: Buffer, offset: int, limit: int, *, final: bool
) -> Frame | CorruptRange | None:
    """Return what lies at ``offset``.

    Args:
        segment: the mapped segment.
        offset: where a frame may start.
        limit: the end of the segment.
        final: whether nobody appends any more. Then a frame that was never published
            is damage; before, it is merely not there yet.

    Returns:
        The frame; or the damage, up to the next whole frame or ``limit``; or None if
        nothing (more) has been published.
    """
    if offset + FRAME_HEADER_BYTES > limit:
        return None
    magic, length, checksum, state, stamp = _unpack_header(segment, offset)
    if state == FrameState.UNWRITTEN and not final:
        return None
    start = offset + FRAME_HEADER_BYTES
    end = start + length
    # No event is empty: on a machine that lets others see stores out of order, a length
    # of 0 is one that has not arrived yet.
    if magic == FRAME_MAGIC and state and length and end <= limit:
        payload = bytes(segment[start:end])
        if crc32(payload) == checksum:
            if state in _STATES:
                return Frame(
                    offset, align_up(end), state, _unpack_stamp(stamp), payload
                )
            # The event is whole but its fate is not: it may have been sent.
            return Frame(offset, align_up(end), FrameState.PENDING, _UNKNOWN, payload)
    return _damage(segment, offset, limit, final=final)


class FrameHeader(NamedTuple):
    """What a frame's header says; unchecked, if the event has met its fate."""

    offset: int
    end: int
    state: int
    attempted: bool
    damaged: bool = False


def iter_headers(segment: Buffer, offset: int) -> Iterator[FrameHeader]:
    """Yield what the headers say of the published frames from ``offset`` on.

    For the writer, who wants to know how far things are: what is published and yet not
    whole is damage to it, and never on its way. What is settled costs a fifth of
    reading the frames.
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
    """Return whether the state of a frame at ``offset`` says that there is one."""
    if offset + FRAME_HEADER_BYTES > len(segment):
        return False
    return bool(segment[offset + STATE_AT] != FrameState.UNWRITTEN)


def published_end(segment: Buffer) -> int:
    """Return where the next frame will be appended, as far as can be seen."""
    end = SEGMENT_HEADER_BYTES
    while found := read_frame(segment, end, len(segment), final=False):
        end = found.end
    return end


def _damage(
    segment: Buffer, offset: int, limit: int, *, final: bool
) -> CorruptRange | None:
    """Find the next whole frame after damage at ``offset``."""
    resume = offset
    while (resume := segment.find(FRAME_MAGIC, resume + 1, limit)) >= 0:
        if resume % _ALIGNMENT == 0 and _is_intact(segment, resume, limit):
            return CorruptRange(offset, resume)
    # In a segment still being written, the next frame may be on its way.
    rest = segment[offset:limit] if final else b""
    return CorruptRange(offset, limit) if rest != bytes(len(rest)) else None


def lost_event_offsets(segment: Buffer, damage: CorruptRange) -> Iterator[int]:
    """Yield where in ``damage`` there are events whose fate was still open.

    A frame without a state was never published, and a settled one has met its fate.
    Events next to each other whose magic numbers are all destroyed pass for one.
    """
    offset, end = damage
    while offset >= 0 and offset + FRAME_HEADER_BYTES <= end:
        state = segment[offset + STATE_AT]
        if offset % _ALIGNMENT == 0 and state and state not in SETTLED:
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
    body, check = value >> 8, value & 0xFF
    if check != _check(body):
        return _UNKNOWN
    return AttemptStamp(body >> 8, body & 0xFF)


def _check(body: int) -> int:
    # Never 0, so that a stamp is never mistaken for "never attempted".
    return crc32(body.to_bytes(7, "little")) & 0xFF | 1
