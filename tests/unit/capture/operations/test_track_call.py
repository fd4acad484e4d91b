"""`track_call`: what calls of a function cost, once, and without harm to them."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import traceback
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest

import outlay
from outlay import attribute, current_operation, operation, track_call
from outlay._capture.recorder import Recorder
from outlay._capture.repricing import UnpricedEvent
from outlay._model.error_counts import capture_errors
from outlay._model.events import decode_event
from outlay.extractors import Observation
from outlay.testing import recording
from tests.support.unpriced import client_in, waiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from pathlib import Path

    from outlay.testing import Costs

SEEN: Final = Observation(
    provider="acme", event_type="cost.x", operation_id="answer-1", amount=Decimal(2)
)


def flawed(*_: object) -> Any:  # noqa: ANN401 - stands for functions of all kinds
    """Fail, as a user's function may."""
    raise ZeroDivisionError


def counted(name: str) -> int:
    """Return how often capture failed in a way whose name has ``name`` in it."""
    return sum(
        count for kind, count in capture_errors.snapshot().items() if name in kind
    )


# What it costs.


def test_a_constant_amount_is_tracked_for_each_call(costs: Costs) -> None:
    """With all that the decorator says of it."""

    @track_call(
        "cost.enrichment",
        amount="0.05",
        provider="clearbit",
        operation_id="request_id",
        customer_id="who",
        operation="lookup",
        region="eu",
        line="person",
        quantity=1,
        unit="call",
    )
    def look_up(request_id: str, who: str) -> str:
        return f"{who} {request_id}"

    assert look_up("r1", who="cus_1") == "cus_1 r1"
    look_up("r1", "cus_1")
    look_up("r2", "cus_2")

    first, second = costs.events
    assert (first.type, first.subject, second.subject) == (
        "cost.enrichment",
        "cus_1",
        "cus_2",
    )
    assert first.data == {
        "provider": "clearbit",
        "line": "person",
        "operation": "lookup",
        "region": "eu",
        "unit": "call",
        "provenance": "manual",
        "amount": Decimal("0.05"),
        "operationId": "r1",
        "quantity": 1,
    }


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        pytest.param(3, "3", id="int"),
        pytest.param(0.1, "0.1", id="float"),
        pytest.param(Decimal("1e-9"), "1e-9", id="decimal"),
        pytest.param(lambda pages: Decimal("0.0015") * pages, "0.0105", id="result"),
        pytest.param(lambda _: None, "0", id="cost nothing"),
        pytest.param(float, "7", id="builtin"),
    ],
)
def test_an_amount_is_a_number_or_told_by_the_result(
    costs: Costs, amount: str | Callable[[int], Any], expected: str
) -> None:
    """Exact, in either case."""

    @track_call("cost.a", amount=amount, operation_id="job")
    def work(job: str) -> int:
        return len(job)

    work("seventh")

    costs.assert_total(expected)
    assert len(costs.events) == (expected != "0")


def test_a_quantity_is_told_alike(costs: Costs) -> None:
    """What it was that cost so much."""

    @track_call("cost.a", amount=1, quantity=len, unit="page", operation_id="job")
    def work(job: str) -> str:
        return job

    work("abc")

    assert [event.data["quantity"] for event in costs.events] == [3]


def test_a_quantity_without_an_amount_is_priced_by_the_price_book(
    tmp_path: Path,
) -> None:
    """Agreed prices stand in one place, and not at each function."""
    book = tmp_path / "prices.toml"
    book.write_text(
        '[[price]]\nprovider = "aws"\nfrom = 2020-01-01\nunits.page = 0.0015\n'
    )

    def number(pages: str | None) -> int | None:
        return len(pages) if pages else None

    @track_call("cost.ocr", provider="aws", quantity=number, unit="page")
    def work(pages: str | None) -> str | None:
        return pages

    with recording(price_book=book) as costs:
        work("abc")
        work(None)

    (event,) = costs.events
    assert event.data["amount"] == Decimal("0.0045")
    assert event.data["provenance"] == "priced"


