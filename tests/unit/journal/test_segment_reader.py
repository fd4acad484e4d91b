"""What is missing or half written in a segment, and what that means."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

import pytest

from outlay._journal import frames
from outlay._journal.frames import FRAME_HEADER_BYTES, FrameState
from outlay._journal.journal import ShippingRole
from tests.support.clock import NOON_MS
from tests.support.events import payload
from tests.support.interrupts import killed_at
from tests.support.journals import (
    KIB,
    flip,
    make_journal,
    payloads,
    segment_files,
    take_all,
)

if TYPE_CHECKING:
    from pathlib import Path

    from outlay._journal.journal import Journal

EVENTS: Final = 100


def left_behind(journal_dir: Path, count: int, *, padding: int = 0) -> Path:
    """Return the segment of a process that was killed, and tracked so many events."""
    journal = make_journal(journal_dir)
    for number in range(count):
        journal.append(payload(number, padding=padding))
    crash(journal)
    (segment,) = segment_files(journal_dir)
    return segment


def crash(journal: Journal) -> None:
    """End as a killed process does."""
    for folder in journal.held_folders():
        folder.close()


def recovered(journal_dir: Path) -> Journal:
    """Return the journal of the next process."""
    journal = make_journal(journal_dir)
    journal.adopt_orphans()
    return journal


def kept_aside(journal_dir: Path) -> list[bytes]:
    """Return the damaged bytes that were kept."""
    return [path.read_bytes() for path in sorted(journal_dir.glob("*/dead/*.damaged"))]


@pytest.mark.slow
def test_a_kill_at_any_instruction_of_an_append_is_no_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that was never acknowledged is not missing."""
    killed, at, counts = True, 0, set()
    while killed:
        folder = tmp_path / str(at)
        journal = make_journal(folder)
        journal.append(payload(1))
        journal.append(payload(2, padding=300))

        def append(journal: Journal = journal) -> None:
            journal.append(payload(3, padding=600))

        killed = killed_at(append, at, "_journal/segments.py", "_journal/appender.py")
        crash(journal)
        after = recovered(folder)
        events = take_all(after)

        assert payloads(events)[:2] == [payload(1), payload(2, padding=300)]
        assert (after.reader.damaged_count, kept_aside(folder)) == (0, []), at
        counts.add(len(events))
        at += 3
    assert counts == {2, 3}
    assert "damaged" not in caplog.text


def test_a_frame_that_is_cut_short_at_any_byte_is_no_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The payload is stored first, then the header, and in it the state."""
    segment = left_behind(tmp_path, 3)
    whole = segment.read_bytes()
    start = whole.rindex(frames.FRAME_MAGIC)
    body = start + FRAME_HEADER_BYTES
    end = body + len(payload(2))
    stores = [*range(body, end), *range(start, start + frames.STATE_AT)]
    for count in range(len(stores)):
        content = bytearray(whole)
        for at in stores[count:]:
            content[at] = 0
        content[start + frames.STATE_AT] = 0
        segment.write_bytes(content)
        journal = recovered(tmp_path)

        assert payloads(take_all(journal)) == [payload(0), payload(1)], count
        assert (journal.reader.damaged_count, kept_aside(tmp_path)) == (0, []), count
        crash(journal)
    assert "damaged" not in caplog.text


def test_flipped_bytes_in_the_middle_stay_loud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same frame, once it was acknowledged, is a lost event at every byte."""
    segment = left_behind(tmp_path, 3)
    first = segment.read_bytes().index(frames.FRAME_MAGIC)
    for offset in range(first, first + FRAME_HEADER_BYTES + len(payload(0))):
        if offset - first in range(frames.STATE_AT, FRAME_HEADER_BYTES):
            continue  # the state and the stamp: the event is whole, see test_frames
        flip(segment, offset)
        journal = recovered(tmp_path)

        assert payloads(take_all(journal)) == [payload(1), payload(2)], offset
        assert journal.reader.damaged_count == 1
        assert len(kept_aside(tmp_path)) == 1
        crash(journal)
        flip(segment, offset)
    assert "is damaged at byte" in caplog.text


@pytest.mark.parametrize("size", [10_000, 9_936 + 64 - 184, 5_003])
def test_a_segment_that_was_cut_is_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """A repaired file system, or a partial copy, must not lose events in silence."""
    segment = left_behind(tmp_path, EVENTS)
    os.truncate(segment, size)
    left = segment.read_bytes()

    journal = recovered(tmp_path)
    events = take_all(journal)
    for event in events:
        journal.reader.settle(event, FrameState.DELIVERED)

    assert 0 < len(events) < EVENTS
    assert payloads(events) == [payload(number) for number in range(len(events))]
    assert journal.reader.damaged_count == 1
    (kept,) = kept_aside(tmp_path)
    assert kept[frames.SEGMENT_HEADER_BYTES :][:100] == left[64:164]
    assert "is damaged at byte" in caplog.text


def test_a_sealed_segment_that_was_cut_or_wiped_is_damage(tmp_path: Path) -> None:
    """The header of a sealed segment says where its last frame ends."""
    for number, harm in enumerate((_cut, _wipe)):
        folder = tmp_path / str(number)
        journal = make_journal(folder)
        for event in range(EVENTS):
            journal.append(payload(event))
        journal.seal()
        crash(journal)
        (segment,) = segment_files(folder)
        harm(segment)
        after = recovered(folder)
        events = take_all(after)

        assert len(events) < EVENTS
        assert after.reader.damaged_count == 1


def _cut(segment: Path) -> None:
    os.truncate(segment, 4096)


def _wipe(segment: Path) -> None:
    with segment.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(segment.stat().st_size - 4096))


def test_a_live_segment_that_is_truncated_does_not_kill_its_reader(
    tmp_path: Path,
) -> None:
    """Reading past the end of a mapped file is a SIGBUS."""
    writer = make_journal(tmp_path, role=ShippingRole.DELEGATED)
    for number in range(EVENTS):
        writer.append(payload(number))
    (segment,) = segment_files(tmp_path)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            agent = make_journal(tmp_path, role=ShippingRole.AGENT)
            agent.scan()
            events = agent.reader.take(60, 1024 * KIB)
            os.truncate(segment, 4096)
            agent.reader.stamp(events, NOON_MS)
            for event in events:
                agent.reader.settle(event, FrameState.DELIVERED)
            take_all(agent)
            agent.scan()
            take_all(agent)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert not os.WIFSIGNALED(status), signal.Signals(os.WTERMSIG(status))
    assert os.WEXITSTATUS(status) == 0
