"""Log a line for each request."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from outlay.server._logs import ACCESS_LOGGER

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(ACCESS_LOGGER)


class RequestLog:
    """ASGI middleware that logs each request after its response.

    The line has neither the query nor a header, because they can name customers and
    keys.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observe)
        finally:
            _log(scope, status, time.perf_counter() - start)


def _log(scope: Scope, status: int, seconds: float) -> None:
    client = scope.get("client") or ("-", 0)
    log.info(
        '%s "%s %s HTTP/%s" %d %.1f ms',
        client[0],
        scope["method"],
        # A client chooses the path, and must not forge a line.
        scope["path"].encode("unicode_escape").decode(),
        scope["http_version"],
        status,
        seconds * 1000,
        extra={
            "client": client[0],
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 6),
        },
    )
