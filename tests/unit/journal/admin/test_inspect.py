"""Looking into a journal folder: everything is seen, nothing is touched."""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING, Final

import pytest

from outlay._journal import folders, frames
from outlay._journal.admin.inspect import (
    DestinationView,
    UnreadableItem,
    destinations,
    find_journal_dir,
    read_letters,
    size_of,
)
from outlay._journal.admin.lock_owners import LockOwners
from outlay._journal.folders import (
    DestinationFolder,
    WriterFolder,
    default_journal_dir,
)
from outlay._journal.frames import (
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    STATE_AT,
    FrameState,
)
from tests.support import processes
from tests.support.clock import NOON_MS
from tests.support.events import payload
from tests.support.journals import KIB, make_journal, segment_files, take_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay._journal.admin.inspect import StoredEvent
    from outlay._journal.journal import Journal

_NOON: Final = "2026-01-01T12:00:00.000Z"


def _left_behind(journal_dir: Path, *numbers: int) -> Path:
    """Leave events as a process that ended does; return their segment."""
    journal = make_journal(journal_dir)
    for number in numbers:
        journal.append(payload(number))
    journal.close()
    return segment_files(journal_dir)[-1]


def _view(journal_dir: Path) -> DestinationView:
    (view,) = destinations(journal_dir)
    return view


def _look(journal_dir: Path) -> tuple[list[StoredEvent], list[UnreadableItem]]:
    problems: list[UnreadableItem] = []
    return list(_view(journal_dir).events(problems.append)), problems


def _outcomes(journal_dir: Path) -> list[tuple[str, str, bytes]]:
    return [(each.state, each.reason, each.payload) for each in _look(journal_dir)[0]]


def _ended_in_every_way(journal_dir: Path) -> Journal:
    """Return a journal with an event for each outcome, in the order of numbers."""
    journal = make_journal(journal_dir)
    for number in range(7):
        journal.append(payload(number))
    _, uncounted, doubtful, parked, delivered, dead, old = take_all(journal)
    journal.reader.stamp([uncounted, doubtful, old], NOON_MS)
    journal.reader.clear_attempt(uncounted, 0)
    journal.reader.settle(parked, FrameState.PARKED)
    journal.reader.settle(delivered, FrameState.DELIVERED)
    journal.move_to_dead_letters(dead, "dead", "rejected", "HTTP 400: no such field")
    journal.move_to_dead_letters(
        old, "quarantined", "dedupe_window", "it may have been counted"
    )
    return journal


def test_every_undelivered_event_is_seen_where_it_is(tmp_path: Path) -> None:
    """What outlay stores is money: a reader must find all of it, and why."""
    _ended_in_every_way(tmp_path)

    assert _outcomes(tmp_path) == [
        ("pending", "new", payload(0)),
        ("pending", "not_counted", payload(1)),
        ("pending", "in_doubt", payload(2)),
        ("parked", "new", payload(3)),
        ("dead", "rejected", payload(5)),
        ("quarantined", "dedupe_window", payload(6)),
    ]


def test_an_event_says_what_happened_to_it(tmp_path: Path) -> None:
    """The person who decides about it needs the date, the attempts and the words."""
    _ended_in_every_way(tmp_path)
    events, problems = _look(tmp_path)
    doubtful, dead, old = events[2], events[4], events[5]

    assert problems == []
    assert (doubtful.attempts, doubtful.first_attempt_at) == (1, _NOON)
    assert (dead.attempts, dead.first_attempt_at) == (0, None)
    assert dead.message == "HTTP 400: no such field"
    assert (old.attempts, old.first_attempt_at) == (1, _NOON)
    assert [each.may_have_been_counted for each in (doubtful, dead, old)] == [
        True,
        False,
        True,
    ]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """A look must be safe at any time, on the worst of days."""
    _ended_in_every_way(tmp_path)
    before = _picture(tmp_path)

    _look(tmp_path)
    list(_view(tmp_path).history("key-1", lambda _: None))
    _view(tmp_path).writers()

    assert _picture(tmp_path) == before


