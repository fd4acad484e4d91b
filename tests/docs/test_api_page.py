"""The reference has every public name, and every argument."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Final

import pytest

import outlay

PAGE: Final = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
SECTIONS: Final = {
    re.split(r"\W", section)[0]: section for section in PAGE.split("\n### `")[1:]
}


def test_the_reference_has_the_public_names_in_their_order() -> None:
    """The page is grouped by task, as `outlay.__all__` is."""
    assert [*SECTIONS] == [*outlay.__all__]
    assert f"offers {len(SECTIONS)} names" in PAGE


@pytest.mark.parametrize(
    "name", [name for name in SECTIONS if inspect.isfunction(getattr(outlay, name))]
)
def test_the_reference_has_every_argument(name: str) -> None:
    """A missing argument is one that its readers do not have."""
    shown = re.findall(r"\w+", SECTIONS[name])
    parameters = inspect.signature(getattr(outlay, name)).parameters
    named = [
        each.name for each in parameters.values() if each.kind is not each.VAR_KEYWORD
    ]

    assert [argument for argument in named if argument not in shown] == []
