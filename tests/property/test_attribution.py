"""Attribution never crosses: tasks, threads and generators, mixed at random.

Each actor works for a customer of its own. What it does next is drawn from a seed: it
opens scopes, hands work to threads, to tasks and over messages, and drives generators
that others have made. Every event says for which customer it should be.

Threads run beside the actors, but no actor goes on because a thread has finished: so a
seed leads to the same steps in the same order, however fast the machine is.
"""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from outlay import attribute, bind, operation
from outlay._capture.operations.state import current_operation_state
from outlay._model.attribution import UNATTRIBUTED, current_attribution
from outlay.propagation import extract, inject
from outlay.testing import RecordingClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

ACTORS: Final = 30
STEPS: Final = 50
ITEMS: Final = 4  # of each generator
THREADS: Final = 4
DEADLINE: Final = 20.0  # seconds, for what a thread does in microseconds
NOBODY_ID: Final = "unattributed"

SHARED: Final = attribute(part="shared")
"""A scope that all actors enter, and are in at the same time."""


class Play:
    """What all actors share: where they track, and generators that anyone drives."""

    def __init__(self, seed: int, pool: ThreadPoolExecutor) -> None:
        self.seed = seed
        self.client = RecordingClient()
        self.pool = pool
        self.rows: list[Generator[None]] = []
        self.streams: list[AsyncGenerator[None]] = []
        self.left: list[asyncio.Task[None]] = []

    def track(self, customer: str, part: str = "") -> None:
        """Track an event that should belong to a customer, and to a part of its work.

        Neither is said to the client: the running code's attribution does that. And if
        there is an operation around, it should be the customer's.
        """
        around = current_operation_state.get()
        data = {
            "should": customer,
            "shouldPart": part,
            "around": around.attribution.customer_id if around else customer,
        }
        self.client.track_cost("cost.a", 1, data=data)

    async def run(self) -> None:
        """Run all actors to their ends, and what they have left to its."""
        async with asyncio.TaskGroup() as group:
            for number in range(ACTORS):
                group.create_task(Actor(self, number).act())
        for rows in self.rows:
            list(rows)
        for stream in self.streams:
            async for _ in stream:
                pass
        await asyncio.gather(*self.left)


