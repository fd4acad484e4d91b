"""Reading pending events back, and writing their outcomes next to them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import pytest

from outlay._journal import frames
from outlay._journal.frames import FrameState
from outlay._journal.segment_reader import SegmentReader
from outlay._journal.segments import SegmentWriter, create_memory
from tests.support.clock import NOON_MS
from tests.support.events import payload
from tests.support.journals import (
    KIB,
    close_journals,
    corrupt,
    flip,
    last_frame,
    make_journal,
    payloads,
    segment_files,
    take_all,
)

if TYPE_CHECKING:
    from pathlib import Path

    from outlay._journal.frames import CorruptRange
    from outlay._journal.journal import Journal

_MEMORY: Final = [False, True]
_MEMORY_IDS: Final = ["disk", "memory"]


def _filled(journal_dir: Path, count: int = 5, *, in_memory: bool = False) -> Journal:
    journal = make_journal(journal_dir, in_memory=in_memory)
    for number in range(count):
        journal.append(payload(number))
    return journal


def _recovered(journal_dir: Path) -> Journal:
    """Return a successor of the journal that was closed."""
    journal = make_journal(journal_dir)
    journal.adopt_orphans()
    return journal


def test_an_event_is_handed_out_once(tmp_path: Path) -> None:
    """Two senders must never own one event."""
    journal = _filled(tmp_path)

    first, second = take_all(journal), take_all(journal)

    assert payloads(first) == [payload(number) for number in range(5)]
    assert second == []


def test_reading_stops_at_the_limits_it_was_given(tmp_path: Path) -> None:
    """Memory holds a bounded window of what is pending, in events and in bytes."""
    journal = _filled(tmp_path, 10)
    size = len(payload(0))

    by_count = journal.reader.take(3, 1024 * KIB)
    by_bytes = journal.reader.take(100, 2 * size)

    assert payloads(by_count) == [payload(0), payload(1), payload(2)]
    assert payloads(by_bytes) == [payload(3), payload(4)]


def test_what_is_appended_after_the_end_was_reached_is_found(tmp_path: Path) -> None:
    """The end of a live segment is not the end."""
    journal = _filled(tmp_path)
    take_all(journal)

    journal.append(payload(7))

    assert payloads(take_all(journal)) == [payload(7)]


@pytest.mark.parametrize("in_memory", _MEMORY, ids=_MEMORY_IDS)
def test_a_segment_is_deleted_when_all_of_its_events_are_settled(
    tmp_path: Path, *, in_memory: bool
) -> None:
    """Delivered events must not fill the disk; undelivered ones must not vanish."""
    journal = _filled(tmp_path, in_memory=in_memory)
    *most, last = take_all(journal)
    journal.seal()
    assert take_all(journal) == []

    for event in most:
        journal.reader.settle(event, FrameState.DELIVERED)
    before = len(journal.reader.segment_names())
    journal.reader.settle(last, FrameState.DELIVERED)

    assert (before, len(journal.reader.segment_names())) == (1, 0)
    assert segment_files(tmp_path) == []


def test_an_unsealed_segment_stays_when_all_of_its_events_are_settled(
    tmp_path: Path,
) -> None:
    """Its writer goes on appending to it."""
    journal = _filled(tmp_path)
    for event in take_all(journal):
        journal.reader.settle(event, FrameState.DELIVERED)

    journal.append(payload(9))

    assert payloads(take_all(journal)) == [payload(9)]


def test_settled_events_are_not_read_again_by_the_next_process(tmp_path: Path) -> None:
    """A outcome is written into the segment: a restart must not send it again."""
    journal = _filled(tmp_path)
    outcomes = [
        FrameState.DELIVERED,
        FrameState.DEAD,
        FrameState.QUARANTINED,
        FrameState.PARKED,
    ]
    for event, outcome in zip(take_all(journal), outcomes, strict=False):
        journal.reader.settle(event, outcome)
    journal.close()

    left = payloads(take_all(_recovered(tmp_path)))

    assert left == [payload(3), payload(4)], "the parked and the pending one"


def test_the_first_attempt_is_dated_on_disk_before_it_is_made(tmp_path: Path) -> None:
    """After a crash the window rule needs to know when that was."""
    journal = _filled(tmp_path, 2)
    journal.reader.stamp(take_all(journal)[:1], NOON_MS)
    journal.close()

    tried, fresh = take_all(_recovered(tmp_path))

    assert (tried.first_attempt_ms, tried.attempts) == (NOON_MS, 1)
    assert (fresh.first_attempt_ms, fresh.attempts) == (0, 0)


def test_later_attempts_do_not_move_the_first(tmp_path: Path) -> None:
    """The server's window began with the first one at the earliest."""
    journal = _filled(tmp_path, 1)
    events = take_all(journal)

    journal.reader.stamp(events, NOON_MS)
    journal.reader.stamp(events, NOON_MS + 5000)
    journal.close()

    (event,) = take_all(_recovered(tmp_path))
    assert (event.first_attempt_ms, event.attempts) == (NOON_MS, 2)


