"""Refuse requests for host names that are not the server's own.

A web page can let its own name resolve to this machine (DNS rebinding). It then sends
requests from a browser behind the firewall. Such requests carry the page's name in the
header ``Host``. A page cannot do that with an IP address, so all addresses are allowed.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from outlay.server._settings import ServerSettings

ANY_HOST: Final = "*"

_MAX_REMEMBERED: Final = 1000  # values of the header; clients of one server send few


class HostCheck:
    """ASGI middleware that responds 421 to requests for another host (RFC 9110).

    Args:
        app: The application.
        settings: The server's settings.
        page: A function that returns the page about a problem if a person sent the
            request with a browser, else None.
        public_prefix: The paths of the files of that page. They are for all hosts,
            because they are the same for everybody.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        page: Callable[[Scope, HttpProblem], Response | None],
        public_prefix: str,
    ) -> None:
        self._app = app
        self._page = page
        self._public_prefix = public_prefix
        self._names = {name.lower() for name in settings.allowed_hosts}
        self._names |= {"localhost", settings.host.lower()}
        if settings.listens_everywhere:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self._remembered: dict[bytes, bool] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass a request on, or refuse it."""
        app = self._app
        if scope["type"] == "http" and ANY_HOST not in self._names:
            value = next(
                (value for name, value in scope["headers"] if name == b"host"), b""
            )
            is_public = scope["path"].startswith(self._public_prefix)
            if not is_public and not self._is_allowed(value):
                app = self._refusal(scope, value)
        return app(scope, receive, send)

    def _is_allowed(self, value: bytes) -> bool:
        known = self._remembered.get(value)
        if known is None:
            known = _host_in(value) in self._names or _is_address(_host_in(value))
            if len(self._remembered) < _MAX_REMEMBERED:
                self._remembered[value] = known
        return known

    def _refusal(self, scope: Scope, value: bytes) -> Response:
        host = ascii(_host_in(value))[1:-1]
        problem = HttpProblem(
            421,
            f"this server does not serve the host {host!r}; start it with "
            f"--allowed-host {host}, if it should",
            code="UNKNOWN_HOST",
        )
        return self._page(scope, problem) or Response(
            encode(problem.body), problem.status, media_type="application/json"
        )


def _host_in(value: bytes) -> str:
    """Return the host of a header ``Host``, without its port."""
    text = value.decode("latin-1").lower()
    if text.startswith("["):
        host, bracket, _ = text[1:].partition("]")
        return host if bracket else ""  # not even a URL can have it
    return text.partition(":")[0].removesuffix(".")


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ip_address(host)
        return True
    return False
