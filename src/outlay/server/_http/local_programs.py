"""Let only programs of this machine in, for a server that needs no key.

A foreign web page could send requests from a browser on this machine. Its requests
carry its own ``Origin``, or the name of its host if that name leads to this machine.
The server's own pages have the server's origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from outlay.server._settings import is_loopback
from outlay.server._wire.problems import forbidden_page
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_JSON: Final = "application/json"


class LocalProgramsOnly:
    """Refuses the requests of foreign web pages. See the module."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with 403."""
        app = self._app
        if scope["type"] == "http" and not _is_of_a_program(Headers(scope=scope)):
            problem = forbidden_page()
            app = Response(encode(problem.body), problem.status, media_type=_JSON)
        await app(scope, receive, send)


def _is_of_a_program(headers: Headers) -> bool:
    address = headers.get("host", "")
    host = urlsplit(f"//{address}").hostname
    own = f"http://{address}"
    return headers.get("origin", own) == own and host is not None and is_loopback(host)
