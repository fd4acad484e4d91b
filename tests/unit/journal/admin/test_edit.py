"""What a person changes by hand: nothing pending is touched, nothing is lost."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from outlay._journal.admin import edit
from outlay._journal.admin.edit import (
    CHUNK_LETTERS,
    MoveResult,
    PurgeResult,
    ResendResult,
)
from outlay._journal.admin.inspect import DestinationView, destinations
from outlay._journal.dead_letters import DeadLetters
from outlay._journal.frames import FORMAT_VERSION, FrameState
from outlay._journal.journal import Destination
from outlay.errors import JournalError, JournalFullError
from tests.support import processes
from tests.support.clock import NOON_MS, ManualClock
from tests.support.events import payload
from tests.support.interrupts import killed_at, skip_if_blind
from tests.support.journals import (
    DESTINATION,
    KIB,
    close_journals,
    make_journal,
    payloads,
    take_all,
)

if TYPE_CHECKING:
    from pathlib import Path

    from outlay._journal.admin.inspect import (
        DeadLetterLine,
        StoredEvent,
        UnreadableItem,
    )
    from outlay._journal.folders import DestinationFolder
    from outlay._journal.journal import Journal

_PLENTY: Final = 1024 * KIB


def _buried(journal_dir: Path, *numbers: int, kind: str = "quarantined") -> Journal:
    """Return a journal that buried events, attempted once, and goes on living."""
    journal = make_journal(journal_dir)
    for number in numbers:
        journal.append(payload(number))
    for event in take_all(journal):
        journal.reader.stamp([event], NOON_MS)
        journal.move_to_dead_letters(
            event, "dead" if kind == "dead" else "quarantined", "why", "because"
        )
    return journal


def _view(journal_dir: Path) -> DestinationView:
    (view,) = destinations(journal_dir)
    return view


def _all(_: DeadLetterLine) -> bool:
    return True


def _fail(problem: UnreadableItem) -> None:
    raise AssertionError(problem)


def _events(view: DestinationView) -> list[StoredEvent]:
    return list(view.events(lambda _: None))


def _states(view: DestinationView) -> list[tuple[str, bytes]]:
    return [(event.state, event.payload) for event in _events(view)]


def _put_back(
    view: DestinationView, *, max_journal_bytes: int = _PLENTY
) -> ResendResult:
    return edit.resend(view, _all, now_ms=NOON_MS, max_journal_bytes=max_journal_bytes)


def _successor(journal_dir: Path) -> Journal:
    journal = make_journal(journal_dir)
    journal.adopt_orphans()
    return journal


# Putting back.


def test_a_letter_becomes_a_pending_event_byte_for_byte(tmp_path: Path) -> None:
    """Same key, same timestamp: the server may still know it, and count it once."""
    _buried(tmp_path, 1, 2).close()
    done = _put_back(_view(tmp_path))

    events = take_all(_successor(tmp_path))

    assert done == ResendResult(2, 0)
    assert payloads(events) == [payload(1), payload(2)]
    assert [event.first_attempt_ms for event in events] == [0, 0]


def test_a_letter_that_was_put_back_is_marked_and_not_put_back_again(
    tmp_path: Path,
) -> None:
    """The next command must not send it a third time."""
    _buried(tmp_path, 1).close()
    view = _view(tmp_path)
    _put_back(view)
    for event in take_all(journal := _successor(tmp_path)):
        journal.reader.settle(event, FrameState.DELIVERED)

    assert _put_back(view) == ResendResult(0, 0)
    assert _states(view) == []
    assert "resent" in [each.state for each in view.history("key-1", _fail)]
    (path,) = view.letter_files()
    line = json.loads(path.read_text())
    assert (line["kind"], line["event"]) == ("sent", json.loads(payload(1)))


def test_only_the_wanted_letters_are_put_back(tmp_path: Path) -> None:
    """A person chooses by type or customer."""
    _buried(tmp_path, 1, 2, 3).close()
    view = _view(tmp_path)

    edit.resend(
        view,
        lambda letter: letter.event.payload == payload(2),
        now_ms=NOON_MS,
        max_journal_bytes=_PLENTY,
    )

    assert _states(view) == [
        ("pending", payload(2)),
        ("quarantined", payload(1)),
        ("quarantined", payload(3)),
    ]


def test_a_letter_of_a_living_writer_can_be_put_back(tmp_path: Path) -> None:
    """The application must not have to stop, and goes on burying meanwhile."""
    journal = _buried(tmp_path, 1)
    _put_back(_view(tmp_path))
    journal.append(payload(2))
    (event,) = take_all(journal)
    journal.move_to_dead_letters(event, "dead", "rejected", "no")

    assert _states(_view(tmp_path)) == [
        ("pending", payload(1)),
        ("dead", payload(2)),
    ]
    journal.adopt_orphans()
    assert payloads(take_all(journal)) == [payload(1)]


def test_an_event_that_is_pending_again_already_is_not_put_back_twice(
    tmp_path: Path,
) -> None:
    """A crash came between the two steps of an earlier command."""
    _buried(tmp_path, 1, 2).close()
    left = make_journal(tmp_path)
    left.append(payload(1))
    left.close()
    view = _view(tmp_path)

    assert _put_back(view) == ResendResult(1, 1)
    assert sorted(_states(view)) == [("pending", payload(1)), ("pending", payload(2))]


def test_two_letters_of_one_event_are_put_back_once(tmp_path: Path) -> None:
    """They are one event: a crash wrote the second line."""
    _buried(tmp_path, 1).close()
    (path,) = _view(tmp_path).letter_files()
    path.write_bytes(path.read_bytes() * 2)

    assert _put_back(_view(tmp_path)) == ResendResult(1, 0)
    assert _put_back(_view(tmp_path)) == ResendResult(0, 0)


def test_more_letters_than_a_chunk_all_come_back_in_order(tmp_path: Path) -> None:
    """Many are put back by few syncs, and none falls between two chunks."""
    numbers = range(CHUNK_LETTERS * 2 + 1)
    _letters(tmp_path, "a", *numbers)

    done = _put_back(_view(tmp_path))

    assert done == ResendResult(len(numbers), 0)
    (writer,) = _view(tmp_path).writers()
    assert writer.segment_count == 3
    assert payloads(take_all(_successor(tmp_path))) == [*map(payload, numbers)]


def _letters(journal_dir: Path, name: str, *numbers: int) -> None:
    """Write a file of dead letters, as if by a writer called ``name``."""
    make_journal(journal_dir).append(payload(99))
    _close_and_deliver(journal_dir)
    letters = DeadLetters(_view(journal_dir).folder.dead_path, name, ManualClock())
    for number in numbers:
        letters.write(
            "quarantined",
            "why",
            "because",
            payload=payload(number),
            first_attempt_ms=NOON_MS,
            attempts=1,
        )


def _close_and_deliver(journal_dir: Path) -> None:
    """Leave a destination without a writer."""
    close_journals()
    journal = _successor(journal_dir)
    for event in take_all(journal):
        journal.reader.settle(event, FrameState.DELIVERED)
    close_journals()


def test_without_room_the_letters_stay_letters(tmp_path: Path) -> None:
    """A journal that is full of pending events needs its room for them."""
    _buried(tmp_path, 1).close()
    view = _view(tmp_path)

    with pytest.raises(JournalFullError, match="OUTLAY_MAX_JOURNAL_BYTES"):
        _put_back(view, max_journal_bytes=view.folder.used_bytes() + 10)

    assert _states(view) == [("quarantined", payload(1))]
    assert len(view.writers()) == 1, "the folder made for them is gone again"


# Dies before many instructions of a command, one after the other: each time in a copy
# of the folder. Says what is left after each death, and then after the whole command.
_KILLED_ANYWHERE: Final = """
import json, shutil
from pathlib import Path
from outlay._journal.admin import edit
from outlay._journal.folders import DestinationFolder
from outlay._journal.admin.inspect import DestinationView, destinations
from tests.support.interrupts import Interrupts