def _picture(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_looking_holds_no_lock(tmp_path: Path) -> None:
    """An adopter that came by at this moment would be turned away."""
    segment = _left_behind(tmp_path, 1, 2)
    events = _view(tmp_path).events(lambda _: None)
    next(events)

    adopter = WriterFolder.adopt(segment.parent)

    assert adopter is not None
    adopter.close()
    assert len(list(events)) == 1


_WRITER: Final = """
client = outlay.Client(shipping="none")
say("ready")
for number in range(6000):
    track(client, number)
say("done")
sys.stdin.read()
"""


def test_a_writer_at_work_is_seen_event_by_event(tmp_path: Path) -> None:
    """A backlog is looked at while it grows; no look may see half an event."""
    settings = processes.settings_for("http://127.0.0.1:1", tmp_path)
    variables = {**settings, "OUTLAY_SEGMENT_BYTES": 65536}
    with processes.start(_WRITER, variables) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        seen = [0]
        while seen[-1] < 6000:
            events, problems = _look(tmp_path) if destinations(tmp_path) else ([], [])
            assert problems == []
            assert all(json.loads(event.payload) for event in events[-10:])
            assert len(events) >= seen[-1]
            seen.append(len(events))
        (folder,) = _view(tmp_path).writers()

    assert folder.holder == writer.pid
    (folder,) = _view(tmp_path).writers()
    assert folder.holder is None
    assert len(_look(tmp_path)[0]) == 6000


class _GrowingFolder(DestinationFolder):
    """A destination that a new writer enters while its writers are listed."""

    def writers(self) -> Iterator[Path]:
        self.new = WriterFolder.create(self.path, NOON_MS)
        yield from super().writers()


def test_a_writer_that_begins_while_we_look_is_not_dead(tmp_path: Path) -> None:
    """Half an event of a dead writer is damage. Here it is only under way."""
    _left_behind(tmp_path, 1)
    view = _view(tmp_path)
    view.folder = growing = _GrowingFolder(view.folder.path)

    (new,) = [each for each in view.writers() if each.path == growing.new.path]
    growing.new.close()

    assert new.holder == os.getpid()
    assert not new.is_dead


def test_an_event_that_a_crash_left_in_two_places_is_seen_once(tmp_path: Path) -> None:
    """Buried, but not settled: it is pending for the next shipper, and for us."""
    journal = make_journal(tmp_path)
    journal.append(payload(1))
    (event,) = take_all(journal)
    journal.move_to_dead_letters(event, "dead", "rejected", "no")
    journal.close()
    (segment,) = segment_files(tmp_path)
    content = bytearray(segment.read_bytes())
    content[event.offset + STATE_AT] = FrameState.PENDING
    segment.write_bytes(content)

    assert _outcomes(tmp_path) == [("pending", "new", payload(1))]


def test_two_letters_of_one_event_are_one_event(tmp_path: Path) -> None:
    """A crash between burying and settling ends in a second line, not a second cost."""
    _ended_in_every_way(tmp_path).close()
    (letters,) = _view(tmp_path).letter_files()
    before = _outcomes(tmp_path)

    letters.write_bytes(letters.read_bytes() * 2)

    assert _outcomes(tmp_path) == before


def test_damage_is_reported_and_the_rest_is_seen(tmp_path: Path) -> None:
    """One bad byte must not hide what lies behind it."""
    segment = _left_behind(tmp_path, 1, 2, 3)
    content = bytearray(segment.read_bytes())
    content[SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES + 3] ^= 0xFF
    segment.write_bytes(content)

    events, (problem,) = _look(tmp_path)

    assert [event.payload for event in events] == [payload(2), payload(3)]
    assert problem.location == f"{segment.parent.name}/{segment.name}"
    assert problem.text.endswith("bytes at 64 are no event")


def test_a_damaged_stamp_is_an_unknown_age(tmp_path: Path) -> None:
    """It may have been sent at any time, so it is not shown as new."""
    segment = _left_behind(tmp_path, 1)
    content = bytearray(segment.read_bytes())
    content[SEGMENT_HEADER_BYTES + 16] ^= 0xFF
    segment.write_bytes(content)

    assert _outcomes(tmp_path) == [("pending", "age_unknown", payload(1))]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _: b"", "too short"),
        (lambda content: content[:10], "too short"),
        (
            lambda content: (
                content[:8] + bytes([frames.FORMAT_VERSION + 1]) + content[9:]
            ),
            "upgrade outlay",
        ),
    ],
    ids=["empty", "short", "newer"],
)
def test_a_segment_that_cannot_be_read_is_reported_and_hides_no_other(
    tmp_path: Path, change: object, says: str
) -> None:
    """A look must not fail for one file, least of all after a rollback."""
    assert callable(change)
    broken = _left_behind(tmp_path, 1)
    _left_behind(tmp_path, 2)
    broken.write_bytes(change(broken.read_bytes()))

    events, (problem,) = _look(tmp_path)

    assert [event.payload for event in events] == [payload(2)]
    assert says in problem.text


