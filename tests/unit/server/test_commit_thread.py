"""Group commit: who waits together, and what happens when a write fails."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest

from outlay.server._errors import StoreUnavailableError
from outlay.server._records import Event, IngestResult
from outlay.server._storage.commit_thread import CommitThread
from outlay.server._wire.problems import HttpProblem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from outlay.server._storage.store import Store

DEADLINE = 20  # seconds; only a hang takes that long


class SlowStore:
    """Records appends; each waits for the gate, and fails if told to."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.busy = threading.Event()
        self.groups: list[int] = []
        self.calls: list[str] = []
        self.error: Exception | None = None

    def append(self, events: Sequence[Event], now: int) -> list[IngestResult]:
        """Wait, then keep or fail."""
        del now
        self.calls.append("append")
        self.busy.set()
        assert self.gate.wait(DEADLINE)
        self.groups.append(len(events))
        if self.error is not None:
            raise self.error
        return [IngestResult(event) for event in events]

    def do_background_work(self, now: int) -> bool:
        """Have nothing to do."""
        del now
        self.calls.append("background work")
        return False


def make_event(number: int) -> Event:
    """Return some event."""
    return Event(
        f"evt_{number}", "org", str(number), "t", "s", "c", None, None, 0, "{}"
    )


@asynccontextmanager
async def running(store: SlowStore, most: int = 1000) -> AsyncIterator[CommitThread]:
    """Run a writer on a slow store."""
    writer = CommitThread(cast("Store", store), lambda: 0, max_waiting_events=most)
    writer.start()
    try:
        yield writer
    finally:
        store.gate.set()
        await writer.stop()


async def busy(store: SlowStore) -> None:
    """Return once an append is under way."""
    assert await asyncio.to_thread(store.busy.wait, DEADLINE)


def test_what_waits_together_is_committed_together() -> None:
    """Ten requests must cost one sync to disk, not ten."""

    async def scenario() -> None:
        store = SlowStore()
        async with running(store) as writer:
            first = asyncio.ensure_future(writer.append([make_event(0)]))
            await busy(store)
            rest = [
                asyncio.ensure_future(writer.append([make_event(2 * n), make_event(n)]))
                for n in range(1, 11)
            ]
            await asyncio.sleep(0)
            store.gate.set()
            receipts = await asyncio.gather(first, *rest)

        assert store.groups == [1, 20]
        assert [[one.event.key for one in some] for some in receipts] == [
            ["0"],
            *([str(2 * n), str(n)] for n in range(1, 11)),
        ]

    asyncio.run(scenario())


def test_jobs_keep_their_place_between_appends() -> None:
    """A cost created before an event was posted must read it, and the reverse."""

    async def scenario() -> list[str]:
        store = SlowStore()
        seen: list[str] = []

        def job() -> None:
            seen.append(f"job after {sum(store.groups)}")

        async with running(store) as writer:
            work = [asyncio.ensure_future(writer.append([make_event(0)]))]
            await busy(store)
            work.append(asyncio.ensure_future(writer.append([make_event(1)])))
            await asyncio.sleep(0)
            jobbing = asyncio.ensure_future(writer.run(job))
            await asyncio.sleep(0)
            work.append(asyncio.ensure_future(writer.append([make_event(2)])))
            await asyncio.sleep(0)
            store.gate.set()
            await asyncio.gather(*work, jobbing)
        return [*seen, str(store.groups)]

    assert asyncio.run(scenario()) == ["job after 2", "[1, 1, 1]"]


def test_background_work_follows_each_job_at_once() -> None:
    """A new metric is slow until its earlier events are folded."""

    async def scenario() -> None:
        store = SlowStore()
        store.gate.set()
        async with running(store) as writer:
            await writer.run(lambda: store.calls.append("job"))
            await writer.append([make_event(0)])

        place = store.calls.index("job")
        assert store.calls[place + 1 :][:2] == ["background work", "append"]

    asyncio.run(scenario())


