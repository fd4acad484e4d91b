"""Build the server as an ASGI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from starlette.routing import Router as Lifespan

from outlay._model.clock import Clock, SystemClock
from outlay.server._core import ServerCore
from outlay.server._dashboard.app import Dashboard
from outlay.server._http.api_docs import ApiDocs
from outlay.server._http.local_programs import LocalProgramsOnly
from outlay.server._http.request_log import RequestLog
from outlay.server._http.router import Router
from outlay.server._http.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from outlay.server._settings import ServerSettings


def create_app(
    settings: ServerSettings,
    *,
    clock: Clock | None = None,
    middleware: Sequence[Middleware] = (),
) -> ASGIApp:
    """Return the server as an ASGI application, to run in any ASGI server.

    The application opens the database when it starts up. It closes the database when
    it shuts down, with every accepted event on disk. Run one worker process for a
    database.

    Args:
        settings: The server's settings.
        clock: The source of the time. Defaults to the machine's clock.
        middleware: The middleware around all routes, outermost first. A test or a demo
            can inject faults here; the settings have no switch for that.
    """
    return app_for(ServerCore(settings, clock or SystemClock()), middleware)


def app_for(core: ServerCore, middleware: Sequence[Middleware]) -> Application:
    """Return the application that serves ``core``, and starts and stops it."""
    if core.settings.dev:
        middleware = [Middleware(LocalProgramsOnly), *middleware]
    if core.settings.access_log:
        middleware = [Middleware(RequestLog), *middleware]
    return Application(core, middleware)


class Application:
    """The server's ASGI application: it starts and stops, and passes requests on.

    It is no Starlette application, whose layers would take a twentieth of each post.
    The router responds to all errors by itself. The layers before it return the
    awaitable of the next one, because each coroutine takes time of each post.

    Args:
        core: The server, which starts and stops with the application.
        middleware: The middleware around all routes, outermost first.
    """

    def __init__(self, core: ServerCore, middleware: Sequence[Middleware]) -> None:
        @asynccontextmanager
        async def lifespan(_: object) -> AsyncIterator[None]:
            # Middleware that cannot be made is an error of the start.
            self._handler = _handler(core, middleware)
            await core.start()
            try:
                yield
            finally:
                await core.stop()

        self._lifespan = Lifespan(lifespan=lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or run from the start to the end of the server."""
        if scope["type"] == "http":
            await self._handler(scope, receive, send)
        else:
            await self._lifespan(scope, receive, send)


def _handler(core: ServerCore, middleware: Sequence[Middleware]) -> ASGIApp:
    handler: ASGIApp = Dashboard(core, ApiDocs(Router(core, ROUTES)))
    for layer in reversed(middleware):
        handler = layer.cls(handler, *layer.args, **layer.kwargs)
    return handler