def test_an_extractor_of_one_s_own_reads_the_result(costs: Costs) -> None:
    """The decorator's word goes before the observation's."""

    @track_call("cost.enrichment", extract=lambda _: SEEN, line="person", provider="re")
    def look_up() -> None:
        """Do nothing."""

    look_up()

    (event,) = costs.events
    assert event.type == "cost.enrichment"
    assert event.data["operationId"] == "answer-1"
    assert (event.data["provider"], event.data["line"]) == ("re", "person")
    assert event.data["provenance"] == "reported"


def test_an_extractor_may_tell_several_costs_or_none(costs: Costs) -> None:
    """Alike ones under one id are told apart: no cost is lost to another's key."""
    made = [SEEN, SEEN, Observation(**{**vars_of(SEEN), "line": "tool"})]

    @track_call(
        "cost.a", extract=lambda count: made[:count] or None, operation_id="job"
    )
    def work(job: str, count: int) -> int:
        del job
        return count

    for count in (0, 1, 3):
        work(f"job-{count}", count)
        work(f"job-{count}", count)

    costs.assert_total(2, operation_id="job-1")
    costs.assert_total(8)


def vars_of(observation: Observation) -> dict[str, Any]:
    """Return the fields of an observation."""
    fields = observation.__struct_fields__
    return {name: getattr(observation, name) for name in fields}


def test_costs_added_inside_are_the_costs_of_the_call(costs: Costs) -> None:
    """Each is tracked at once; nothing else is looked for."""

    @track_call("cost.a", operation_id="job", provider="acme")
    def work(job: str) -> str:
        current_operation().add(1, line="one")
        current_operation().add(2, line="two")
        return job

    before = capture_errors.snapshot()
    work("j")

    costs.assert_total(3, operation_id="j", provider="acme")
    assert before == capture_errors.snapshot()


# Its operation's id.


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("job", "j1", id="argument"),
        pytest.param(lambda job, attempt: f"{job}/{attempt}", "j1/2", id="arguments"),
        pytest.param(lambda result: result["id"], "answer", id="result"),
        pytest.param(
            lambda job, result: f"{job}+{result['id']}", "j1+answer", id="both"
        ),
        pytest.param(lambda: 42, "42", id="neither"),
        pytest.param(lambda job, mark="x": job + mark, "j1x", id="default"),
    ],
)
def test_the_id_is_told_by_arguments_or_the_result(
    costs: Costs, source: str | Callable[..., str], expected: str
) -> None:
    """By their names: a typing error shows when the module is imported."""

    @track_call("cost.a", amount=1, operation_id=source)
    def work(job: str, *, attempt: int = 2) -> dict[str, str]:
        del job, attempt
        return {"id": "answer"}

    work("j1")

    assert [event.data["operationId"] for event in costs.events] == [expected]


def test_the_function_itself_may_say_the_id(costs: Costs) -> None:
    """When it learns it."""

    @track_call("cost.a", amount=1)
    def work() -> None:
        current_operation().operation_id = "late"

    work()

    costs.assert_total(1, operation_id="late")


def test_a_call_without_an_id_is_named_by_the_operation_around(costs: Costs) -> None:
    """A re-run of a job that looks up three addresses pays for three."""

    @track_call("cost.a", amount=lambda amount: amount)
    def work(amount: int) -> int:
        return amount

    for amounts in ((1, 1, 5), (5, 1, 1)):
        with operation(operation_id="job"):
            for amount in amounts:
                work(amount)

    costs.assert_total(7)
    assert costs.client.stats().random_keys == 0


def test_a_call_without_any_id_is_counted_each_time(costs: Costs) -> None:
    """And that is counted, and said once."""

    @track_call("cost.a", amount=1)
    def work() -> None:
        """Do nothing."""

    work()
    work()

    costs.assert_total(2)
    assert costs.client.stats().random_keys == 2


# Whose cost it is.


def test_a_cost_belongs_to_whom_the_call_was_made_for(costs: Costs) -> None:
    """Also what is captured inside."""

    @track_call("cost.a", amount=1, customer_id=lambda owner: owner, line="own")
    def work(owner: str | None) -> None:
        Recorder.for_client().record(
            Observation(**{**vars_of(SEEN), "data": {"for": owner}})
        )

    with attribute(customer_id="cus_around", feature="x"):
        work("cus_1")
        work(None)

    assert costs.total(customer="cus_1", feature="x") == 3
    assert costs.total(customer="cus_around") == 3


