"""Every example runs offline, prints what it promises, and stays short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.docs.blocks import shows
from tests.support.processes import environment

PROGRAMS: Final = sorted((Path(__file__).parents[2] / "examples").glob("[0-9]*.py"))

PRINTED: Final = {
    "01_first_event": """\
        tracked ok1_…
        tracked ok1_…
        total   0.0042 USD
    """,
    "02_cost_lines": """\
        storage       0.0534
        summary       0.0907
        transcription 0.288
        total         0.4321
    """,
    "03_survive_kill": """\
        the process ended with SIGKILL
        recovered 3 delivered 3
        total 0.3 USD
    """,
    "04_server_down": """\
        the server is down
        tracked, durable: True
        tracked, durable: True
        tracked, durable: True
        complete: False pending: 3
        the server is back
        complete: True pending: 0
        the server counted 3
    """,
    "05_asyncio": """\
        tracked 200
        total 0.84 USD
    """,
    "06_monthly_report": """\
        cus_amber: paid 49, cost 12.937900167, margin 36.062099833
        cus_birch: paid 49, cost 12.924200166, margin 36.075799834
        cus_cedar: paid 9, cost 25.875800334, margin -16.875800334
    """,
    "07_paid_functions": """\
        failed, tracked 2
        total 0.1315 USD
    """,
    "08_captured_calls": """\
          customer   type               provider  line  operation id  amount
          cus_amber  cost.ai.inference  openai    -     chatcmpl-1    0.0045
          cus_birch  cost.ai.inference  openai    -     chatcmpl-2    0.0045
          cus_birch  cost.ai.inference  openai    -     chatcmpl-3    0.0045
        cus_birch: 0.0090
    """,
}


def unindented(text: str) -> str:
    """Return ``text`` without the indentation that the table above gives it."""
    return "\n".join(line.removeprefix(" " * 8) for line in text.splitlines())


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_example_prints_what_it_promises(program: Path, tmp_path: Path) -> None:
    """Examples are copied; one that fails is worse than none."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=tmp_path,
        env=environment({"TMPDIR": tmp_path, "HOME": tmp_path}),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert shows(unindented(PRINTED[program.stem]), ran.stdout), ran.stdout
    assert list(tmp_path.iterdir()) == [], "it leaves files behind"


def test_every_example_is_asserted() -> None:
    """An example without an assertion rots."""
    assert [program.stem for program in PROGRAMS] == list(PRINTED)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_example_is_short_and_says_what_to_see(program: Path) -> None:
    """One idea each, read in a minute."""
    text = program.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 60
    assert "\n\nYou will see " in text
