"""Run the command line as its users do: words in, exit code and text out."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.middleware import Middleware

from outlay._cli.exit_codes import ExitCode
from outlay._cli.main import main
from outlay.server import BackgroundServer, ServerSettings
from tests.support.processes import environment

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_DEADLINE: Final = 120.0  # seconds; only a hang takes that long

KEY: Final = "sk_test_cli"
"""The key of every server that `serving` starts."""


class Ran(NamedTuple):
    """The exit code of a command, and its output."""

    code: int
    out: str
    err: str


def call(*words: str) -> Ran:
    """Run ``outlay`` in this process, with this process's environment."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as end:  # argparse raises it
            code = int(end.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def start(*words: str, **variables: object) -> subprocess.Popen[str]:
    """Start ``outlay`` as a process with these ``OUTLAY_*`` variables and no others."""
    return subprocess.Popen(
        [sys.executable, "-m", "outlay", *words],
        # Tests compare the output, so it must not depend on the caller's environment.
        env=environment({"PYTHONUTF8": "1", "NO_COLOR": "1", **variables}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Ran:
    """Wait until ``process`` ends."""
    try:
        out, err = process.communicate(timeout=_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Ran(process.returncode, out, err)


def run(*words: str, **variables: object) -> Ran:
    """Run ``outlay`` as a process to its end; see `start`."""
    return finish(start(*words, **variables))


def serving(respond: ASGIApp | None = None) -> BackgroundServer:
    """Return a new server that is not started yet.

    Args:
        respond: An application that responds to every request instead. Defaults to
            None.
    """
    settings = ServerSettings(port=0, database=":memory:", api_key=KEY)
    if respond is None:
        return BackgroundServer(settings)
    return BackgroundServer(settings, middleware=[Middleware(_Instead, answer=respond)])


class _Instead:
    """Middleware that replaces the application."""

    def __init__(self, app: ASGIApp, answer: ASGIApp) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._answer if scope["type"] == "http" else self._app
        await app(scope, receive, send)


def reaching(server: BackgroundServer) -> list[str]:
    """Return the arguments that name ``server`` and its key."""
    return ["--base-url", server.url, *with_key(KEY)]


def create_metric(server: BackgroundServer, event_type: str) -> None:
    """Have ``server`` count events of a type."""
    words = ["metrics", "create", event_type, "--event-type", event_type]
    assert call(*words, *reaching(server)).code == ExitCode.DONE


@functools.cache
def with_key(key: str) -> tuple[str, str]:
    """Return the arguments that name a file with ``key``."""
    file = tempfile.NamedTemporaryFile("w", prefix="outlay-key-")  # noqa: SIM115 - until exit
    atexit.register(file.close)
    file.write(key)
    file.flush()
    return ("--api-key-file", file.name)
