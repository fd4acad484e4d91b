"""Captured costs without a price, on disks that fail and under commands that race."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Final

import pytest

from outlay._cli.exit_codes import ExitCode
from outlay._model.error_counts import capture_errors
from tests.support import disks
from tests.support.command_line import call
from tests.support.unpriced import BOOK, client_in, pending, record, waiting

if TYPE_CHECKING:
    from pathlib import Path

needs_root = pytest.mark.skipif(
    not disks.may_mount(), reason="mounting a file system takes root"
)


def fill(disk: Path) -> Path:
    """Leave no byte free; return the file that takes them all."""
    ballast = disk / "ballast"
    with (
        ballast.open("wb", buffering=0) as file,
        pytest.raises(OSError, match="No space left"),
    ):
        file.writelines(itertools.repeat(bytes(4096)))
    return ballast


@needs_root
def test_a_full_disk_costs_no_cost(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What no disk takes is in memory, said so, and on disk as soon as that works."""
    journal_dir = small_disk / "journal"
    with client_in(journal_dir) as client:
        record(client, 1)
        ballast = fill(small_disk)
        for number in (2, 3, 4):
            record(client, number, data={"padding": "x" * 4000})
        kept = client.stats().unpriced
        on_disk = len(waiting(journal_dir))
        ballast.unlink()
        record(client, 5)

        assert (kept, on_disk) == (4, 1)
        assert client.stats().unpriced == 5
        assert len(waiting(journal_dir)) == 5
    assert caplog.text.count("unpriced costs cannot be written to disk") == 1
    assert "are lost" not in caplog.text


@needs_root
def test_a_disk_that_has_room_at_the_end_gets_what_was_in_memory(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost that need not be."""
    journal_dir = small_disk / "journal"
    with client_in(journal_dir) as client:
        record(client, 1)
        ballast = fill(small_disk)
        record(client, 2, data={"padding": "x" * 4000})
        ballast.unlink()

    assert len(waiting(journal_dir)) == 2
    assert "are lost" not in caplog.text


@needs_root
def test_a_read_only_disk_disturbs_no_call(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The loss at the end is said, with its number; capture itself did not fail."""
    before = capture_errors.snapshot()
    disks.remount(small_disk, "ro")
    with client_in(small_disk / "journal") as client:
        for number in range(3):
            record(client, number)
        assert client.stats().unpriced == 3
    disks.remount(small_disk, "rw")

    assert before == capture_errors.snapshot()
    assert caplog.text.count("unpriced costs cannot be written to disk") == 1
    assert "3 unpriced costs are lost" in caplog.text


COSTS: Final = 200
COMMANDS: Final = 4


def test_commands_that_re_price_at_once_track_each_cost_once(tmp_path: Path) -> None:
    """A timer on each of several machines may start them in the same second.

    One may be told that another is at work; it changes nothing then.
    """
    journal_dir, book = tmp_path / "journal", tmp_path / "prices.toml"
    book.write_text(BOOK)
    with client_in(journal_dir) as client:
        for number in range(COSTS):
            record(client, number)
    ready, start = os.pipe()
    commands = [
        forked_command(ready, start, journal_dir, book) for _ in range(COMMANDS)
    ]
    os.close(start)  # and all begin
    codes = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in commands]
    os.close(ready)

    assert set(codes) <= {ExitCode.DONE, ExitCode.REFUSED}
    assert ExitCode.DONE in codes
    tracked = [event.data["operationId"] for event in pending(journal_dir)]
    assert sorted(tracked) == sorted(f"req_{number}" for number in range(COSTS))
    assert waiting(journal_dir) == []


def forked_command(ready: int, start: int, journal_dir: Path, book: Path) -> int:
    """Re-price in a process of its own, once no process holds ``start`` any more."""
    child = os.fork()
    if child == 0:
        try:
            os.close(start)
            os.read(ready, 1)
            scope = ("--price-book", str(book), "--journal-dir", str(journal_dir))
            os._exit(call("reprice", *scope).code)
        finally:
            os._exit(99)
    return child
