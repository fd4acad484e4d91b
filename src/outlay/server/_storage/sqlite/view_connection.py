"""A SQLite connection that can end all of its statements.

A statement whose rows were not all read holds the snapshot of its view, also after
ROLLBACK. An error keeps such a statement alive, because its traceback has the frames,
and the frames have the iterators. The next view of the connection would then be as old
as the statement.
"""

from __future__ import annotations

import sqlite3
from typing import Any
from weakref import WeakSet


class ViewConnection(sqlite3.Connection):
    """Remembers the statements that are in use. Thread safety: one at a time."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - of sqlite3
        super().__init__(*args, **options)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401 - of sqlite3
        """Run a statement."""
        cursor = super().execute(sql, parameters)
        self._cursors.add(cursor)
        return cursor

    def end_statements(self) -> None:
        """End all statements. Their other rows cannot be read any more."""
        for cursor in [*self._cursors]:
            cursor.close()
