"""`operation`: several costs of one billable thing."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import weakref
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest

import outlay
from outlay import attribute, bind, current_operation, operation, track_call
from outlay._capture.operations.state import current_operation_state
from outlay._capture.recorder import Recorder
from outlay._model.attribution import current_attribution
from outlay.testing import recording
from tests.support.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from outlay.testing import Costs


def test_costs_share_the_operation_and_differ_in_their_lines(costs: Costs) -> None:
    """One id, and as many keys as lines."""
    with operation(
        "cost.meeting",
        operation_id="meeting-7",
        customer_id="cus_1",
        provider="acme",
        operation="minutes",
        region="eu",
    ) as op:
        op.add("0.288", line="transcription", quantity=48, unit="minute")
        receipt = op.add("0.09", data={"model": "m"}, provider="anthropic")
        op.add("0.05", line="storage", event_type="cost.storage")

    first, second, third = costs.events
    assert first.data == {
        "provider": "acme",
        "line": "transcription",
        "operation": "minutes",
        "region": "eu",
        "unit": "minute",
        "provenance": "manual",
        "amount": Decimal("0.288"),
        "operationId": "meeting-7",
        "quantity": 48,
    }
    assert (second.data["provider"], second.data["model"]) == ("anthropic", "m")
    assert second.idempotency_key == receipt.idempotency_key
    assert (third.type, third.subject) == ("cost.storage", "cus_1")
    assert {event.data["operationId"] for event in costs.events} == {"meeting-7"}


def test_a_cost_is_tracked_when_it_is_added(costs: Costs) -> None:
    """A kill before the end of the operation loses nothing."""
    with operation("cost.a", operation_id="op") as op:
        op.add(1, line="one")
        assert costs.total() == 1
        op.add(2, line="two")
        assert costs.total() == 3


def test_a_re_run_counts_nothing_twice(costs: Costs) -> None:
    """And adds what the first run did not come to."""
    for lines in ("ab", "abc"):
        with operation("cost.a", operation_id="op", customer_id="cus_1") as op:
            for line in lines:
                op.add("0.1", line=line)

    costs.assert_total("0.3")
    assert costs.client.stats().duplicates == 2


def test_an_error_passes_and_what_was_added_stays(costs: Costs) -> None:
    """It has cost what it has cost."""
    error = KeyError()

    def fail() -> None:
        with operation("cost.a", operation_id="op") as op:
            op.add(1)
            raise error

    with pytest.raises(KeyError) as caught:
        fail()

    assert caught.value is error
    costs.assert_total(1)


@pytest.mark.parametrize("line", [None, "pages"], ids=["no line", "line"])
def test_two_costs_of_one_line_are_an_error(costs: Costs, line: str | None) -> None:
    """They would share a key, and a server would count the first only."""
    with operation("cost.a", operation_id="op", provider="acme") as op:
        op.add(1, line=line)
        with pytest.raises(outlay.InvalidEventError, match="another line") as caught:
            op.add(2, line=line)
        op.add(4, line=line, provider="other")
        op.add(8, line=line, event_type="cost.b")
        with attribute(customer_id="cus_2"):
            op.add(16, line=line)

    assert caught.value.field == "line"
    costs.assert_total(29)


def test_what_was_refused_can_be_added_right(costs: Costs) -> None:
    """A mistake must not take the line away."""
    with operation("cost.a", operation_id="op") as op:
        with pytest.raises(outlay.InvalidEventError, match="amount"):
            op.add(-1, line="pages")
        op.add(1, line="pages")

    costs.assert_total(1)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param({"line": ["a"]}, "line", id="line"),
        pytest.param({"provider": 7}, "provider", id="provider"),
        pytest.param({"event_type": ""}, "event_type", id="type"),
        pytest.param({"data": {"amount": 1}}, "data.amount", id="data"),
    ],
)
def test_a_wrong_argument_is_named(
    costs: Costs, wrong: dict[str, Any], field: str
) -> None:
    """As `track_cost` does."""
    with (
        operation("cost.a", operation_id="op") as op,
        pytest.raises(outlay.InvalidEventError) as caught,
    ):
        op.add(1, **wrong)

    assert caught.value.field == field
    assert costs.events == []


def test_a_cost_needs_an_event_type(costs: Costs) -> None:
    """From the operation, or from itself."""
    with operation(operation_id="op") as op:
        with pytest.raises(outlay.InvalidEventError, match="event_type"):
            op.add(1)
        op.add(1, event_type="cost.a")

    assert [event.type for event in costs.events] == ["cost.a"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param({"event_type": ""}, "event_type", id="type"),
        pytest.param({"operation_id": " "}, "operation_id", id="id"),
        pytest.param({"operation_id": 1.5}, "operation_id", id="number"),
        pytest.param({"customer_id": "a\nb"}, "customer_id", id="customer"),
        pytest.param({"provider": 7}, "provider", id="provider"),
        pytest.param({"region": "x" * 256}, "region", id="region"),
    ],
)
def test_a_wrong_operation_is_refused_where_it_is_made(
    wrong: dict[str, Any], field: str
) -> None:
    """Not in the midst of it."""
    with pytest.raises(outlay.InvalidEventError) as caught:
        operation(**wrong)

    assert caught.value.field == field


# Ids that are known later.


def test_the_id_can_be_said_before_the_first_cost(costs: Costs) -> None:
    """The provider's answer brings it."""
    with operation("cost.a") as op:
        assert op.operation_id is None
        op.operation_id = 42
        op.add(1)
        op.operation_id = "42"  # says nothing new

    assert [event.data["operationId"] for event in costs.events] == ["42"]