def test_a_customer_may_be_the_same_for_all(costs: Costs) -> None:
    """A name that is no argument's is the customer's."""

    @track_call("cost.a", amount=1, customer_id="cus_internal")
    def work() -> None:
        """Do nothing."""

    work()

    costs.assert_total(1, customer="cus_internal")


def test_nobody_s_cost_is_dropped_where_that_is_the_policy_and_harms_no_call() -> None:
    """The function has done its work."""

    @track_call("cost.a", amount=1)
    def work() -> str:
        return "done"

    with recording(unattributed="error") as costs:
        assert work() == "done"

    assert costs.client.stats().dropped == {"unattributed": 1}


# What goes wrong.


def failing(**terms: Any) -> Callable[[], None]:  # noqa: ANN401 - of `track_call`
    """Return a function that raises, and what it raises as its attribute."""

    @track_call("cost.a", operation_id=lambda: "job", **terms)
    def fail() -> None:
        raise fail.error  # type: ignore[attr-defined]

    fail.error = KeyError("mine")  # type: ignore[attr-defined]
    return fail


@pytest.mark.parametrize(
    ("charged", "total"),
    [
        pytest.param(False, 0, id="free"),
        pytest.param(True, 1, id="charged"),
        pytest.param(lambda error: isinstance(error, KeyError), 1, id="told charged"),
        pytest.param(lambda error: isinstance(error, OSError), 0, id="told free"),
    ],
)
def test_an_error_passes_untouched_and_costs_what_is_said(
    costs: Costs, *, charged: bool | Callable[[BaseException], bool], total: int
) -> None:
    """Its identity, its context, and where it came from."""
    fail = failing(amount=1, charged_on_error=charged)

    with pytest.raises(KeyError) as caught:
        fail()

    assert caught.value is fail.error  # type: ignore[attr-defined]
    assert caught.value.__context__ is caught.value.__cause__ is None
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"
    costs.assert_total(total)


def test_being_cancelled_is_an_error_like_any_other(costs: Costs) -> None:
    """It is not known whether the provider charged. The decorator must say."""

    @track_call("cost.a", amount=1)
    async def work() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    costs.assert_total(0)


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        pytest.param({"amount": flawed}, "amount", id="amount"),
        pytest.param({"amount": lambda _: -1}, "amount", id="negative"),
        pytest.param({"amount": lambda _: "much"}, "amount", id="no number"),
        pytest.param({"extract": flawed}, "extract", id="extract"),
        pytest.param({"extract": lambda _: [1]}, "extract", id="no observation"),
        pytest.param({"quantity": flawed, "unit": "page"}, "quantity", id="quantity"),
    ],
)
def test_a_cost_that_cannot_be_told_is_kept_and_the_result_returned(
    tmp_path: Path, terms: dict[str, Any], field: str
) -> None:
    """Neither lost nor guessed: it waits for a person, under its own key."""
    before = counted(f"work {field}")
    with client_in(tmp_path) as client:

        @track_call(
            "cost.a",
            operation_id="job",
            customer_id="cus_1",
            provider="acme",
            client=client,
            **terms,
        )
        def work(job: str) -> str:
            return job

        assert work("j") == "j"
        assert client.stats().tracked == 0

    (line,) = waiting(tmp_path)
    event = decode_event(bytes(line.cost.event))
    assert (line.cost.reason, event.data["operationId"]) == ("unknown_amount", "j")
    assert (event.subject, event.data["provider"]) == ("cus_1", "acme")
    assert f"{field}=" in line.cost.message
    assert not UnpricedEvent(line.cost).observation.is_complete, (
        "a price book might price it"
    )
    assert counted(f"work {field}") == before + 1


