"""The part of a database connection that the shared statements use.

Placeholders are those of SQLite: ``?``, and ``:name``. Identifiers, upserts with their
conflict's columns, RETURNING and window-free queries mean the same in both engines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Parameters: TypeAlias = "Sequence[Any] | Mapping[str, Any]"


class Cursor(Protocol):
    """The rows of a statement."""

    @property
    def rowcount(self) -> int:
        """The number of rows that the statement changed."""
        ...

    def fetchone(self) -> Any:  # noqa: ANN401 - the columns of any statement
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all other rows."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Return an iterator of all other rows."""
        ...


class Connection(Protocol):
    """A connection, in a transaction."""

    def execute(self, query: str, parameters: Parameters = (), /) -> Cursor:
        """Execute a statement."""
        ...

    def executemany(self, query: str, parameters: Iterable[Parameters], /) -> object:
        """Execute a statement once for each element of ``parameters``."""
        ...
