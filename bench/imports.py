"""What ``import outlay`` adds to the start of a program, and a first call to its work.

Beside pydantic, which most programs that would use outlay have anyway: its bare import,
which is lazy, and its import as it is used, with one model of one field. Each in a
fresh process, in turns, without the plugins that other packages bring to pydantic.

outlay imports pydantic with the first client: what the import saves, the first call
takes. Nothing is shipped, so httpx is not in these times.

Run it with ``python -m bench.imports``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Final

from bench._measure import as_deployed, show

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUNDS: Final = 21

_MODEL: Final = (
    "from pydantic import BaseModel\nclass Model(BaseModel):\n    field: int"
)

_CALL: Final = """
import outlay
outlay.track_cost("cost.bench", 1, customer_id="c", operation_id="o")
"""

_PROGRAMS: Final = {
    "nothing": "pass",
    "import pydantic": "import pydantic",
    "from pydantic import BaseModel": "from pydantic import BaseModel",
    "and a model of one field": _MODEL,
    "import outlay": "import outlay",
    "and a first track_cost": _CALL,
}


def main() -> None:
    """Measure and print."""
    times: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **as_deployed(),
            "OUTLAY_SHIPPING": "none",
            "OUTLAY_JOURNAL_DIR": folder,
        }
        for program in _PROGRAMS.values():
            _seconds(program, environment)  # warm: modules are compiled
        for _ in range(ROUNDS):
            for name, program in _PROGRAMS.items():
                times[name].append(_seconds(program, environment))
    medians = {name: statistics.median(each) for name, each in times.items()}
    ours = medians["import outlay"]
    show(
        "From the start of Python to its end (goal: at most 1.5 x import pydantic)",
        ("program", "ms", "outlay is"),
        [
            (name, f"{seconds * 1e3:.0f}", f"{ours / seconds:.2f} x")
            for name, seconds in medians.items()
        ],
    )


def _seconds(program: str, environment: Mapping[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        check=True,
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
