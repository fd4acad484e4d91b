"""How the demo tells its story: lines, a progress bar, and tables at the end."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from outlay._cli import output as _tables
from outlay._cli.output_amounts import aligned
from outlay._model.money import exact_sum

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from outlay._cli.commands.demo.workers import TotalKey


class Narrator:
    """Prints what happens; on a terminal, above a bar that shows what is delivered."""

    def __init__(self, total: int) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("  delivered "),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def print_step(self, topic: str, text: str) -> None:
        """Print a line."""
        self._console.print(f"  [bold]{topic:<10}[/bold]  {text}")

    def show(self, delivered: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=delivered)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


def show_totals(
    tracked: Mapping[TotalKey, Decimal], counted: Mapping[TotalKey, Decimal]
) -> bool:
    """Print what was tracked beside what the server counted; return if all is equal."""
    cells = sorted({*tracked, *counted})
    left = [tracked.get(cell, Decimal()) for cell in cells]
    right = [counted.get(cell, Decimal()) for cell in cells]
    left.append(exact_sum(left))
    right.append(exact_sum(right))
    texts = aligned([*left, *right])
    marks = ["" if a == b else "DIFFERS" for a, b in zip(left, right, strict=True)]
    columns = zip(texts[: len(left)], texts[len(left) :], marks, strict=True)
    rows = [(*cell, *column) for cell, column in zip(cells, columns, strict=False)]
    total = ("all", "", "", texts[len(left) - 1], texts[-1], marks[-1])
    _tables.show(
        _tables.table(
            ("customer", "cost", "provider", "tracked, USD", "on the server, USD", ""),
            rows,
            amounts=("tracked, USD", "on the server, USD"),
            footer=[total],
        )
    )
    return not any(marks)