def test_a_definite_refusal_takes_the_date_back_but_not_the_count(
    tmp_path: Path,
) -> None:
    """The server did not count it: it may wait for ever, like one never attempted."""
    journal = _filled(tmp_path, 1)
    (event,) = take_all(journal)

    journal.reader.stamp([event], NOON_MS)
    journal.reader.clear_attempt(event, 0)
    journal.close()

    (event,) = take_all(_recovered(tmp_path))
    assert (event.first_attempt_ms, event.attempts) == (0, 1)


@pytest.mark.parametrize("in_memory", _MEMORY, ids=_MEMORY_IDS)
@pytest.mark.parametrize("sealed", [False, True], ids=["live", "sealed"])
def test_parked_events_come_back_when_unparked(
    tmp_path: Path, *, sealed: bool, in_memory: bool
) -> None:
    """Once the missing cost metric exists, they are worth a try."""
    journal = _filled(tmp_path, in_memory=in_memory)
    taken = take_all(journal)
    if sealed:
        journal.seal()
    for event in taken:
        parked = event is taken[1]
        journal.reader.settle(
            event, FrameState.PARKED if parked else FrameState.DELIVERED
        )
    assert take_all(journal) == []
    assert journal.reader.parked_count() == 1

    journal.reader.unpark()

    assert payloads(take_all(journal)) == [payload(1)]
    assert journal.reader.parked_count() == 0


@pytest.mark.parametrize("in_memory", _MEMORY, ids=_MEMORY_IDS)
def test_parked_events_pin_their_segment_and_then_let_it_go(
    tmp_path: Path, *, in_memory: bool
) -> None:
    """Parked is kept; delivered at last, its segment is of no more use."""
    journal = _filled(tmp_path, 1, in_memory=in_memory)
    (event,) = take_all(journal)
    journal.seal()
    journal.reader.settle(event, FrameState.PARKED)
    assert take_all(journal) == []
    kept = len(segment_files(tmp_path))

    journal.reader.unpark()
    (event,) = take_all(journal)
    journal.reader.settle(event, FrameState.DELIVERED)

    assert kept == (0 if in_memory else 1)
    assert segment_files(tmp_path) == []
    assert journal.reader.segment_names() == []


def test_an_event_that_is_parked_while_others_are_unparked_counts_once(
    tmp_path: Path,
) -> None:
    """It was under way at that moment, and its answer came after."""
    journal = _filled(tmp_path, 2)
    first, under_way = take_all(journal)
    journal.reader.settle(first, FrameState.PARKED)

    journal.reader.unpark()
    journal.reader.settle(under_way, FrameState.PARKED)
    again = take_all(journal)

    held = len(again) + journal.reader.parked_count()
    assert held == 2, "each is either at hand or parked"
    journal.reader.unpark()
    again += take_all(journal)
    assert sorted(payloads(again)) == [payload(0), payload(1)]
    for event in again:
        journal.reader.settle(event, FrameState.DELIVERED)
    assert journal.reader.parked_count() == 0


