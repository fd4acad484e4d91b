"""A Sphinx directive with the help of all commands, read from their parsers."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive

from outlay._cli.main import all_parsers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

_COLUMNS = "88"


class CommandReference(Directive):
    """Show the help of each command and of its subcommands, a section each."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        os.environ["COLUMNS"] = _COLUMNS  # argparse folds its help to this width
        return [
            self._section(parser)
            for command in all_parsers().values()
            for parser in _with_subcommands(command)
        ]

    def _section(self, parser: argparse.ArgumentParser) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(parser.prog)])
        section += nodes.title(text=parser.prog)
        text = parser.format_help()
        section += nodes.literal_block(text, text, language="none")
        self.state.document.note_implicit_target(section, section)
        return section


def _with_subcommands(
    parser: argparse.ArgumentParser,
) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:  # noqa: SLF001 - argparse lists them nowhere else
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for child in action.choices.values():
                yield from _with_subcommands(child)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-reference", CommandReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