def test_an_id_that_is_said_later_names_the_calls_from_then_on(costs: Costs) -> None:
    """Those without an id of their own."""
    call = outlay.extractors.Observation(
        provider="acme", event_type="cost.a", amount=Decimal(1), usage={"call": 1}
    )
    with operation(operation_id="job") as op:
        Recorder.for_client().record(call)
        op.operation_id = "answer"
        Recorder.for_client().record(call)

    names = [event.data["operationId"].partition("/")[0] for event in costs.events]
    assert names == ["job", "answer"]


def test_the_id_cannot_be_said_too_late(costs: Costs) -> None:
    """What was added is tracked, and keeps its key; nothing waits to be lost."""
    with operation("cost.a") as op:
        op.add(1, line="one")
        with pytest.raises(outlay.InvalidEventError, match="before the first"):
            op.operation_id = "late"
        op.add(2, line="two")

    costs.assert_total(3)
    assert costs.client.stats().random_keys == 2


def test_a_wrong_id_is_refused_when_it_is_said() -> None:
    """None is no id, either."""
    with operation("cost.a", operation_id="op") as op:
        for wrong in ("", None, 1.5):
            with pytest.raises(outlay.InvalidEventError):
                op.operation_id = wrong  # type: ignore[assignment] # on purpose
        assert op.operation_id == "op"


# Around and inside.


def test_an_operation_attributes_what_is_inside(costs: Costs) -> None:
    """Captured calls belong to the operation's customer, too."""
    with attribute(customer_id="cus_1", feature="x"):
        with operation(operation="ocr", customer_id="cus_2"):
            assert current_attribution.get()[:2] == ("cus_2", "ocr")
            outlay.track_cost("cost.a", 1, operation_id="a")
        outlay.track_cost("cost.a", 1, operation_id="b")

    (ours, other) = costs.events
    assert (ours.subject, ours.data["operation"]) == ("cus_2", "ocr")
    assert (other.subject, "operation" in other.data) == ("cus_1", False)
    assert ours.data["feature"] == "x"


def test_operations_nest_and_each_is_its_own(costs: Costs) -> None:
    """The innermost is the current one, and leaving it restores the outer one."""
    with operation("cost.a", operation_id="outer", customer_id="cus_1") as outer:
        with operation("cost.a", operation_id="inner") as inner:
            assert current_operation() == inner
            current_operation().add(1)
            outer.add(2)
        assert current_operation() == outer

    assert costs.total(operation_id="inner") == 1
    assert costs.total(operation_id="outer", customer="cus_1") == 2


def test_an_outer_operation_s_costs_stay_its_customer_s(costs: Costs) -> None:
    """Wherever they are added."""
    with (
        operation("cost.a", operation_id="outer", customer_id="cus_1") as outer,
        operation("cost.a", operation_id="inner", customer_id="cus_2", region="us"),
    ):
        outer.add(1)

    (event,) = costs.events
    assert event.subject == "cus_1"
    assert "region" not in event.data


def test_costs_of_an_operation_without_an_id_are_named_by_the_one_around() -> None:
    """In whatever order the inner ones come, and however deep they are."""

    def run(kinds: str) -> set[str]:
        with recording() as costs, operation(operation_id="job"):
            for kind in kinds:
                with operation(), operation(f"cost.{kind}", provider="acme") as op:
                    op.add(ord(kind), line="pages")
                    op.add("0.5", quantity=1, unit="call")
                    assert op.operation_id is None
        costs.assert_total(sum(map(ord, kinds)) + Decimal("0.5") * len(kinds))
        assert costs.client.stats().random_keys == 0
        return {f"{e.idempotency_key} {e.data['amount']}" for e in costs.events}

    assert run("abca") == run("caab")