def test_every_mix_of_outcomes_leaves_exactly_the_unsettled(tmp_path: Path) -> None:
    """The same law whatever happened: pending and parked stay, the rest is done."""
    outcomes = [None, FrameState.DELIVERED, FrameState.PARKED]

    for at, mix in enumerate(itertools.product(outcomes, repeat=4)):
        journal = _filled(tmp_path / str(at), len(mix))
        for event, outcome in zip(take_all(journal), mix, strict=True):
            if outcome is not None:
                journal.reader.settle(event, outcome)
        journal.seal()
        journal.close()

        left = payloads(take_all(_recovered(tmp_path / str(at))))
        close_journals()

        assert left == [
            payload(n) for n, f in enumerate(mix) if f != FrameState.DELIVERED
        ]


def test_damage_is_kept_aside_and_the_rest_is_read(tmp_path: Path) -> None:
    """A corrupt frame is no event any more, but a person may still read it."""
    journal = _filled(tmp_path, 3)
    journal.close()
    (segment,) = segment_files(tmp_path)
    corrupt(segment, payload(0)[:-2])

    successor = _recovered(tmp_path)
    read = payloads(take_all(successor))

    (aside,) = tmp_path.glob("*/dead/*.damaged")
    assert read == [payload(1), payload(2)]
    assert successor.reader.damaged_count == 1
    assert payload(0)[:-2] in aside.read_bytes()
    assert aside.stat().st_mode & 0o777 == 0o600


def test_the_newest_event_that_goes_bad_anywhere_holds_up_nobody(
    tmp_path: Path,
) -> None:
    """Its own process knows that it was appended, and so is not on its way any more."""
    journal = _filled(tmp_path, 1)
    reader = journal.reader
    (segment,) = segment_files(tmp_path)

    for at in range(len(last_frame(segment))):
        before = reader.damaged_count
        journal.append(payload(0))
        settled = _deliver_all(journal)
        journal.append(payload(1))
        segment = segment_files(tmp_path)[-1]
        flip(segment, last_frame(segment).start + at)
        targets = journal.flush_targets()
        whole = _deliver_all(journal)
        reached = reader.is_settled_up_to(targets)
        journal.append(payload(2))
        next_one = _deliver_all(journal)

        # Only its outcome was hit, or bytes that mean nothing: it is whole.
        assert settled[-1] == payload(0), at
        assert whole in ([], [payload(1)]), at
        assert reader.damaged_count == before + (not whole), at
        assert reached, at
        assert next_one == [payload(2)], at
    assert reader.damaged_count > len(payload(1))


def _deliver_all(journal: Journal) -> list[bytes]:
    events = take_all(journal)
    for event in events:
        journal.reader.settle(event, FrameState.DELIVERED)
    return payloads(events)


def test_an_event_that_is_published_between_two_looks_is_whole() -> None:
    """The reader asks the writer how far it is only after it found nothing."""
    memory = create_memory(64 * KIB, NOON_MS)
    writer = SegmentWriter("w/1.seg", memory, durable=True)

    def append_first() -> int:
        writer.append(payload(1))
        return writer.tail

    reader = SegmentReader("w/1.seg", memory, final=False, tail=append_first)
    damages: list[CorruptRange] = []

    event = reader.take(lambda _, damage: damages.append(damage))

    assert event is not None
    assert (event.payload, damages) == (payload(1), [])


def test_half_an_event_in_a_dead_segment_is_no_event(tmp_path: Path) -> None:
    """No caller was told that it was tracked, so nothing is missing."""
    journal = _filled(tmp_path, 3)
    journal.close()
    (segment,) = segment_files(tmp_path)
    content = bytearray(segment.read_bytes())
    content[content.rindex(frames.FRAME_MAGIC) + frames.STATE_AT] = FrameState.UNWRITTEN
    segment.write_bytes(content)

    reader = _recovered(tmp_path).reader
    taken = reader.take(100, 1024 * KIB)

    assert payloads(taken) == [payload(0), payload(1)]
    assert (reader.recovered_count, reader.damaged_count) == (2, 0)
    assert [*tmp_path.glob("*/dead/*.damaged")] == []


