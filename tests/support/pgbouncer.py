"""A real PgBouncer of the tests, before a PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import psycopg

from tests.support.postgres_server import PASSWORD
from tests.support.servers import free_port

if TYPE_CHECKING:
    from types import TracebackType

_DEADLINE: Final = 60.0
"""Seconds for a start or an end, on a busy machine."""

_SETTINGS: Final = """\
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = {mode}
"""


def find_pgbouncer() -> str | None:
    """Return the program of Debian's package ``pgbouncer``, or None."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


class PgBouncer:
    """A PgBouncer with its default settings. Use it as a context manager.

    Args:
        program: The program.
        server: The port of PostgreSQL.
        mode: The ``pool_mode``.
    """

    def __init__(self, program: str, server: int, mode: str) -> None:
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="outlay-pool-"))
        self.port: Final = free_port()
        settings = {"server": server, "port": self.port, "mode": mode}
        (self._folder / "settings").write_text(
            _SETTINGS.format(**settings, folder=self._folder)
        )
        (self._folder / "users").write_text(f'"outlay" "{PASSWORD}"\n')

    def url_of(self, database: str) -> str:
        """Return the URL of a database, through the pooler."""
        return f"postgresql://outlay:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        user = None
        if os.getuid() == 0:  # which it refuses
            user = pwd.getpwnam("nobody")
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, self._folder / "settings"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user and user.pw_uid,
                group=user and user.pw_gid,
                extra_groups=None if user is None else [],
            )
        deadline = time.monotonic() + _DEADLINE
        while not self._is_ready():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)  # noqa: TID251 - the start of a process is no event
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait(_DEADLINE)
        shutil.rmtree(self._folder)

    def log(self) -> str:
        """Return all that it wrote."""
        return (self._folder / "log").read_text(errors="replace")

    def _is_ready(self) -> bool:
        try:
            psycopg.connect(self.url_of("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True
