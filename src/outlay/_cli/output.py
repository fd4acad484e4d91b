"""Print tables, amounts, counts and JSON.

Tables need rich, from the extra ``cli``. All other output works without it.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import textwrap
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

from outlay.errors import MissingExtraError

try:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text as RichText
except ModuleNotFoundError:  # `print_table` reports it: JSON needs no rich.
    _HAS_RICH = False
else:
    _HAS_RICH = True

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_UNLIMITED: Final = 10_000  # columns
_NARROWEST: Final = 20  # columns of a folded text

_Listed = TypeVar("_Listed")

Cell: TypeAlias = str | int | Decimal | None
"""A text, a count or an amount. None stands for a missing value."""


class Table(NamedTuple):
    """A table for people.

    Attributes:
        headers: The headers of the columns.
        rows: The rows, each with one cell for each header.
        footer: Rows below a line, such as totals.
        hide: Headers of the columns that a narrow terminal does not show. The first is
            hidden first.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    footer: Sequence[Sequence[Cell]] = ()
    hide: Sequence[str] = ()


def require_rich(feature: str, extra: str) -> None:
    """Check that tables can be printed.

    Args:
        feature: The feature that prints tables, for the message.
        extra: The extra that the message names.

    Raises:
        MissingExtraError: rich is not installed.
    """
    if not _HAS_RICH:
        raise MissingExtraError(feature, extra)


def print_table(table: Table) -> None:
    """Print a table, with the decimal points of a column in line.

    A terminal that is too narrow hides columns. If it is still too narrow, each row
    becomes a few lines. No value is ever cut.

    Raises:
        MissingExtraError: rich is not installed.
    """
    require_rich("A table (without --json or --csv)", "cli")
    width = _terminal_width()
    console = _console()
    hidden: list[str] = []
    remaining = [*table.hide]
    while console.measure(made := _rich_table(table, hidden)).maximum > width:
        if not remaining:
            _print_records(table)
            return
        hidden.append(remaining.pop(0))
    console.print(made)
    if hidden:
        names = ", ".join(hidden)
        print(
            textwrap.fill(
                f"not shown, because the terminal is narrow: {names}; --csv shows all",
                max(width, _NARROWEST),
            )
        )


def print_labelled(label: str, style: str, text: str) -> None:
    """Print a line that begins with a colored label. A terminal folds it at words.

    Args:
        label: The label, with the space after it.
        style: The style of the label, as rich names it.
        text: The text.
    """
    folded = textwrap.fill(
        text,
        max(_terminal_width() - 1, _NARROWEST),
        initial_indent=" " * len(label),
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )[len(label) :]
    if _HAS_RICH:
        _console().print(RichText.assemble((label, style), folded), soft_wrap=True)
    else:
        print(label + folded)


def _console() -> Console:
    return Console(
        width=_UNLIMITED,
        highlight=False,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )


def _terminal_width() -> int:
    """Return the width of the terminal in columns. A pipe or a file has no limit."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return _UNLIMITED


def _rich_table(table: Table, hidden: Sequence[str]) -> RichTable:
    made = RichTable(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    lines = [*table.rows, *table.footer]
    columns = []
    for index, header in enumerate(table.headers):
        if header in hidden:
            continue
        cells = [line[index] for line in lines]
        texts = _column_texts(cells)
        is_amount = any(isinstance(cell, Decimal) for cell in cells)
        width = max(map(len, texts), default=0) if is_amount else 0
        is_count = any(isinstance(cell, int) for cell in cells)
        made.add_column(
            header.rjust(width), no_wrap=True, justify="right" if is_count else "left"
        )
        columns.append(texts)
    for number, line in enumerate(zip(*columns, strict=True)):
        if number == len(table.rows):
            made.add_section()
        style = "bold" if number >= len(table.rows) else None
        made.add_row(*map(RichText, line), style=style)
    return made


def _print_records(table: Table) -> None:
    """Print each row as lines of a header and a value."""
    lines = [*table.rows, *table.footer]
    columns = [
        _column_texts([line[i] for line in lines]) for i in range(len(table.headers))
    ]
    width = max(map(len, table.headers))
    for line in zip(*columns, strict=True):
        print()
        for header, text in zip(table.headers, line, strict=True):
            if text.strip():
                print(f"{header:<{width}}  {text.strip()}")


def _column_texts(cells: Sequence[Cell]) -> list[str]:
    """Return the texts of one column."""
    amounts = [cell for cell in cells if cell is None or isinstance(cell, Decimal)]
    texts = iter(aligned(amounts))
    return [
        next(texts)
        if cell is None or isinstance(cell, Decimal)
        else f"{cell:,}"
        if isinstance(cell, int)
        else cell
        for cell in cells
    ]


def plain(amount: Decimal | None) -> str:
    """Return all digits of ``amount``, without an exponent or zeros at the end.

    Returns "-" for None.
    """
    if amount is None:
        return "-"
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def plain_or_none(amount: Decimal | None) -> str | None:
    """Return all digits of ``amount`` for JSON, or None."""
    return None if amount is None else plain(amount)


def aligned(amounts: Iterable[Decimal | None]) -> list[str]:
    """Return the amounts as texts of one length, with their decimal points in line."""
    parts = [plain(amount).partition(".") for amount in amounts]
    whole = max((len(before) for before, _, _ in parts), default=0)
    fraction = max((len(point + after) for _, point, after in parts), default=0)
    return [
        f"{before:>{whole}}{point + after:<{fraction}}"
        for before, point, after in parts
    ]


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def reason_text(reason: str) -> str:
    """Return a reason as people write it."""
    return reason.replace("_", " ")


def print_data(
    data_format: str, document: object, rows: Sequence[Mapping[str, object]]
) -> None:
    """Print data for scripts.

    Args:
        data_format: ``json`` or ``csv``.
        document: The JSON document.
        rows: The rows of the CSV table. A value with a structure is written as JSON.
    """
    if data_format == "json":
        print(_json(document))
        return
    names = [*dict.fromkeys(name for row in rows for name in row)]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_text(row.get(name)) for name in names])


def print_result(data_format: str, result: Mapping[str, object], text: str) -> None:
    """Print what a command did: as data for scripts, or in words.

    Args:
        data_format: ``json``, ``csv``, or empty for words.
        result: The data.
        text: The words.
    """
    if data_format:
        print_data(data_format, result, [result])
    else:
        print(text)


def print_list(
    data_format: str,
    found: Sequence[_Listed],
    as_json: Callable[[_Listed], Mapping[str, object]],
    show: Callable[[Sequence[_Listed]], None],
    *,
    nothing: str,
    total: int = 0,
    others: str = "older ones",
) -> None:
    """Print a list: as data for scripts, or for people.

    Args:
        data_format: ``json``, ``csv``, or empty for people.
        found: The items.
        as_json: A function that returns the data of an item.
        show: A function that prints all items for people.
        nothing: What people read if there is no item.
        total: The number of items on all pages. Defaults to no other pages.
        others: The items on the other pages, in words.
    """
    if data_format:
        rows = [as_json(one) for one in found]
        print_data(data_format, rows, rows)
    elif found:
        show(found)
        if total > len(found):
            print(f"{total - len(found):,} {others} are not shown")
    else:
        print(nothing)


def _csv_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


def _json(document: object) -> str:
    # In another encoding, a JSON escape is the only exact form of other characters.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    is_unicode = encoding.lower().replace("-", "").startswith("utf")
    return json.dumps(document, ensure_ascii=not is_unicode)
