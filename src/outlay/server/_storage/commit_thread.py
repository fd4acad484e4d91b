"""Commit the events of all waiting requests in one transaction, in one thread.

A sync to disk takes about as long for one event as for a thousand. So requests hand
over their events and wait. The thread commits all waiting events together, and then
all of the requests respond. No request waits for others to arrive.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from outlay.server._errors import StoreUnavailableError
from outlay.server._wire.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outlay.server._records import Event, IngestResult
    from outlay.server._storage.store import Store

log = logging.getLogger("outlay.server")

T = TypeVar("T")

_GROUP_EVENTS: Final = 5000  # bounds the wait of a group's first event to some 100 ms
_IDLE_SECONDS: Final = 1.0  # between slices of background work when no event arrives
_BUSY_SECONDS: Final = 0.05  # between looks for such work while events arrive


class _WorkItem:
    """Work for the thread, and the future that its request waits for."""

    events = 0

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.result: object = None
        self.error: Exception | None = None

    def resolve(self) -> None:
        """Wake the request, on its loop. It may be cancelled already."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _AppendItem(_WorkItem):
    """Events to store."""

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
    """The last item of the queue."""


class CommitThread:
    """The one thread that writes to the store.

    Thread safety: call `append` and `run` on the event loop of `start`.

    Args:
        store: The store.
        now: A function that returns microseconds since 1970.
        max_waiting_events: The most events that may wait. `append` refuses more.
    """

    def __init__(
        self, store: Store, now: Callable[[], int], *, max_waiting_events: int
    ) -> None:
        self._store = store
        self._now = now
        self._max_waiting_events = max_waiting_events
        self._waiting_events = 0  # only the loop writes it
        self._stopping = False
        self._queue: queue.SimpleQueue[_WorkItem] = queue.SimpleQueue()
        self._thread = threading.Thread(
            # A daemon, because a server that was not stopped must not keep the process.
            # A commit that is cut short was never acknowledged.
            target=self._write_all,
            name="outlay-writer",
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread. Call it on the loop that will append."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Commit all waiting events, then end the thread."""
        self._stopping = True
        stopped: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(_Stop(stopped))
        await asyncio.to_thread(self._thread.join)

    @property
    def is_running(self) -> bool:
        """Whether the thread takes events: it was started, and does not stop."""
        return self._thread.is_alive() and not self._stopping

    def waiting_events(self) -> int:
        """Return the number of events that wait for the disk."""
        return self._waiting_events

    async def append(self, events: Sequence[Event]) -> list[IngestResult]:
        """Return the events' results when the events are on disk.

        Raises:
            HttpProblem: 503, because too many events are waiting.
            StoreUnavailableError: Nothing was stored.
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
        """Call ``job`` in the thread, and return its result."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_CallItem(job, future))
        return await future

    # -- in the thread

    def _write_all(self) -> None:
        stopping = False
        next_look = 0.0  # for background work, by the monotonic clock
        while not stopping:
            waiting = self._collect(max(next_look - time.monotonic(), 0.0))
            collected = time.monotonic()
            for kind, items in groupby(waiting, type):
                if kind is _Stop:
                    stopping = True
                else:
                    self._process(list(items))
                if kind is _CallItem:
                    # The work that a change leaves begins without a pause.
                    next_look = 0.0
            # Also under constant load, but not after each commit: a look takes longer
            # than a small commit.
            started = time.monotonic()
            if started >= next_look:
                has_more = self._do_slices(started - collected)
                now = time.monotonic()
                if not has_more:
                    next_look = now + (_BUSY_SECONDS if waiting else _IDLE_SECONDS)
                elif waiting:
                    # The events that arrive have half of the time.
                    next_look = now + (now - started)

    def _collect(self, timeout: float) -> list[_WorkItem]:
        """Return all waiting items, in order, or [] after ``timeout`` seconds."""
        waiting: list[_WorkItem] = []
        events = 0
        try:
            item = self._queue.get(timeout=timeout)
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
        """Process items of one kind: appends in one transaction, calls one by one."""
        if isinstance(items[0], _AppendItem):
            appends = [item for item in items if isinstance(item, _AppendItem)]
            self._append_all(appends)
        for item in items:
            if isinstance(item, _CallItem):
                self._run_item(item)
        self._loop.call_soon_threadsafe(_resolve_all, items)

    def _append_all(self, appends: list[_AppendItem]) -> None:
        events = [event for item in appends for event in item.work]
        try:
            results = iter(self._store.append(events, self._now()))
            for item in appends:
                item.result = list(islice(results, len(item.work)))
        except Exception as error:  # noqa: BLE001 - the waiting request raises it
            for item in appends:
                item.error = error

    def _run_item(self, item: _CallItem) -> None:
        try:
            item.result = item.work()
        except Exception as error:  # noqa: BLE001 - the waiting request raises it
            item.error = error

    def _do_slices(self, seconds: float) -> bool:
        """Do background work for as long as the commits took, and at least a slice.

        A commit of many events takes as long as several slices.

        Returns:
            Whether there is more.
        """
        ends_at = time.monotonic() + seconds
        has_more = self._do_background_work()
        while has_more and time.monotonic() < ends_at:
            has_more = self._do_background_work()
        return has_more

    def _do_background_work(self) -> bool:
        try:
            return self._store.do_background_work(self._now())
        except StoreUnavailableError as error:
            log.warning("background work is put off, and tried again: %s", error)
            return False
        except Exception:
            log.exception("background work on the database failed; it is retried")
            return False


def _resolve_all(items: list[_WorkItem]) -> None:
    for item in items:
        item.resolve()
