"""Operations in processes that are killed in the midst of them."""

from __future__ import annotations

import signal
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import run

if TYPE_CHECKING:
    from tests.processes.ledger import Ledger

PROGRAM = """
from decimal import Decimal
from outlay._capture.observation import Observation
from outlay._capture.recorder import Recorder

last = {last}
with outlay.operation(
    "cost.ai.inference", operation_id="job-7", customer_id="cus_1"
) as op:
    op.add("0.1", line="pages")
    nameless = Observation(
        provider="acme", event_type="cost.ai.inference", amount=Decimal("0.02")
    )
    Recorder.for_client().record(nameless)
    if last == "early": die()
    Recorder.for_client().record(nameless)
    op.add("0.003", line="summary")
    if last == "late": die()
    op.add("0.0004")
outlay.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("last", ["early", "late"])
def test_what_was_added_before_a_kill_counts_once_after_a_re_run(
    ledger: Ledger, last: str
) -> None:
    """Nothing waits for the end of an operation, and a re-run finds the same keys."""
    variables = ledger.settings()
    run(PROGRAM.format(last=repr(last)), variables, code=-signal.SIGKILL)
    run(PROGRAM.format(last="None"), variables)
    run(PROGRAM.format(last="None"), variables)
    ledger.inherit()

    assert ledger.total == Decimal("0.1434")
    assert ledger.counts.duplicates >= 5