root = Path(os.environ["FOLDER"])
WATCHED = (
    "admin/edit.py",
    "admin/commit.py",
    "_journal/marked_lines.py",
    "_journal/folders.py",
    "_journal/segments.py",
)

def command(folder, first, *others):
    {command}

def left(folder):
    ignore = lambda problem: None
    events = [event for view in destinations(folder) for event in view.events(ignore)]
    return sorted((event.payload.decode(), event.state) for event in events)

at, died = 0, True
while died:
    folder = shutil.copytree(root / "template", root / "trial")
    pid = os.fork()
    if pid == 0:
        views = map(DestinationView, sorted(folder.iterdir()))
        with Interrupts(die, at, *WATCHED).watching():
            command(folder, *views)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    died = os.WIFSIGNALED(status)
    assert died or os.WEXITSTATUS(status) == 0, status
    say(json.dumps(left(folder)))
    shutil.rmtree(folder)
    at += {stride}
"""


def _kill_anywhere(
    tmp_path: Path, command: str, *, stride: int = 11
) -> list[list[tuple[bytes, str]]]:
    """Kill a command at many instructions; return the events left after each.

    Args:
        tmp_path: the folder it works on is ``template`` in it.
        command: a statement about ``first``, the view of the first destination.
        stride: the instructions between two kills.
    """
    skip_if_blind()
    program = _KILLED_ANYWHERE.replace("{command}", command)
    program = program.replace("{stride}", str(stride))
    lines = processes.run(program, {"FOLDER": tmp_path}).splitlines()
    assert len(lines) > 50, "the watched code was not found"
    return [[(text.encode(), state) for text, state in json.loads(x)] for x in lines]


@pytest.mark.slow
def test_a_kill_while_putting_back_leaves_every_event_once(tmp_path: Path) -> None:
    """At every moment an event is a letter or pending; one that is both is pending."""
    _buried(tmp_path / "template", 1, 2).close()

    left = _kill_anywhere(
        tmp_path,
        "edit.resend(first, lambda _: True, now_ms=1, max_journal_bytes=10**9)",
        stride=37,
    )

    for events in left:
        assert [each for each, _ in events] == [payload(1), payload(2)]
    states = [{state for _, state in events} for events in left]
    assert (states[0], states[-1]) == ({"quarantined"}, {"pending"})


_STRIDE: Final = 61  # instructions, for each trial takes a process
_RESENDING: Final = tuple(
    f"_journal/{name}.py"
    for name in ("admin/edit", "admin/commit", "marked_lines", "folders", "segments")
)


@pytest.mark.slow
def test_a_kill_while_resending_never_sends_an_event_a_second_time(
    tmp_path: Path,
) -> None:
    """Between the kill and the next command, another process ships the journal.

    Past the dedupe window the server would count such an event twice, although the
    person who resent it accepted that only once.
    """
    template = tmp_path / "template"
    _buried(template, 1, 2, 3).close()
    at, killed, stages = 0, True, set()
    while killed:
        copy = tmp_path / f"copy-{at}"
        shutil.copytree(template, copy)
        killed = killed_at(lambda: _put_back(_view(copy)), at, *_RESENDING)  # noqa: B023
        first = _ship(copy)
        _put_back(_view(copy))
        second = _ship(copy)

        assert sorted(first + second) == [payload(1), payload(2), payload(3)], at
        assert _states(_view(copy)) == []
        stages.add(len(first))
        shutil.rmtree(copy)
        at += _STRIDE

    assert stages == {0, 3}


def _ship(journal_dir: Path) -> list[bytes]:
    """Deliver what the next process finds, and return it."""
    journal = _successor(journal_dir)
    events = take_all(journal)
    for event in events:
        journal.reader.settle(event, FrameState.DELIVERED)
    journal.close()
    return payloads(events)


def test_a_decided_resend_is_finished_by_the_next_process(tmp_path: Path) -> None:
    """No person needs to know that the command died: its events are shipped."""
    _buried(tmp_path, 1).close()
    view = _view(tmp_path)
    at = 0
    while not [*view.folder.path.glob(".staged-*/commit.json")]:
        assert killed_at(lambda: _put_back(view), at, *_RESENDING)
        at += 40
    assert _states(view) == [("pending", payload(1))]

    assert _ship(tmp_path) == [payload(1)]
    assert _states(view) == []


def test_letters_that_are_edited_meanwhile_are_left_alone(tmp_path: Path) -> None:
    """Bytes are overwritten only where they are what was read."""
    _buried(tmp_path, 1).close()
    view = _view(tmp_path)
    (path,) = view.letter_files()
    edited = path.read_bytes().replace(b"because", b"edited!")

    def edit_by_hand(_: DeadLetterLine) -> bool:
        path.write_bytes(edited)
        return True

    with pytest.raises(JournalError, match="edited meanwhile"):
        edit.purge(view, edit_by_hand, damaged=False)

    assert path.read_bytes() == edited


def test_two_commands_do_not_work_on_the_same_letters(tmp_path: Path) -> None:
    """Two people, one incident: the second is told to wait."""
    _buried(tmp_path, 1).close()
    view = _view(tmp_path)

    def second(_: DeadLetterLine) -> bool:
        with pytest.raises(JournalError, match="another command"):
            _put_back(view)
        return True

    edit.resend(view, second, now_ms=NOON_MS, max_journal_bytes=_PLENTY)

    assert _states(view) == [("pending", payload(1))]


def test_a_folder_of_a_newer_outlay_is_not_changed(tmp_path: Path) -> None:
    """After a rollback no version knows what these bytes mean."""
    _buried(tmp_path, 1).close()
    view = _view(tmp_path)
    path = view.folder.path / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "format_version": FORMAT_VERSION + 1}))

    with pytest.raises(JournalError, match="upgrade outlay"):
        _put_back(view)


# Deleting.


def _delete(view: DestinationView, *, damaged: bool = False) -> PurgeResult:
    return edit.purge(view, _all, damaged=damaged)


def test_deleted_letters_are_gone_from_the_disk(tmp_path: Path) -> None:
    """They name customers: deleted means that no program can read them."""
    _buried(tmp_path, 1, 2).close()
    view = _view(tmp_path)

    assert _delete(view) == PurgeResult(letters=2, files=1, busy=0)
    assert view.letter_files() == []


def test_only_the_wanted_letters_are_deleted(tmp_path: Path) -> None:
    """The rest of the file is what it was."""
    _buried(tmp_path, 1, 2).close()
    view = _view(tmp_path)

    done = edit.purge(
        view, lambda letter: letter.event.payload == payload(1), damaged=False
    )

    assert done == PurgeResult(letters=1, files=0, busy=0)
    (path,) = view.letter_files()
    assert payload(1) not in path.read_bytes()
    assert _states(view) == [("quarantined", payload(2))]


def test_pending_events_are_never_deleted(tmp_path: Path) -> None:
    """Not by any selection: only a letter is a person's to delete."""
    journal = _buried(tmp_path, 1)
    journal.append(payload(2))
    journal.append(payload(3))
    parked, _ = take_all(journal)
    journal.reader.settle(parked, FrameState.PARKED)
    journal.close()
    view = _view(tmp_path)

    _delete(view, damaged=True)

    assert _states(view) == [("parked", payload(2)), ("pending", payload(3))]


