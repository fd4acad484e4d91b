"""Small folders of dead writers become one, and each event stays in one place."""

from __future__ import annotations

import itertools
import os
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from outlay._journal import merging
from outlay._journal.admin.commit import exclusive
from outlay._journal.admin.inspect import DestinationView, UnreadableItem
from outlay._journal.folders import (
    SUMMARY_FILE,
    DestinationFolder,
    WriterFolder,
    destination_name,
)
from outlay._journal.frames import FrameState
from outlay._journal.merging import MERGE_FROM, SMALL_BYTES
from tests.support.clock import ManualClock
from tests.support.events import payload
from tests.support.interrupts import Interrupts, skip_if_blind
from tests.support.journals import (
    DESTINATION,
    KIB,
    LIMITS,
    close_journals,
    flip,
    last_frame,
    make_journal,
    payloads,
    segment_files,
    take_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from outlay._journal.journal import Journal

_SOME: Final = MERGE_FROM + 4
_LIMITS: Final = LIMITS._replace(max_journal_bytes=2**30)


def _folder(journal_dir: Path) -> DestinationFolder:
    return DestinationFolder(journal_dir / destination_name(*DESTINATION))


def _writers(journal_dir: Path) -> list[str]:
    return [path.name for path in _folder(journal_dir).writers()]


def _leave(journal_dir: Path, clock: ManualClock, *numbers: int) -> None:
    """Leave the folders of killed processes that tracked one event each."""
    for number in numbers:
        clock.advance(1)
        journal = make_journal(journal_dir, clock=clock, limits=_LIMITS)
        journal.append(payload(number))
        _kill(journal)


def _kill(journal: Journal) -> None:
    for folder in journal.held_folders():
        folder.close()


def _ship_all(journal: Journal) -> list[bytes]:
    shipped: list[bytes] = []
    journal.scan()
    while events := take_all(journal):
        shipped += payloads(events)
        for event in events:
            journal.reader.settle(event, FrameState.DELIVERED)
        journal.scan()
    return shipped


def _seen(journal_dir: Path) -> list[bytes]:
    """Return the events that a person sees in the folder."""
    problems: list[UnreadableItem] = []
    view = DestinationView(_folder(journal_dir).path)
    seen = [event.payload for event in view.events(problems.append)]
    assert problems == []
    return seen


@pytest.mark.slow
def test_hundreds_of_short_processes_leave_few_folders(tmp_path: Path) -> None:
    """During an outage, each cron job tracks one event, and adopts before it ends."""
    clock = ManualClock()
    count = 300
    for number in range(count):
        clock.advance(1)
        journal = make_journal(tmp_path, clock=clock, limits=_LIMITS)
        journal.append(payload(number))
        journal.scan()
        journal.close_when_idle()

    assert len(_writers(tmp_path)) < MERGE_FROM + count * 500 // SMALL_BYTES + 2
    used = _folder(tmp_path).used_bytes()
    assert used < 16 * 3 * 4 * KIB + 2 * count * len(payload(0))
    adopter = make_journal(tmp_path, clock=clock)
    assert _ship_all(adopter) == [payload(number) for number in range(count)]
    assert adopter.reader.recovered_count == count
    assert segment_files(tmp_path) == []
    assert _writers(tmp_path) == []


def test_few_folders_stay_as_they_are(tmp_path: Path) -> None:
    """Merging costs some syncs, which a handful of folders is not worth."""
    clock = ManualClock()
    _leave(tmp_path, clock, *range(MERGE_FROM - 1))
    before = _writers(tmp_path)

    make_journal(tmp_path, clock=clock).scan()

    assert _writers(tmp_path) == before


def test_attempts_and_their_times_are_merged_too(tmp_path: Path) -> None:
    """The window rule holds for a merged event: it may have been counted."""
    clock = ManualClock()
    _leave(tmp_path, clock, *range(3))
    journal = make_journal(tmp_path, clock=clock)
    journal.scan()
    first, second, third = take_all(journal)
    journal.reader.stamp([first, second], 1234)
    journal.reader.stamp([first], 5678)
    journal.reader.clear_attempt(second, None)
    journal.reader.settle(third, FrameState.PARKED)
    _kill(journal)
    _leave(tmp_path, clock, *range(3, _SOME))

    adopter = make_journal(tmp_path, clock=clock)
    adopter.scan()
    events = take_all(adopter)

    assert len(_writers(tmp_path)) == 1
    assert payloads(events) == [payload(number) for number in range(_SOME)]
    assert [(each.first_attempt_ms, each.attempts) for each in events[:3]] == [
        (1234, 2),
        (0, 1),
        (0, 0),
    ]


def test_settled_events_are_not_merged(tmp_path: Path) -> None:
    """They were delivered; a second time would be one too many."""
    clock = ManualClock()
    _leave(tmp_path, clock, *range(_SOME))
    journal = make_journal(tmp_path, clock=clock)
    journal.scan()
    for event in take_all(journal)[::2]:
        journal.reader.settle(event, FrameState.DELIVERED)
    _kill(journal)
    _leave(tmp_path, clock, *range(_SOME, 2 * _SOME))

    assert _ship_all(make_journal(tmp_path, clock=clock)) == [
        payload(number) for number in [*range(1, _SOME, 2), *range(_SOME, 2 * _SOME)]
    ]


def _damage(folder: Path) -> None:
    [segment] = folder.glob("*.seg")
    flip(segment, last_frame(segment).stop - 9)


def _copy(folder: Path) -> None:
    [segment] = folder.glob("*.seg")
    copied = segment.with_suffix(".copy")
    shutil.copy(segment, copied)
    copied.rename(segment)


def _cut(folder: Path) -> None:
    [segment] = folder.glob("*.seg")
    os.truncate(segment, 200)


def _summarize(folder: Path) -> None:
    (folder / SUMMARY_FILE).write_text("")


@pytest.mark.parametrize("spoil", [_damage, _copy, _cut, _summarize])
def test_a_folder_that_a_reader_has_to_judge_is_not_merged(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Its bytes are kept and reported, or its events may have been sent already."""
    clock = ManualClock()
    _leave(tmp_path, clock, *range(_SOME))
    spoilt = [*_folder(tmp_path).writers()][3]
    spoil(spoilt)

    make_journal(tmp_path, clock=clock).scan()

    assert len(_writers(tmp_path)) == 2
    assert spoilt.name in _writers(tmp_path)


def test_large_folders_and_those_of_living_writers_are_not_merged(
    tmp_path: Path,
) -> None:
    """The first are worth their place, and the second may still grow."""
    clock = ManualClock()
    living = make_journal(tmp_path, clock=clock)
    living.append(payload(1000))
    large = make_journal(tmp_path, clock=clock)
    large.append(payload(1001, padding=SMALL_BYTES))
    kept = set(_writers(tmp_path))
    _kill(large)
    _leave(tmp_path, clock, *range(_SOME))

    make_journal(tmp_path, clock=clock).scan()

    assert len(_writers(tmp_path)) == 3
    assert kept < set(_writers(tmp_path))


def test_while_a_command_is_at_work_nothing_is_merged(tmp_path: Path) -> None:
    """It may move or list the same folders. They are adopted as they are."""
    clock = ManualClock()
    _leave(tmp_path, clock, *range(_SOME))
    journal = make_journal(tmp_path, clock=clock)

    with exclusive(_folder(tmp_path)):
        journal.scan()

    assert len(_writers(tmp_path)) == _SOME
    assert len(_ship_all(journal)) == _SOME


def test_a_full_disk_takes_the_merging_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folders are adopted as they are."""
    clock = ManualClock()
    _leave(tmp_path, clock, *range(_SOME))

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "posix_fallocate", full)
    journal = make_journal(tmp_path, clock=clock)

    assert _ship_all(journal) == [payload(number) for number in range(_SOME)]
    assert _folder(tmp_path).merging() == []


_CODE: Final = (
    "_journal/merging.py",
    "_journal/segments.py",
    "_journal/folders.py",
    "_journal/admin/commit.py",
)
_STRIDE: Final = 97  # prime, so that every part of a loop is struck in some round


@pytest.mark.slow
def test_a_kill_at_any_instruction_leaves_each_event_in_one_place(
    tmp_path: Path,
) -> None:
    """For the next process, and for a person who looks before it."""
    skip_if_blind()
    expected = [payload(number) for number in range(MERGE_FROM)]
    merged = 0
    for at in itertools.count(0, _STRIDE):
        folder = tmp_path / str(at)
        clock = ManualClock()
        _leave(folder, clock, *range(MERGE_FROM))
        pid = os.fork()
        if pid == 0:
            killing = Interrupts(lambda: os._exit(9), at, *_CODE)
            with killing.watching():
                _merge(folder)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        struck = os.waitstatus_to_exitcode(status) == 9

        assert sorted(_seen(folder)) == sorted(expected), at
        adopter = make_journal(folder, clock=clock)
        shipped = _ship_all(adopter)
        assert sorted(shipped) == sorted(expected), at
        assert adopter.reader.recovered_count == MERGE_FROM, at
        assert _writers(folder) == [], at
        assert _folder(folder).merging() == [], at
        close_journals()
        shutil.rmtree(folder)
        if not struck:
            break
        merged += 1
    assert merged > 20, "the watched code was not found"


def _merge(journal_dir: Path) -> None:
    """Merge as a scan does."""
    folder = _folder(journal_dir)
    with exclusive(folder):
        assert merging.merge(folder, [*folder.writers()], 0, most=32) == MERGE_FROM


def test_one_who_opened_a_lock_before_the_merging_adopts_nothing_after_it(
    tmp_path: Path,
) -> None:
    """The folder is gone from under its path when the lock is free."""
    clock = ManualClock()
    _leave(tmp_path, clock, *range(MERGE_FROM))
    first = next(iter(_folder(tmp_path).writers()))
    _merge(tmp_path)

    assert WriterFolder.adopt(first) is None
    assert sorted(_seen(tmp_path)) == sorted(map(payload, range(MERGE_FROM)))