def test_a_segment_that_is_deleted_meanwhile_was_delivered(tmp_path: Path) -> None:
    """The shipper goes on while we look; that is no problem worth a line."""
    journal = make_journal(tmp_path)
    for number in (1, 2):
        journal.append(payload(number, padding=40 * KIB))
    _, second = segment_files(tmp_path)
    problems: list[UnreadableItem] = []
    events = _view(tmp_path).events(problems.append)
    next(events)

    second.unlink()

    assert (list(events), problems) == ([], [])


def test_what_a_living_writer_has_not_finished_is_no_damage(tmp_path: Path) -> None:
    """Half an event is on its way, or its writer was killed before it was tracked."""
    journal = make_journal(tmp_path)
    journal.append(payload(1))
    (segment,) = segment_files(tmp_path)
    with segment.open("r+b") as file:
        file.seek(
            frames.align_up(SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES + len(payload(1)))
        )
        file.write(frames.FRAME_MAGIC + b"\x05\0\0\0")
    alive = _look(tmp_path)
    journal.close()
    dead = _look(tmp_path)

    assert ([len(found) for found in alive], [len(found) for found in dead]) == (
        [1, 0],
        [1, 0],
    )


def test_lines_that_are_no_letters_are_reported_and_hide_no_other(
    tmp_path: Path,
) -> None:
    """People edit these files, whatever one tells them."""
    _ended_in_every_way(tmp_path).close()
    (letters,) = _view(tmp_path).letter_files()
    first, second = letters.read_bytes().splitlines(keepends=True)
    edited = first.replace(b'"kind":', b'"kind": ')
    letters.write_bytes(
        first + b"\n   \n# mine\n" + edited + b'{"kind":"dead"}\n' + second
    )

    events, problems = _look(tmp_path)

    assert [event.state for event in events[-2:]] == ["dead", "quarantined"]
    assert [problem.text for problem in problems] == ["is no dead letter of outlay"] * 3


def test_history_has_every_trace_of_one_event(tmp_path: Path) -> None:
    """Delivered ones, too, while they are there: "where is my event?" has an answer."""
    _ended_in_every_way(tmp_path)
    view = _view(tmp_path)

    def states(number: int) -> list[str]:
        found = view.history(f"key-{number}", lambda _: None)
        return [event.state for event in found]

    assert [states(number) for number in range(8)] == [
        ["pending"],
        ["pending"],
        ["pending"],
        ["parked"],
        ["delivered"],
        ["dead", "dead"],
        ["quarantined", "quarantined"],
        [],
    ]


