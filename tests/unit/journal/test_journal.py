"""The journal as a whole: adoption, limits, trouble with the disk, dead letters."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from outlay._journal import frames
from outlay._journal.frames import FrameState
from outlay.errors import JournalFullError
from tests.support.clock import NOON_MS, ManualClock
from tests.support.events import payload
from tests.support.journals import (
    CREDENTIAL,
    DESTINATION,
    LIMITS,
    dead_letters,
    make_journal,
    payloads,
    take_all,
)

if TYPE_CHECKING:
    from pathlib import Path

    from outlay._journal.journal import Journal


def _left_behind(journal_dir: Path, *numbers: int) -> None:
    """Leave events in ``journal_dir`` as a process that ended does."""
    journal = make_journal(journal_dir)
    for number in numbers:
        journal.append(payload(number))
    journal.close()


def _blocked(folder: Path) -> Path:
    """Return a journal folder that cannot be made: a file is in its place."""
    folder.write_text("I was here first")
    return folder


def test_nothing_is_written_before_the_first_event(tmp_path: Path) -> None:
    """Importing and configuring must work on a read-only machine."""
    journal = make_journal(tmp_path / "journal")

    journal.adopt_orphans()
    journal.close()

    assert list(tmp_path.iterdir()) == []


def test_a_clean_close_leaves_no_writer_behind(tmp_path: Path) -> None:
    """Folders of finished processes must not pile up."""
    journal = make_journal(tmp_path)
    journal.append(payload(1))
    journal.seal()
    for event in take_all(journal):
        journal.reader.settle(event, FrameState.DELIVERED)
    assert take_all(journal) == []

    journal.close()

    assert [path.name for path in journal.folder.writers()] == []


def test_folders_are_private_and_so_are_files(tmp_path: Path) -> None:
    """Cost events name customers."""
    journal_dir = tmp_path / "deep" / "journal"
    journal = make_journal(journal_dir)
    journal.append(payload(1))
    (event,) = take_all(journal)
    journal.move_to_dead_letters(event, "dead", "rejected", "no")

    for path in journal_dir.rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert path.stat().st_mode & 0o777 == expected, path
    assert journal_dir.stat().st_mode & 0o777 == 0o700


def test_no_credential_is_stored_anywhere(tmp_path: Path) -> None:
    """A user who reads the journal folder must not be able to write costs."""
    journal = make_journal(tmp_path)
    journal.append(payload(1))
    (event,) = take_all(journal)
    journal.move_to_dead_letters(event, "dead", "rejected", "no")

    for path in tmp_path.rglob("*"):
        assert CREDENTIAL not in str(path)
        if path.is_file():
            assert CREDENTIAL.encode() not in path.read_bytes(), path


def test_meta_json_says_where_the_events_go(tmp_path: Path) -> None:
    """A person who finds the folder must be able to tell what it is."""
    clock = ManualClock()
    journal = make_journal(tmp_path, clock=clock)
    journal.append(payload(1))

    (meta,) = tmp_path.glob("*/meta.json")
    assert json.loads(meta.read_text()) == {
        "format_version": frames.FORMAT_VERSION,
        "base_url": DESTINATION.base_url,
        "namespace": None,
        "created_at": "2026-01-01T12:00:00.000Z",
    }


def test_a_folder_of_a_newer_outlay_is_refused_clearly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two formats in one folder would be read by releases that know one of them."""
    _left_behind(tmp_path, 1)
    (path,) = tmp_path.glob("*/meta.json")
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "format_version": frames.FORMAT_VERSION + 1}))

    durable = make_journal(tmp_path).append(payload(2))

    assert not durable
    assert "made by a newer outlay" in caplog.text
    assert "OUTLAY_JOURNAL_DIR" in caplog.text


@pytest.mark.parametrize(
    "other",
    [
        DESTINATION._replace(base_url="http://127.0.0.1:4601"),
        DESTINATION._replace(namespace="org_2"),
        DESTINATION._replace(credential="sk_test_another"),
        DESTINATION._replace(credential=""),
    ],
    ids=["server", "namespace", "credential", "no credential"],
)
def test_two_destinations_never_meet(tmp_path: Path, other: object) -> None:
    """One customer's costs must not end up on another account's bill."""
    _left_behind(tmp_path, 1)
    stranger = make_journal(tmp_path, destination=other)  # type: ignore[arg-type]

    stranger.adopt_orphans()

    assert take_all(stranger) == []
    assert stranger.append(payload(2))
    assert payloads(take_all(stranger)) == [payload(2)]
    assert len(list(tmp_path.glob("*/meta.json"))) == 2


