"""Read the sizes that a benchmark measures from the command line."""

from __future__ import annotations

import argparse
from pathlib import Path


def size_options(
    description: str | None, module: str, *, keeps_databases: bool = False
) -> argparse.Namespace:
    """Return the options: the numbers in ``events``, and perhaps a folder in ``keep``.

    Args:
        description: The text of ``--help``.
        module: The benchmark's ``__name__``. Under ``python -m bench``, which runs all
            benchmarks, it gets no arguments.
        keeps_databases: Whether there is an option ``--keep``. Defaults to False.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("events", type=int, nargs="*", default=[100_000])
    if keeps_databases:
        parser.add_argument(
            "--keep", type=Path, help="a folder that keeps the databases"
        )
    return parser.parse_args(None if module == "__main__" else [])