class Actor:
    """A worker for one customer."""

    def __init__(self, play: Play, number: int) -> None:
        self.play = play
        self.customer = f"cus_{number}"
        self.draw = random.Random(f"{play.seed}-{number}")  # noqa: S311 - a plan, no secret
        self.ways: tuple[Callable[[], Awaitable[object]], ...] = (
            self.pause,
            self.inner_scope,
            self.other_scope,
            self.shared_scope,
            self.in_operation,
            self.bound_in_thread,
            self.unbound_in_thread,
            self.in_asyncio_thread,
            self.message,
            self.task,
            self.make_rows,
            self.drive_rows,
            self.drive_rows_in_thread,
            self.make_stream,
            self.drive_stream,
        )

    async def act(self) -> None:
        """Do one thing after another, and track in between."""
        with attribute(customer_id=self.customer):
            for _ in range(STEPS):
                await self.draw.choice(self.ways)()
                self.track()
        assert current_attribution.get() is UNATTRIBUTED, self.play.seed

    def track(self, part: str = "") -> None:
        """Track for this actor's customer."""
        self.play.track(self.customer, part)

    async def pause(self) -> None:
        """Let others go on."""
        await asyncio.sleep(0)

    async def inner_scope(self) -> None:
        """Say more, for a while."""
        with attribute(part="inner"):
            await self.pause()
            self.track("inner")

    async def other_scope(self) -> None:
        """Work for another customer, for a while."""
        with attribute(customer_id="cus_other", part="other"):
            await self.pause()
            self.play.track("cus_other", "other")

    async def shared_scope(self) -> None:
        """Be in a scope that others are in, too, and perhaps twice."""
        with SHARED:
            await self.draw.choice((self.pause, self.inner_scope, self.shared_scope))()
            self.track("shared")

    async def in_operation(self) -> None:
        """Work in an operation, some of it in a thread."""
        with operation("cost.op"):
            future = self.play.pool.submit(bind(self.track))
            await self.pause()
            self.track()
        future.result(DEADLINE)

    async def bound_in_thread(self) -> None:
        """Hand work over, and maybe change sides before it is done."""
        future = self.play.pool.submit(bind(self.track))
        await self.other_scope()
        future.result(DEADLINE)

    async def unbound_in_thread(self) -> None:
        """Forget to bind: unattributed, and not the thread's last customer's."""
        self.play.pool.submit(self.play.track, NOBODY_ID).result(DEADLINE)

    async def in_asyncio_thread(self) -> None:
        """Hand work over as asyncio does."""
        task = asyncio.create_task(asyncio.to_thread(self.track))
        self.play.left.append(task)

    async def message(self) -> None:
        """Have a message handled in a thread that knows nothing of this one."""
        with attribute(part="message"):
            headers = inject()
        handle = extract(headers)(self.track)
        self.play.pool.submit(handle, "message").result(DEADLINE)

    async def task(self) -> None:
        """Have a task do it, and change sides meanwhile."""
        with attribute(part="task"):
            task = asyncio.create_task(self._slowly("task"))
        await self.other_scope()
        await task

    async def _slowly(self, part: str) -> None:
        await self.pause()
        self.track(part)

    async def make_rows(self) -> None:
        """Make a generator for others to drive."""
        self.play.rows.append(self._rows())

    @attribute(part="rows")
    def _rows(self) -> Generator[None]:
        for number in range(ITEMS):
            part = f"row {number}"
            with attribute(part=part), operation("cost.row"):
                yield
                self.track(part)
            self.track("rows")

    async def drive_rows(self) -> None:
        """Take one item of a worker's generator."""
        if self.play.rows:
            rows = self.play.rows.pop(self.draw.randrange(len(self.play.rows)))
            self._drive(rows)

    async def drive_rows_in_thread(self) -> None:
        """Take one item of a worker's generator, in one thread or another."""
        if self.play.rows:
            rows = self.play.rows.pop(self.draw.randrange(len(self.play.rows)))
            self.play.pool.submit(bind(self._drive), rows).result(DEADLINE)

    def _drive(self, rows: Generator[None]) -> None:
        if next(rows, "end") != "end":
            self.play.rows.append(rows)
        self.track()

    async def make_stream(self) -> None:
        """Make an asynchronous generator for others to drive."""
        self.play.streams.append(self._stream())

    @attribute(part="stream")
    async def _stream(self) -> AsyncGenerator[None]:
        for number in range(ITEMS):
            part = f"chunk {number}"
            with attribute(part=part), operation("cost.chunk"):
                await self.pause()
                yield
                self.track(part)
            self.track("stream")

    async def drive_stream(self) -> None:
        """Take one item of a worker's asynchronous generator."""
        if self.play.streams:
            which = self.draw.randrange(len(self.play.streams))
            stream = self.play.streams.pop(which)
            if await anext(stream, "end") != "end":
                self.play.streams.append(stream)


def fresh() -> int:
    """Return a seed that pytest-randomly's, which each run shows, leads to again."""
    return random.randrange(2**32)  # noqa: S311 - no secret


@pytest.mark.parametrize(
    "seed", [1, 2, 3, 4, 5, None], ids=lambda seed: seed or "fresh"
)
def test_attribution_never_crosses(seed: int | None) -> None:
    """Whatever runs between its pieces, work is for its own customer."""
    seed = fresh() if seed is None else seed
    with ThreadPoolExecutor(THREADS) as pool:
        play = Play(seed, pool)
        asyncio.run(play.run())

    crossed = [
        event
        for event in play.client.recorded()
        if {event.subject, event.data["around"]} != {event.data["should"]}
        or event.data.get("part", "") != event.data["shouldPart"]
    ]
    assert crossed == [], f"with seed {seed}"
    assert len(play.client.recorded()) > ACTORS * STEPS
    assert current_attribution.get() is UNATTRIBUTED


def test_a_seed_leads_to_the_same_costs_again() -> None:
    """Whatever fails can be looked at."""

    def costs() -> list[tuple[str, str]]:
        with ThreadPoolExecutor(THREADS) as pool:
            play = Play(7, pool)
            asyncio.run(play.run())
        events = play.client.recorded()
        return sorted((event.subject, event.data["shouldPart"]) for event in events)

    assert costs() == costs()
