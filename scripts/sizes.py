"""List the largest modules, classes and functions of ``src/``, for a second look.

The list is orientation. No check fails because of a size.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCES: Final = Path(__file__).parents[1] / "src"
_SHOWN: Final = 15


def main() -> None:
    """Print one list for each kind, largest first."""
    modules: list[tuple[int, str]] = []
    classes: list[tuple[int, str]] = []
    functions: list[tuple[int, str]] = []
    for path in sorted(_SOURCES.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = str(path.relative_to(_SOURCES))
        modules.append((text.count("\n"), name))
        for node, place in _definitions(ast.parse(text), name):
            kind = classes if isinstance(node, ast.ClassDef) else functions
            kind.append((_lines(node), place))

    print(f"{len(modules)} modules, {sum(size for size, _ in modules)} lines")
    for title, sizes in [
        ("modules", modules),
        ("classes", classes),
        ("functions", functions),
    ]:
        print(f"\nThe largest {title}, in lines:")
        for size, name in sorted(sizes, reverse=True)[:_SHOWN]:
            print(f"{size:6}  {name}")


def _definitions(
    tree: ast.Module, name: str
) -> Iterator[tuple[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, f"{name}:{node.lineno}  {node.name}"


def _lines(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


if __name__ == "__main__":
    main()