def test_an_operation_that_gets_its_id_late_has_its_own(costs: Costs) -> None:
    """Then it does not need the one around."""
    with operation(operation_id="job"), operation("cost.a") as op:
        op.operation_id = "answer"
        op.add(1)

    costs.assert_total(1, operation_id="answer")


def test_outside_of_operations_there_is_no_current_one() -> None:
    """A cost that is added nowhere would be lost."""
    with pytest.raises(
        outlay.errors.NoCurrentOperationError, match=r"outlay\.operation"
    ):
        current_operation()


def test_costs_can_be_added_after_the_end(costs: Costs) -> None:
    """Some costs are known only then."""
    with operation("cost.a", operation_id="op", customer_id="cus_1") as op:
        pass
    op.add(1)

    costs.assert_total(1, customer="cus_1", operation_id="op")


def test_an_operation_tracks_with_the_client_that_it_is_given(costs: Costs) -> None:
    """Not with the default one."""
    with (
        recording() as other,
        operation("cost.a", operation_id="op", client=costs.client) as op,
    ):
        op.add(1)

    costs.assert_total(1)
    other.assert_total(0)


def test_nobody_s_cost_can_be_an_error() -> None:
    """It is added by hand: the policy holds as for `track_cost`."""
    with (
        recording(unattributed="error") as costs,
        operation("cost.a", operation_id="op") as op,
    ):
        with pytest.raises(outlay.InvalidEventError, match="customer_id"):
            op.add(1)
        with attribute(customer_id="cus_1"):
            op.add(1)

    costs.assert_total(1, customer="cus_1")


def test_a_scope_can_be_used_again_and_inside_itself(costs: Costs) -> None:
    """It is a description; every entry begins an operation."""
    scope = operation("cost.a", operation_id="op")

    with scope as one:
        with scope as two:
            assert current_operation() == two != one
        assert current_operation() == one
    with scope as three:
        three.add(1)

    costs.assert_total(1)


def test_a_scope_left_elsewhere_takes_nothing_from_anybody() -> None:
    """Frameworks enter in one task and leave in another."""
    scope = operation(operation_id="op")
    context = contextvars.copy_context()
    entered = context.run(scope.__enter__)

    with operation(operation_id="other") as other:
        scope.__exit__(None, None, None)
        assert current_operation() == other

    assert context.run(current_operation) == entered


def in_a_block() -> contextvars.Context:
    """Return the context inside of an operation."""
    with operation(operation_id="op"):
        return contextvars.copy_context()


@operation(operation_id=lambda: "op")
def in_an_operation() -> contextvars.Context:
    """Return the same."""
    return contextvars.copy_context()


@track_call("cost.a", amount=lambda _: None)
def in_a_call() -> contextvars.Context:
    """Return the same."""
    return contextvars.copy_context()


@pytest.mark.parametrize("begin", [in_a_block, in_an_operation, in_a_call])
def test_operations_that_end_are_forgotten(
    costs: Costs, begin: Callable[[], contextvars.Context]
) -> None:
    """A task that schedules itself from inside an operation must not become a leak."""
    context = contextvars.copy_context().run(begin)
    first = weakref.ref(context[current_operation_state])
    for _ in range(2):
        context = context.run(begin)
    gc.collect()

    assert first() is None
    assert costs.events == []


# Tasks and threads.


def test_tasks_and_threads_are_in_the_operation_of_their_maker(costs: Costs) -> None:
    """Those of asyncio by themselves, a pool's with `bind`."""

    def add(line: str) -> None:
        current_operation().add(1, line=line)

    async def main(pool: ThreadPoolExecutor) -> None:
        async with operation("cost.a", operation_id="op", customer_id="cus_1"):
            task = asyncio.create_task(asyncio.to_thread(add, "thread"))
            pooled = pool.submit(bind(add), "pool")
            alone = pool.submit(current_operation)
        await task
        pooled.result()
        assert isinstance(alone.exception(), outlay.errors.NoCurrentOperationError)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(main(pool))

    costs.assert_total(2, operation_id="op", customer="cus_1")


# Functions.


