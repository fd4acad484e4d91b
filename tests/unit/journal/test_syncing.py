"""Group commit: threads share syncs, and nobody returns before the disk has it all."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from outlay import Client
from outlay._journal.syncing import GroupCommit
from outlay._model.clock import SystemClock
from outlay._model.notices import Notices

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

DEADLINE = 20.0


class Disk:
    """Counts syncs; each waits until it is let through."""

    def __init__(self, *, gated: bool = False) -> None:
        self.syncs = 0
        self.started = threading.Semaphore(0)
        self.gate = threading.Semaphore(0 if gated else 1_000_000)
        self.error: OSError | None = None

    def sync(self) -> None:
        """Sync, when let through."""
        self.started.release()
        assert self.gate.acquire(timeout=DEADLINE)
        self.syncs += 1
        if self.error is not None:
            raise self.error


def commits_of(disk: Disk) -> GroupCommit:
    """Return commits that share this disk's syncs."""
    return GroupCommit(disk.sync, Notices(SystemClock()))


def wait_for_followers(commits: GroupCommit, count: int) -> None:
    """Return when ``count`` threads wait for somebody else's sync."""
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while len(commits._changed._waiters) < count:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, "the others do not line up"
        pause.wait(0.001)


def test_a_lone_commit_syncs_once() -> None:
    """Nobody waits for company."""
    disk = Disk()

    assert commits_of(disk).commit()

    assert disk.syncs == 1


def test_those_who_come_during_a_sync_share_the_next_one() -> None:
    """A sync under way may have begun before they appended, so it does not count."""
    disk = Disk(gated=True)
    commits = commits_of(disk)
    threads = [threading.Thread(target=commits.commit) for _ in range(20)]
    threads[0].start()
    assert disk.started.acquire(timeout=DEADLINE)  # the first one leads

    for thread in threads[1:]:
        thread.start()
    wait_for_followers(commits, 19)
    disk.gate.release()  # the first sync
    disk.gate.release()  # one more, for all the others
    for thread in threads:
        thread.join(DEADLINE)

    assert not any(thread.is_alive() for thread in threads)
    assert disk.syncs == 2


def test_a_commit_on_top_of_the_leader_syncs_by_itself() -> None:
    """A signal handler cannot wait for the thread that it has interrupted."""
    depth = 0

    def sync() -> None:
        nonlocal depth
        depth += 1
        if depth == 1:
            assert commits.commit()  # as a handler or finaliser would

    commits = GroupCommit(sync, Notices(SystemClock()))

    assert commits.commit()

    assert depth == 2


def test_a_disk_that_fails_is_reported_and_not_believed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The event survives the process, and the caller learns that this is all."""
    disk = Disk()
    disk.error = OSError(5, "Input/output error")
    commits = commits_of(disk)

    assert not commits.commit()
    disk.error = None

    assert commits.commit()
    assert "Input/output error" in caplog.text


def test_tracking_to_disk_says_durable(tmp_path: Path) -> None:
    """The setting reaches the journal, through rotation of segments too."""
    client = Client(
        spill_dir=tmp_path,
        shipping="none",
        durability="disk",
        segment_bytes=64 * 1024,
    )

    receipts = [
        client.track_cost("cost.x", 1, customer_id="c", operation_id=number)
        for number in range(500)
    ]

    assert all(receipt.durable for receipt in receipts)
    assert client.stats().pending == 500
    client.close()
    assert len(list(tmp_path.glob("*/*/*.seg"))) > 1