def test_a_cost_that_cannot_be_told_has_the_name_of_its_place(tmp_path: Path) -> None:
    """Run again, it is the same cost, whenever a person tells the amount."""
    with client_in(tmp_path) as client:

        @track_call("cost.a", amount=flawed, client=client)
        def work() -> None:
            """Do nothing."""

        with operation(operation_id="job"):
            work()
        assert client.stats().random_keys == 0

    (line,) = waiting(tmp_path)
    event = decode_event(bytes(line.cost.event))
    assert event.data["operationId"].startswith("job/")


def test_a_cost_without_a_provider_can_be_kept_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is optional; the log says how to tell the amount."""
    with client_in(tmp_path) as client:

        @track_call("cost.a", amount=flawed, client=client)
        def work() -> None:
            """Do nothing."""

        work()

    assert len(waiting(tmp_path)) == 1
    assert "outlay reprice --id" in caplog.text


def test_what_a_failed_but_charged_call_cost_may_not_be_known(tmp_path: Path) -> None:
    """There is no result to tell it."""
    with client_in(tmp_path) as client:
        fail = failing(amount=len, charged_on_error=True, client=client)
        with pytest.raises(KeyError):
            fail()
        nothing_said = failing(charged_on_error=True, client=client, line="other")
        with pytest.raises(KeyError):
            nothing_said()

    assert ["the call failed" in line.cost.message for line in waiting(tmp_path)] == [
        True,
        True,
    ]


def test_a_flawed_quantity_leaves_the_amount(costs: Costs) -> None:
    """Which is what matters."""

    @track_call("cost.a", amount=1, quantity=flawed, unit="page", operation_id="job")
    def work(job: str) -> str:
        return job

    work("j")

    (event,) = costs.events
    assert "quantity" not in event.data


@pytest.mark.parametrize(
    "terms",
    [
        pytest.param({"operation_id": lambda job: job / 0}, id="early id"),
        pytest.param({"operation_id": lambda result: result / 0}, id="late id"),
        pytest.param({"operation_id": lambda: " "}, id="blank id"),
        pytest.param({"operation_id": lambda: 1.5}, id="number"),
        pytest.param({"customer_id": lambda job: job / 0}, id="customer"),
        pytest.param({"customer_id": lambda: 7}, id="no name"),
    ],
)
def test_an_id_that_cannot_be_told_leaves_the_cost(
    costs: Costs, terms: dict[str, Any]
) -> None:
    """The next source is asked; the failure is counted."""
    before = sum(capture_errors.snapshot().values())

    @track_call("cost.a", amount=1, **terms)
    def work(job: str) -> str:
        return job

    with operation(operation_id="around", customer_id="cus_1"):
        assert work("j") == "j"

    costs.assert_total(1, customer="cus_1")
    assert costs.client.stats().random_keys == 0
    assert sum(capture_errors.snapshot().values()) == before + 1


def test_an_error_of_the_call_s_own_arguments_is_its_own(costs: Costs) -> None:
    """The message is Python's."""

    @track_call("cost.a", amount=1, operation_id="job")
    def work(job: str) -> str:
        return job

    before = capture_errors.snapshot()
    with pytest.raises(TypeError, match="missing 1 required"):
        work()  # type: ignore[call-arg] # on purpose

    costs.assert_total(0)
    assert before == capture_errors.snapshot()


def test_a_call_of_which_nothing_tells_a_cost_is_counted_as_a_failure(
    costs: Costs,
) -> None:
    """Otherwise the decorator would do nothing, unseen."""

    @track_call("cost.a")
    def tells_nothing() -> str:
        return "no answer"

    before = counted("tells_nothing: NoCostFoundError")
    tells_nothing()

    costs.assert_total(0)
    assert counted("tells_nothing: NoCostFoundError") == before + 1


def test_a_closed_client_harms_no_call() -> None:
    """The loss is counted."""
    with recording() as costs:
        client = costs.client
    client.close()

    @track_call("cost.a", amount=1, client=client)
    def closed_work() -> str:
        return "done"

    assert closed_work() == "done"
    assert counted("closed_work: ClosedError") == 1


# The same money.


def inner(*, line: str | None = None, provider: str | None = "acme") -> None:
    """Count a cost inside, by each door in turn."""
    seen = Observation(**{**vars_of(SEEN), "line": line, "provider": provider or ""})
    Recorder.for_client().record(seen)


