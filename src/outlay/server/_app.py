"""The server as an ASGI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette import routing
from starlette.applications import Starlette

from outlay._model.clock import Clock, SystemClock
from outlay.server._core import ServerCore
from outlay.server._http.router import Router
from outlay.server._http.routes import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.middleware import Middleware

    from outlay.server._settings import ServerSettings


def create_app(
    settings: ServerSettings,
    *,
    clock: Clock | None = None,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """Return the server as an ASGI application, to run in any ASGI server.

    The database is opened when the application starts up, and closed, with everything
    accepted on disk, when it shuts down. Run one worker process for a database.

    Args:
        settings: what can be set.
        clock: where the time comes from; None: the machine's.
        middleware: wrapped around all routes, outermost first. A test or a demo can
            inject a failing server here; the settings have no switch for that.
    """
    return app_of(ServerCore(settings, clock or SystemClock()), middleware)


def app_of(engine: ServerCore, middleware: Sequence[Middleware]) -> Starlette:
    """Return the application that serves ``engine``, and starts and stops it."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            await engine.stop()

    app = Starlette(middleware=middleware)
    # One table of routes instead of a list tried in order, and never a redirect:
    # clients turn a redirected POST into a GET.
    app.router = routing.Router(
        default=Router(engine, ENDPOINTS), redirect_slashes=False, lifespan=lifespan
    )
    app.state.engine = engine
    return app
