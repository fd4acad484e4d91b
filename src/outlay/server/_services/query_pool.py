"""Run queries beside the event loop, so that none holds up posts or other queries.

Each query starts in one of a few threads, where most take milliseconds. One that takes
longer is stopped there. It starts again in a process of its own, after those that wait
for it. It ends at its deadline, or when its client is gone.
"""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from outlay.server._errors import QueryStoppedError
from outlay.server._services.query_worker import QueryProcess
from outlay.server._storage.query_limit import QueryLimit, limited
from outlay.server._wire.problems import HttpProblem, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from outlay.server._services.query_services import QueryServices
    from outlay.server._storage.store import Views

T = TypeVar("T")

_QUICK_THREADS: Final = 4
_QUICK_SECONDS: Final = 0.15  # in which a query may hold up other threads
_MOST_WAITING: Final = 64  # queries; each keeps a request open


class QueryPool:
    """Runs queries. Thread safety: the event loop's thread.

    Args:
        services: The services, for queries that run in this process.
        timeout: The deadline of a query, in seconds.
        reopen: A function that opens the store for reading in another process. If
            None, long queries run in a thread.
        processes: The number of processes for long queries.
    """

    def __init__(
        self,
        services: QueryServices,
        *,
        timeout: float,
        reopen: Callable[[], Views] | None,
        processes: int = 1,
    ) -> None:
        self._services = services
        self._timeout = timeout
        self._waiting = 0
        self._is_stopping = False
        self._limits: set[QueryLimit] = set()
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, "outlay-query")
        self._slow = ThreadPoolExecutor(processes, "outlay-slow-query")
        self._processes: queue.SimpleQueue[QueryProcess] | None = None
        if reopen is not None:
            self._processes = queue.SimpleQueue()
            for _ in range(processes):
                self._processes.put(QueryProcess(reopen, services.default_currency))

    async def run(
        self,
        gone: Callable[[], Coroutine[object, object, None]],
        function: Callable[..., T],
        *args: object,
    ) -> T:
        """Return the result of ``function``, called with the services and ``args``.

        Args:
            gone: A function that returns when the client is gone.
            function: A function of a module, such as `query_services.report`.
            args: Its arguments after the services. They can be pickled.

        Raises:
            HttpProblem: 503, because the query took too long, or too many are waiting.
        """
        if self._waiting >= _MOST_WAITING:
            raise unavailable("too many queries are waiting; send it again")
        self._waiting += 1
        leaving = asyncio.create_task(gone())
        try:
            return await self._run(leaving, function, args)
        finally:
            leaving.cancel()
            with suppress(asyncio.CancelledError):
                await leaving
            self._waiting -= 1

    async def stop(self) -> None:
        """Stop all queries, and end the threads and processes."""
        self._is_stopping = True
        for limit in [*self._limits]:
            limit.stop()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """End the threads and processes. No query may be running."""
        self._quick.shutdown()
        self._slow.shutdown()
        while self._processes is not None and not self._processes.empty():
            self._processes.get().close()

    async def _run(
        self,
        leaving: asyncio.Future[None],
        function: Callable[..., T],
        args: tuple[object, ...],
    ) -> T:
        deadline = QueryLimit(self._timeout)
        deadline.begin()
        with suppress(QueryStoppedError):
            limit = QueryLimit(min(_QUICK_SECONDS, self._timeout))
            work = self._quick.submit(self._run_here, limit, function, args)
            return await self._unless_gone(leaving, work, limit)
        if self._is_stopping:
            raise unavailable("the server is stopping; send it again")
        with suppress(QueryStoppedError):
            run = self._run_here if self._processes is None else self._run_there
            work = self._slow.submit(run, deadline, function, args)
            return await self._unless_gone(leaving, work, deadline)
        raise HttpProblem(
            503,
            f"the query took over {self._timeout:g} seconds; ask for a shorter period, "
            "fewer groups or windows, or add a filter",
            code="QUERY_TIMEOUT",
        )

    async def _unless_gone(
        self, leaving: asyncio.Future[None], work: Future[T], limit: QueryLimit
    ) -> T:
        """Return the result of a query, or stop it if the client is gone."""
        self._limits.add(limit)
        result = asyncio.wrap_future(work)
        leaving.add_done_callback(lambda _: limit.stop())
        try:
            return await result
        except (QueryStoppedError, asyncio.CancelledError):
            if leaving.done():
                raise unavailable("the client closed the connection") from None
            raise
        finally:
            limit.stop()
            self._limits.discard(limit)

    def _run_here(
        self,
        limit: QueryLimit,
        function: Callable[..., T],
        args: tuple[object, ...],
    ) -> T:
        with limited(limit):
            return function(self._services, *args)

    def _run_there(
        self,
        limit: QueryLimit,
        function: Callable[..., T],
        args: tuple[object, ...],
    ) -> T:
        assert self._processes is not None  # noqa: S101 - `_run` looked
        process = self._processes.get()
        try:
            return process.run(limit, function, *args)
        finally:
            self._processes.put(process)
