"""Where a captured cost's operation id comes from, in order."""

from __future__ import annotations

import contextvars
import gc
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest

import outlay
from outlay._capture.observation import Observation
from outlay._capture.operations.ids import DerivedIds, identify
from outlay._capture.operations.state import current_derived_ids
from outlay._capture.recorder import Recorder
from outlay.testing import RecordingClient

if TYPE_CHECKING:
    from collections.abc import Iterable

SEEN: Final[dict[str, Any]] = {
    "provider": "acme",
    "event_type": "cost.enrichment",
    "amount": Decimal("0.05"),
}


def seen(**fields: Any) -> Observation:  # noqa: ANN401 - of any field's type
    """Return a call that says nothing of its identity, unless told to."""
    return Observation(**{**SEEN, **fields})


def id_of(call: Observation) -> str | None:
    """Return the id of a call, which may be derived from the running operation's."""
    return identify(call, current_derived_ids()).operation_id


def names(*calls: Observation, operation_id: str = "job-42") -> list[str | None]:
    """Return the ids of calls that are made in one run of an operation."""
    with outlay.operation(operation_id=operation_id):
        return [id_of(call) for call in calls]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param({"operation_id": "a", "request_id": "b"}, "a", id="answer"),
        pytest.param({"request_id": "b"}, "b", id="request"),
        pytest.param({"operation_id": "", "request_id": "b"}, "b", id="blank"),
        pytest.param({"operation_id": "x" * 1025, "request_id": "b"}, "b", id="long"),
        pytest.param({"operation_id": {"a": 1}, "request_id": "b"}, "b", id="object"),
        pytest.param({"operation_id": 17}, "17", id="number"),
    ],
)
def test_a_provider_s_own_id_goes_first(told: dict[str, Any], expected: str) -> None:
    """Inside of an operation as outside: it exists exactly when there is a cost."""
    assert id_of(seen(**told)) == expected
    assert names(seen(**told)) == [expected]


def test_without_any_id_there_is_none() -> None:
    """Nor does an operation without a name help."""
    assert id_of(seen()) is None
    with outlay.operation():
        assert id_of(seen()) is None


def test_the_enclosing_operation_names_what_has_no_id() -> None:
    """The name is the operation's, what the call was, and which of those it was."""
    first, second = names(seen(), seen())

    assert first is not None
    prefix, _, digest = first.removesuffix("-1").partition("/")
    assert (prefix, len(digest)) == ("job-42", 12)
    assert second == first.removesuffix("1") + "2"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"provider": "other"}, id="provider"),
        pytest.param({"event_type": "cost.other"}, id="type"),
        pytest.param({"line": "pages"}, id="line"),
        pytest.param({"model": "large"}, id="model"),
        pytest.param({"service_tier": "batch"}, id="tier"),
        pytest.param({"region": "eu"}, id="region"),
        pytest.param({"usage": {"page": 3}}, id="usage"),
        pytest.param({"amount": Decimal("0.06")}, id="amount"),
        pytest.param({"currency": "EUR"}, id="currency"),
    ],
)
def test_calls_that_differ_are_counted_apart(changes: dict[str, Any]) -> None:
    """So they may end in any order, and each has the name that it has in any run."""
    one, other = seen(), seen(**changes)

    forth = names(one, other, one)
    back = names(other, one, one)

    assert forth == [back[1], back[0], back[2]]
    assert len({*forth}) == 3


def test_usage_is_the_same_in_any_order() -> None:
    """Providers' objects do not promise theirs."""
    usages = {"a": 1, "b": {"c": Decimal("0.5")}}, {"b": {"c": Decimal("0.5")}, "a": 1}

    assert len({*names(seen(usage=usages[0])), *names(seen(usage=usages[1]))}) == 1


def test_names_are_the_same_in_every_process_and_release() -> None:
    """A name that changed would count what was counted before an upgrade."""
    # printf '["acme","cost.enrichment",null,"m",null,null,{"page":3},"0.05","USD"]' |
    # sha256sum
    assert names(seen(usage={"page": 3}, model="m")) == ["job-42/17bbe3e6775b-1"]


@pytest.mark.parametrize("operation_id", ["x" * 960, "x" * 961, "x" * 1024])
def test_a_long_id_leaves_room_for_the_name(operation_id: str) -> None:
    """What `track_cost` takes for an id is good for an operation's, too."""
    client = RecordingClient()
    with outlay.operation(operation_id=operation_id, client=client):
        for _ in range(2):
            Recorder.for_client(client).record(seen())

    assert client.costs.total() == Decimal("0.10")
    assert client.stats().random_keys == 0


def test_kinds_are_not_remembered_without_end() -> None:
    """Past the limit a call is nameless, which is counted; a name never comes twice."""
    places = DerivedIds("job")
    made = [places.next_id(number) for number in range(65_536 + 10)]

    assert None not in made[:65_536]
    assert made[65_536:] == [None] * 10
    assert places.next_id(0) == f"{made[0]}".removesuffix("1") + "2"


