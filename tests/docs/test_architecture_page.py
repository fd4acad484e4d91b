"""The pages that describe the tree name each room of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import outlay
from outlay import server

if TYPE_CHECKING:
    from types import ModuleType

ROOT: Final = Path(__file__).parents[2]


def rooms(package: ModuleType) -> set[str]:
    """Return the names of a package's own modules and packages."""
    assert package.__file__ is not None
    return {
        entry.stem
        for entry in Path(package.__file__).parent.iterdir()
        if (entry.suffix == ".py" or (entry / "__init__.py").exists())
        and not entry.stem.startswith("__")
    }


@pytest.mark.parametrize("package", [outlay, server], ids=["outlay", "server"])
def test_architecture_names_every_room(package: ModuleType) -> None:
    """A reader finds the layer of each module that the tree shows."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")

    assert {name for name in rooms(package) if f"`{name}`" not in page} == set()


def test_contributing_names_every_folder() -> None:
    """A newcomer finds out what belongs into each folder."""
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    folders = [
        f"`{folder.relative_to(ROOT)}/`"
        for place in ("src/outlay", "tests")
        for folder in (ROOT / place).iterdir()
        if any(folder.glob("*.py"))
    ]

    assert [folder for folder in folders if folder not in page] == []
    assert "`src/outlay/_model/`" in folders
