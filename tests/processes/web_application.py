"""A web application that tracks a cost in each request; WSGI and ASGI.

``GET /7`` tracks event 7 and answers with the worker's process id. The client is
configured when the module is imported: by a server that preloads, before the fork.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import outlay
from tests.support.events import track

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

client = outlay.configure()
track(client, 0)  # a journal and a thread, which the workers must not share


def _serve(path: str) -> bytes:
    track(client, int(path.strip("/")))
    return str(os.getpid()).encode()


def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve one request of a WSGI server."""
    body = _serve(environ["PATH_INFO"])
    headers = [("Content-Length", str(len(body))), ("Connection", "close")]
    start_response("200 OK", headers)
    return [body]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Serve one request of an ASGI server."""
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    body = _serve(scope["path"])
    length = str(len(body)).encode()
    headers = [(b"content-length", length), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
