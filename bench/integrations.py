"""CPU of a request through the middlewares, above the bare application.

The time is that of the calling thread alone, so that other programs on the machine
disturb little; each variant's best of several rounds counts. The callback returns the
id of a customer, and takes no time itself.

Run it with ``python -m bench.integrations``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from bench._measure import show
from outlay.integrations.asgi import OutlayMiddleware
from outlay.integrations.starlette import OutlayMiddleware as StarletteMiddleware
from outlay.integrations.wsgi import WSGIMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from outlay.integrations.asgi import ASGIApp

ROUNDS: Final = 9
REQUESTS: Final = 5000


def customer(_: object) -> str:
    """Return the customer of every request."""
    return "cus_123"


async def asgi(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    """Serve a request, in no time."""


def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve a request, in no time."""
    del environ, start_response
    return []


def asgi_requests(app: ASGIApp) -> Callable[[], None]:
    """Return a function that makes many requests."""
    scope: dict[str, Any] = {"type": "http", "path": "/", "headers": []}

    async def requests() -> None:
        for _ in range(REQUESTS):
            await app(scope, None, None)  # type: ignore[arg-type]  # not used

    return lambda: asyncio.run(requests())


def wsgi_requests(app: Any) -> Callable[[], None]:  # noqa: ANN401 - bare or wrapped
    """Return a function that makes many requests."""
    environ: WSGIEnvironment = {"PATH_INFO": "/"}

    def requests() -> None:
        for _ in range(REQUESTS):
            app(environ, None)

    return requests


VARIANTS: Final = {
    "ASGI, bare": asgi_requests(asgi),
    "ASGI": asgi_requests(OutlayMiddleware(asgi, customer=customer)),
    "Starlette": asgi_requests(StarletteMiddleware(asgi, customer=customer)),
    "WSGI, bare": wsgi_requests(wsgi),
    "WSGI": wsgi_requests(WSGIMiddleware(wsgi, customer=customer)),
}


def cpu_of(requests: Callable[[], None]) -> float:
    """Return how many microseconds of CPU one request takes, of many."""
    began = time.thread_time()
    requests()
    return (time.thread_time() - began) / REQUESTS * 1e6


def main() -> None:
    """Compare the variants, in turns."""
    best = dict.fromkeys(VARIANTS, float("inf"))
    for _ in range(ROUNDS):
        for name, requests in VARIANTS.items():
            best[name] = min(best[name], cpu_of(requests))
    show(
        "middlewares: CPU of one request",
        ("variant", "µs", "above bare"),
        [
            (name, f"{us:.2f}", f"{us - best[name.split(',')[0][:4] + ', bare']:.2f}")
            if name.startswith("WSGI")
            else (name, f"{us:.2f}", f"{us - best['ASGI, bare']:.2f}")
            for name, us in best.items()
        ],
    )


if __name__ == "__main__":
    main()
