"""Appending from many places at once: threads, signal handlers, finalisers."""

from __future__ import annotations

import contextlib
import errno
import itertools
import signal
import threading
from typing import TYPE_CHECKING, Final

import pytest

from outlay._journal.appender import Appender
from outlay._journal.frames import FrameState
from outlay._journal.segments import SegmentWriter, SyncFile, create_file
from outlay.errors import JournalFullError
from tests.support.clock import NOON_MS, ManualClock
from tests.support.events import payload
from tests.support.interrupts import Interrupts
from tests.support.journals import (
    KIB,
    LIMITS,
    close_journals,
    make_journal,
    payloads,
    segment_files,
    take_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

_THREADS: Final = 8
_WATCHED: Final = ("_journal/appender.py", "_journal/segments.py")


class _Hooked(bytes):
    """A payload that calls back while it is being appended."""

    hook: Callable[[], object]

    def __len__(self) -> int:
        self.hook()
        return super().__len__()


def _hooked(content: bytes, hook: Callable[[], object]) -> _Hooked:
    """Return ``content``, which calls ``hook`` once, at the first touch."""
    pending = [hook]
    made = _Hooked(content)
    made.hook = lambda: pending.pop()() if pending else None
    return made


def test_eight_threads_append_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    """There is no lock on the hot path: each thread has a segment of its own."""
    journal = make_journal(tmp_path)
    start = threading.Barrier(_THREADS)

    def work(thread: int) -> None:
        start.wait()
        for number in range(200):
            assert journal.append(payload(thread * 1000 + number))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = payloads(take_all(journal))

    wanted = {payload(t * 1000 + n) for t in range(_THREADS) for n in range(200)}
    assert len(kept) == len(wanted)
    assert set(kept) == wanted
    assert journal.appended_count() == len(wanted)


def test_one_thread_keeps_its_order(tmp_path: Path) -> None:
    """Events are shipped in the order in which they were tracked."""
    journal = make_journal(tmp_path)
    wanted = [payload(number, padding=1000) for number in range(100)]

    for each in wanted:
        journal.append(each)

    assert len(segment_files(tmp_path)) > 1, "this is about several segments"
    assert payloads(take_all(journal)) == wanted


def test_a_signal_handler_tracks_while_an_append_is_under_way(tmp_path: Path) -> None:
    """Graceful shutdown code tracks from handlers; it must not deadlock."""
    journal = make_journal(tmp_path)
    journal.append(payload(1))

    def handler(_: int, __: FrameType | None) -> None:
        journal.append(payload(3))

    earlier = signal.signal(signal.SIGUSR1, handler)
    try:
        journal.append(_hooked(payload(2), lambda: signal.raise_signal(signal.SIGUSR1)))
    finally:
        signal.signal(signal.SIGUSR1, earlier)
    journal.append(payload(4))

    assert sorted(payloads(take_all(journal))) == [payload(n) for n in range(1, 5)]


def test_a_finaliser_tracks_while_an_append_is_under_way(tmp_path: Path) -> None:
    """The garbage collector may run one inside of any allocation."""
    journal = make_journal(tmp_path)

    class Tracker:
        def __del__(self) -> None:
            journal.append(payload(2))

    trackers = [Tracker()]

    journal.append(_hooked(payload(1), trackers.clear))

    assert sorted(payloads(take_all(journal))) == [payload(1), payload(2)]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["first append", "later append", "full segment"])
def test_an_append_inside_an_append_loses_nothing_wherever_it_strikes(
    tmp_path: Path, when: str
) -> None:
    """No instruction of the hot path may be a place where a handler does harm."""
    for at in itertools.count():
        journal = make_journal(tmp_path / str(at))
        padding = {"first append": 0, "later append": 0, "full segment": 60_000}[when]
        if when != "first append":
            journal.append(payload(0, padding=padding))
        interrupt = Interrupts(lambda: journal.append(payload(2)), at, *_WATCHED)  # noqa: B023

        with interrupt.watching():
            journal.append(payload(1, padding=padding))

        if not interrupt.struck:
            break
        journal.append(payload(3))
        kept = payloads(take_all(journal))
        close_journals()
        wanted = {payload(1, padding=padding), payload(2), payload(3)}
        assert len(kept) == len(set(kept)) == journal.appended_count(), at
        assert wanted <= set(kept), at
    assert at > 20, "the watched code was not found"


class _HandlerError(Exception):
    """What a signal handler raises, as KeyboardInterrupt would be."""


def test_an_exception_at_any_instruction_of_an_append_spoils_nothing(
    tmp_path: Path,
) -> None:
    """Ctrl-C strikes anywhere; the books must balance afterwards.

    The interrupted event may or may not be kept: its caller was told neither. What was
    kept before and after it is whole, in order and counted.
    """

    def strike() -> None:
        raise _HandlerError

    for at in itertools.count():
        journal = make_journal(tmp_path / str(at))
        journal.append(payload(1))
        interrupt = Interrupts(strike, at, *_WATCHED)

        with interrupt.watching(), contextlib.suppress(_HandlerError):
            journal.append(payload(2))

        if not interrupt.struck:
            break
        journal.append(payload(3))
        kept = payloads(take_all(journal))
        close_journals()
        assert sorted({*kept} - {payload(2)}) == [payload(1), payload(3)], at
        assert len(kept) == journal.appended_count(), at
    assert at > 20, "the watched code was not found"