@pytest.mark.parametrize("customer", [None, "cus_1"])
def test_blocks_that_overlap_take_no_name_twice(customer: str | None) -> None:
    """Every task of a job enters it; two calls alike must not share a key."""
    job = outlay.operation(operation_id="job-42", customer_id=customer)

    def run() -> set[str | None]:
        made = set()
        with job:
            for _ in range(3):
                with job:
                    made.add(id_of(seen()))
            made.add(id_of(seen()))
        return made

    made = run()

    assert len(made) == 4
    assert run() == made, "a run after it is a re-run"


def test_a_re_run_finds_the_names_though_somebody_is_still_in_the_first_run() -> None:
    """Tasks outlive the block that they were made in, and keep its context."""
    with outlay.operation(operation_id="job-42"):
        name = id_of(seen())
        task = contextvars.copy_context()

    assert names(seen()) == [name]
    assert task.run(id_of, seen()) != name


def test_operations_of_two_customers_do_not_share_names() -> None:
    """Their jobs may be numbered alike; whether they overlap must not matter."""
    with outlay.operation(operation_id="42", customer_id="cus_1"):
        alone = id_of(seen())
        with outlay.operation(operation_id="42", customer_id="cus_2"):
            assert id_of(seen()) == alone


def test_an_operation_that_gets_another_id_leaves_the_first_to_others() -> None:
    """Also one that is never left, once nothing can be in it any more."""
    with outlay.operation(operation_id="first") as op:
        name = id_of(seen())
        with outlay.operation():  # which goes on with the names that it began with
            op.operation_id = "second"
            assert names(seen(), operation_id="first") == [name]
        assert names(seen(), operation_id="first") == [name]

    never_left = contextvars.copy_context()
    never_left.run(outlay.operation(operation_id="first").__enter__)
    assert never_left.run(id_of, seen()) == name
    del never_left
    gc.collect()

    assert names(seen(), operation_id="first") == [name]


def test_a_forked_child_takes_no_name_that_its_parent_may_take() -> None:
    """Both go on in the same operation; one of two calls alike would not count."""
    places = DerivedIds("job")
    places.next_id("call")
    with outlay.operation(operation_id="job-42"):
        child = os.fork()
        if child == 0:
            inherited = places.next_id("call") or id_of(seen())
            its_own = names(seen())
            os._exit(0 if inherited is None and its_own != [None] else 1)
        _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert f"{places.next_id('call')}".endswith("-2")


def test_an_observation_that_has_its_id_is_left_as_it_is() -> None:
    """Most have."""
    known = seen(operation_id="a")

    assert identify(known, None) is known
    assert identify(seen(request_id="b"), None).operation_id == "b"


# What becomes of it.


def recorded(client: RecordingClient, calls: Iterable[Observation]) -> None:
    """Record calls in one run of an operation."""
    with outlay.operation(operation_id="job-42", customer_id="cus_1", client=client):
        for call in calls:
            Recorder.for_client(client).record(call)


def test_a_re_run_of_an_operation_counts_its_nameless_calls_once() -> None:
    """The point of it all; and two alike in one run are still two."""
    calls = [seen(), seen(), seen(usage={"page": 3}, amount=Decimal("0.09"))]
    first, second = RecordingClient(), RecordingClient()

    recorded(first, calls)
    recorded(first, calls)
    recorded(second, reversed(calls))

    first.costs.assert_total("0.19", customer="cus_1")
    amounts = [
        {event.idempotency_key: event.data["amount"] for event in client.recorded()}
        for client in (first, second)
    ]
    assert amounts[0] == amounts[1]


def test_a_run_that_was_interrupted_is_completed_by_the_next() -> None:
    """Calls that fail, or are never made, do not move the others' names."""
    client = RecordingClient()
    one, two, three = (seen(amount=Decimal(number)) for number in (1, 2, 3))

    recorded(client, [two])
    recorded(client, [one, two, three])

    client.costs.assert_total(6)


def test_a_cost_without_a_price_has_the_same_name() -> None:
    """Priced later, it counts once."""
    client = RecordingClient()
    nobody_s = seen(amount=None, usage={"page": 1})

    recorded(client, [nobody_s])

    assert client.stats().unpriced == 1
    assert client.stats().random_keys == 0


def test_random_keys_are_counted_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By whichever door: a re-run would count them again."""
    client = RecordingClient()

    for _ in range(3):
        Recorder.for_client(client).record(seen())
    Recorder.for_client(client).record(seen(amount=None))
    client.track_cost("cost.a", 1)
    client.track_cost("cost.a", 1, operation_id="known")

    assert client.stats().random_keys == 5
    assert caplog.text.count("without operation_id") == 1
    keys = [event.idempotency_key for event in client.recorded()]
    assert sum(key.startswith("okr_") for key in keys) == 4


@pytest.mark.parametrize(
    "operation_id", [42, "42", UUID(int=42)], ids=["int", "text", "uuid"]
)
def test_an_operation_takes_what_track_cost_takes(operation_id: Any) -> None:  # noqa: ANN401
    """And has it as text."""
    with outlay.operation(operation_id=operation_id) as op:
        assert op.operation_id == str(operation_id)
        assert outlay.current_operation() == op
