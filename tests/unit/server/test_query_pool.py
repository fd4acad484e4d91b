"""Queries run beside the event loop, end at their deadline, and leave others alone."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, ParamSpec, cast

import pytest

from outlay.server._errors import QueryStoppedError, StoreUnavailableError
from outlay.server._services.query_pool import QueryPool
from outlay.server._services.query_services import QueryServices
from outlay.server._storage.query_limit import QueryLimit, current_limit, limited
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._storage.sqlite.views import SqliteViews
from outlay.server._wire.problems import FieldError, HttpProblem
from tests.support.queries import (
    die,
    process_id,
    read_endlessly,
    refuse,
    slow_process_id,
)
from tests.support.stores import DEDUPE_WINDOW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path

P = ParamSpec("P")

DEADLINE = 20  # seconds; only a hang takes that long


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Return a database that a store has open."""
    store = SqliteStore(tmp_path / "outlay.db", dedupe_window=DEDUPE_WINDOW)
    yield tmp_path / "outlay.db"
    store.close()


def in_loop(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Let a test run in an event loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@asynccontextmanager
async def running(
    path: Path, *, timeout: float = DEADLINE, in_processes: bool = True
) -> AsyncIterator[QueryPool]:
    """Run a pool over a database."""
    views = SqliteViews(path)
    pool = QueryPool(
        QueryServices(views, "USD"),
        timeout=timeout,
        reopen=partial(SqliteViews, path) if in_processes else None,
    )
    try:
        yield pool
    finally:
        await pool.stop()
        views.close()


async def never() -> None:
    """Wait for a client that stays."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("in_processes", [True, False])
@in_loop
async def test_a_quick_query_stays_in_this_process(
    path: Path, *, in_processes: bool
) -> None:
    """Most take milliseconds."""
    async with running(path, in_processes=in_processes) as pool:
        assert await pool.run(never, process_id) == os.getpid()


@in_loop
async def test_a_long_query_moves_to_a_process_of_its_own(path: Path) -> None:
    """There it takes no time of the threads that accept events."""
    async with running(path) as pool:
        first = await pool.run(never, slow_process_id)
        second = await pool.run(never, slow_process_id)

    assert first == second != os.getpid()


@in_loop
async def test_a_quick_query_does_not_wait_for_long_ones(path: Path) -> None:
    """A dashboard's total comes while a big report is computed."""
    async with running(path) as pool:
        long = [asyncio.create_task(pool.run(never, read_endlessly)) for _ in range(6)]

        assert await pool.run(never, process_id) == os.getpid()
        assert not any(task.done() for task in long)
        for task in long:
            task.cancel()


@pytest.mark.parametrize("in_processes", [True, False])
@in_loop
async def test_a_query_ends_at_its_deadline(path: Path, *, in_processes: bool) -> None:
    """The message says how to narrow the query. The pool goes on."""
    async with running(path, timeout=0.4, in_processes=in_processes) as pool:
        with pytest.raises(HttpProblem, match="ask for a shorter period") as raised:
            await pool.run(never, read_endlessly)
        assert await pool.run(never, process_id) == os.getpid()

    assert (raised.value.status, raised.value.body.code) == (503, "QUERY_TIMEOUT")


@pytest.mark.parametrize("in_processes", [True, False])
@in_loop
async def test_a_query_ends_when_its_client_is_gone(
    path: Path, *, in_processes: bool
) -> None:
    """Its client is gone. The next query has the thread and the process."""
    async with running(path, in_processes=in_processes) as pool:
        gone = asyncio.Event()
        query = asyncio.create_task(pool.run(partial(_wait, gone), read_endlessly))
        await asyncio.sleep(0)
        gone.set()
        with pytest.raises(HttpProblem, match="closed the connection"):
            await asyncio.wait_for(query, DEADLINE)

        after = asyncio.Event()
        slow = asyncio.create_task(pool.run(partial(_wait, after), slow_process_id))
        if in_processes:
            assert await asyncio.wait_for(slow, DEADLINE) != os.getpid()
        else:
            slow.cancel()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


@in_loop
async def test_a_refusal_comes_back_as_it_was(path: Path) -> None:
    """The process refuses a query as a thread does."""
    async with running(path) as pool:
        with pytest.raises(HttpProblem, match="is too early") as raised:
            await pool.run(never, refuse)

    assert raised.value.status == 400
    assert raised.value.body.errors == [FieldError("from", "is too early", "EARLY")]


@in_loop
async def test_a_process_that_dies_is_replaced(path: Path) -> None:
    """The system may end it for its memory."""
    async with running(path) as pool:
        with pytest.raises(StoreUnavailableError, match="send it again"):
            await pool.run(never, die)

        assert await pool.run(never, slow_process_id) != os.getpid()


@in_loop
async def test_too_many_queries_are_refused(path: Path) -> None:
    """Each keeps a request open. The client sends it again later."""
    async with running(path) as pool:
        waiting = [
            asyncio.create_task(pool.run(never, read_endlessly)) for _ in range(64)
        ]
        await asyncio.sleep(0)

        with pytest.raises(HttpProblem, match="too many queries") as raised:
            await pool.run(never, process_id)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    assert raised.value.status == 503


def test_a_view_outside_of_a_query_has_no_limit(path: Path) -> None:
    """A connection that a stopped query used serves the next view."""
    services = QueryServices(SqliteViews(path), "USD")
    limit = QueryLimit(DEADLINE)
    threading.Timer(0.05, limit.stop).start()

    with pytest.raises(QueryStoppedError), limited(limit):
        read_endlessly(services)

    assert current_limit() is None
    with services.views.reading() as reader:
        assert reader.namespaces() == set()
    cast("SqliteViews", services.views).close()
