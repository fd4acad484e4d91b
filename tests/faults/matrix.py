"""All scenarios of the fault matrix, in the order of the table."""

from __future__ import annotations

from typing import Final

from tests.faults import answers, damage, disks, forks, kills, siblings

SCENARIOS: Final = (
    *kills.SCENARIOS,
    *damage.SCENARIOS,
    *disks.SCENARIOS,
    *siblings.SCENARIOS,
    *forks.SCENARIOS,
    *answers.SCENARIOS,
)
