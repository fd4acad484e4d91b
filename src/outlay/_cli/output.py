"""Tables for people. Needs rich, from the extra ``cli``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.errors import MissingExtraError

try:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError as error:
    raise MissingExtraError("A table (without --json)", "cli") from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNLIMITED: Final = 10_000  # columns


def show(made: Table) -> None:
    """Print a table on standard output, in its full width.

    Where the terminal is narrower, it wraps the lines: no digit is ever cut off.
    """
    Console(width=_UNLIMITED, highlight=False).print(made)


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    amounts: Sequence[str] = (),
    footer: Iterable[Sequence[str]] = (),
) -> Table:
    """Return a table.

    Args:
        headers: of the columns.
        rows: as many texts each as there are headers.
        amounts: the headers whose columns hold amounts, all of one length.
        footer: rows below a line.
    """
    made = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    body, totals = list(rows), list(footer)
    for index, header in enumerate(headers):
        width = max(len(row[index]) for row in [headers, *body, *totals])
        if header in amounts:
            made.add_column(header.rjust(width), no_wrap=True)
        else:
            made.add_column(header, no_wrap=True)
    for row in body:
        made.add_row(*map(Text, row))
    if totals:
        made.add_section()
    for row in totals:
        made.add_row(*map(Text, row), style="bold")
    return made
