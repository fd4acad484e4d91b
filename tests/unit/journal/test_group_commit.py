"""Group commit: threads share syncs, and none returns before the disk has it all."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING

from outlay import Client
from outlay._journal.group_commit import GroupCommit, _Group
from outlay._model.clock import SystemClock
from outlay._model.rate_limited_log import RateLimitedLog
from tests.support.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Callable
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
    return shared(disk.sync)


def shared(sync: Callable[[], None]) -> GroupCommit:
    """Return commits that share ``sync``."""
    return GroupCommit(sync, SystemClock(), RateLimitedLog(SystemClock()))


def lined_up(commits: GroupCommit) -> int:
    """Return how many threads wait for the next sync."""
    group = commits._open.get("next")
    return group.size if group else 0


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds."""
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the others do not line up"
        pause.wait(0.001)


def test_a_lone_commit_syncs_once() -> None:
    """No thread waits for others to join."""
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
    wait_until(lambda: lined_up(commits) == 19)
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

    commits = shared(sync)

    assert commits.commit()

    assert depth == 2


def test_a_handler_that_commits_never_waits_for_what_it_interrupted() -> None:
    """Wherever it strikes, it returns with everything on the disk, and so do we."""
    for at in itertools.count():
        disk = Disk()
        commits = commits_of(disk)
        done: list[bool] = []

        def strike(commits: GroupCommit = commits, done: list[bool] = done) -> None:
            done.append(commits.commit())

        interrupt = Interrupts(strike, at, "_journal/group_commit.py")
        with interrupt.watching():
            done.append(commits.commit())

        assert commits.commit()
        assert all(done)
        assert disk.syncs == len(done) + 1
        if not interrupt.struck:
            break
    assert at > 50, "the watched code was not found"


class HandlerError(Exception):
    """What a signal handler raises, as KeyboardInterrupt would be."""


def test_a_leader_that_never_returns_leaves_nobody_behind() -> None:
    """A handler raises while others wait for the thread that it has interrupted."""
    for at in itertools.count():
        disk = Disk()
        commits = commits_of(disk)
        others: list[bool] = []

        def commit(commits: GroupCommit = commits, others: list[bool] = others) -> None:
            others.append(commits.commit())

        other = threading.Thread(target=commit)

        def strike(
            commits: GroupCommit = commits,
            other: threading.Thread = other,
            others: list[bool] = others,
        ) -> None:
            other.start()
            # It follows us, or waits for its turn after us, or need not wait at all.
            wait_until(
                lambda: (
                    bool(others)
                    or lined_up(commits) == 2
                    or other.ident in commits._leaders
                )
            )
            raise HandlerError

        interrupt = Interrupts(strike, at, "_journal/group_commit.py", as_signals=True)
        with interrupt.watching(), contextlib.suppress(HandlerError):
            assert commits.commit()
        if not interrupt.struck:
            break

        other.join(DEADLINE)
        assert others == [True], at
        assert commits.commit()
    assert at > 20, "the watched code was not found"


def test_a_leader_waits_for_as_many_as_came_the_last_time() -> None:
    """Else two halves of them would take turns, and need twice as many syncs."""
    disk = Disk(gated=True)
    commits = commits_of(disk)
    first = threading.Thread(target=commits.commit)
    first.start()
    assert disk.started.acquire(timeout=DEADLINE)
    threads = [threading.Thread(target=commits.commit) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: lined_up(commits) == 2)

    disk.gate.release()
    first.join(DEADLINE)
    assert commits._expected_members == 3
    assert disk.started.acquire(timeout=DEADLINE)  # the first did not come back
    disk.gate.release()
    for thread in threads:
        thread.join(DEADLINE)
    assert commits._expected_members == 2

    commits._max_wait = DEADLINE
    threads = [threading.Thread(target=commits.commit) for _ in range(2)]
    threads[0].start()
    wait_until(lambda: lined_up(commits) == 1)
    threads[1].start()
    assert disk.started.acquire(timeout=DEADLINE / 2)
    disk.gate.release()
    for thread in threads:
        thread.join(DEADLINE)
    assert disk.syncs == 3


def test_nobody_waits_long_for_those_who_do_not_come() -> None:
    """They may have had one event each."""
    group = _Group()

    started = time.monotonic()
    group.wait_for_members(expected=2, timeout=0.01)

    assert time.monotonic() - started < DEADLINE
    assert group.size == 1


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
        journal_dir=tmp_path,
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