def test_the_file_of_a_living_writer_is_emptied_and_stays(tmp_path: Path) -> None:
    """It may be writing to it at this moment: unlinked, that letter would be lost."""
    journal = _buried(tmp_path, 1)
    view = _view(tmp_path)
    first = _delete(view)
    journal.append(payload(2))
    (event,) = take_all(journal)
    journal.move_to_dead_letters(event, "dead", "rejected", "no")

    assert first == PurgeResult(letters=1, files=0, busy=1)
    (path,) = view.letter_files()
    assert payload(1) not in path.read_bytes()
    assert _states(view) == [("dead", payload(2))]

    journal.close()
    assert _delete(view) == PurgeResult(letters=1, files=1, busy=0)


def test_the_file_of_a_dead_writer_goes_while_others_live(tmp_path: Path) -> None:
    """In production a writer is always alive."""
    _buried(tmp_path, 1).close()
    make_journal(tmp_path).append(payload(2))

    assert _delete(_view(tmp_path)) == PurgeResult(letters=1, files=1, busy=0)


def test_the_file_of_an_adopter_stays_while_any_writer_lives(tmp_path: Path) -> None:
    """An adopter without a folder of its own is known by those that it holds."""
    _letters(tmp_path, "adopted-1-0a1b2c3d", 1)
    view = _view(tmp_path)
    journal = make_journal(tmp_path)
    journal.append(payload(2))

    assert _delete(view) == PurgeResult(letters=1, files=0, busy=1)
    journal.close()
    assert _delete(view) == PurgeResult(letters=0, files=1, busy=0)


