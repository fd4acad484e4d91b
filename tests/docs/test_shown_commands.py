"""Each command of outlay that a page names exists, with its options."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from outlay._cli.main import all_parsers

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [
    page
    for folder in ("docs", "examples")
    for page in sorted((ROOT / folder).rglob("*.md"))
    if "_build" not in page.parts
]
PARSERS: Final = all_parsers()
_OTHERS: Final = {"--enable-threads", "--preload", "--workers"}
"""Options of web servers, on the page about them."""

_SHOWN: Final = re.compile(
    r"`outlay ([^`\n]+)`|^\$ outlay (.+?)(?: {2,}#.*)?$", re.MULTILINE
)


def shown_commands(page: Path) -> Iterator[str]:
    """Yield the words after ``outlay``, in code spans and in console blocks."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    for match in _SHOWN.finditer(text):
        yield match[1] or match[2]


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES],
    ids=lambda page: f"{page.relative_to(ROOT)}",
)
def test_each_shown_command_exists(page: Path) -> None:
    """Readers type what they see, and lose trust at the first error."""
    wrong = {shown: problem(shown) for shown in shown_commands(page)}

    assert {shown: why for shown, why in wrong.items() if why} == {}


def test_each_shown_option_exists() -> None:
    """An option without its command cannot be tried, so it must exist at least."""
    known = {name for parser in PARSERS.values() for name in all_options(parser)}
    shown = {
        (page.name, option)
        for page in [ROOT / "README.md", *PAGES]
        for option in re.findall(r"`(--[a-z][a-z-]+)[^`]*`", page.read_text("utf-8"))
        if not {page.parent.name, page.parent.parent.name} & {"decisions"}
    }

    unknown = {(page, name) for page, name in shown if name not in known | _OTHERS}
    assert unknown == set()


def problem(shown: str) -> str:
    """Return the reason why a shown command fails, or ''."""
    name, *words = re.split(r"\s+(?:[|;>]|>>|&&)", shown)[0].split()
    if name not in PARSERS:
        return "" if name.startswith("-") else f"no command {name}"
    parser = PARSERS[name]
    for word in words:
        children = subcommands(parser)
        if word in children:
            parser = children[word]
        elif word.startswith("--"):
            if word.partition("=")[0] not in options(parser):
                return f"{parser.prog} has no {word}"
        elif children and re.fullmatch(r"[a-z-]+", word):
            return f"{parser.prog} has no {word}"
    return ""


def all_options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a command and of its actions."""
    return options(parser).union(*map(all_options, subcommands(parser).values()))


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a command."""
    return {name for action in parser._actions for name in action.option_strings}


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the actions of a command, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