def test_neighbours_that_are_damaged_are_counted_one_by_one(tmp_path: Path) -> None:
    """Read as one damage, they are still two tracked events."""
    journal = _filled(tmp_path, 4)
    journal.close()
    (segment,) = segment_files(tmp_path)
    corrupt(segment, b"key-1")
    corrupt(segment, b"key-2")

    reader = _recovered(tmp_path).reader
    taken = reader.take(100, 1024 * KIB)

    assert payloads(taken) == [payload(0), payload(3)]
    assert (reader.recovered_count, reader.damaged_count) == (4, 2)


@pytest.mark.parametrize("recovered", [False, True], ids=["own", "recovered"])
def test_damage_is_counted_once_however_often_a_segment_is_read(
    tmp_path: Path, *, recovered: bool
) -> None:
    """For its parked events a segment is read again, and these may go bad meanwhile."""
    journal = _filled(tmp_path, 4)
    (segment,) = segment_files(tmp_path)
    corrupt(segment, b"key-0")
    if recovered:
        journal.close()
        journal = _recovered(tmp_path)
    else:
        journal.seal()
    reader = journal.reader
    delivered, *parked = take_all(journal)
    reader.settle(delivered, FrameState.DELIVERED)
    for event in parked:
        reader.settle(event, FrameState.PARKED)
    first = reader.damaged_count
    corrupt(segment, b"key-1")  # delivered before: it is not missed
    corrupt(segment, b"key-2")

    reader.unpark()
    left = take_all(journal)

    assert payloads(left) == [payload(3)]
    assert (first, reader.damaged_count) == (1, 2)
    assert (reader.parked_count(), reader.recovered_count) == (0, 4 * recovered)
    asides = [path.read_bytes() for path in tmp_path.glob("*/dead/*.damaged")]
    assert sum(aside.count(b"key-2") for aside in asides) == 1


def test_a_parked_event_that_goes_bad_is_not_parked_any_more(tmp_path: Path) -> None:
    """Another that is on its way goes bad, too, but was whole when it was read."""
    journal = _filled(tmp_path, 2)
    reader = journal.reader
    parked, _on_its_way = take_all(journal)
    reader.settle(parked, FrameState.PARKED)
    (segment,) = segment_files(tmp_path)
    corrupt(segment, b"key-0")
    corrupt(segment, b"key-1")
    journal.seal()

    reader.unpark()
    left = take_all(journal)

    assert left == []
    assert (reader.parked_count(), reader.damaged_count) == (0, 1)


def test_a_segment_of_a_newer_outlay_is_left_alone_and_holds_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A rollback must not misread, or throw away, what the newer release wrote."""
    _filled(tmp_path, 1).close()
    (newer,) = segment_files(tmp_path)
    content = bytearray(newer.read_bytes())
    content[8] = frames.FORMAT_VERSION + 1
    newer.write_bytes(content)
    _filled(tmp_path, 2).close()

    successor = _recovered(tmp_path)
    read = payloads(take_all(successor))
    successor.close()

    assert read == [payload(0), payload(1)]
    assert newer.read_bytes() == content
    assert "upgrade outlay" in caplog.text


@pytest.mark.parametrize(
    "content", [b"", b"OUTLAYSG", bytes(64 * KIB)], ids=["empty", "short", "zeros"]
)
def test_a_segment_without_a_header_holds_up_nobody(
    tmp_path: Path, content: bytes
) -> None:
    """A writer killed while it created a segment leaves such a file."""
    _filled(tmp_path, 2).close()
    (whole,) = segment_files(tmp_path)
    (whole.parent / "00000000.seg").write_bytes(content)

    read = payloads(take_all(_recovered(tmp_path)))

    assert read == [payload(0), payload(1)]


def test_a_flush_waits_for_what_was_appended_before_it_only(tmp_path: Path) -> None:
    """A busy application would otherwise never see the end of a flush."""
    journal = _filled(tmp_path, 2)
    targets = journal.flush_targets()
    journal.append(payload(2))
    first, second, _ = take_all(journal)

    journal.reader.settle(first, FrameState.DELIVERED)
    before = journal.reader.is_settled_up_to(targets)
    journal.reader.settle(second, FrameState.DELIVERED)

    assert not before
    assert journal.reader.is_settled_up_to(targets)