def test_damaged_bytes_are_deleted_only_on_request(tmp_path: Path) -> None:
    """They may be all that is left of an event."""
    _buried(tmp_path, 1).close()
    view = _view(tmp_path)
    (writer,) = view.writers()
    damaged = view.folder.dead_path / f"{writer.path.name}-00000001.seg-64.damaged"
    damaged.write_bytes(b"?")
    (letters,) = view.letter_files()
    letters.write_bytes(letters.read_bytes() + b"# no letter\n")

    assert _delete(view) == PurgeResult(letters=1, files=0, busy=0)
    assert (damaged.exists(), letters.exists()) == (True, True)
    assert _delete(view, damaged=True) == PurgeResult(letters=0, files=2, busy=0)


@pytest.mark.slow
def test_a_kill_while_deleting_never_takes_a_letter_that_was_not_chosen(
    tmp_path: Path,
) -> None:
    """Half a command deletes less, and nothing else."""
    _buried(tmp_path / "template", 1, 2, 3).close()

    left = _kill_anywhere(
        tmp_path,
        "edit.purge(first, damaged=True, "
        "wanted=lambda letter: b'key-2' not in letter.event.payload)",
    )

    counts = [len(events) for events in left]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (3, 1)
    assert all((payload(2), "quarantined") in events for events in left)


