"""Run work for several customers at the same time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import outlay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from decimal import Decimal

    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders

CUSTOMERS: Final = (1, 2, 3, 4)


def in_threads(providers: FakeProviders, work: Callable[[int], object]) -> None:
    """Run ``work`` for every customer in a thread of its own. All calls overlap."""

    def run(number: int) -> None:
        with outlay.attribute(customer_id=f"cus_{number}"):
            work(number)

    with (
        providers.meeting(len(CUSTOMERS)),
        ThreadPoolExecutor(len(CUSTOMERS)) as threads,
    ):
        list(threads.map(run, CUSTOMERS))


def in_tasks(providers: FakeProviders, work: Callable[[int], Awaitable[Any]]) -> None:
    """Run ``work`` for every customer in a task of its own. All calls overlap."""

    async def run(number: int) -> None:
        with outlay.attribute(customer_id=f"cus_{number}"):
            await work(number)

    overlapping(providers, run)


def overlapping(
    providers: FakeProviders, work: Callable[[int], Awaitable[Any]]
) -> None:
    """Run ``work`` for every customer in a task of its own, which says whose it is."""

    async def run_all() -> None:
        with providers.meeting(len(CUSTOMERS)):
            await asyncio.gather(*map(work, CUSTOMERS))

    asyncio.run(run_all())


def assert_each_paid(
    costs: Costs, price: Callable[[int], Decimal], *, calls: int = 1
) -> None:
    """Check that every customer paid ``calls`` calls, to the digit, and no other."""
    totals = {number: costs.total(customer=f"cus_{number}") for number in CUSTOMERS}
    assert totals == {number: calls * price(number) for number in CUSTOMERS}
    assert len(costs.events) == calls * len(CUSTOMERS)
