"""The wheel stays small, and each shown installation says from where."""

from __future__ import annotations

import io
import re
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
MOST_BYTES: Final = 1_150_000
"""The limit of the wheel's files. Functions of AWS Lambda download them at a start.

The server is 43 % of it. Each file takes some 220 bytes beside its content."""


def test_the_wheel_stays_small() -> None:
    """A wheel is an archive with deflated files: those that hatch packs."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in packed_files():
            wheel.write(path, path.relative_to(ROOT / "src"))

    assert len(archive.getvalue()) < MOST_BYTES


def packed_files() -> Iterator[Path]:
    """Yield the files of the wheel."""
    yield ROOT / "src" / "pytest_outlay.py"
    for path in (ROOT / "src" / "outlay").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            yield path


def test_no_text_installs_a_name_that_no_index_has() -> None:
    """An owner of the name could run code on the reader's machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]

    for path in texts():
        shown = path.read_text("utf-8")
        assert not re.findall(r"pip install[^\n`]*? '?\"?outlay\b(?!-)", shown), path
        for names in re.findall(r"pip install [^\n`]*?'\.\[([\w,-]+)\]'", shown):
            assert {*names.split(",")} <= {*extras}, path


def texts() -> Iterator[Path]:
    """Yield what users and developers read."""
    yield from (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
    for folder in ("docs", "src", "examples"):
        for path in (ROOT / folder).rglob("*"):
            is_built = "_build" in path.parts
            if path.suffix in {".md", ".py", ".yaml", ".toml"} and not is_built:
                yield path
    yield ROOT / "examples" / "deploy" / "Dockerfile"
