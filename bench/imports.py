"""What ``import outlay`` adds to the start of a program.

Beside pydantic, which most programs that would use outlay have anyway: its bare import,
which is lazy, and its import as it is used, with one model of one field. Each in a
fresh process, in turns, without the plugins that other packages bring to pydantic.

Run it with ``python -m bench.imports``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Final

from bench._measure import as_deployed, show

ROUNDS: Final = 21

_MODEL: Final = (
    "from pydantic import BaseModel\nclass Model(BaseModel):\n    field: int"
)

_PROGRAMS: Final = {
    "nothing": "pass",
    "import pydantic": "import pydantic",
    "from pydantic import BaseModel": "from pydantic import BaseModel",
    "and a model of one field": _MODEL,
    "import outlay": "import outlay",
}


def main() -> None:
    """Measure and print."""
    _seconds(_PROGRAMS["import outlay"])  # warm: modules are compiled
    times: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    for _ in range(ROUNDS):
        for name, program in _PROGRAMS.items():
            times[name].append(_seconds(program))
    medians = {name: statistics.median(each) for name, each in times.items()}
    ours = medians["import outlay"]
    show(
        "From the start of Python to its end (goal: at most 1.5 x pydantic in use)",
        ("program", "ms", "outlay is"),
        [
            (name, f"{seconds * 1e3:.0f}", f"{ours / seconds:.2f} x")
            for name, seconds in medians.items()
        ],
    )


def _seconds(program: str) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program],
        env=as_deployed(),
        check=True,
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