def test_what_an_exception_interrupted_is_no_damage(tmp_path: Path) -> None:
    """A shorter event comes in its place, and its rest must not look like events."""

    def strike() -> None:
        raise _HandlerError

    for at in itertools.count():
        journal = make_journal(tmp_path / str(at))
        journal.append(payload(1))
        interrupt = Interrupts(strike, at, "_journal/segments.py", as_signals=True)

        with interrupt.watching(), contextlib.suppress(_HandlerError):
            journal.append(payload(2, padding=5000))

        if not interrupt.struck:
            break
        journal.append(payload(3))
        journal.seal()
        kept = take_all(journal)
        close_journals()
        assert journal.reader.damaged_count == 0, at
        assert len(kept) == journal.appended_count(), at
    assert at > 2, "the watched code was not found"


def test_a_full_folder_refuses_the_newest_event_and_keeps_the_rest(
    tmp_path: Path,
) -> None:
    """The oldest are the surest to be lost money: they are never evicted."""
    journal = make_journal(tmp_path)
    kept: list[bytes] = []

    with pytest.raises(JournalFullError, match="OUTLAY_MAX_JOURNAL_BYTES"):  # noqa: PT012
        for number in itertools.count():
            event = payload(number, padding=10_000)
            journal.append(event)
            kept.append(event)

    sizes = sum(file.stat().st_size for file in segment_files(tmp_path))
    assert sizes <= LIMITS.max_journal_bytes
    assert payloads(take_all(journal)) == kept


def test_a_full_folder_is_not_measured_for_every_event(tmp_path: Path) -> None:
    """Dropping must stay cheap: the caller is in the middle of an outage."""
    clock = ManualClock()
    journal = make_journal(tmp_path, clock=clock)
    with pytest.raises(JournalFullError):  # noqa: PT012
        while True:
            journal.append(payload(0, padding=10_000))
    for file in segment_files(tmp_path)[:-1]:
        file.unlink()  # room that the journal does not know of

    with pytest.raises(JournalFullError, match="OUTLAY_MAX_JOURNAL_BYTES"):
        journal.append(payload(1, padding=10_000))
    clock.advance(1)

    assert journal.append(payload(1, padding=10_000))


def test_room_that_settling_makes_is_used_at_once(tmp_path: Path) -> None:
    """The server is back: nothing more need be dropped."""
    journal = make_journal(tmp_path, clock=ManualClock())
    with pytest.raises(JournalFullError):  # noqa: PT012
        while True:
            journal.append(payload(0, padding=10_000))
    for event in take_all(journal):
        journal.reader.settle(event, FrameState.DELIVERED)

    assert journal.append(payload(1, padding=10_000))


def test_what_still_fits_into_a_refused_segment_is_not_lost(tmp_path: Path) -> None:
    """After a large event found no room, a small one must go where the reader looks."""
    limits = LIMITS._replace(max_journal_bytes=256 * KIB)
    journal = make_journal(tmp_path, limits=limits)
    for number in range(4):
        journal.append(payload(number, padding=50_000))
    with pytest.raises(JournalFullError):
        journal.append(payload(4, padding=50_000))
    for event in take_all(journal):
        journal.reader.settle(event, FrameState.DELIVERED)

    durable = journal.append(payload(5))

    assert durable
    assert payloads(take_all(journal)) == [payload(5)]
    assert journal.appended_count() == 5


def test_room_comes_back_when_segments_are_settled(tmp_path: Path) -> None:
    """A full journal drops only as long as the outage lasts."""
    journal = make_journal(
        tmp_path, limits=LIMITS._replace(max_journal_bytes=256 * KIB)
    )
    for number in range(4):
        journal.append(payload(number, padding=60_000))
    with pytest.raises(JournalFullError):
        journal.append(payload(4, padding=60_000))

    for event in take_all(journal):
        journal.reader.settle(event, FrameState.DELIVERED)

    assert journal.append(payload(5, padding=60_000))


def test_an_event_larger_than_a_segment_gets_a_larger_segment(tmp_path: Path) -> None:
    """Events may have 256 KiB, segments may be set to 64 KiB."""
    journal = make_journal(tmp_path)
    large = payload(1, padding=250 * KIB)

    journal.append(large)

    assert payloads(take_all(journal)) == [large]


def test_an_append_that_a_seal_overtakes_is_not_lost(tmp_path: Path) -> None:
    """A thread may be inside of track_cost while another one closes the client."""
    journal = make_journal(tmp_path)
    journal.append(payload(1))

    def close() -> None:
        journal.seal()
        for event in take_all(journal):
            journal.reader.settle(event, FrameState.DELIVERED)

    journal.append(_hooked(payload(2), close))
    journal.close()
    successor = make_journal(tmp_path)
    successor.adopt_orphans()

    assert payload(2) in payloads(take_all(successor))
    assert journal.appended_count() == 2


class _Disk(SyncFile):
    """Reports a failure as Linux does: once, and then all seems well."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.errors = [OSError(errno.EIO, "lost")]

    def sync(self) -> None:
        """Fail the first time."""
        if self.errors:
            raise self.errors.pop()


def test_an_event_is_not_on_the_disk_because_the_second_sync_succeeds(
    tmp_path: Path,
) -> None:
    """Another thread sealed its segment, and heard of the failure in its place."""
    segment = tmp_path / "1.seg"

    def open_segment(size: int) -> SegmentWriter:
        memory = create_file(segment, size + KIB, NOON_MS)
        return SegmentWriter("w/1.seg", memory, durable=True, file=_Disk(segment))

    appender = Appender(open_segment, open_segment, publish=lambda _: None)

    def commit() -> bool:
        appender.seal_all()  # the other thread
        appender.sync_all()
        return True

    first = appender.append_synced(payload(1), commit)
    segment.unlink()
    second = appender.append_synced(payload(2), lambda: True)

    assert (first, second) == (False, True)
