"""The byte layout of a segment: what damage it notices, and what it never confuses."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay._journal import frames, segments
from outlay._journal.frames import (
    FRAME_HEADER_BYTES,
    NEVER_ATTEMPTED,
    SEGMENT_HEADER_BYTES,
    STATE_AT,
    CorruptRange,
    Frame,
    FrameState,
    align_up,
)
from outlay._journal.segments import SegmentWriter
from tests.support.clock import NOON_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIZE: Final = 4096
_PAYLOADS: Final = (b'{"n":1}', b'{"n":22,"text":"\xc3\xa9"}', b'{"n":333,"long":true}')


class _Read(NamedTuple):
    """Everything in a segment."""

    events: list[Frame]
    damages: list[CorruptRange]

    @property
    def payloads(self) -> list[bytes]:
        return [event.payload for event in self.events]


def _segment(payloads: Sequence[bytes] = _PAYLOADS, size: int = _SIZE) -> bytearray:
    memory = segments.create_memory(size, NOON_MS)
    writer = SegmentWriter("w/1.seg", memory, durable=True)
    for payload in payloads:
        assert writer.append(payload)
    return bytearray(memory[:])


def _read(segment: bytearray, *, final: bool = True) -> _Read:
    read = _Read([], [])
    offset = SEGMENT_HEADER_BYTES
    while found := frames.read_frame(segment, offset, len(segment), final=final):
        assert found.end > offset, "reading must move on"
        offset = found.end
        if isinstance(found, Frame):
            read.events.append(found)
        else:
            read.damages.append(found)
    return read


def _ends(payloads: Sequence[bytes] = _PAYLOADS) -> list[int]:
    """Return where each frame starts, and where the last one ends."""
    sizes = [align_up(FRAME_HEADER_BYTES + len(payload)) for payload in payloads]
    return list(itertools.accumulate(sizes, initial=SEGMENT_HEADER_BYTES))


def test_what_was_appended_is_read_back_byte_for_byte() -> None:
    """The payload is the request body; every retry must send the same bytes."""
    read = _read(_segment())

    assert read.payloads == list(_PAYLOADS)
    assert read.damages == []
    assert {event.state for event in read.events} == {FrameState.PENDING}
    assert {event.stamp for event in read.events} == {NEVER_ATTEMPTED}


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=20))
def test_any_payloads_round_trip(payloads: list[bytes]) -> None:
    """The journal does not care what an event looks like."""
    read = _read(_segment(payloads, size=8192))

    assert read.payloads == payloads


def test_any_two_states_differ_in_at_least_four_bits() -> None:
    """One or two flipped bits cannot turn one outcome into another; see `State`."""
    distances = [
        (one ^ other).bit_count()
        for one, other in itertools.combinations(FrameState, 2)
    ]

    assert min(distances) == 4


def test_no_three_flipped_bits_seal_a_segment() -> None:
    """The reader deleted it, with all that its writer had yet to append."""
    around = range(8 * 8, 8 * 16)  # bits of the bytes next to the flag, and of it
    for flipped in itertools.combinations(around, 3):
        segment = bytearray(frames.segment_header(NOON_MS, _SIZE))
        for bit in flipped:
            segment[bit // 8] ^= 1 << bit % 8
        assert not frames.is_sealed(segment), flipped


@pytest.mark.parametrize("final", [True, False], ids=["dead writer", "live writer"])
def test_a_tail_torn_at_any_byte_costs_only_the_last_event(*, final: bool) -> None:
    """A killed machine may keep any prefix of the last frame; the rest must survive."""
    whole = _segment()
    last, end = _ends()[-2:]

    for cut in range(last, end):
        torn = whole[:cut] + bytes(_SIZE - cut)
        read = _read(torn, final=final)

        complete = cut >= last + FRAME_HEADER_BYTES + len(_PAYLOADS[-1])
        assert read.payloads == list(_PAYLOADS if complete else _PAYLOADS[:-1]), cut


def test_a_frame_that_was_never_published_is_not_an_event() -> None:
    """Its caller was never told that it was tracked: it may track it again."""
    segment = _segment()
    unpublished = _ends()[-2]
    segment[unpublished + STATE_AT] = FrameState.UNWRITTEN

    dead, live = _read(segment, final=True), _read(segment, final=False)

    assert dead.payloads == live.payloads == list(_PAYLOADS[:-1])
    assert dead.damages == [], "its caller was never told"
    assert live.damages == [], "it may be on its way"


@pytest.mark.parametrize("final", [True, False], ids=["dead writer", "live writer"])
def test_a_flipped_bit_never_changes_an_event_or_its_outcome(*, final: bool) -> None:
    """Wrong money is worse than none: damage is found, wherever it is.

    Per flipped bit, the event that it hits is whole and as it was, or whole with an
    unknown age (which the window rule quarantines), or set aside as damage. All others
    are as they were.
    """
    whole = _segment()
    segment = bytearray(whole)
    _stamp_all(segment)
    expected = _read(segment).events

    for position in range(SEGMENT_HEADER_BYTES, _ends()[-1]):
        for bit in range(8):
            segment[position] ^= 1 << bit
            read = _read(segment, final=final)
            segment[position] ^= 1 << bit

            where = (position, bit)
            hit = next(e for e in reversed(expected) if e.offset <= position)
            others = [event for event in read.events if event.offset != hit.offset]
            assert others == [event for event in expected if event is not hit], where
            for event in read.events:
                if event.offset == hit.offset:
                    assert event.payload == hit.payload, where
                    unknown = event.stamp.first_attempt_ms is None
                    assert unknown or event == hit, where


def test_damage_covers_exactly_the_bytes_up_to_the_next_event() -> None:
    """They are kept for a person to look at: none missing, none of a neighbour's."""
    segment = _segment()
    starts = _ends()
    segment[starts[1] + FRAME_HEADER_BYTES] ^= 1

    read = _read(segment)

    assert read.damages == [CorruptRange(starts[1], starts[2])]
    assert read.payloads == [_PAYLOADS[0], _PAYLOADS[2]]


