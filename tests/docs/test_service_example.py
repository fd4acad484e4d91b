"""The whole product of ``examples/service`` ends with the provider's own totals."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import environment

pytestmark = [pytest.mark.slow, pytest.mark.serial]  # a dozen processes

PROGRAM: Final = Path(__file__).parents[2] / "examples" / "service" / "run.py"


@pytest.mark.timeout(400)  # some of the processes start twice
def test_costs_equal_the_providers_ledger_after_three_kills() -> None:
    """A company compares with the bill, and nothing may be missing or double."""
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), "--seconds", "4"],
        env=environment({}),
        stdout=subprocess.PIPE,
        text=True,
        timeout=380,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.count("kill -9") == 3
    assert len(
        re.findall(r"^cus_\w+  provider 0\.\d+  outlay 0\.\d+$", ran.stdout, re.M)
    )
    assert "equal to the digit" in ran.stdout
