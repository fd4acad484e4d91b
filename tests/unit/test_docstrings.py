"""Docstrings keep the form that Sphinx and help() read."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE: Final = Path(__file__).parents[2] / "src"
_DOCUMENTED: Final = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_SECTION: Final = re.compile(
    r"^(?:Args|Attributes|Options|Raises):\n((?:    .*\n|\n)*)", re.M
)
_ENTRY: Final = re.compile(r" {4}[*\w.`]+(?: \([^)]*\))?:| {5}|$")


def test_each_line_of_a_section_begins_an_entry_or_is_below_one() -> None:
    """A line without its indent reads as a parameter of its own."""
    wrong = [
        f"{path.relative_to(SOURCE)}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        for docstring in docstrings(path)
        for section in _SECTION.findall(docstring + "\n")
        for line in section.splitlines()
        if not _ENTRY.match(line)
    ]

    assert wrong == []


def docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a module, and of all that it defines."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            yield inspect.cleandoc(text)
