"""What type checkers see of carried work and of tests: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from decimal import Decimal
from email.message import Message
from typing import Any, assert_type

import httpx
import starlette.datastructures
from opentelemetry.context import Context

import outlay
from outlay.testing import Costs, UnpricedCall, recording


def plain(page: int, *, times: int = 1) -> str:
    """Return text."""
    return str(page) * times


async def asynchronous(page: int, /) -> bytes:
    """Return bytes."""
    return bytes(page)


def rows(count: int) -> Generator[str, int, bool]:
    """Yield text."""
    return (yield str(count)) > 0


async def chunks(count: int) -> AsyncGenerator[bytes]:
    """Yield bytes."""
    yield bytes(count)


assert_type(outlay.bind(plain)(1, times=2), str)
bound: Callable[[int], Coroutine[Any, Any, bytes]] = outlay.bind(asynchronous)
assert_type(outlay.bind(rows)(1), Generator[str, int, bool])
assert_type(outlay.bind(chunks)(1), AsyncGenerator[bytes])
assert_type(outlay.propagation.extract(outlay.propagation.inject())(plain)(1), str)
assert_type(outlay.propagation.from_baggage()(plain)(1), str)
outlay.bind(plain)("one")  # type: ignore[arg-type] # so that a wrong argument is seen
outlay.bind(plain(1))  # type: ignore[arg-type] # and what is no function

outlay.propagation.extract(None)
outlay.propagation.extract({"outlay-attribution": b"1;"})
outlay.propagation.extract(httpx.Headers())
outlay.propagation.extract(starlette.datastructures.Headers())
outlay.propagation.extract(Message())
outlay.propagation.extract([("a", "b")])  # type: ignore[arg-type] # no mapping

with outlay.propagation.to_baggage() as context:
    assert_type(context, Context)


def a_test(costs: Costs) -> None:
    """Ask in every way."""
    assert_type(costs.total(customer="cus_1", feature="chat"), Decimal)
    assert_type(costs.events[0], outlay.CostEvent)
    assert_type(costs.events_where(line=None)[0].subject, str)
    assert_type(costs.unpriced[0], UnpricedCall)
    costs.assert_total("0.1", provider="acme")


def a_fixture() -> Iterator[Costs]:
    """Record with settings."""
    with recording(unattributed="error") as costs:
        yield costs
    recording(unattributed="no such choice")  # type: ignore[arg-type]
