"""Copying the log of a SQLite file beside its commits."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from outlay.server._storage.sqlite.checkpoints import Checkpoints
from outlay.server._storage.sqlite.schema import open_writer

if TYPE_CHECKING:
    from pathlib import Path

_DEADLINE_SECONDS: Final = 30.0
_ROUND_IN_HEADER: Final = slice(12, 16)  # sqlite.org/walformat.html, section 4.1


def test_the_log_is_begun_again_though_commits_never_pause(tmp_path: Path) -> None:
    """Else a server that is always busy would fill the disk with its log."""
    path = tmp_path / "outlay.db"
    with closing(open_writer(path, durable=False)) as connection:
        checkpoints = Checkpoints(path, connection, durable=False)
        checkpoints.start()
        connection.execute("CREATE TABLE pages (content BLOB)")
        first = _log_round(path)
        ends_at = time.monotonic() + _DEADLINE_SECONDS

        while _log_round(path) < first + 2 and time.monotonic() < ends_at:
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO pages VALUES (zeroblob(?))", [(4000,)] * 20
            )
            connection.execute("COMMIT")
            checkpoints.committed()
            checkpoints.copy_rest()
        checkpoints.close()

        assert _log_round(path) >= first + 2


def test_a_log_that_was_truncated_is_empty(tmp_path: Path) -> None:
    """An erased id must not stay in it."""
    path = tmp_path / "outlay.db"
    with closing(open_writer(path, durable=False)) as connection:
        checkpoints = Checkpoints(path, connection, durable=False)
        checkpoints.start()
        connection.execute("CREATE TABLE pages (content BLOB)")
        assert path.with_name("outlay.db-wal").stat().st_size

        checkpoints.truncate()
        checkpoints.close()

        assert not path.with_name("outlay.db-wal").stat().st_size


def _log_round(path: Path) -> int:
    """Return how often the log was begun."""
    with path.with_name(f"{path.name}-wal").open("rb") as log:
        return int.from_bytes(log.read(32)[_ROUND_IN_HEADER], "big")
