"""`to_baggage` and `from_baggage`: whose costs they are, by OpenTelemetry's baggage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry import baggage, context
from opentelemetry.baggage.propagation import W3CBaggagePropagator

import outlay
from outlay import attribute
from outlay._model.attribution import current_attribution
from outlay.propagation import from_baggage, to_baggage
from tests.support.processes import run

if TYPE_CHECKING:
    from opentelemetry.context import Context

W3C: Final = W3CBaggagePropagator()

ROOM: Final = 8192 - len("k=,outlay.customer_id=cus_1")


def with_baggage(**entries: object) -> Context:
    """Return a context with baggage; ``__`` in a name stands for a dot."""
    made = context.Context()
    for name, value in entries.items():
        made = baggage.set_baggage(name.replace("__", "."), value, made)
    return made


def said(made: Context) -> tuple[Any, ...]:
    """Return whose the costs are where a context's baggage is taken up."""
    with from_baggage(made):
        found = current_attribution.get()
    return (*found[:3], dict(found.dimensions))


def test_baggage_has_the_names_that_are_documented() -> None:
    """Services in other languages read them, and span processors copy them."""
    with attribute(customer_id="cus_1", operation="a b", region="eu", tier=1):
        with to_baggage() as made:
            inside = dict(baggage.get_all())
        outside = dict(baggage.get_all())

    assert inside == {
        "outlay.customer_id": "cus_1",
        "outlay.operation": "a b",
        "outlay.region": "eu",
        "outlay.data": '{"tier":1}',
    }
    assert inside == baggage.get_all(made)
    assert outside == {}


def test_it_travels_in_the_header_of_the_standard() -> None:
    """By the propagator that applications have."""
    labels = {"customer_id": "Zoë+1, 50%; x=y", "operation": "a b", "region": "eu"}
    carrier: dict[str, str] = {}

    with attribute(**labels, tier="é"), to_baggage():
        W3C.inject(carrier)
    made = W3C.extract(carrier, context.Context())

    assert carrier["baggage"].isascii()
    assert said(made) == (*labels.values(), {"tier": "é"})


def test_only_what_is_asked_for_is_taken_or_given() -> None:
    """A request may come from a stranger, and may go to one."""
    token = context.attach(with_baggage(outlay__customer_id="cus_1"))
    try:
        assert current_attribution.get().customer_id is None
        with attribute(customer_id="cus_2"):
            assert baggage.get_all() == {"outlay.customer_id": "cus_1"}
    finally:
        context.detach(token)


def test_others_baggage_is_left_alone() -> None:
    """Ours is replaced in whole: what a stranger wrote must not be passed on in it."""
    stale = {f"outlay__{name}": "x" for name in ("customer_id", "region", "data")}
    before = with_baggage(user="u;p=1", outlay__other="x", **stale)
    token = context.attach(before)
    try:
        with attribute(customer_id="cus_1"), to_baggage():
            inside = dict(baggage.get_all())
        with to_baggage():
            nobodys = dict(baggage.get_all())
        after = context.get_current()
    finally:
        context.detach(token)

    others = {"user": "u;p=1", "outlay.other": "x"}
    assert inside == {**others, "outlay.customer_id": "cus_1"}
    assert nobodys == others
    assert after == before


def test_baggage_is_read_when_the_scope_is_entered() -> None:
    """A handler is decorated once, and called with every request's baggage."""

    @from_baggage()
    async def handle() -> str | None:
        await asyncio.sleep(0)
        return current_attribution.get().customer_id

    async def request(customer: str) -> str | None:
        context.attach(with_baggage(outlay__customer_id=customer))
        return await handle()

    async def main() -> list[str | None]:
        return list(await asyncio.gather(request("cus_1"), request("cus_2")))

    assert asyncio.run(main()) == ["cus_1", "cus_2"]


def test_what_baggage_leaves_open_is_as_outside() -> None:
    """As with `resume`."""
    with attribute(customer_id="cus_1", region="us", feature="chat"):
        assert said(with_baggage(user="u")) == (
            "cus_1",
            None,
            "us",
            {"feature": "chat"},
        )
        assert said(with_baggage(outlay__region="eu"))[:3] == ("cus_1", None, "eu")


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"outlay__customer_id": " "}, id="blank"),
        pytest.param({"outlay__customer_id": "a\nb"}, id="control character"),
        pytest.param({"outlay__data": "{"}, id="no JSON"),
        pytest.param({"outlay__data": '{"amount":1}'}, id="a name of outlay's own"),
        pytest.param({"outlay__data": "[" * 5000}, id="deep"),
    ],
)
def test_malformed_baggage_says_nothing_and_the_request_is_served(
    entry: dict[str, object],
) -> None:
    """Anybody may have written it."""
    assert said(with_baggage(**{"outlay__region": "eu", **entry})) == (
        None,
        None,
        None,
        {},
    )


def test_too_much_for_baggage_is_refused_where_it_is_said() -> None:
    """As `carry` does."""
    with (
        attribute(notes="x" * 4100),
        pytest.raises(outlay.InvalidEventError, match="4096 are allowed"),
    ):
        to_baggage()


@pytest.mark.parametrize(
    ("others", "fits"),
    [
        pytest.param({f"k{n}": "v" for n in range(63)}, True, id="64 entries"),
        pytest.param({f"k{n}": "v" for n in range(64)}, False, id="65 entries"),
        pytest.param({"k": "v" * ROOM}, True, id="8192 bytes"),
        pytest.param({"k": "v" * (ROOM + 1)}, False, id="8193 bytes"),
        pytest.param({"k": "ü" * 1400}, False, id="encoded"),
    ],
)
def test_ours_is_left_out_where_it_might_not_be_passed_on(
    others: dict[str, object], *, fits: bool
) -> None:
    """W3C Baggage wants 64 entries and 8192 bytes passed on; half of ours is none."""
    token = context.attach(with_baggage(**others))
    try:
        with attribute(customer_id="cus_1"), to_baggage():
            found = dict(baggage.get_all())
    finally:
        context.detach(token)

    ours = {"outlay.customer_id": "cus_1"} if fits else {}
    assert found == {**others, **ours}


def test_baggage_without_room_is_logged() -> None:
    """The costs of its receiver will be unattributed."""
    program = """
import logging
from opentelemetry import baggage, context
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
context.attach(baggage.set_baggage("k", "v" * 9000))
for _ in range(3):
    with outlay.attribute(customer_id="cus_1"), outlay.propagation.to_baggage():
        print("the request is made")
"""
    first, *rest = run(program, {}).splitlines()

    assert first.startswith("WARNING the attribution is not in the baggage")
    assert rest == ["the request is made"] * 3
