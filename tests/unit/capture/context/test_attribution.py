"""`attribute`: whose costs a block's, a function's and a generator's are."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import weakref
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import outlay
from outlay import attribute
from outlay._model.attribution import UNATTRIBUTED, current_attribution

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator


def customer() -> str | None:
    """Return the customer to which costs would be attributed here."""
    return current_attribution.get().customer_id


# Blocks.


def test_scopes_nest_and_end() -> None:
    """The inner one adds to the outer one, goes before it, and leaves no trace."""
    with attribute(customer_id="cus_1", region="eu", feature="a", plan="free"):
        with attribute(operation="summary", feature="b"):
            inner = current_attribution.get()
        outer = current_attribution.get()

    assert inner[:3] == ("cus_1", "summary", "eu")
    assert inner.dimensions == {"feature": "b", "plan": "free"}
    assert outer.operation is None
    assert outer.dimensions["feature"] == "a"
    assert current_attribution.get() is UNATTRIBUTED


def test_a_scope_ends_with_an_error() -> None:
    """The next request must not pay for the one that failed."""
    with pytest.raises(KeyError), attribute(customer_id="cus_1"):
        raise KeyError

    assert customer() is None


def test_a_scope_can_be_used_again_and_inside_itself() -> None:
    """It is a description, not an occasion."""
    scope = attribute(customer_id="cus_1")

    with scope:
        with attribute(customer_id="cus_2"), scope:
            assert customer() == "cus_1"
        assert customer() == "cus_1"
    with scope:
        assert customer() == "cus_1"

    assert customer() is None


def test_a_scope_left_elsewhere_takes_nothing_from_anybody() -> None:
    """Frameworks enter in one task and leave in another."""
    scope = attribute(customer_id="cus_1")
    scope.__enter__()
    elsewhere = contextvars.Context()

    def leave() -> str | None:
        with attribute(customer_id="cus_2"):
            scope.__exit__(None, None, None)
            return customer()

    assert elsewhere.run(leave) == "cus_2"
    assert customer() == "cus_1"
    scope.__exit__(None, None, None)
    assert customer() is None


def test_scopes_left_in_a_wrong_order_restore_nothing_that_is_not_theirs() -> None:
    """An outer scope that ends first must not end the inner one."""
    first, second = attribute(customer_id="cus_1"), attribute(customer_id="cus_2")
    first.__enter__()
    second.__enter__()

    first.__exit__(None, None, None)

    assert customer() == "cus_2"
    second.__exit__(None, None, None)
    current_attribution.set(UNATTRIBUTED)


def test_scopes_that_are_never_left_do_not_pile_up() -> None:
    """A task that schedules itself from inside a scope must not become a leak."""
    context = contextvars.copy_context()

    def enter(name: str) -> weakref.ref[object]:
        scope = attribute(customer_id=name)
        context.run(scope.__enter__)
        return weakref.ref(scope)

    scopes = [enter(f"cus_{number}") for number in range(3)]

    assert context.run(customer) == "cus_2"
    assert [scope() for scope in scopes] == [None] * 3


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param({"customer_id": ""}, "customer_id", id="blank customer"),
        pytest.param({"customer_id": 7}, "customer_id", id="number"),
        pytest.param({"region": "a\nb"}, "region", id="control character"),
        pytest.param({"amount": 1}, "data.amount", id="a name of outlay's own"),
        pytest.param({"when": {1, 2}}, "data.when", id="not JSON"),
    ],
)
def test_what_could_not_be_tracked_is_refused_where_it_is_said(
    wrong: dict[str, Any], field: str
) -> None:
    """Far from here, the source of the error would not be known."""
    with pytest.raises(outlay.InvalidEventError) as caught:
        attribute(**wrong)

    assert caught.value.field == field


# Functions.


def test_a_function_runs_in_its_scope_and_keeps_its_face() -> None:
    """Documentation, type checkers and frameworks see the function as it was."""

    @attribute(customer_id="cus_1")
    def work(number: int, *, more: str = "x") -> str:
        """Do it."""
        return f"{number}{more}{customer()}"

    assert work(1, more="y") == "1ycus_1"
    assert customer() is None
    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    assert (
        str(inspect.signature(work)) == "(number: 'int', *, more: 'str' = 'x') -> 'str'"
    )
    assert not inspect.iscoroutinefunction(work)


def test_an_asynchronous_function_runs_in_its_scope() -> None:
    """The scope holds over every await, and only for this task."""

    @attribute(customer_id="cus_1")
    async def work() -> str | None:
        await asyncio.sleep(0)
        return customer()

    async def both() -> tuple[str | None, str | None]:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        return customer(), await task

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(both()) == (None, "cus_1")


def test_an_error_passes_through_as_it_is() -> None:
    """What the caller catches is what the function raised."""
    error = ValueError("x")

    @attribute(customer_id="cus_1")
    def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="x") as caught:
        fail()

    assert caught.value is error
    assert error.__context__ is None
    assert customer() is None


class _Service:
    @attribute(customer_id="cus_1")
    def method(self) -> object:
        return self, customer()

    @classmethod
    @attribute(customer_id="cus_1")
    def below(cls) -> object:
        return cls, customer()

    @staticmethod
    @attribute(customer_id="cus_1")
    def static_below() -> object:
        return customer()

    @attribute(customer_id="cus_1")
    @classmethod
    def above(cls) -> object:
        return cls, customer()

    @attribute(customer_id="cus_1")
    @staticmethod
    def static_above() -> object:
        return customer()


def test_methods_of_every_kind_can_be_decorated() -> None:
    """Below or above staticmethod and classmethod: both orders are written."""
    service = _Service()

    assert service.method() == (service, "cus_1")
    assert service.below() == service.above() == (_Service, "cus_1")
    assert service.static_below() == service.static_above() == "cus_1"


def test_objects_that_are_called_can_be_decorated() -> None:
    """A partial, and an object with an asynchronous __call__."""

    class Call:
        async def __call__(self) -> str | None:
            await asyncio.sleep(0)
            return customer()

    scope = attribute(customer_id="cus_1")

    assert scope(partial(lambda mark: (mark, customer()), "x"))() == ("x", "cus_1")
    assert asyncio.run(scope(Call())()) == "cus_1"


# Generators.


@attribute(customer_id="cus_1")
def items() -> Generator[str | None, str | None, str]:
    """Yield the customer seen by the body, then what is sent."""
    sent = yield customer()
    with attribute(feature="second"):
        feature = current_attribution.get().dimensions["feature"]
        sent = yield f"{sent} {customer()} {feature}"
    yield f"{sent} {customer()} {dict(current_attribution.get().dimensions)}"
    return "done"


def test_a_generators_body_keeps_its_customer_and_its_consumer_too() -> None:
    """A body runs in its consumer's context: neither may see the other's customer."""
    generator = items()
    with attribute(customer_id="cus_2"):
        first = next(generator)
        between = customer()
        second = generator.send("a")
        inside = current_attribution.get().dimensions
    third = generator.send("b")
    with pytest.raises(StopIteration) as stopped:
        next(generator)

    assert (first, second, third) == ("cus_1", "a cus_1 second", "b cus_1 {}")
    assert between == "cus_2"
    assert inside == {}
    assert stopped.value.value == "done"
    assert customer() is None


def test_a_generator_belongs_to_the_code_that_made_it() -> None:
    """Who consumes it, wherever that is, did not ask for the work."""

    @attribute(feature="export")
    def rows() -> Generator[str | None]:
        yield customer()

    with attribute(customer_id="cus_1"):
        generator = rows()
    with attribute(customer_id="cus_2"):
        assert list(generator) == ["cus_1"]


def test_generators_consumed_in_turns_do_not_mix() -> None:
    """zip() does this to them."""

    @attribute(region="eu")
    def rows() -> Generator[str | None]:
        for _ in range(3):
            yield customer()

    with attribute(customer_id="cus_1"):
        one = rows()
    with attribute(customer_id="cus_2"):
        two = rows()

    assert list(zip(one, two, strict=True)) == [("cus_1", "cus_2")] * 3


def test_what_is_thrown_into_a_generator_reaches_its_body() -> None:
    """As without the decorator: PEP 342."""
    seen: list[str | None] = []

    @attribute(customer_id="cus_1")
    def work() -> Generator[str]:
        try:
            yield "ready"
        except KeyError:
            seen.append(customer())
            yield "caught"
        finally:
            seen.append(customer())

    generator = work()
    next(generator)

    assert generator.throw(KeyError()) == "caught"
    generator.close()
    assert seen == ["cus_1", "cus_1"]


def test_a_generator_that_is_dropped_cleans_up_as_its_customer() -> None:
    """The garbage collector closes it wherever it strikes."""
    seen: list[str | None] = []

    @attribute(customer_id="cus_1")
    def work() -> Generator[int]:
        try:
            yield 1
        finally:
            seen.append(customer())

    with attribute(customer_id="cus_2"):
        next(work())

    assert seen == ["cus_1"]


def test_an_asynchronous_generators_body_keeps_its_customer() -> None:
    """In the consumer's task, or in the task that finalises it."""
    closed: list[str | None] = []

    @attribute(feature="stream")
    async def chunks() -> AsyncGenerator[str | None, str]:
        try:
            while True:
                await asyncio.sleep(0)
                got = yield customer()
                assert got is None or got == "sent"
        finally:
            closed.append(customer())

    async def consume() -> list[str | None]:
        with attribute(customer_id="cus_1"):
            stream = chunks()
        with attribute(customer_id="cus_2"):
            seen = [await anext(stream), customer(), await stream.asend("sent")]
            with pytest.raises(KeyError):
                await stream.athrow(KeyError())
            dropped = attribute(customer_id="cus_3")(chunks)()
            seen.append(await anext(dropped))
        del dropped
        for _ in range(5):  # the loop finalises it in a task of its own
            await asyncio.sleep(0)
        return seen

    assert asyncio.run(consume()) == ["cus_1", "cus_2", "cus_1", "cus_3"]
    assert closed == ["cus_1", "cus_3"]


# Tasks and threads.


def test_tasks_and_to_thread_follow_their_maker() -> None:
    """PEP 567: a task begins with a copy of its maker's context."""

    async def main() -> list[str | None]:
        with attribute(customer_id="cus_1"):
            task = asyncio.create_task(asyncio.to_thread(customer))
        with attribute(customer_id="cus_2"):
            return [await asyncio.to_thread(customer), await task]

    assert asyncio.run(main()) == ["cus_2", "cus_1"]


def test_one_scope_serves_many_threads_at_once() -> None:
    """A module-level scope is entered by every request."""
    scope = attribute(customer_id="cus_1")
    start = threading.Barrier(8)
    wrong: list[str | None] = []

    def work() -> None:
        start.wait()
        for _ in range(500):
            with ExitStack() as stack:
                for _ in range(3):
                    stack.enter_context(scope)
                    if customer() != "cus_1":
                        wrong.append(customer())
            if customer() is not None:
                wrong.append(customer())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
