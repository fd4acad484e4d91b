"""A customer that is known late, or the only one there is."""

from __future__ import annotations

import asyncio
import contextvars
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import pytest

import outlay
from outlay._capture.observation import Observation
from outlay._capture.recorder import Recorder
from outlay._model.attribution import UNATTRIBUTED, current_attribution
from outlay.testing import recording

if TYPE_CHECKING:
    from outlay.testing import Costs


def track(name: str) -> None:
    """Track a cost that names no customer."""
    outlay.track_cost("cost.a", 1, operation_id=name)


def customers(costs: Costs) -> dict[str, str]:
    """Return the customer of each operation."""
    return {event.data["operationId"]: event.subject for event in costs.events}


def test_it_holds_until_the_scope_ends(costs: Costs) -> None:
    """A request that learns its customer leaves nothing to the next one."""
    with outlay.attribute(customer_id="cus_1", feature="chat"):
        track("before")
        outlay.set_customer("cus_2")
        outlay.set_customer("cus_3")
        track("after")
        with outlay.attribute(region="eu"):
            track("inside")
            outlay.set_customer("cus_4")
        track("again")

    assert current_attribution.get() is UNATTRIBUTED
    assert customers(costs) == {
        "before": "cus_1",
        "after": "cus_3",
        "inside": "cus_3",
        "again": "cus_3",
    }
    assert [event.data["feature"] for event in costs.events] == ["chat"] * 4


def test_an_operation_and_a_decorated_function_end_it_too(costs: Costs) -> None:
    """They are scopes like any other."""

    @outlay.attribute(feature="chat")
    def handle() -> None:
        outlay.set_customer("cus_2")
        track("function")

    with outlay.attribute(customer_id="cus_1"):
        with outlay.operation("cost.a", operation_id="job") as op:
            outlay.set_customer("cus_3")
            op.add(1, line="one")
        handle()
        track("outside")

    assert customers(costs) == {"job": "cus_3", "function": "cus_2", "outside": "cus_1"}


def test_tasks_do_not_disturb_each_other(costs: Costs) -> None:
    """Each request of an asynchronous server is a task."""

    async def request(customer: str) -> None:
        with outlay.attribute(feature="chat"):
            await asyncio.sleep(0)
            outlay.set_customer(customer)
            await asyncio.sleep(0)
            track(customer)

    async def main() -> None:
        await asyncio.gather(*map(request, ("cus_1", "cus_2")))

    asyncio.run(main())

    assert customers(costs) == {"cus_1": "cus_1", "cus_2": "cus_2"}


def test_outside_of_a_scope_it_holds_for_the_context(costs: Costs) -> None:
    """A thread of its own, or a copied context, forgets it at its end."""

    def work() -> None:
        outlay.set_customer("cus_1")
        track("work")

    contextvars.copy_context().run(work)

    assert customers(costs) == {"work": "cus_1"}
    assert current_attribution.get() is UNATTRIBUTED


def test_it_takes_what_attribute_takes(costs: Costs) -> None:
    """A mistake is raised where it is made, and changes nothing."""
    with outlay.attribute(customer_id="cus_1"):
        with pytest.raises(outlay.InvalidEventError, match="customer_id"):
            outlay.set_customer("")
        track("as before")

    assert customers(costs) == {"as before": "cus_1"}


@pytest.mark.parametrize("policy", ["default_customer", "error", "drop"])
def test_a_single_tenant_program_names_its_customer_once(
    policy: Literal["default_customer", "error", "drop"],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By hand, captured, or without a price: no cost lacks a customer."""
    with recording(customer_id="cus_1", unattributed=policy) as costs:
        track("by hand")
        for name, amount in (("captured", Decimal(1)), ("unpriced", None)):
            Recorder.for_client().record(
                Observation(
                    provider="acme",
                    event_type="cost.a",
                    operation_id=name,
                    amount=amount,
                )
            )
        with outlay.attribute(customer_id="cus_2"):
            track("another")
        unpriced = [each.event.subject for each in costs.unpriced]

    assert customers(costs) == {
        "by hand": "cus_1",
        "captured": "cus_1",
        "another": "cus_2",
    }
    assert unpriced == ["cus_1"]
    assert "no customer was given" not in caplog.text
