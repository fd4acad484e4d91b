"""The pictures of terminals show what the commands print today."""

from __future__ import annotations

from scripts.terminals import FOLDER, steady_pictures


def test_the_pictures_of_commands_are_current() -> None:
    """Draw them again with ``python -m scripts.terminals`` if this fails."""
    differing = [
        picture.name
        for picture, svg in steady_pictures()
        if svg != (FOLDER / f"{picture.name}.svg").read_text("utf-8")
    ]

    assert differing == []
