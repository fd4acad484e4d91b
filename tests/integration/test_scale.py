"""Two servers on one PostgreSQL end with the sum of what four processes tracked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.postgres_server import CLUSTER_VARIABLE, cluster_url
from tests.support.processes import environment

_ROOT: Final = Path(__file__).parents[2]


@pytest.mark.timeout(600)  # seven processes start
def test_totals_are_equal_after_the_kill_of_a_server() -> None:
    """It is what ``make scale`` does, with fewer events."""
    ran = subprocess.run(
        [sys.executable, "-m", "scripts.scale", "--events", "1000"],
        cwd=_ROOT,
        env=environment({CLUSTER_VARIABLE: cluster_url()}),
        stdout=subprocess.PIPE,
        text=True,
        timeout=580,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    assert "kill -9: the first server, while it took events" in ran.stdout
    assert re.search(
        r"^cus_ada  tracked 0\.0000997  servers 0\.0000997  0\.0000997$",
        ran.stdout,
        re.MULTILINE,
    ), ran.stdout
    assert "equal to the digit" in ran.stdout