def test_every_call_of_a_function_is_an_operation_of_its_own(costs: Costs) -> None:
    """Its id is an argument, however it is passed."""

    @operation("cost.a", operation_id="job", customer_id="cus_1")
    def work(job: str, amount: int = 1) -> str:
        """Do it."""
        current_operation().add(amount)
        return f"{job} done"

    assert work("a") == "a done"
    work(job="b", amount=2)
    work("a")

    assert costs.total(operation_id="a", customer="cus_1") == 1
    assert costs.total(operation_id="b") == 2
    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    assert list(inspect.signature(work).parameters) == ["job", "amount"]


def test_a_function_of_the_arguments_can_tell_id_and_customer(costs: Costs) -> None:
    """By their names; defaults and keyword-only ones are arguments as well."""

    class Service:
        @operation(
            "cost.a",
            operation_id=lambda job, attempt: f"{job}/{attempt}",
            customer_id="owner",
        )
        def work(
            self, job: str, *more: str, attempt: int = 1, owner: str | None = None
        ) -> None:
            said = f"{job} {more} {attempt} {owner}"
            current_operation().add(1, data={"said": said})

    Service().work("a", "b", "c", owner="cus_2")
    Service().work("a", attempt=2)

    assert [(e.data["operationId"], e.subject) for e in costs.events] == [
        ("a/1", "cus_2"),
        ("a/2", "unattributed"),
    ]


@operation("cost.a", operation_id="job")
async def awaited(job: str) -> None:
    """Add a cost when it goes on."""
    await asyncio.sleep(0)
    current_operation().add(1, line=job)


@operation("cost.a", operation_id="job")
def items(job: str) -> Generator[str]:
    """Add a cost before each item."""
    for line in "ab":
        current_operation().add(1, line=job + line)
        yield line


@operation("cost.a", operation_id="job")
async def chunks(job: str) -> AsyncGenerator[str]:
    """Do the same."""
    for line in "ab":
        current_operation().add(1, line=job + line)
        yield line


async def consume() -> None:
    """Run the asynchronous ones."""
    await awaited("one")
    async for _ in chunks("two"):
        assert current_operation_state.get() is None


def test_functions_of_all_kinds_can_be_operations(costs: Costs) -> None:
    """A generator's body is in its operation, its consumer is not."""
    asyncio.run(consume())
    for _ in items("three"):
        assert current_operation_state.get() is None

    totals = [costs.total(operation_id=job) for job in ("one", "two", "three")]
    assert totals == [1, 2, 2]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        pytest.param({"operation_id": "jobb"}, "no argument 'jobb'", id="name"),
        pytest.param({"operation_id": lambda j: j}, "no argument 'j'", id="lambda"),
        pytest.param({"operation_id": 42}, "every call", id="one id for all"),
        pytest.param(
            {"operation_id": lambda result: result}, "only arguments", id="late"
        ),
        pytest.param({"customer_id": lambda who: who}, "no argument", id="customer"),
        pytest.param({"operation_id": dict.get}, "argument", id="builtin"),
    ],
)
def test_what_a_function_does_not_tell_is_refused_at_decoration(
    wrong: dict[str, Any], match: str
) -> None:
    """Not at the first call, in production."""

    def work(job: str, *args: int, **kwargs: int) -> None:
        """Do nothing."""

    with pytest.raises(outlay.ConfigError, match=match):
        operation("cost.a", **wrong)(work)


def test_a_block_has_no_arguments_to_tell_its_id() -> None:
    """The message says what to pass."""
    with (
        pytest.raises(outlay.ConfigError, match="in a decorator"),
        operation("cost.a", operation_id=lambda job: job),
    ):
        pass


# In the midst of it all.


NAMELESS: Final = outlay.extractors.Observation(
    provider="acme", event_type="cost.b", amount=Decimal(10)
)


def test_a_finaliser_may_add_and_capture_in_the_midst_of_an_operation() -> None:
    """The garbage collector ends streams wherever it likes: nothing may be lost."""
    at, struck = 0, True
    while struck:
        with recording() as costs, operation("cost.a", operation_id="op") as op:

            def strike(op: outlay.Operation = op) -> None:
                op.add(1, line="struck")
                Recorder.for_client().record(NAMELESS)

            interrupts = Interrupts(
                strike,
                at,
                "_capture/operations/operation.py",
                "_capture/operations/ids.py",
            )
            with interrupts.watching():
                op.add(2, line="one")
                Recorder.for_client().record(NAMELESS)
        struck = interrupts.struck
        costs.assert_total(23 if struck else 12)
        at += 7
    assert at > 100
