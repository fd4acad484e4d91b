"""The faults of the matrix, once or a few times each.

``make faults`` plays all of them by the hundred. ``.ci/run`` plays all of them a few
times after the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.matrix import SCENARIOS
from tests.faults.scenario import NOTHING

if TYPE_CHECKING:
    from tests.faults.scenario import Scenario

_SEED = "bounded"


@pytest.mark.serial
@pytest.mark.parametrize(
    "scenario",
    [scenario for scenario in SCENARIOS if scenario.bounded],
    ids=lambda scenario: scenario.name,
)
def test_no_fault_loses_or_doubles_an_event(scenario: Scenario) -> None:
    """The server's exact total is what callers were told, whatever happened."""
    if why := scenario.needs():
        pytest.skip(why)
    tally = NOTHING

    for number in range(scenario.bounded):
        tally = tally.plus(scenario.trial(_SEED, number))

    assert tally.is_sound, tally
    assert tally.events > 0, "nothing was tried"
