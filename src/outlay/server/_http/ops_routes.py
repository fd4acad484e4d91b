"""The routes for operators: health, readiness, version, metrics."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import msgspec

from outlay.server._http.router import METRICS_PATH, Request, Response, Route
from outlay.server._services.moving_telemetry import moving_response
from outlay.server._services.telemetry import CONTENT_TYPE
from outlay.server._wire.response_models import (
    HealthResponse,
    ReadyResponse,
    VersionResponse,
    encode,
)

if TYPE_CHECKING:
    from outlay.server._core import ServerCore


async def health(core: ServerCore, request: Request) -> Response:
    """Check that the server runs, and that its database is not damaged."""
    del request
    core.check_alive()
    return Response(200, encode(HealthResponse("ok")))


async def readiness(core: ServerCore, request: Request) -> Response:
    """Check that the server takes events: it can read, and is not about to end."""
    del request
    core.check_ready()
    moving = core.store.moving()
    history = msgspec.UNSET if moving is None else moving_response(moving)
    ready = ReadyResponse("ready", core.settings.engine, core.store.unfolded(), history)
    return Response(200, encode(ready))


async def tell_version(core: ServerCore, request: Request) -> Response:
    """Get the version of the server."""
    del core, request
    return Response(200, encode(VersionResponse(_version())))


async def expose_metrics(core: ServerCore, request: Request) -> Response:
    """Get the server's metrics, in the text format of Prometheus."""
    del request
    return Response(200, core.telemetry.exposition(), [(b"content-type", CONTENT_TYPE)])


@cache
def _version() -> str:
    return version("outlay")


OPS_ROUTES: Final = (
    Route(
        "GET",
        "/healthz",
        health,
        None,
        200,
        HealthResponse,
        errors=(503,),
        is_extension=True,
    ),
    Route(
        "GET",
        "/readyz",
        readiness,
        None,
        200,
        ReadyResponse,
        errors=(503,),
        is_extension=True,
    ),
    Route(
        "GET", "/version", tell_version, None, 200, VersionResponse, is_extension=True
    ),
    Route("GET", METRICS_PATH, expose_metrics, "metrics:read", 200, is_extension=True),
)
