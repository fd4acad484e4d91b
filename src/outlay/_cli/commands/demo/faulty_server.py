"""The demo's stage: a server in a temporary folder, and faults to play on it."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from outlay._model.settings import Settings
from outlay.server import BackgroundServer, ServerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ServerFaults:
    """What is wrong with the server just now.

    Thread safety: any thread sets the first two; only the server's thread counts.

    Attributes:
        down: whether requests are answered with 503 and not looked at.
        answers_to_lose: how many of the next requests are served, but answered with
            503 all the same, as by a proxy that gave up waiting.
        refused: requests that met the server down.
        lost: answers lost.
    """

    def __init__(self) -> None:
        self.down = False
        self.answers_to_lose = 0
        self.refused = 0
        self.lost = 0


class FaultMiddleware:
    """Middleware that lets event requests suffer the `Faults`."""

    def __init__(self, app: ASGIApp, faults: ServerFaults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, refuse, or serve and lose the answer."""
        faults = self._faults
        if scope["type"] != "http" or not scope["path"].startswith("/v0/events"):
            await self._app(scope, receive, send)
            return
        if faults.down:
            faults.refused += 1
            await _read_body(receive)
        elif faults.answers_to_lose > 0:
            faults.answers_to_lose -= 1
            faults.lost += 1
            await self._app(scope, receive, _discard_response)
        else:
            await self._app(scope, receive, send)
            return
        await JSONResponse(_TROUBLE, 503)(scope, receive, send)


_TROUBLE: Final = {"message": "the demo plays an outage", "error": "unavailable"}


async def _read_body(receive: Receive) -> None:
    """Read the body, so that the connection can be used again."""
    while (await receive()).get("more_body", False):
        pass


async def _discard_response(message: Message) -> None:
    """Take an answer and tell nobody."""


def _may_be_inherited(variable: str) -> bool:
    """Whether a worker may inherit it: not the caller's own server, and no proxy."""
    name = variable.upper()
    return not (name.startswith("OUTLAY_") or name.endswith("_PROXY"))


class DemoServer:
    """A server in a temporary folder, with a switch for faults."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults = ServerFaults()
        self.api_key = "sk_test_demo_" + secrets.token_hex(12)
        self.server = BackgroundServer(
            ServerSettings(port=0, database=folder / "outlay.db", api_key=self.api_key),
            middleware=[Middleware(FaultMiddleware, faults=self.faults)],
        )

    def settings(self) -> Settings:
        """Return how to reach the server."""
        return Settings.resolve(
            {"base_url": self.server.url, "api_key": self.api_key}, environ={}
        )

    def environment(self) -> dict[str, str]:
        """Return what a worker finds in its environment."""
        return {
            **{
                name: text
                for name, text in os.environ.items()
                if _may_be_inherited(name)
            },
            "OUTLAY_BASE_URL": self.server.url,
            "OUTLAY_API_KEY": self.api_key,
            "OUTLAY_SOURCE": "urn:outlay:demo",
            "OUTLAY_JOURNAL_DIR": str(self.folder / "spill"),
            # The outage lasts a second, not an hour: try again accordingly.
            "OUTLAY_RETRY_INITIAL": "0.1",
            "OUTLAY_RETRY_MAX": "1",
        }