# Adoption.


def test_the_events_of_a_dead_writer_are_adopted(tmp_path: Path) -> None:
    """The next process delivers what the last one could not."""
    _left_behind(tmp_path, 1, 2)
    adopter = make_journal(tmp_path)

    assert adopter.has_orphans()
    assert adopter.adopt_orphans() == 1
    assert payloads(take_all(adopter)) == [payload(1), payload(2)]
    assert adopter.reader.recovered_count == 2


def test_the_events_of_a_living_writer_are_not_adopted(tmp_path: Path) -> None:
    """It ships them itself; its lock says that it lives."""
    living = make_journal(tmp_path)
    living.append(payload(1))
    sibling = make_journal(tmp_path)

    assert sibling.adopt_orphans() == 0
    assert take_all(sibling) == []


def test_an_orphan_has_one_adopter(tmp_path: Path) -> None:
    """Two shippers of one segment would race about its outcomes."""
    _left_behind(tmp_path, 1)
    one, other = make_journal(tmp_path), make_journal(tmp_path)

    adopted = [one.adopt_orphans(), other.adopt_orphans(), one.adopt_orphans()]

    assert adopted == [1, 0, 0]
    assert payloads(take_all(one) + take_all(other)) == [payload(1)]


def test_an_adopter_that_ends_passes_the_rest_on(tmp_path: Path) -> None:
    """Recovery is the normal start, however often it is interrupted."""
    _left_behind(tmp_path, 1, 2)
    adopter = make_journal(tmp_path)
    adopter.adopt_orphans()
    delivered, _ = take_all(adopter)
    adopter.reader.settle(delivered, FrameState.DELIVERED)
    adopter.close()

    next_adopter = make_journal(tmp_path)
    next_adopter.adopt_orphans()

    assert payloads(take_all(next_adopter)) == [payload(2)]


def test_an_adopted_folder_goes_when_its_last_event_is_settled(tmp_path: Path) -> None:
    """Nothing of a dead process is left but its dead letters."""
    _left_behind(tmp_path, 1)
    adopter = make_journal(tmp_path)
    adopter.adopt_orphans()
    for event in take_all(adopter):
        adopter.reader.settle(event, FrameState.DELIVERED)
    assert take_all(adopter) == []

    assert list(adopter.folder.writers()) == []


def test_what_does_not_belong_into_the_folder_holds_up_no_adoption(
    tmp_path: Path,
) -> None:
    """People put notes into folders, and tools their own files."""
    _left_behind(tmp_path, 1)
    (destination,) = tmp_path.iterdir()
    (destination / "000-note.txt").write_text("checked by hand")
    (destination / "0000-odd" / "writer.lock").mkdir(parents=True)

    adopter = make_journal(tmp_path)
    adopter.adopt_orphans()

    assert payloads(take_all(adopter)) == [payload(1)]


# Trouble with the disk.


