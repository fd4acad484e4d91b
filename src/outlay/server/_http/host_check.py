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

from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from outlay.server._settings import ServerSettings

ANY_HOST: Final = "*"

_MAX_REMEMBERED: Final = 1000  # values of the header; clients of one server send few


class HostCheck:
    """ASGI middleware that responds 421 to requests for another host (RFC 9110).

    Args:
        app: The application.
        settings: The server's settings.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._names = {name.lower() for name in settings.allowed_hosts}
        self._names |= {"localhost", settings.host.lower()}
        if settings.listens_everywhere:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self._remembered: dict[bytes, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and ANY_HOST not in self._names:
            value = next(
                (value for name, value in scope["headers"] if name == b"host"), b""
            )
            if not self._is_allowed(value):
                await _refuse(value, send)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, value: bytes) -> bool:
        known = self._remembered.get(value)
        if known is None:
            known = _host_in(value) in self._names or _is_address(_host_in(value))
            if len(self._remembered) < _MAX_REMEMBERED:
                self._remembered[value] = known
        return known


def _host_in(value: bytes) -> str:
    """Return the host of a header ``Host``, without its port."""
    text = value.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].removesuffix(".")


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ip_address(host)
        return True
    return False


async def _refuse(value: bytes, send: Send) -> None:
    host = ascii(_host_in(value))[1:-1]
    problem = HttpProblem(
        421,
        f"this server does not serve the host {host!r}; start it with "
        f"--allowed-host {host}, if it should",
        code="UNKNOWN_HOST",
    )
    body = encode(problem.body)
    await send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
