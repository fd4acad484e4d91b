"""A ClickHouse of the tests: its own process, port and folder. It can be killed.

The engine is that of the wheel ``chdb``, behind HTTP (`tests.support.clickhouse_http`).
The variable `CLUSTER_VARIABLE` names a real cluster instead.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.support.servers import free_port

CLUSTER_VARIABLE: Final = "OUTLAY_TEST_CLICKHOUSE"
"""The variable with the URL of a server in which the tests may create databases."""

_DEADLINE: Final = 60.0
"""Seconds for a start, on a busy machine."""


class ClickHouseMissingError(Exception):
    """This machine has no ClickHouse. The message says how to install it."""


class ClickHouseServer:
    """A ClickHouse with a new folder. Not thread-safe.

    Raises:
        ClickHouseMissingError: The wheel is not installed.
    """

    def __init__(self) -> None:
        if find_spec("chdb") is None:
            raise ClickHouseMissingError(
                "ClickHouse is missing; install the wheel 'chdb', or name a server in "
                f"{CLUSTER_VARIABLE}"
            )
        self.folder: Final = Path(tempfile.mkdtemp(prefix="outlay-ch-"))
        self.port: Final = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the database ``default``."""
        return f"clickhouse://127.0.0.1:{self.port}/default"

    def start(self) -> None:
        """Start, or start again on the same port, and wait until it responds."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.support.clickhouse_http",
                    self.folder / "data",
                    str(self.port),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
            )
        deadline = time.monotonic() + _DEADLINE
        while not self._responds():
            assert time.monotonic() < deadline, f"it does not start: {self.log()}"
            time.sleep(0.02)  # noqa: TID251 - the start of a process is no event

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_DEADLINE)
            self._process = None

    def pause(self) -> None:
        """Let it be silent: its connections stay, and nothing responds."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it respond again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start again after `kill`, on the same folder and port."""
        self.start()

    def remove(self) -> None:
        """Kill it, and delete the folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """Return all that it wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def _responds(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it ended: {self.log()[-2000:]}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping") as ping:
                return bool(ping.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False


@functools.cache
def shared_server() -> ClickHouseServer:
    """Return the server of this test process. It is started at its first use."""
    server = ClickHouseServer()
    server.start()
    atexit.register(server.remove)
    return server


def cluster_url() -> str:
    """Return the URL of the server that the tests create their databases in."""
    return os.environ.get(CLUSTER_VARIABLE) or shared_server().url


def new_database_url() -> str:
    """Return the URL of a database that does not exist yet."""
    url = urlsplit(cluster_url())
    return url._replace(path=f"/test_{uuid.uuid4().hex[:12]}").geturl()
