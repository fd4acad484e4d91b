"""`bind`: work belongs to the customer of the code that bound it, in any thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, assert_type

import pytest

import outlay
from outlay import attribute, bind
from outlay._model import propagated_context as carried
from outlay._model.attribution import UNATTRIBUTED, current_attribution
from tests.support.processes import run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

DEADLINE = 20.0
"""Seconds after which a thread that was waited for is stuck."""


def customer() -> str | None:
    """Return the customer to which costs would be attributed here."""
    return current_attribution.get().customer_id


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Return a pool whose one thread has done unattributed work before."""
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(customer).result() is None
        yield executor


def test_bound_work_belongs_to_whom_it_was_bound_for(pool: ThreadPoolExecutor) -> None:
    """Not to the thread's last customer, and not to the caller's current one."""
    with attribute(customer_id="cus_1", feature="chat"):
        bound = bind(current_attribution.get)
        unbound = pool.submit(customer)
    with attribute(customer_id="cus_2"):
        found = pool.submit(bound).result(DEADLINE)

    assert (found.customer_id, found.dimensions) == ("cus_1", {"feature": "chat"})
    assert unbound.result(DEADLINE) is None


def test_bound_work_leaves_its_thread_as_it_was(pool: ThreadPoolExecutor) -> None:
    """The thread's next work is another customer's, whatever this one has left open."""

    def work() -> None:
        attribute(customer_id="cus_forgotten").__enter__()
        raise KeyError

    with attribute(customer_id="cus_1"):
        failed = pool.submit(bind(work))

    assert isinstance(failed.exception(DEADLINE), KeyError)
    assert pool.submit(customer).result(DEADLINE) is None


def test_bound_work_can_be_called_inside_of_anothers_scope() -> None:
    """A callback is called by the code that has the news."""
    with attribute(customer_id="cus_1"):
        bound = bind(customer)

    with attribute(customer_id="cus_2"):
        seen = [bound(), customer(), bound()]

    assert seen == ["cus_1", "cus_2", "cus_1"]


def test_one_bound_function_runs_in_many_threads_at_once() -> None:
    """`Executor.map` does that; a copied context could be entered only once."""
    together = threading.Barrier(8)

    def work(number: int) -> tuple[int, str | None]:
        together.wait(DEADLINE)
        with attribute(operation=f"part-{number}"):
            together.wait(DEADLINE)
            assert current_attribution.get().operation == f"part-{number}"
        together.wait(DEADLINE)
        return number, customer()

    with attribute(customer_id="cus_1"):
        bound = bind(work)
    with ThreadPoolExecutor(8) as executor:
        done = list(executor.map(bound, range(8)))

    assert done == [(number, "cus_1") for number in range(8)]


def test_bound_inside_of_nothing_belongs_to_nobody() -> None:
    """Bound work takes no customer from where it happens to run."""
    bound = bind(current_attribution.get)

    with attribute(customer_id="cus_2"):
        assert bound() is UNATTRIBUTED


def test_an_asynchronous_function_is_bound_over_every_await() -> None:
    """Another thread's loop hands coroutines over, too."""

    async def work(pause: float) -> list[str | None]:
        before = customer()
        await asyncio.sleep(pause)
        return [before, customer()]

    async def main() -> tuple[list[str | None], str | None]:
        return await bound(pause=0), customer()

    with attribute(customer_id="cus_1"):
        bound = bind(work)

    assert inspect.iscoroutinefunction(bound)
    assert asyncio.run(main()) == (["cus_1", "cus_1"], None)


def test_a_generator_is_bound_and_its_consumer_is_not() -> None:
    """Each item is made for the one, and used for the other."""

    def rows(count: int) -> Generator[tuple[int, str | None]]:
        for number in range(count):
            yield number, customer()

    with attribute(customer_id="cus_1"):
        bound = bind(rows)
    with attribute(customer_id="cus_2"):
        seen = [(*row, customer()) for row in bound(2)]

    assert seen == [(0, "cus_1", "cus_2"), (1, "cus_1", "cus_2")]


def test_a_generator_goes_on_in_the_scope_that_it_is_in_the_midst_of() -> None:
    """Its own scopes are open between two items, though its consumer sees none."""

    def rows() -> Generator[object]:
        with attribute(feature="first"):
            yield current_attribution.get()
            yield current_attribution.get()
        yield current_attribution.get()

    with attribute(customer_id="cus_1"):
        bound = bind(rows)
    seen: list[Any] = []
    for row in bound():
        seen.append(row)
        assert current_attribution.get() is UNATTRIBUTED

    assert [row.customer_id for row in seen] == ["cus_1"] * 3
    assert [row.dimensions.get("feature") for row in seen] == ["first", "first", None]


def test_an_asynchronous_generator_is_bound() -> None:
    """In one loop or another."""

    async def rows() -> AsyncGenerator[str | None]:
        yield customer()
        await asyncio.sleep(0)
        yield customer()

    async def consume() -> list[str | None]:
        return [row async for row in bound()] + [customer()]

    with attribute(customer_id="cus_1"):
        bound = bind(rows)

    assert asyncio.run(consume()) == ["cus_1", "cus_1", None]


def test_a_bound_function_keeps_its_face() -> None:
    """Type checkers, logs and frameworks see the function as it was."""

    def work(number: int, *, more: str = "x") -> str:
        """Do it."""
        return f"{number}{more}"

    bound = bind(work)

    assert_type(bound(1), str)
    assert bound(1, more="y") == "1y"
    assert (bound.__name__, bound.__doc__) == ("work", "Do it.")
    assert inspect.signature(bound) == inspect.signature(work)


@pytest.mark.parametrize("wrong", [None, "work", 7], ids=repr)
def test_what_is_no_function_is_refused_where_it_is_bound(wrong: object) -> None:
    """In the pool's thread, `bind(work())` would be hard to understand."""
    with pytest.raises(outlay.ConfigError, match=r"bind\(work\)"):
        bind(wrong)  # type: ignore[arg-type] # on purpose


@pytest.fixture
def another() -> Iterator[ContextVar[int]]:
    """Return one more variable that is carried, for as long as the test runs."""
    variable = carried.register(ContextVar("test_another", default=0))
    yield variable
    carried._variables.remove(variable)


@pytest.mark.parametrize(
    "hand_over", [bind, attribute(customer_id="cus_1")], ids=["bound", "attributed"]
)
def test_whatever_is_registered_is_carried(
    hand_over: Callable[..., Callable[..., Generator[int]]], another: ContextVar[int]
) -> None:
    """A feature with a variable of its own need not know who carries it."""

    def rows() -> Generator[int]:
        yield another.get()
        another.set(another.get() + 1)
        yield another.get()
        yield another.get()

    another.set(1)
    body = hand_over(rows)
    generator = body()
    another.set(10)

    assert list(generator) == [1, 2, 2]
    assert another.get() == 10


def test_greenlets_belong_to_whom_they_were_bound_for() -> None:
    """Many share one thread, and each has a context of its own."""
    pytest.importorskip("gevent")
    program = """
from gevent import monkey, pool, sleep
monkey.patch_all()
from outlay._model.attribution import current_attribution

def who():
    with outlay.attribute(region="eu"):
        sleep(0)
    return current_attribution.get().customer_id

greenlets = []
for number in range(3):
    with outlay.attribute(customer_id=f"cus_{number}"):
        greenlets += [pool.Pool(2).spawn(outlay.bind(who)), pool.Pool(2).spawn(who)]
say(*(greenlet.get() for greenlet in greenlets))
"""
    assert run(program, {}) == "cus_0 None cus_1 None cus_2 None\n"
