"""Show the progress of long work on a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, Self

try:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )
except ModuleNotFoundError:  # Without the extra `cli` there is no bar.
    _HAS_RICH = False
else:
    _HAS_RICH = True

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import TypeVar

    T = TypeVar("T")

_BAR_COLUMNS: Final = 30
_EVERY: Final = 100  # items; to show each one would take longer than the work


class ProgressBar:
    """A bar on the standard error, as a context manager. It disappears at the end.

    It prints nothing if the standard error is no terminal, or if rich is missing.

    Args:
        is_wanted: Whether to show it at all. It would mix with data on the terminal.
    """

    def __init__(self, *, is_wanted: bool = True) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._progress: Progress | None = None
        if is_wanted and _HAS_RICH and sys.stderr.isatty():
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(_BAR_COLUMNS),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(
                    stderr=True,
                    color_system=None if os.environ.get("NO_COLOR") else "auto",
                ),
                transient=True,
                # The output of a command is data, which must not pass through rich.
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __enter__(self) -> Self:
        """Begin to show the bar."""
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()

    def show(self, work: str, done: int, total: int = 0) -> None:
        """Show how much of a work is done.

        Args:
            work: The name of the work. Each has a line of its own.
            done: The number of items that are done.
            total: The number of all items. 0, the default, if it is not known.
        """
        if self._progress is None:
            return
        if work not in self._tasks:
            self._tasks[work] = self._progress.add_task(work, total=None)
        self._progress.update(self._tasks[work], completed=done, total=total or None)

    def count(self, work: str, items: Iterable[T], total: int = 0) -> Iterator[T]:
        """Yield ``items``, and show how many were taken.

        Args:
            work: The name of the work.
            items: The items.
            total: The number of all items. 0, the default, if it is not known.
        """
        for done, item in enumerate(items):
            if not done % _EVERY:
                self.show(work, done, total)
            yield item
