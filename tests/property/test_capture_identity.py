"""Names of calls without an id: unique, and the same in every order and every run."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

import outlay
from outlay._capture.observation import Observation
from outlay._capture.operations.ids import DerivedIds, resolve_operation_id
from outlay._capture.operations.state import current_derived_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

# Few of each, so that many calls are alike.
CALLS = st.lists(
    st.builds(
        Observation,
        provider=st.sampled_from(["acme", "other"]),
        event_type=st.just("cost.a"),
        usage=st.sampled_from([{}, {"page": 1}, {"page": 2}]),
        amount=st.sampled_from([None, Decimal(1), Decimal("1.5")]),
    ),
    max_size=40,
)
WORKERS = 4


def named(call: Observation) -> tuple[str, Observation]:
    """Return the name that a call gets here and now, and the call."""
    name = resolve_operation_id(call, current_derived_ids())
    assert name is not None
    return name, call


def in_turn(calls: Sequence[Observation]) -> list[tuple[str, Observation]]:
    """Name calls that are made one after the other."""
    with outlay.operation(operation_id="job"):
        return [named(call) for call in calls]


def in_threads(calls: Sequence[Observation]) -> list[tuple[str, Observation]]:
    """Name calls that are made by a pool of threads."""
    with (
        ThreadPoolExecutor(WORKERS) as pool,
        outlay.operation(operation_id="job"),
    ):
        return list(pool.map(outlay.bind(named), calls))


def in_tasks(calls: Sequence[Observation]) -> list[tuple[str, Observation]]:
    """Name calls that are made by tasks, half of them on other threads."""

    async def name(number: int, call: Observation) -> tuple[str, Observation]:
        if number % 2:
            return await asyncio.to_thread(named, call)
        await asyncio.sleep(0)
        return named(call)

    async def main() -> list[tuple[str, Observation]]:
        async with outlay.operation(operation_id="job"):
            made = (name(number, call) for number, call in enumerate(calls))
            return await asyncio.gather(*made)

    return asyncio.run(main())


def fingerprints(made: Sequence[tuple[str, Observation]]) -> Counter[str]:
    """Return which name stands for which cost."""
    return Counter(f"{name} {call}" for name, call in made)


@settings(max_examples=40)
@given(calls=CALLS, data=st.data())
def test_names_are_unique_and_the_same_in_every_order(
    calls: list[Observation], data: st.DataObject
) -> None:
    """In turn, in threads, in tasks: the same names stand for the same costs."""
    expected = in_turn(calls)

    for made in (
        in_turn(data.draw(st.permutations(calls))),
        in_threads(calls),
        in_tasks(calls),
    ):
        assert len({name for name, _ in made}) == len(calls)
        assert fingerprints(made) == fingerprints(expected)


def test_threads_that_meet_at_a_new_kind_of_call_get_names_of_their_own() -> None:
    """Two calls that are alike never get one name: one of them would not count."""
    places, start = DerivedIds("job"), threading.Barrier(WORKERS)

    def name(_: int) -> list[str | None]:
        start.wait()
        return [places.next_id(kind) for kind in range(3000)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            made = [*itertools.chain(*pool.map(name, range(WORKERS)))]
    finally:
        sys.setswitchinterval(interval)

    assert len({*made}) == len(made)