@pytest.mark.parametrize(
    ("outer", "inside", "total"),
    [
        pytest.param({"provider": "acme"}, {}, 2, id="same provider"),
        pytest.param({"provider": "acme"}, {"line": "x"}, 3, id="another line inside"),
        pytest.param({"provider": "acme", "line": "x"}, {}, 3, id="another line"),
        pytest.param({"provider": "acme", "line": "x"}, {"line": "x"}, 2, id="line"),
        pytest.param({"provider": "other"}, {}, 3, id="another provider"),
        pytest.param({}, {}, 3, id="no provider, another type"),
        pytest.param({"event_type": "cost.x"}, {}, 2, id="no provider, same type"),
    ],
)
def test_the_same_money_is_counted_by_the_innermost(
    costs: Costs, outer: dict[str, str], inside: dict[str, str], total: int
) -> None:
    """Same provider and line, or same type where none is named: the same money."""
    terms = {"event_type": "cost.outer", **outer}

    @track_call(**terms, amount=1, operation_id=lambda: "job")  # type: ignore[arg-type]
    def work() -> None:
        inner(**inside)

    work()

    costs.assert_total(total)


def test_what_is_passed_over_is_said_once(
    costs: Costs, caplog: pytest.LogCaptureFixture
) -> None:
    """It might be another cost, after all."""

    @track_call("cost.a", amount=1, provider="acme")
    def passed_over() -> None:
        inner()

    for _ in range(3):
        passed_over()

    costs.assert_total(2)
    assert caplog.text.count("passed_over is not counted by track_call") == 1


@pytest.mark.parametrize("depth", ["direct", "operation between", "thread"])
def test_a_tracked_call_around_another_is_passed_over(costs: Costs, depth: str) -> None:
    """However deep it is, and wherever it runs."""

    @track_call("cost.inner", amount=2, provider="acme", operation_id=lambda: "i")
    def innermost() -> None:
        """Do nothing."""

    @track_call("cost.outer", amount=100, provider="acme", operation_id=lambda: "o")
    async def outermost() -> None:
        if depth == "thread":
            await asyncio.to_thread(innermost)
        elif depth == "direct":
            innermost()
        else:
            with operation(operation_id="between"):
                innermost()

    asyncio.run(outermost())

    costs.assert_total(2, operation_id="i")
    costs.assert_total(2)


def test_calls_one_after_the_other_are_not_inside_of_each_other(costs: Costs) -> None:
    """Nor is what was counted around them."""

    @track_call("cost.a", amount=1, provider="acme")
    def work() -> None:
        """Do nothing."""

    with operation("cost.a", operation_id="job", provider="acme") as op:
        op.add(10)
        work()
        work()

    costs.assert_total(12)


def test_an_unpriced_cost_inside_is_the_same_money(tmp_path: Path) -> None:
    """It waits for its price; both would be too much."""
    with client_in(tmp_path) as client:

        @track_call("cost.a", amount=1, provider="acme", client=client)
        def work() -> None:
            Recorder.for_client(client).record(
                Observation(provider="acme", event_type="cost.x", operation_id="a")
            )

        work()
        assert client.stats().tracked == 0

    assert len(waiting(tmp_path)) == 1


def test_a_failed_call_that_was_captured_is_not_kept_beside(costs: Costs) -> None:
    """What was charged until the failure is counted already."""

    @track_call("cost.a", amount=len, provider="acme", charged_on_error=True)
    def work() -> None:
        inner()
        raise KeyError

    with pytest.raises(KeyError):
        work()

    costs.assert_total(2)
    assert costs.client.stats().unpriced == 0


def test_a_cost_that_could_not_be_told_inside_is_the_same_money(costs: Costs) -> None:
    """A person will tell it; the outer amount would count it twice then."""

    @track_call("cost.a", amount=flawed, provider="acme")
    def inside() -> None:
        """Do nothing."""

    @track_call("cost.b", amount=1, provider="acme")
    def work() -> None:
        inside()

    work()

    costs.assert_total(0)
    assert costs.client.stats().unpriced == 1