# Moving.

_ROTATED: Final = Destination(DESTINATION.base_url, DESTINATION.namespace, "sk_new")


def _prepared(journal_dir: Path) -> DestinationFolder:
    """Return the folder of the new credential, which has no events yet."""
    folder = make_journal(journal_dir, destination=_ROTATED).folder
    folder.prepare(base_url=_ROTATED.base_url, namespace=None, now_ms=NOON_MS)
    return folder


def _old(journal_dir: Path, target: DestinationFolder) -> DestinationView:
    (old,) = [
        view for view in destinations(journal_dir) if view.digest != target.path.name
    ]
    return old


def test_what_dead_writers_left_moves_with_all_of_its_history(tmp_path: Path) -> None:
    """The attempts go along: what may have been counted stays in doubt."""
    journal = _buried(tmp_path, 1)
    journal.append(payload(2))
    journal.reader.stamp(take_all(journal), NOON_MS)
    journal.close()
    target = _prepared(tmp_path)
    source = _old(tmp_path, target)

    moved = edit.move_orphans(source, target)

    assert moved == MoveResult(writers=1, busy=0, files=1)
    assert _events(source) == []
    assert _states(DestinationView(target.path)) == [
        ("pending", payload(2)),
        ("quarantined", payload(1)),
    ]
    adopter = make_journal(tmp_path, destination=_ROTATED)
    adopter.adopt_orphans()
    (event,) = take_all(adopter)
    assert (event.payload, event.first_attempt_ms) == (payload(2), NOON_MS)


def test_a_living_writer_keeps_its_events(tmp_path: Path) -> None:
    """It ships them itself, with the credential that they were tracked under."""
    journal = _buried(tmp_path, 1)
    journal.append(payload(2))
    target = _prepared(tmp_path)
    source = _old(tmp_path, target)

    moved = edit.move_orphans(source, target)

    assert moved == MoveResult(writers=0, busy=1, files=0)
    assert len(_events(source)) == 2
    assert payloads(take_all(journal)) == [payload(2)]


def test_moving_overwrites_nothing(tmp_path: Path) -> None:
    """A person may have copied files by hand before."""
    _buried(tmp_path, 1).close()
    target = _prepared(tmp_path)
    source = _old(tmp_path, target)
    (letters,) = source.letter_files()
    there = target.dead_path / letters.name
    there.write_text("mine")

    moved = edit.move_orphans(source, target)

    assert (moved.files, there.read_text(), letters.exists()) == (0, "mine", True)


@pytest.mark.slow
def test_a_kill_while_moving_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Every writer's folder is in one place or the other."""
    template = tmp_path / "template"
    journal = _buried(template, 1)
    journal.append(payload(2))
    journal.close()
    old, new = _view(template).digest, _prepared(template).path.name

    left = _kill_anywhere(
        tmp_path,
        f"edit.move_orphans(DestinationView(folder / '{old}'), "
        f"DestinationFolder(folder / '{new}'))",
    )

    assert left == [[(payload(1), "quarantined"), (payload(2), "pending")]] * len(left)
