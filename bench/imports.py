"""Measure what ``import outlay`` adds to the start of a program.

outlay imports its packages at the top of its modules: httpx with httpcore, pydantic,
tenacity, msgspec and the OpenTelemetry API. So the fair floor is a process that imports
these. pydantic loads most of itself with the first model that a program defines, and
outlay's settings are a model. So a process that also defines the smallest model is the
second floor. Other SDKs, which many programs import, stand beside it. Each program runs
in a fresh process, in turns, without the plugins that other packages bring to pydantic.

The times are CPU seconds of the process, which other work on the machine changes least.
Nothing is shipped.

Run it with ``python -m bench.imports``.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Final

from bench._measure import as_deployed, show

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUNDS: Final = 15

_FLOOR: Final = """
import httpcore, httpx, msgspec, tenacity
from opentelemetry import baggage, context, metrics, trace
from pydantic import BaseModel
"""

_MODEL: Final = """
class Smallest(BaseModel):
    number: int = 1
"""

_CALL: Final = """
import outlay
outlay.track_cost("cost.bench", 1, customer_id="c", operation_id="o")
"""

_PROGRAMS: Final = {
    "nothing": "pass",
    "import the packages that outlay uses": _FLOOR,
    "the same, and define one pydantic model": _FLOOR + _MODEL,
    "import outlay": "import outlay",
    "import outlay, and a first track_cost": _CALL,
}
_OTHERS: Final = ("openai", "sentry_sdk", "posthog", "logfire")


def main() -> None:
    """Measure and print."""
    programs = dict(_PROGRAMS)
    for package in _OTHERS:
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed, and not measured")
        else:
            programs[f"import {package}"] = f"import {package}"
    medians = _measure(programs)
    floor = medians["import the packages that outlay uses"]
    show(
        "CPU time of a whole process (goal: import outlay at most 1.15 x its packages)",
        ("program", "ms", "x its packages"),
        [
            (name, f"{seconds * 1e3:.0f}", f"{seconds / floor:.2f} x")
            for name, seconds in medians.items()
        ],
    )


def _measure(programs: Mapping[str, str]) -> dict[str, float]:
    """Return the median CPU seconds of each program."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **as_deployed(),
            "OUTLAY_SHIPPING": "none",
            "OUTLAY_JOURNAL_DIR": folder,
        }
        for program in programs.values():
            _cpu_seconds(program, environment)  # warm: modules are compiled
        for _ in range(ROUNDS):
            for name, program in programs.items():
                times[name].append(_cpu_seconds(program, environment))
    return {name: statistics.median(each) for name, each in times.items()}


def _cpu_seconds(program: str, environment: Mapping[str, str]) -> float:
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, program)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