def test_an_extracted_cost_is_passed_over_alike(costs: Costs) -> None:
    """Each by its own provider and line."""
    other = Observation(**{**vars_of(SEEN), "provider": "other", "amount": Decimal(4)})

    @track_call("cost.a", extract=lambda _: [SEEN, other], operation_id=lambda: "job")
    def work() -> None:
        inner()

    work()

    costs.assert_total(6)


def test_without_terms_the_result_is_looked_at_only_if_nothing_was_counted_inside(
    costs: Costs,
) -> None:
    """Whatever was."""

    @track_call("cost.a")
    def work() -> str:
        inner(provider="other")
        return "no answer"

    before = capture_errors.snapshot()
    work()

    costs.assert_total(2)
    assert before == capture_errors.snapshot()


# Functions of all kinds.


def test_an_asynchronous_function_is_tracked_when_it_has_returned(costs: Costs) -> None:
    """Not when it is called."""

    @track_call("cost.a", amount=len, operation_id="job")
    async def work(job: str) -> str:
        await asyncio.sleep(0)
        costs.assert_total(0)
        return job

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(work("abc")) == "abc"
    costs.assert_total(3)


@track_call("cost.a", amount=lambda last: last, operation_id="job")
def numbers(job: str) -> Generator[int, int | None, str]:
    """Yield numbers, the last of which is the cost."""
    for number in (1, 2, 3):
        current_operation()
        yield number
        if job == "broken":
            raise KeyError(job)
    return job


def test_a_generator_is_tracked_once_at_its_end(costs: Costs) -> None:
    """By the last item that it yielded, for the customer of the code that made it."""
    with attribute(customer_id="cus_1"):
        stream = numbers("j")
    with attribute(customer_id="cus_2"):
        assert next(stream) == 1
        costs.assert_total(0)
        assert list(stream) == [2, 3]
        stream.close()
        del stream
        gc.collect()

    costs.assert_total(3, customer="cus_1")
    assert len(costs.events) == 1


def test_a_generator_is_named_where_it_was_made(costs: Costs) -> None:
    """The consumer has an operation of its own."""

    @track_call("cost.a", amount=1)
    def stream() -> Generator[int]:
        yield 1

    with operation(operation_id="maker"):
        made = stream()
    with operation(operation_id="consumer"):
        list(made)
        assert current_operation().operation_id == "consumer"

    (event,) = costs.events
    assert event.data["operationId"].startswith("maker/")


def test_a_generator_that_is_closed_early_has_cost_so_far(costs: Costs) -> None:
    """Or forgotten, which closes it."""
    one = numbers("one")
    next(one)
    one.close()
    one.close()
    two = numbers("two")
    assert (next(two), next(two)) == (1, 2)
    del two
    gc.collect()

    assert costs.total(operation_id="one") == 1
    assert costs.total(operation_id="two") == 2


def test_a_generator_that_never_ran_or_failed_costs_nothing(costs: Costs) -> None:
    """As a call that was never made, and one that raised."""
    numbers("never").close()
    with pytest.raises(KeyError):
        list(numbers("broken"))

    costs.assert_total(0)


def test_an_asynchronous_generator_is_tracked_alike(costs: Costs) -> None:
    """At its end, or when it is closed."""

    @track_call("cost.a", amount=lambda last: last, operation_id="job")
    async def stream(job: str) -> AsyncGenerator[int]:
        for number in (1, 2, 3):
            await asyncio.sleep(0)
            yield number + len(job)

    async def main() -> None:
        assert [item async for item in stream("a")] == [2, 3, 4]
        early = stream("bb")
        assert await anext(early) == 3
        await early.aclose()

    asyncio.run(main())

    assert costs.total(operation_id="a") == 4
    assert costs.total(operation_id="bb") == 3


class Service:
    """Methods of all kinds."""

    @track_call("cost.a", amount=1, operation_id="job")
    def method(self, job: str) -> object:
        """Return what it was called on, and with."""
        return self, job

    @classmethod
    @track_call("cost.a", amount=1, operation_id="job")
    def below(cls, job: str) -> object:
        """Return the same."""
        return cls, job

    @track_call("cost.a", amount=1, operation_id="job")
    @classmethod
    def above(cls, job: str) -> object:
        """Return the same."""
        return cls, job

    @track_call("cost.a", amount=1, operation_id="job")
    @staticmethod
    def static(job: str) -> object:
        """Return the same."""
        return job


