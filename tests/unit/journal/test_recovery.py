"""Reading segments while another process appends to them."""

from __future__ import annotations

import fcntl
import itertools
import math
import mmap
import os
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from outlay._journal import frames
from outlay._journal.folders import (
    SHIPPER_LOCK,
    SUMMARY_FILE,
    WRITER_LOCK,
    WriterFolder,
)
from outlay._journal.frames import SEGMENT_HEADER_BYTES, STATE_AT, FrameState
from outlay._journal.journal import Journal, ShippingRole
from outlay._journal.merging import SMALL_BYTES
from outlay._journal.recovery import (
    ADOPT_SECONDS,
    LONGEST_PAUSE,
    PARKED_SECONDS,
    SHORTEST_PAUSE,
    PollInterval,
)
from tests.support.clock import NOON_MS, ManualClock
from tests.support.events import payload
from tests.support.interrupts import Interrupts, skip_if_blind
from tests.support.journals import (
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
    from collections.abc import Iterator

    from outlay._journal.segment_reader import PendingEvent

_BIG: Final = 30_000  # bytes: two such events fill a segment


@pytest.fixture
def writer(tmp_path: Path) -> Journal:
    """Return the journal of an application that leaves its events to an agent."""
    return make_journal(tmp_path, role=ShippingRole.DELEGATED)


@pytest.fixture
def agent(tmp_path: Path) -> Journal:
    """Return the journal of an agent on the same folder."""
    return make_journal(tmp_path, role=ShippingRole.AGENT)


def _seen(agent: Journal) -> list[bytes]:
    """Return what a look finds, and take it."""
    agent.scan()
    return payloads(take_all(agent))


def _settle_all(agent: Journal, state: FrameState = FrameState.DELIVERED) -> None:
    agent.scan()
    for event in take_all(agent):
        agent.reader.settle(event, state)


def test_what_a_living_writer_appends_is_read(writer: Journal, agent: Journal) -> None:
    """Before a look and after it, each event once."""
    writer.append(payload(1))
    first = _seen(agent)
    writer.append(payload(2))
    second = _seen(agent)

    assert (first, second) == ([payload(1)], [payload(2)])
    assert agent.reader.recovered_count == 2


def test_new_segments_of_a_living_writer_are_found(
    writer: Journal, agent: Journal
) -> None:
    """It goes on to the next when one is full."""
    seen = []
    for number in range(7):
        writer.append(payload(number, padding=_BIG))
        seen += _seen(agent)

    assert seen == [payload(number, padding=_BIG) for number in range(7)]


def test_a_finished_segment_of_a_living_writer_is_deleted_and_accounted_for(
    writer: Journal, agent: Journal, tmp_path: Path
) -> None:
    """The writer cannot look into a file that is gone."""
    for number in range(7):
        writer.append(payload(number, padding=_BIG))

    _settle_all(agent)
    take_all(agent)  # sees that the full ones have no more

    assert len(segment_files(tmp_path)) == 1, "the one that is not full"
    assert writer.agent_progress.counts() == {"delivered": 7}


def test_every_outcome_is_seen_by_the_writer_while_the_segment_is_there(
    writer: Journal, agent: Journal
) -> None:
    """It stands in the frames."""
    for number in range(6):
        writer.append(payload(number))
    agent.scan()
    outcomes = [
        FrameState.DELIVERED,
        FrameState.PARKED,
        FrameState.DEAD,
        FrameState.QUARANTINED,
    ]
    for event, outcome in zip(take_all(agent), outcomes, strict=False):
        agent.reader.settle(event, outcome)

    counts = writer.agent_progress.counts()

    assert counts == {"delivered": 1, "parked": 1, "dead": 1, "quarantined": 1}


def test_the_writer_waits_for_what_it_appended_before(
    writer: Journal, agent: Journal
) -> None:
    """A busy application would otherwise never see the end of a flush."""
    writer.append(payload(1))
    targets = writer.flush_targets()
    before = writer.agent_progress.is_settled_up_to(targets)
    _settle_all(agent)
    writer.append(payload(2))

    assert not before
    assert writer.agent_progress.is_settled_up_to(targets)
    assert not writer.agent_progress.is_settled_up_to(writer.flush_targets())


def test_an_agent_waits_for_what_living_writers_appended_before(
    writer: Journal, agent: Journal
) -> None:
    """An unsealed segment has an end for now."""
    writer.append(payload(1))
    agent.scan()
    targets = agent.flush_targets()
    before = agent.reader.is_settled_up_to(targets)
    _settle_all(agent)
    writer.append(payload(2))

    assert math.inf not in targets.values()
    assert not before
    assert agent.reader.is_settled_up_to(targets)


def test_an_agent_waits_for_full_segments_of_living_writers(
    writer: Journal, agent: Journal
) -> None:
    """To their end: all but one event settled is not enough."""
    for number in range(5):
        writer.append(payload(number, padding=_BIG))
    agent.scan()
    targets = agent.flush_targets()
    first, *others = take_all(agent)
    for event in others:
        agent.reader.settle(event, FrameState.DELIVERED)

    before = agent.reader.is_settled_up_to(targets)
    agent.reader.settle(first, FrameState.DELIVERED)

    assert not before
    assert agent.reader.is_settled_up_to(targets)


def test_a_writer_that_ends_is_inherited(
    writer: Journal, agent: Journal, tmp_path: Path
) -> None:
    """Its last segment is final then, and the folder goes with it."""
    writer.append(payload(1))
    _settle_all(agent)
    writer.append(payload(2))
    writer.close()  # as the kernel does it: the segment is not sealed

    _settle_all(agent)
    take_all(agent)

    assert segment_files(tmp_path) == []
    assert list(agent.folder.writers()) == []


def test_a_segment_opened_right_before_the_death_is_not_overlooked(
    writer: Journal, agent: Journal
) -> None:
    """The folder must not be removed with it."""
    writer.append(payload(0))
    _settle_all(agent)
    for number in range(1, 8):
        writer.append(payload(number, padding=_BIG))
    writer.close()

    assert _seen(agent) == [payload(number, padding=_BIG) for number in range(1, 8)]


def test_an_empty_folder_of_a_living_writer_stays(
    agent: Journal, tmp_path: Path
) -> None:
    """It is about to write there."""
    folder = WriterFolder.create(_destination(tmp_path), NOON_MS, shipped_here=False)

    agent.scan()
    agent.close()

    assert folder.path.is_dir()
    kept = {path.name for path in folder.path.iterdir()}
    assert {SHIPPER_LOCK, WRITER_LOCK} <= kept
    folder.close()


def _destination(tmp_path: Path) -> Path:
    journal = make_journal(tmp_path)
    journal.append(payload(0))
    journal.close()
    return journal.folder.path


def test_a_segment_without_a_header_is_looked_at_again(
    writer: Journal, agent: Journal, tmp_path: Path
) -> None:
    """Its writer is just creating it; it must not be given up as unreadable."""
    writer.append(payload(1))
    assert _seen(agent) == [payload(1)]
    (first,) = segment_files(tmp_path)
    made = first.read_bytes()
    second = first.with_name("00000002.seg")

    seen = []
    for content in (b"", bytes(len(made)), made):
        second.write_bytes(content)
        seen.append(_seen(agent))

    assert seen == [[], [], [payload(1)]]


def test_a_frame_that_arrives_late_is_not_taken_for_damage(
    writer: Journal, agent: Journal, tmp_path: Path
) -> None:
    """Other processors may see a frame before the payload of the one in front."""
    for number in range(3):
        writer.append(payload(number))
    (segment,) = segment_files(tmp_path)
    whole = segment.read_bytes()
    with segment.open("r+b") as file:
        file.seek(SEGMENT_HEADER_BYTES + frames.FRAME_HEADER_BYTES)
        file.write(bytes(20))
        file.flush()
        early = _seen(agent)
        file.seek(0)
        file.write(whole)
    late = _seen(agent)

    assert early == []
    assert late == [payload(number) for number in range(3)]
    assert agent.reader.damaged_count == 0


def test_a_length_that_arrives_late_is_not_an_empty_event(
    writer: Journal, agent: Journal, tmp_path: Path
) -> None:
    """Nothing at all has the checksum 0, as memory that was never written has."""
    writer.append(payload(1))
    (segment,) = segment_files(tmp_path)
    whole = segment.read_bytes()
    with segment.open("r+b") as file:
        file.seek(SEGMENT_HEADER_BYTES + 4)
        file.write(bytes(8))
        file.flush()
        early = _seen(agent)
        file.seek(0)
        file.write(whole)

    assert early == []
    assert _seen(agent) == [payload(1)]
    assert agent.reader.damaged_count == 0


def test_damage_that_stays_is_damage_at_the_second_look(
    writer: Journal, agent: Journal, tmp_path: Path
) -> None:
    """A corrupt frame does not hold up those behind it."""
    for number in range(3):
        writer.append(payload(number))
    (segment,) = segment_files(tmp_path)
    with segment.open("r+b") as file:
        file.seek(SEGMENT_HEADER_BYTES + frames.FRAME_HEADER_BYTES)
        file.write(bytes(20))

    looks = [_seen(agent), _seen(agent)]

    assert looks == [[], [payload(1), payload(2)]]
    assert agent.reader.damaged_count == 1


@pytest.mark.parametrize("at", [0, STATE_AT, frames.FRAME_HEADER_BYTES])
def test_a_corrupt_event_is_told_to_the_writer_with_its_segment(
    writer: Journal, agent: Journal, tmp_path: Path, at: int
) -> None:
    """Else it would be pending for ever in the writer's books."""
    for number in range(3):
        writer.append(payload(number))
    (segment,) = segment_files(tmp_path)
    with segment.open("r+b") as file:
        file.seek(SEGMENT_HEADER_BYTES + at)
        file.write(b"\x77")
    writer.seal()

    _settle_all(agent)
    take_all(agent)

    counts = writer.agent_progress.counts()
    assert sum(counts.values()) == 3
    assert counts["delivered"] >= 2


def test_the_newest_event_that_goes_bad_anywhere_holds_up_nobody(
    writer: Journal, agent: Journal, tmp_path: Path
) -> None:
    """To the agent it is damage at the second look; to its own writer, at once."""
    writer.append(payload(0))
    _settle_all(agent)
    size = len(last_frame(segment_files(tmp_path)[0]))

    for at in range(size):
        before = agent.reader.damaged_count
        writer.append(payload(1))
        segment = segment_files(tmp_path)[-1]
        flip(segment, last_frame(segment).start + at)
        targets = writer.flush_targets()
        first, second = _looks(agent), _looks(agent)
        held = not writer.agent_progress.is_settled_up_to(targets)
        damaged = agent.reader.damaged_count - before
        writer.append(payload(2))
        rest = [*_looks(agent), *_looks(agent)]

        assert second == [], at
        assert first in ([], [payload(1)]), at
        assert damaged == (not first), at
        assert not held, at
        assert rest == [payload(2)], at
        counts = writer.agent_progress.counts()
        assert counts.total() == writer.appended_count(), at
        assert counts["damaged"] == agent.reader.damaged_count, at
        assert agent.reader.recovered_count == counts.total(), at
    assert agent.reader.damaged_count > len(payload(1))


def _looks(agent: Journal) -> list[bytes]:
    """Return what a look finds, and deliver it."""
    agent.scan()
    events = take_all(agent)
    for event in events:
        agent.reader.settle(event, FrameState.DELIVERED)
    return payloads(events)


# Whose events they are.


def test_a_writer_that_ships_its_own_is_left_alone_until_it_dies(
    tmp_path: Path, agent: Journal
) -> None:
    """Two shippers of one event would send it twice."""
    owner = make_journal(tmp_path)
    owner.append(payload(1))
    before = _seen(agent)
    owner.close()

    assert before == []
    assert _seen(agent) == [payload(1)]


def test_a_client_that_ships_adopts_no_living_writer(
    writer: Journal, tmp_path: Path
) -> None:
    """It would take an unsealed segment for a finished one."""
    writer.append(payload(1))
    client = make_journal(tmp_path)
    client.scan()
    before = take_all(client)
    writer.close()
    client.scan()

    assert before == []
    assert payloads(take_all(client)) == [payload(1)]


def test_of_two_agents_one_ships_and_the_other_takes_over(
    writer: Journal, agent: Journal, tmp_path: Path
) -> None:
    """The lock decides, and what the first had under way is stamped."""
    second = make_journal(tmp_path, role=ShippingRole.AGENT)
    writer.append(payload(1))
    writer.append(payload(2))
    agent.scan()
    idle = _seen(second)
    one, two = take_all(agent)
    agent.reader.stamp([one, two], NOON_MS)
    agent.reader.settle(one, FrameState.DELIVERED)
    agent.close()

    second.scan()
    (left,) = take_all(second)

    assert idle == []
    assert (left.payload, left.first_attempt_ms) == (payload(2), NOON_MS)


@pytest.mark.parametrize("torn", [False, True], ids=["whole line", "torn line"])
def test_an_agent_killed_while_it_accounts_does_not_count_twice(
    writer: Journal, agent: Journal, tmp_path: Path, *, torn: bool
) -> None:
    """In the line, or before the deletion: the next one writes the line again."""
    writer.append(payload(1))
    writer.seal()
    (segment,) = segment_files(tmp_path)
    with segment.open("rb") as file:
        _settle_all(agent)
        take_all(agent)
        content = file.read()
    agent.close()
    segment.write_bytes(content)  # it was not deleted
    lines = segment.with_name(SUMMARY_FILE)
    if torn:
        lines.write_bytes(lines.read_bytes()[:20])
    next_agent = make_journal(tmp_path, role=ShippingRole.AGENT)
    between = writer.agent_progress.counts()

    next_agent.scan()
    take_all(next_agent)

    assert segment_files(tmp_path) == []
    assert +between == +writer.agent_progress.counts() == {"delivered": 1}


def test_a_segment_that_somebody_deleted_is_never_said_to_be_settled(
    writer: Journal, tmp_path: Path
) -> None:
    """The outcome of its events is not known."""
    writer.append(payload(1))
    targets = writer.flush_targets()
    segment_files(tmp_path)[0].unlink()

    assert not writer.agent_progress.is_settled_up_to(targets)
    assert writer.agent_progress.counts() == {}


def test_a_writer_tells_whether_anybody_ships(
    writer: Journal, agent: Journal, tmp_path: Path
) -> None:
    """Asking takes the lock from no process."""
    writer.append(payload(1))
    answers = [writer.is_shipped()]
    agent.scan()
    answers.append(writer.is_shipped())
    agent.close()
    answers.append(writer.is_shipped())

    assert answers == [False, True, False]
    assert WriterFolder.follow(segment_files(tmp_path)[0].parent) is not None


@pytest.mark.slow
def test_a_question_of_a_forking_writer_leaves_no_lock_behind(tmp_path: Path) -> None:
    """A child forked at any instruction of it shares the open file."""
    folder = WriterFolder.create(tmp_path, NOON_MS, shipped_here=False)
    for at in itertools.count():
        hearing, telling = os.pipe()
        child = 0

        def fork(hearing: int = hearing, telling: int = telling) -> None:
            nonlocal child
            child = os.fork()
            if child == 0:
                os.close(telling)
                os.read(hearing, 1)  # for as long as the parent wants
                os._exit(0)

        forking = Interrupts(fork, at, "_journal/folders.py")
        with forking.watching():
            assert not folder.has_shipper()
        agent = WriterFolder.follow(folder.path)
        assert agent is not None, at
        agent.close()
        os.close(telling)
        os.close(hearing)
        if not forking.struck:
            break
        os.waitpid(child, 0)
    assert at > 10, "the watched code was not found"
    folder.close()


@pytest.mark.slow
def test_a_writer_that_dies_during_a_look_is_inherited_whole(tmp_path: Path) -> None:
    """It may open a segment and die between any two instructions of the look."""
    for at in itertools.count(0, 3):
        folder = tmp_path / str(at)
        writer = make_journal(folder, role=ShippingRole.DELEGATED)
        writer.append(payload(0, padding=_BIG))
        agent = make_journal(folder, role=ShippingRole.AGENT)
        assert _ship(agent) == 1

        def end(writer: Journal = writer) -> None:
            for number in (1, 2):  # the second needs a segment of its own
                writer.append(payload(number, padding=_BIG))
            writer.close()

        dying = Interrupts(end, at, "_journal/recovery.py", "_journal/journal.py")
        with dying.watching():
            shipped = _ship(agent)
        shipped += _ship(agent)
        if not dying.struck:
            break

        assert shipped == 2, at
        assert segment_files(folder) == [], at
        close_journals()
    assert at > 50, "the watched code was not found"


@pytest.mark.slow
@pytest.mark.parametrize("writer_dies", [False, True], ids=["living", "dead"])
def test_an_agent_killed_at_any_instruction_loses_and_doubles_nothing(
    tmp_path: Path, *, writer_dies: bool
) -> None:
    """The next one goes on from what is in the frames and in ``settled.jsonl``."""
    count = 3
    for at in itertools.count(0, _STRIDE):
        folder = tmp_path / str(at)
        writer = make_journal(folder, role=ShippingRole.DELEGATED)
        for number in range(count):
            writer.append(payload(number, padding=_BIG))
        if writer_dies:
            writer.close()
        settled, struck = _ship_and_die(folder, at)
        settled += _ship(make_journal(folder, role=ShippingRole.AGENT))

        # It may be killed between the store of a outcome and its telling of it.
        assert count - struck <= settled <= count, at
        if not writer_dies:
            assert +writer.agent_progress.counts() == {"delivered": count}, at
        assert len(segment_files(folder)) == (0 if writer_dies else 1), at
        close_journals()
        if not struck:
            break
    assert at > 50 * _STRIDE, "the watched code was not found"


_STRIDE: Final = 47  # prime, so that every part of a loop is struck in some round

_AGENT_CODE: Final = (
    "_journal/agent_progress.py",
    "_journal/recovery.py",
    "_journal/folders.py",
    "_journal/journal.py",
    "_journal/reader.py",
    "_journal/segments.py",
    "_journal/segment_reader.py",
)


def _ship_and_die(folder: Path, at: int) -> tuple[int, bool]:
    """Be an agent that is killed; return what it told of, and whether it was."""
    skip_if_blind()
    hearing, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        agent = make_journal(folder, role=ShippingRole.AGENT)
        with Interrupts(lambda: os._exit(9), at, *_AGENT_CODE).watching():
            _ship(agent, telling)
        os._exit(0)
    os.close(telling)
    with os.fdopen(hearing, "rb") as told:
        count = len(told.read())
    _, status = os.waitpid(pid, 0)
    return count, os.waitstatus_to_exitcode(status) == 9


def _ship(agent: Journal, telling: int | None = None) -> int:
    agent.scan()
    count = 0
    while events := agent.reader.take(1, 1):
        agent.reader.settle(events[0], FrameState.DELIVERED)
        count += 1
        if telling is not None:
            os.write(telling, b".")
    return count


# Pace.


def test_looks_are_rare_when_nothing_happens_and_frequent_when_it_does() -> None:
    """An idle agent costs next to nothing, a busy one sees events at once."""
    pace = PollInterval()

    idle = [pace.next(found=False) for _ in range(8)]
    busy = pace.next(found=True)

    assert idle == sorted(idle)
    assert (idle[-1], busy) == (LONGEST_PAUSE, SHORTEST_PAUSE)


def test_an_agent_looks_faster_while_there_is_something_new(
    writer: Journal, agent: Journal, tmp_path: Path
) -> None:
    """New writers and new events are both something."""
    idle = [agent.scan() for _ in range(8)][-1]
    writer.append(payload(1))
    new_writer = agent.scan()
    take_all(agent)
    new_event = agent.scan()
    nothing = agent.scan()

    assert [idle, new_writer, new_event] == [
        LONGEST_PAUSE,
        SHORTEST_PAUSE,
        SHORTEST_PAUSE,
    ]
    assert nothing > SHORTEST_PAUSE
    assert make_journal(tmp_path).scan() == ADOPT_SECONDS


# Many dead writers.


def _dead_writers(journal_dir: Path, count: int) -> None:
    """Leave the folders of so many killed processes, with a large event in each."""
    limits = LIMITS._replace(max_journal_bytes=2**30)
    for number in range(count):
        journal = make_journal(journal_dir, limits=limits)
        journal.append(_large(number))
        for folder in journal.held_folders():
            folder.close()


def _large(number: int) -> bytes:
    """Return an event whose folder is too large to be merged."""
    return payload(number, padding=SMALL_BYTES)


def _descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_many_dead_writers_take_few_descriptors_and_are_all_shipped(
    tmp_path: Path,
) -> None:
    """The application needs its file descriptors itself."""
    _dead_writers(tmp_path, 127)
    before, most = _descriptors(), 0
    shipped: list[bytes] = []
    journal = make_journal(tmp_path)
    journal.adopt_orphans()
    targets = journal.flush_targets()
    while len(shipped) < 127:
        assert not journal.reader.is_settled_up_to(targets), "a flush waits for all"
        events = take_all(journal)
        most = max(most, _descriptors() - before)
        for event in events:
            journal.reader.settle(event, FrameState.DELIVERED)
        shipped += payloads(events)
        assert journal.scan() <= ADOPT_SECONDS

    assert shipped == [_large(number) for number in range(127)], "oldest first"
    assert most <= 32 * 3 + 5
    assert journal.reader.is_settled_up_to(targets)
    assert segment_files(tmp_path) == []


def test_a_small_limit_of_descriptors_leaves_a_reserve(tmp_path: Path) -> None:
    """An application that has few must not lose them all."""
    _dead_writers(tmp_path, 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    journal = make_journal(tmp_path)
    before = _descriptors()
    limit = before + 60
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        journal.adopt_orphans()
        held = _descriptors() - before
        shipped = []
        while batch := take_all(journal):
            shipped += payloads(batch)
            for event in batch:
                journal.reader.settle(event, FrameState.DELIVERED)
            journal.scan()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert held <= limit // 10
    assert len(shipped) == 20


def test_parked_events_do_not_hold_up_the_backlog(tmp_path: Path) -> None:
    """The folders that they pin make room, and are adopted again later."""
    clock = ManualClock()
    _dead_writers(tmp_path, 60)
    journal = make_journal(tmp_path, clock=clock)
    journal.adopt_orphans()
    parked = 0
    while events := take_all(journal):
        parked += len(events)
        for event in events:
            journal.reader.settle(event, FrameState.PARKED)
        journal.scan()

    assert parked == 60
    assert journal.reader.recovered_count == journal.reader.parked_count() == 32

    clock.advance(PARKED_SECONDS)
    journal.reader.unpark()
    shipped = []
    for _ in range(4):
        for event in take_all(journal):
            shipped.append(event.payload)
            journal.reader.settle(event, FrameState.DELIVERED)
        clock.advance(PARKED_SECONDS)
        journal.scan()
    assert sorted(shipped) == sorted(_large(number) for number in range(60))
    assert journal.reader.recovered_count == 60
    assert segment_files(tmp_path) == []


def test_an_agent_follows_and_adopts_within_its_descriptors(tmp_path: Path) -> None:
    """Seven hundred dead writers must not end an agent with all of them unshipped."""
    _dead_writers(tmp_path, 100)
    child = os.fork()
    if child == 0:
        # As a new process: without the files of the tests.
        os.closerange(3, _descriptors() + 100)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (120, hard))
        agent = make_journal(tmp_path, role=ShippingRole.AGENT)
        shipped = 0
        while count := _ship(agent):
            shipped += count
        os._exit(shipped)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 100


# Small segments.


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_a_short_process_costs_no_whole_segment(
    tmp_path: Path, *, killed: bool
) -> None:
    """While the server is down, cron jobs of one event each must not fill the journal.

    Its limit has room for sixteen whole segments.
    """
    for number in range(100):
        journal = make_journal(tmp_path)
        journal.adopt_orphans()
        journal.append(payload(number))
        if killed:
            for folder in journal.held_folders():
                folder.close()
        else:
            journal.close_when_idle()

    adopter = make_journal(tmp_path)
    adopter.adopt_orphans()
    assert adopter.journal_bytes() <= 100 * 3 * mmap.PAGESIZE
    shipped = []
    while events := take_all(adopter):
        shipped += payloads(events)
        for event in events:
            adopter.reader.settle(event, FrameState.DELIVERED)
        adopter.scan()
    assert shipped == [payload(number) for number in range(100)]


def test_an_agent_reads_on_in_a_segment_that_is_cut_when_it_is_sealed(
    writer: Journal, agent: Journal
) -> None:
    """It has mapped the file at its full length."""
    writer.append(payload(1))
    agent.scan()
    assert payloads(take_all(agent)) == [payload(1)]
    writer.append(payload(2))
    writer.seal()
    agent.scan()

    assert payloads(take_all(agent)) == [payload(2)]


# Copies.


def test_an_old_event_of_a_restored_folder_may_have_been_counted(
    tmp_path: Path,
) -> None:
    """The original was shipped after the backup; the server has forgotten the key."""
    journal = make_journal(tmp_path / "original")
    journal.append(payload(1))
    shutil.copytree(tmp_path / "original", tmp_path / "restored")
    journal.close()

    original, restored = _adopters(tmp_path, "original", "restored")

    assert original.first_attempt_ms == 0
    assert restored.payload == payload(1)
    assert restored.first_attempt_ms == NOON_MS, "when it was tracked"


def _adopters(tmp_path: Path, *names: str) -> Iterator[PendingEvent]:
    for name in names:
        adopter = make_journal(tmp_path / name)
        adopter.adopt_orphans()
        yield from take_all(adopter)


# Locks that do not exclude.


def test_a_folder_whose_locks_do_not_exclude_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On such a file system two processes would ship the same events."""
    living = make_journal(tmp_path)
    living.append(payload(1))
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    journal = make_journal(tmp_path)

    assert journal.adopt_orphans() == 0
    assert not journal.append(payload(2)), "in memory only"
    assert "do not exclude each other" in caplog.text
    assert payloads(take_all(journal)) == [payload(2)]