def test_neighbours_that_are_damaged_are_one_damage() -> None:
    """Reading goes on at a whole frame, and not at what only begins like one."""
    segment = _segment()
    starts = _ends()
    for start in starts[:2]:
        segment[start + FRAME_HEADER_BYTES] ^= 1

    read = _read(segment)

    assert read.damages == [CorruptRange(starts[0], starts[2])]
    assert read.payloads == [_PAYLOADS[2]]


def test_reading_finds_back_after_a_destroyed_stretch() -> None:
    """One bad sector must not cost what lies behind it."""
    payloads = [b'{"n":%d}' % number for number in range(20)]
    segment = _segment(payloads)
    starts = _ends(payloads)
    segment[starts[3] : starts[15] + 5] = b"\xff" * (starts[15] + 5 - starts[3])

    read = _read(segment)

    assert read.payloads == payloads[:3] + payloads[16:]
    assert read.damages == [CorruptRange(starts[3], starts[16])]


@given(st.binary(max_size=600))
def test_no_garbage_stops_the_reader_or_becomes_an_event(garbage: bytes) -> None:
    """Whatever a broken disk returns, reading ends."""
    segment = bytearray(segments.create_memory(1024, NOON_MS)[:])
    segment[SEGMENT_HEADER_BYTES : SEGMENT_HEADER_BYTES + len(garbage)] = garbage

    assert _read(segment, final=True).events == []


def test_an_event_whose_state_is_damaged_has_an_unknown_age() -> None:
    """It may have been sent and counted: only a person may send it again."""
    segment = _segment(_PAYLOADS[:1])
    segment[SEGMENT_HEADER_BYTES + STATE_AT] = FrameState.DELIVERED ^ 1

    (event,) = _read(segment).events

    assert event.payload == _PAYLOADS[0]
    assert (event.state, event.stamp.first_attempt_ms) == (FrameState.PENDING, None)


@pytest.mark.parametrize("attempts", [0, 1, 7, 255])
@pytest.mark.parametrize("first_attempt_ms", [0, 1, NOON_MS, 2**48 - 1])
def test_stamps_round_trip(first_attempt_ms: int, attempts: int) -> None:
    """The window rule reads them back in another process."""
    segment = _segment(_PAYLOADS[:1])
    packed = frames.pack_stamp(first_attempt_ms, attempts)
    frames.write_stamp(segment, SEGMENT_HEADER_BYTES, packed)

    (event,) = _read(segment).events

    assert event.stamp == (first_attempt_ms, attempts)


def test_attempts_stay_at_255_once_there() -> None:
    """A byte holds them; running over would say that an event was never tried."""
    assert frames.pack_stamp(NOON_MS, 300) == frames.pack_stamp(NOON_MS, 255)


def test_the_segment_header_tells_version_and_seal() -> None:
    """A newer outlay's segments are left alone; a sealed one can be deleted."""
    segment = _segment()

    assert frames.format_version(segment) == frames.FORMAT_VERSION
    assert not frames.is_sealed(segment)
    frames.seal(segment, _SIZE)
    assert frames.is_sealed(segment)
    segment[0] ^= 1
    assert frames.format_version(segment) is None


def _stamp_all(segment: bytearray) -> None:
    starts = _ends()
    for number, start in enumerate(starts[:-1]):
        frames.write_stamp(segment, start, frames.pack_stamp(NOON_MS + number, number))
    segment[starts[1] + STATE_AT] = FrameState.PARKED
    segment[starts[2] + STATE_AT] = FrameState.DELIVERED