def test_methods_of_every_kind_are_tracked(costs: Costs) -> None:
    """The arguments are found beside self and cls."""
    service = Service()

    assert service.method("a") == (service, "a")
    assert service.below("b") == (Service, "b")
    assert Service.above(job="c") == (Service, "c")
    assert service.static("d") == "d"
    assert [event.data["operationId"] for event in costs.events] == [*"abcd"]


@track_call("cost.a", amount=1)
def at_module_level(number: int, *, more: str = "x") -> str:
    """Do it."""
    return f"{number}{more}"


def test_a_decorated_function_keeps_its_face() -> None:
    """Documentation, frameworks, task queues and process pools see it as it was."""
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level  # noqa: S301
    assert (at_module_level.__name__, at_module_level.__doc__) == (
        "at_module_level",
        "Do it.",
    )
    assert inspect.signature(at_module_level) == inspect.signature(
        inspect.unwrap(at_module_level)
    )
    assert inspect.unwrap(at_module_level) is not at_module_level
    assert not inspect.iscoroutinefunction(at_module_level)


# Mistakes of the decorator's user.


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        pytest.param({"amount": -1}, "amount=-1: must not be negative", id="negative"),
        pytest.param({"amount": "much"}, "amount='much'", id="no number"),
        pytest.param({"amount": True}, "bool", id="bool"),
        pytest.param({"amount": 1, "quantity": "x"}, "quantity='x'", id="quantity"),
        pytest.param({"amount": 1, "line": ""}, "line", id="line"),
        pytest.param({"amount": 1, "unit": 7}, "unit=7", id="unit"),
        pytest.param({"amount": 1, "provider": " "}, "provider", id="provider"),
        pytest.param({"amount": 1, "customer_id": ""}, "customer_id", id="customer"),
        pytest.param({"event_type": None}, "event_type", id="type"),
    ],
)
def test_a_fact_that_cannot_be_is_refused_at_decoration(
    wrong: dict[str, Any], match: str
) -> None:
    """Not at the first call."""
    with pytest.raises(outlay.InvalidEventError, match=match):
        track_call(**{"event_type": "cost.a", **wrong})


async def told_later(_: object) -> int:
    """Return a value that no code waits for."""
    return 1


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        pytest.param({"amount": 1, "extract": len}, "not both", id="two sources"),
        pytest.param({"quantity": 1}, "unit=", id="no unit"),
        pytest.param({"unit": "page"}, "quantity=", id="no quantity"),
        pytest.param({"extract": len, "quantity": 1}, "quantity", id="two quantities"),
        pytest.param({"amount": told_later}, "plain function", id="async"),
        pytest.param({"operation_id": "jobb"}, "no argument 'jobb'.*job", id="name"),
        pytest.param({"operation_id": lambda jobb: jobb}, "'jobb'", id="lambda"),
        pytest.param({"operation_id": 42}, "every call", id="one id"),
        pytest.param({"operation_id": min}, "pass a lambda", id="builtin"),
        pytest.param(
            {"customer_id": lambda result: result}, "only arguments", id="late"
        ),
    ],
)
def test_terms_that_contradict_are_refused_at_decoration(
    wrong: dict[str, Any], match: str
) -> None:
    """The message says what to pass."""

    def work(job: str) -> str:
        return job

    with pytest.raises(outlay.ConfigError, match=match):
        track_call("cost.a", **wrong)(work)


def test_a_function_may_hide_its_arguments_unless_they_are_asked_for(
    costs: Costs,
) -> None:
    """Some that are written in C do."""
    assert track_call("cost.a", amount=1)(min)(2, 1) == 1
    with pytest.raises(outlay.ConfigError, match=r"builtins\.min has no argument 'a'"):
        track_call("cost.a", amount=1, operation_id="a")(min)

    costs.assert_total(1)
