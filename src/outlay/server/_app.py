"""Build the server as an ASGI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette import routing
from starlette.applications import Starlette
from starlette.middleware import Middleware

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

    from outlay.server._settings import ServerSettings


def create_app(
    settings: ServerSettings,
    *,
    clock: Clock | None = None,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
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


def app_for(core: ServerCore, middleware: Sequence[Middleware]) -> Starlette:
    """Return the application that serves ``core``, and starts and stops it."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await core.start()
        try:
            yield
        finally:
            await core.stop()

    api = Router(core, ROUTES)
    if core.settings.dev:
        middleware = [Middleware(LocalProgramsOnly), *middleware]
    if core.settings.access_log:
        middleware = [Middleware(RequestLog), *middleware]
    app = Starlette(middleware=middleware)
    # One table of routes instead of a list tried in order, and never a redirect:
    # clients turn a redirected POST into a GET.
    app.router = routing.Router(
        default=Dashboard(core, ApiDocs(api)), redirect_slashes=False, lifespan=lifespan
    )
    app.state.core = core
    return app
