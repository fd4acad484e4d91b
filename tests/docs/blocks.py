"""Read code blocks of Markdown pages, and compare shown output with real output."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_RUN: Final = "no-run"
"""Marks a block that is a fragment and cannot run, after its language."""

_FENCED: Final = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$(?P<gap>\s*)",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of code.

    Attributes:
        name: The page and line, for a test's id.
        language: The language, such as ``python``. Empty if the page names none.
        text: The code.
        output: The text of the ``text`` block right after it, or None.
        runs: Whether the block is not marked as `NO_RUN`.
    """

    name: str
    language: str
    text: str
    output: str | None
    runs: bool

    @property
    def is_tests(self) -> bool:
        """Whether the block holds tests, which do nothing when the block runs."""
        return self.language == "python" and "def test_" in self.text


class Command(NamedTuple):
    """A line of a console block, and its shown output."""

    words: str
    output: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page, in order."""
    source = page.read_text(encoding="utf-8")
    found = list(_FENCED.finditer(source))
    for index, match in enumerate(found):
        language, _, mark = match["info"].partition(" ")
        following = found[index + 1] if index + 1 < len(found) else None
        output = None
        if following and following.start() == match.end():
            output = following["text"] if following["info"] == "text" else None
        line = source.count("\n", 0, match.start()) + 1
        name = f"{page.name}:{line}"
        text = textwrap.dedent(match["text"]) if match["indent"] else match["text"]
        yield Block(name, language, text, output, mark != NO_RUN)


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a console block; comments are left out."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        yield Command(re.sub(r"\s+# .*", "", line).strip(), output)


def shows(expected: str, printed: str) -> bool:
    """Return whether ``printed`` matches the page, where '…' matches any text.

    Blanks at the ends of lines and of the whole are invisible, and do not count.
    """
    pattern = ".*".join(map(re.escape, _trimmed(expected).split("…")))
    return re.fullmatch(pattern, _trimmed(printed)) is not None


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()
