"""``outlay serve`` as a process that can be killed, and started again on its port."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import httpx

from tests.support.servers import free_port

if TYPE_CHECKING:
    from pathlib import Path


class ServerProcess:
    """A server of outlay in a process of its own. It starts at once.

    Args:
        name: The name of its log.
        folder: The folder of the log, in which it runs.
        variables: The settings, besides the port. ``OUTLAY_SERVER_API_KEY`` is one.
    """

    def __init__(self, name: str, folder: Path, variables: dict[str, str]) -> None:
        self.port: Final = free_port()
        self.url: Final = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"{name}.log"
        self._variables = {**variables, "OUTLAY_SERVER_PORT": str(self.port)}
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "outlay", "serve"],
                cwd=self._log.parent,
                env={**os.environ, **self._variables},
                stdout=log,
                stderr=log,
            )

    @property
    def authorization(self) -> dict[str, str]:
        """The headers with the key."""
        return {"authorization": f"Bearer {self._variables['OUTLAY_SERVER_API_KEY']}"}

    def is_ready(self) -> bool:
        """Return whether it takes events.

        Raises:
            SystemExit: The process has ended.
        """
        if self._process.poll() is not None:
            raise SystemExit(f"a server ended: {self._log.read_text()}")
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def has_taken_events(self) -> bool:
        """Return whether this process has accepted an event."""
        shown = httpx.get(
            f"{self.url}/metrics", headers=self.authorization, timeout=30
        ).text
        return 'outlay_events_total{outcome="accepted"} 0.0' not in shown

    def restart_after_kill(self) -> None:
        """Kill the process as a crash does, and start the next one on its port."""
        self._process.kill()
        self._process.wait()
        self._start()

    def stop(self) -> None:
        """End the process, in order."""
        self._process.terminate()
        self._process.wait()
