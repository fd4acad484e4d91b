"""Group commit: one thread writes, and one transaction serves all who wait.

Syncing to disk costs about the same for one event as for a thousand. So requests hand
over their events and wait; the writer takes everything that is waiting, commits it at
once, and only then are all of them answered. Nobody waits for company: with a single
request waiting, that one is the group.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from outlay.server._wire.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outlay.server._records import Event, IngestResult
    from outlay.server._storage.store import Store

log = logging.getLogger("outlay.server")

T = TypeVar("T")

_GROUP_EVENTS: Final = 5000  # bounds how long the first of a group waits: some 100 ms
_IDLE_SECONDS: Final = 1.0  # between looks at what was put off


class _WorkItem:
    """Work handed to the writer, and the future its request waits on."""

    events = 0

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.result: object = None
        self.error: Exception | None = None

    def resolve(self) -> None:
        """Wake the request, on its loop. It may have gone away meanwhile."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _AppendItem(_WorkItem):
    """Events to keep."""

    def __init__(self, work: Sequence[Event], future: asyncio.Future[Any]) -> None:
        super().__init__(future)
        self.work = work
        self.events = len(work)


class _CallItem(_WorkItem):
    """Any other write."""

    def __init__(self, work: Callable[[], object], future: asyncio.Future[Any]) -> None:
        super().__init__(future)
        self.work = work


class _Stop(_WorkItem):
    """The last item."""


class CommitThread:
    """The one thread that writes to the store.

    Thread safety: `append` and `run` on the event loop that `start` was called on.

    Args:
        store: where to write.
        now: returns microseconds since 1970.
        max_waiting_events: past it, `append` refuses.
    """

    def __init__(
        self, store: Store, now: Callable[[], int], *, max_waiting_events: int
    ) -> None:
        self._store = store
        self._now = now
        self._max_waiting_events = max_waiting_events
        self._waiting_events = 0  # touched on the loop only
        self._queue: queue.SimpleQueue[_WorkItem] = queue.SimpleQueue()
        self._thread = threading.Thread(
            # daemon: what nobody stopped must not keep the process; a commit that is
            # cut short was never acknowledged.
            target=self._write_all,
            name="outlay-writer",
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread. Call on the loop that will append."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Write what was handed over, then end the thread."""
        stopped: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(_Stop(stopped))
        await asyncio.to_thread(self._thread.join)

    async def append(self, events: Sequence[Event]) -> list[IngestResult]:
        """Return the events' receipts once they are on disk.

        Raises:
            Problem: 503, too much is waiting already.
            StoreUnavailableError: nothing was kept.
        """
        if self._waiting_events + len(events) > self._max_waiting_events:
            raise unavailable("too many events are waiting for the disk; send it again")
        self._waiting_events += len(events)
        future: asyncio.Future[list[IngestResult]] = self._loop.create_future()
        self._queue.put(_AppendItem(events, future))
        try:
            return await future
        finally:
            self._waiting_events -= len(events)

    async def run(self, job: Callable[[], T]) -> T:
        """Return what ``job`` returns when called in the writer's thread."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_CallItem(job, future))
        return await future

    # -- the writer's thread

    def _write_all(self) -> None:
        some_left = stopping = False
        while not stopping:
            waiting = self._collect(0.0 if some_left else _IDLE_SECONDS)
            for kind, items in groupby(waiting, type):
                if kind is _Stop:
                    stopping = True
                else:
                    self._process(list(items))
            # After every round: under constant load the queue is never empty.
            some_left = self._do_background_work()

    def _collect(self, patience: float) -> list[_WorkItem]:
        """Return all that waits, in order; [] if nothing came in ``patience``."""
        waiting: list[_WorkItem] = []
        events = 0
        try:
            item = self._queue.get(timeout=patience)
            while True:
                waiting.append(item)
                events += item.events
                if events >= _GROUP_EVENTS:
                    break
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        return waiting

    def _process(self, items: list[_WorkItem]) -> None:
        """Do neighbours of one kind: appends in one transaction, jobs one by one."""
        if isinstance(items[0], _AppendItem):
            appends = [item for item in items if isinstance(item, _AppendItem)]
            self._append_all(appends)
        for item in items:
            if isinstance(item, _CallItem):
                self._run_item(item)
        self._loop.call_soon_threadsafe(_settle, items)

    def _append_all(self, appends: list[_AppendItem]) -> None:
        events = [event for item in appends for event in item.work]
        try:
            receipts = iter(self._store.append(events, self._now()))
            for item in appends:
                item.result = list(islice(receipts, len(item.work)))
        except Exception as error:  # noqa: BLE001 - handed to who waits for it
            for item in appends:
                item.error = error

    def _run_item(self, item: _CallItem) -> None:
        try:
            item.result = item.work()
        except Exception as error:  # noqa: BLE001 - handed to who waits for it
            item.error = error

    def _do_background_work(self) -> bool:
        try:
            return self._store.do_background_work(self._now())
        except Exception:
            log.exception("putting off upkeep of the database")
            return False


def _settle(items: list[_WorkItem]) -> None:
    for item in items:
        item.resolve()
