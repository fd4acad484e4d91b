"""Folders and locks: who owns what, and what is left when it ends."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from outlay._journal.folders import (
    DestinationFolder,
    WriterFolder,
    destination_name,
)
from outlay._journal.locks import Lock
from tests.support.clock import NOON_MS
from tests.support.interrupts import Interrupts

_URL = "http://127.0.0.1:4600"
_OPEN_FILES = Path("/proc/self/fd")


def test_a_lock_is_held_once_even_within_a_process(tmp_path: Path) -> None:
    """Two clients in one process must not ship the same segment."""
    first, second = Lock(tmp_path / "a.lock"), Lock(tmp_path / "a.lock")

    assert (first.acquire(), second.acquire()) == (True, False)
    first.close()
    assert second.acquire()
    second.close()


def test_a_destination_has_one_name_everywhere() -> None:
    """The next process, or the next release, must find what this one left."""
    digest = destination_name(_URL, "org_1", "sk_test_1")

    assert digest == destination_name(_URL, "org_1", "sk_test_1")
    assert digest == "4c61c48f107a67500cfad03c177b1b07"


def test_the_parts_of_a_destination_do_not_run_together() -> None:
    """A namespace that looks like the end of an address is still a namespace."""
    digests = {
        destination_name(_URL, "1", ""),
        destination_name(_URL + "1", None, ""),
        destination_name(_URL, None, "1"),
        destination_name(_URL, None, ""),
    }

    assert len(digests) == 4


def test_a_new_folder_is_locked_before_it_can_be_seen(tmp_path: Path) -> None:
    """One that is seen unlocked is an orphan, and would be adopted at birth.

    A process looks for orphans before every instruction of its creation.
    """
    destination = DestinationFolder(tmp_path)

    def look() -> None:
        for path in destination.writers():
            assert WriterFolder.adopt(path) is None

    for at in itertools.count():
        interrupt = Interrupts(look, at, "_journal/folders.py")
        with interrupt.watching():
            folder = WriterFolder.create(tmp_path, NOON_MS)
        folder.release()
        if not interrupt.struck:
            break
    assert at > 20, "the watched code was not found"


def test_a_released_folder_never_takes_a_segment_with_it(tmp_path: Path) -> None:
    """A thread that was inside of track_cost may open one while the client closes."""
    for at in itertools.count():
        folder = WriterFolder.create(tmp_path, NOON_MS)
        segment = folder.segment_path(1)
        made: list[bool] = []

        def open_segment(segment: Path = segment, made: list[bool] = made) -> None:
            if segment.parent.is_dir():
                segment.touch()
                made.append(True)

        interrupt = Interrupts(open_segment, at, "_journal/folders.py", "shutil.py")
        with interrupt.watching():
            folder.release()
        if not interrupt.struck:
            break
        assert segment.exists() == bool(made), at
    assert at > 20, "the watched code was not found"


@pytest.mark.skipif(not _OPEN_FILES.is_dir(), reason="this system has no /proc")
def test_a_folder_that_cannot_be_adopted_costs_no_file_descriptors(
    tmp_path: Path,
) -> None:
    """It is looked at every half a minute, for as long as the process lives."""
    odd = tmp_path / "odd"
    (odd / "writer.lock").mkdir(parents=True)
    before = len(list(_OPEN_FILES.iterdir()))

    for _ in range(3):
        with pytest.raises(IsADirectoryError):
            WriterFolder.adopt(odd)

    assert len(list(_OPEN_FILES.iterdir())) <= before


@pytest.mark.parametrize("size", [0, 10, 63])
def test_a_segment_that_was_never_written_is_removed_with_its_dead_writer(
    tmp_path: Path, size: int
) -> None:
    """A kill between creating and allocating it left it, and it stayed for ever.

    Every later start reported that it cannot be read, and kept its folder.
    """
    writer = WriterFolder.create(tmp_path, NOON_MS)
    writer.segment_path(1).write_bytes(bytes(size))
    writer.segment_path(2).write_bytes(bytes(64))
    writer.close()

    adopter = WriterFolder.adopt(writer.path)

    assert adopter is not None
    assert adopter.segment_paths() == [writer.segment_path(2)]
    adopter.close()
