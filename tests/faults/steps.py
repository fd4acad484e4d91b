"""Everything at once, in any order: the random steps of the conservation test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import hypothesis
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.scenario import NOTHING, Scenario, Tally
from tests.property.test_conservation import FULL, Books

if TYPE_CHECKING:
    import random


def _in_any_order(chance: random.Random, size: int) -> Tally:
    """Take random steps and hold the books against the disk after each of them.

    Raises:
        AssertionError: they do not balance; made small, as Hypothesis does it.
    """
    tally = NOTHING

    class Counting(Books):
        def teardown(self) -> None:
            nonlocal tally
            super().teardown()
            events, quarantined = len(self.told), self.ended["quarantined"]
            tally = tally.plus(Tally(events, quarantined=quarantined))

    run_state_machine_as_test(
        hypothesis.seed(chance.getrandbits(64))(Counting),
        settings=hypothesis.settings(FULL, max_examples=size, database=None),
    )
    return tally


SCENARIOS: Final = (
    Scenario("all of it, in any order", _in_any_order, trials=25, bounded=1, size=20),
)
