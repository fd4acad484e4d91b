"""Copy the log into the database file beside the commits, and keep the log short.

SQLite would copy the log at the end of a commit, and posts would wait some 50 ms for
it. So a thread copies it while commits go on. Commits meanwhile append to the log. A
full log is only begun again when all of it is copied, so the commit thread copies the
small rest between two commits.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Final

from outlay.server._storage.sqlite.schema import LOG_BYTES, open_checkpointer

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("outlay.server")

_CHANGED_ROWS: Final = 2000  # some 300 pages of batches, or 8,000 of single posts
_PAUSE_SECONDS: Final = 0.5  # between two copies: each syncs the log and the file
_LONG_LOG_PAGES: Final = 4000  # 16 MB


class Checkpoints:
    """Copies the log of one database. Thread safety: the commit thread.

    Args:
        path: The database file.
        connection: The writing connection, which does not copy the log by itself.
        durable: Whether the file is synced before the log is begun again.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, *, durable: bool
    ) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._writer = connection
        self._durable = durable
        self._copied_rows = 0
        self._is_due = threading.Event()
        self._is_closing = threading.Event()
        self._is_long = False  # set by the thread, cleared by the commit thread
        self._copying = threading.Lock()  # SQLite refuses a second copy at a time
        self._thread = threading.Thread(
            # A daemon, because a store that was not closed must not keep the process.
            target=self._copy_all,
            name="outlay-checkpoints",
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def committed(self) -> None:
        """Wake the thread once many rows were written, or a few long ones.

        The size of the log tells only the latter, because a log that is begun again
        keeps its size up to a limit.
        """
        changed = self._writer.total_changes
        if changed - self._copied_rows >= _CHANGED_ROWS or self._is_log_large():
            self._copied_rows = changed
            self._is_due.set()

    def copy_rest(self) -> None:
        """Copy the rest of a long log, so that the next commit begins it again.

        Call it between two commits. A view may still need the log. Then it is tried
        again after the next copy of the thread.
        """
        if self._is_long and self._copying.acquire(blocking=False):
            try:
                self._is_long = False
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                self._copying.release()

    def truncate(self) -> None:
        """Copy all of the log, and cut it to nothing."""
        with self._copying:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """End the thread."""
        self._is_closing.set()
        self._is_due.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _is_log_large(self) -> bool:
        try:
            return self._log.stat().st_size > LOG_BYTES
        except OSError:  # a person removed it; the commit is done nevertheless
            return False

    def _copy_all(self) -> None:
        is_failing = False
        while self._is_due.wait() and not self._is_closing.is_set():
            self._is_due.clear()
            try:
                self._copy()
                is_failing = False
            except sqlite3.Error as error:
                # Nothing is lost: the log has all commits.
                if not is_failing:
                    log.warning(
                        "the log of the database grows, because it cannot be copied "
                        "(%s); check the disk",
                        error,
                    )
                is_failing = True
            self._is_closing.wait(_PAUSE_SECONDS)

    def _copy(self) -> None:
        with (
            closing(open_checkpointer(self._path, durable=self._durable)) as connection,
            self._copying,
        ):
            [(_, pages, _)] = connection.execute(
                "PRAGMA wal_checkpoint(PASSIVE)"
            ).fetchall()
        if pages >= _LONG_LOG_PAGES:
            self._is_long = True
