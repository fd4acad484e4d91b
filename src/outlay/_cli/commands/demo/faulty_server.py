"""The demo's server, which can refuse requests and lose responses."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse

from outlay._model.settings import PREFIX, Settings
from outlay.server import BackgroundServer, ServerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.middleware.base import RequestResponseEndpoint
    from starlette.requests import Request
    from starlette.responses import Response

_OUTAGE_BODY: Final = {"message": "the demo plays an outage", "error": "unavailable"}


class DemoServer:
    """A server in a temporary folder, with faults.

    Thread safety: Any thread may set the faults. Only the server's thread counts.

    Attributes:
        is_down: Whether the server responds 503 and does not read requests.
        responses_to_lose: The number of requests that the server will serve, but
            respond to with 503. A proxy does so after its own timeout.
        refused: The number of requests in the outage.
        lost: The number of lost responses.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_down = False
        self.responses_to_lose = 0
        self.refused = 0
        self.lost = 0
        self._api_key = "sk_test_demo_" + secrets.token_hex(12)
        self.server = BackgroundServer(
            ServerSettings(
                port=0, database=folder / "outlay.db", api_key=self._api_key
            ),
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=self._with_faults)],
        )

    async def _with_faults(
        self, request: Request, serve: RequestResponseEndpoint
    ) -> Response:
        """Serve, refuse, or serve and lose the response, if a request has events."""
        if not request.url.path.startswith("/v0/events"):
            return await serve(request)
        if self.is_down:
            self.refused += 1
            await request.body()  # so that the connection can be used again
        else:
            response = await serve(request)
            if not self.responses_to_lose:
                return response
            self.responses_to_lose -= 1
            self.lost += 1
        return JSONResponse(_OUTAGE_BODY, 503)

    def settings(self) -> Settings:
        """Return the settings of a client of the server."""
        return Settings.resolve(
            {"base_url": self.server.url, "api_key": self._api_key}, environ={}
        )

    def worker_environment(self) -> dict[str, str]:
        """Return the environment of a worker.

        Workers inherit neither proxies nor the caller's own outlay settings: the
        caller's real server must not get the demo's costs.
        """
        inherited = {
            name: text
            for name, text in os.environ.items()
            if not name.upper().startswith(PREFIX)
            and not name.upper().endswith("_PROXY")
        }
        return {
            **inherited,
            "OUTLAY_BASE_URL": self.server.url,
            "OUTLAY_API_KEY": self._api_key,
            "OUTLAY_SOURCE": "urn:outlay:demo",
            "OUTLAY_JOURNAL_DIR": str(self.folder / "journal"),
            # The outage lasts a second, so retries must be as quick.
            "OUTLAY_RETRY_INITIAL": "0.1",
            "OUTLAY_RETRY_MAX": "1",
        }
