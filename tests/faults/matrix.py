"""All scenarios of the fault matrix, in the order of the table."""

from __future__ import annotations

from typing import Final

from tests.faults import (
    answers,
    clocks,
    damage,
    disks,
    exits,
    forks,
    handlers,
    hops,
    kills,
    servers,
    siblings,
    steps,
    storms,
)

SCENARIOS: Final = (
    *kills.SCENARIOS,
    *damage.SCENARIOS,
    *disks.SCENARIOS,
    *siblings.SCENARIOS,
    *storms.SCENARIOS,
    *forks.SCENARIOS,
    *exits.SCENARIOS,
    *handlers.SCENARIOS,
    *answers.SCENARIOS,
    *hops.SCENARIOS,
    *clocks.SCENARIOS,
    *steps.SCENARIOS,
    *servers.SCENARIOS,
)