class NeverIdleStore(SlowStore):
    """Always has background work, and gets the next event before each append ends."""

    def __init__(self, post: Callable[[], None], looks: int) -> None:
        super().__init__()
        self.gate.set()
        self.looked = threading.Event()  # after ``looks`` of the appends
        self._post = post
        self._looks = looks

    def append(self, events: Sequence[Event], now: int) -> list[IngestResult]:
        """Let the next event wait, then keep these."""
        if not self.looked.is_set():
            self._post()
        return super().append(events, now)

    def do_background_work(self, now: int) -> bool:
        """Have more to do."""
        if self.calls[-1:] == ["append"]:
            self._looks -= 1
        if self._looks == 0:
            self.looked.set()
        super().do_background_work(now)
        return True


def test_background_work_has_its_share_while_events_always_wait() -> None:
    """Else a new metric would stay slow until the load eases."""
    looks = 5

    async def scenario() -> int:
        loop = asyncio.get_running_loop()
        posted: list[asyncio.Future[list[IngestResult]]] = []

        async def append_next() -> None:
            posted.append(asyncio.ensure_future(writer.append([make_event(0)])))
            await asyncio.sleep(0)  # the event is in the queue after this

        def post() -> None:
            asyncio.run_coroutine_threadsafe(append_next(), loop).result(DEADLINE)

        store = NeverIdleStore(post, looks)
        async with running(store) as writer:
            await append_next()
            assert await asyncio.to_thread(store.looked.wait, DEADLINE)
        await asyncio.gather(*posted)
        return len(store.groups)

    assert asyncio.run(scenario()) >= looks


def test_a_failed_write_fails_all_who_waited_for_it_and_nobody_else() -> None:
    """None of them may be told that its events are on disk."""

    async def scenario() -> None:
        store = SlowStore()
        store.gate.set()
        store.error = StoreUnavailableError("disk is full")
        async with running(store) as writer:
            results = await asyncio.gather(
                writer.append([make_event(1)]),
                writer.append([make_event(2)]),
                return_exceptions=True,
            )
            store.error = None
            [receipt] = await writer.append([make_event(3)])

        assert all(isinstance(one, StoreUnavailableError) for one in results)
        assert receipt.event.key == "3"

    asyncio.run(scenario())


def test_a_failed_job_fails_only_itself() -> None:
    """Its error reaches the request that asked for it."""

    async def scenario() -> None:
        store = SlowStore()
        store.gate.set()
        async with running(store) as writer:
            with pytest.raises(ZeroDivisionError):
                await writer.run(lambda: 1 // 0)
            assert await writer.run(lambda: 7) == 7

    asyncio.run(scenario())


def test_too_much_waiting_is_refused_and_may_be_sent_again() -> None:
    """Memory is bounded, and the client is told when to come back."""

    async def scenario() -> HttpProblem:
        store = SlowStore()
        async with running(store, most=3) as writer:
            waiting = asyncio.ensure_future(
                writer.append([make_event(1), make_event(2)])
            )
            await busy(store)
            with pytest.raises(HttpProblem) as refused:
                await writer.append([make_event(3), make_event(4)])
            store.gate.set()
            await waiting
            await writer.append([make_event(3), make_event(4)])
        return refused.value

    problem = asyncio.run(scenario())

    assert problem.status == 503
    assert (b"retry-after", b"1") in problem.headers


def test_a_request_that_went_away_does_not_disturb_the_others() -> None:
    """Clients give up after a few seconds; the writer must not."""

    async def scenario() -> None:
        store = SlowStore()
        async with running(store) as writer:
            gone = asyncio.ensure_future(writer.append([make_event(1)]))
            await busy(store)
            stays = asyncio.ensure_future(writer.append([make_event(2)]))
            gone.cancel()
            await asyncio.sleep(0)
            store.gate.set()
            [receipt] = await stays

        assert receipt.event.key == "2"

    asyncio.run(scenario())


def test_stopping_writes_what_was_handed_over() -> None:
    """A stop in the middle of traffic must not leave requests without an answer."""

    async def scenario() -> None:
        store = SlowStore()
        async with running(store) as writer:
            waiting = [
                asyncio.ensure_future(writer.append([make_event(n)])) for n in range(5)
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

        assert sum(store.groups) == 5

    asyncio.run(scenario())