def test_without_a_usable_folder_events_are_kept_in_memory_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken disk must not stop the application, and must not go unnoticed."""
    journal = make_journal(_blocked(tmp_path / "journal"))

    durable = [journal.append(payload(1)), journal.append(payload(2))]

    assert durable == [False, False]
    assert payloads(take_all(journal)) == [payload(1), payload(2)]
    assert caplog.text.count("kept in memory only") == 1


def test_the_disk_is_used_again_as_soon_as_it_can_be(tmp_path: Path) -> None:
    """Every event that waits in memory is one that a crash loses."""
    clock = ManualClock()
    journal_dir = _blocked(tmp_path / "journal")
    journal = make_journal(journal_dir, clock=clock)
    assert not journal.append(payload(1))

    journal_dir.unlink()
    too_soon = journal.append(payload(2))
    clock.advance(1.0)
    later = journal.append(payload(3))

    assert (too_soon, later) == (False, True)
    assert sorted(payloads(take_all(journal))) == [payload(n) for n in (1, 2, 3)]
    assert journal.appended_count() == 3


def test_a_disk_that_stays_broken_costs_no_new_memory_for_each_try(
    tmp_path: Path,
) -> None:
    """Trying again every second must not use up the buffer that holds the events."""
    clock = ManualClock()
    journal = make_journal(_blocked(tmp_path / "journal"), clock=clock)

    for number in range(100):
        journal.append(payload(number))
        clock.advance(1.0)

    assert len(take_all(journal)) == 100


def test_memory_is_bounded_and_says_so(tmp_path: Path) -> None:
    """Without disk and server there is an end; it is counted, not silent."""
    journal = make_journal(tmp_path, in_memory=True)

    with pytest.raises(JournalFullError, match="max_memory_bytes"):  # noqa: PT012
        for number in range(3000):
            journal.append(payload(number, padding=1000))

    kept = payloads(take_all(journal))
    assert len(kept) == journal.appended_count() > 0
    assert sum(map(len, kept)) <= LIMITS.max_memory_bytes


def test_room_in_memory_comes_back(tmp_path: Path) -> None:
    """Delivered events free their memory."""
    journal = make_journal(tmp_path, in_memory=True)

    for number in range(3000):
        journal.append(payload(number, padding=1000))
        for event in take_all(journal):
            journal.reader.settle(event, FrameState.DELIVERED)

    assert journal.appended_count() == 3000


def test_memory_mode_writes_nothing(tmp_path: Path) -> None:
    """That is what it is chosen for."""
    journal = make_journal(tmp_path / "journal", in_memory=True)
    journal.append(payload(1))
    (event,) = take_all(journal)
    journal.move_to_dead_letters(event, "dead", "rejected", "no")
    journal.close()

    assert list(tmp_path.iterdir()) == []


def test_a_folder_deleted_under_us_is_made_again(tmp_path: Path) -> None:
    """A program cleans up /tmp while the application runs."""
    journal = make_journal(tmp_path / "journal")
    journal.append(payload(1, padding=60_000))

    shutil.rmtree(tmp_path / "journal")
    durable = journal.append(payload(2, padding=60_000))
    journal.close()
    adopter = make_journal(tmp_path / "journal")
    adopter.adopt_orphans()

    assert durable
    assert payload(2, padding=60_000) in payloads(take_all(adopter))


# Dead letters.


def test_a_dead_letter_says_what_why_and_when(tmp_path: Path) -> None:
    """A person decides about it, with nothing but this line."""
    clock = ManualClock()
    journal = make_journal(tmp_path, clock=clock)
    journal.append(payload(1))
    (event,) = take_all(journal)
    journal.reader.stamp([event], NOON_MS - 1000)

    buried = journal.move_to_dead_letters(
        event, "dead", "rejected", "HTTP 400: data is odd"
    )

    assert buried
    assert dead_letters(tmp_path) == [
        {
            "kind": "dead",
            "reason": "rejected",
            "message": "HTTP 400: data is odd",
            "recordedAt": "2026-01-01T12:00:00.000Z",
            "attempts": 1,
            "event": json.loads(payload(1)),
            "firstAttemptAt": "2026-01-01T11:59:59.000Z",
        }
    ]


def test_a_dead_letter_holds_the_event_to_the_last_digit(tmp_path: Path) -> None:
    """Resending it by hand must bill the same amount."""
    journal = make_journal(tmp_path)
    exact = b'{"data":{"amount":0.100000000000000000000000000001}}'
    journal.append(exact)
    (event,) = take_all(journal)

    journal.move_to_dead_letters(event, "quarantined", "dedupe_window", "too old")

    (file,) = tmp_path.glob("*/dead/*.jsonl")
    assert exact in file.read_bytes()


def test_an_event_that_cannot_be_buried_is_parked(tmp_path: Path) -> None:
    """Nothing may vanish because the place for the vanished is gone."""
    journal = make_journal(tmp_path)
    journal.append(payload(1))
    (event,) = take_all(journal)
    shutil.rmtree(journal.folder.dead_path)

    buried = journal.move_to_dead_letters(event, "dead", "rejected", "no")

    assert not buried
    assert journal.reader.parked_count() == 1


def test_each_journal_has_a_dead_letter_file_of_its_own(tmp_path: Path) -> None:
    """Two processes that wrote to one could interleave their lines."""
    _left_behind(tmp_path, 1)
    _left_behind(tmp_path, 2)
    journals: list[Journal] = []
    for _ in range(2):
        journal = make_journal(tmp_path)
        (destination,) = tmp_path.iterdir()
        first = sorted(destination.glob("[0-9]*"))[0]
        journal._recovery.adopt(first)
        (event,) = take_all(journal)
        journal.move_to_dead_letters(event, "dead", "rejected", "no")
        journals.append(journal)

    assert len(list(tmp_path.glob("*/dead/*.jsonl"))) == 2