def test_destinations_are_folders_that_are_not_hidden(tmp_path: Path) -> None:
    """Other things lie about in folders."""
    _left_behind(tmp_path, 1)
    (tmp_path / ".probe").mkdir()
    (tmp_path / "notes.txt").write_text("mine")

    assert len(destinations(tmp_path)) == 1
    assert destinations(tmp_path / "nowhere") == []


def test_meta_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """The events are shown all the same."""
    _left_behind(tmp_path, 1)
    view = _view(tmp_path)
    meta = view.meta
    (view.folder.path / "meta.json").write_text("{")

    assert meta is not None
    assert meta.base_url == "http://127.0.0.1:4600"
    assert view.meta is None
    assert len(_look(tmp_path)[0]) == 1


def test_writers_are_described_with_what_they_hold(tmp_path: Path) -> None:
    """Alive, dead, and how much of the disk."""
    _left_behind(tmp_path, 1)
    journal = make_journal(tmp_path)
    journal.append(payload(2))
    (tmp_path / _view(tmp_path).digest / "stray").write_text("no writer")

    writers = _view(tmp_path).writers()
    dead, alive = sorted(writers, key=lambda writer: writer.holder is not None)

    assert (dead.holder, alive.holder) == (None, os.getpid())
    assert (alive.segment_count, alive.size) == (1, 64 * KIB)


def test_a_file_that_is_deleted_meanwhile_has_no_bytes(tmp_path: Path) -> None:
    """A sum of sizes must not fail for what was just delivered."""
    (tmp_path / "file").write_bytes(b"12345")

    assert size_of(tmp_path / "file") == 5
    assert size_of(tmp_path / "gone") == 0
    assert list(read_letters(tmp_path / "gone", _refuse)) == []


def _refuse(problem: UnreadableItem) -> None:
    raise AssertionError(problem)


# Where the folder is.


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder and a temporary folder of one's own, neither made yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path


def test_the_folder_is_the_one_that_a_client_uses(homes: Path) -> None:
    """A person who looks elsewhere sees nothing, and thinks that all is well."""
    assert find_journal_dir(homes / "mine") == homes / "mine"
    assert find_journal_dir(None) == default_journal_dir()

    fallback = folders.temporary_journal_dir()
    assert find_journal_dir(None) == fallback, "the usual one could not be made"

    default_journal_dir().mkdir(parents=True)
    assert find_journal_dir(None) == default_journal_dir()


# Who holds what.


def test_a_lock_that_is_waited_for_has_one_holder(tmp_path: Path) -> None:
    """The system's list names those who wait, too, and locks of other kinds."""
    lock = tmp_path / "writer" / "shipper.lock"
    lock.parent.mkdir()
    lock.touch()
    found = lock.stat()
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    inode = f"{device}:{found.st_ino}"
    listed = tmp_path / "locks"
    listed.write_text(
        f"1: POSIX  ADVISORY  WRITE 11 {inode} 0 EOF\n"
        f"2: FLOCK  ADVISORY  WRITE 12 {inode} 0 EOF\n"
        f"2: -> FLOCK  ADVISORY  WRITE 13 {inode} 0 EOF\n"
    )

    assert LockOwners.read(listed).shipper_of(lock.parent) == 12
    assert LockOwners.read(listed).shipper_of(tmp_path) is None


def test_without_a_list_the_name_tells_the_writer(tmp_path: Path) -> None:
    """Better than nothing: the process it is named after, while it lives."""
    holders = LockOwners.read(tmp_path / "no such list")
    me, gone = os.getpid(), 2**22 + 1  # above the largest process id of Linux

    assert holders.shipper_of(tmp_path / f"1767268800000-{me}-0a1b2c3d") == me
    assert holders.shipper_of(tmp_path / f"1767268800000-{gone}-0a1b2c3d") is None
    assert holders.shipper_of(tmp_path / f"1767268800000-{10**30}-0a1b2c3d") is None
    assert holders.shipper_of(tmp_path / "odd") is None
