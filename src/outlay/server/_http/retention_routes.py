"""The routes of retention, an extension of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import Request, Response, Route
from outlay.server._wire.response_models import encode
from outlay.server._wire.retention_models import RetentionChange, RetentionResponse

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

_PATH: Final = "/v0/retention"


async def get_retention(core: ServerCore, request: Request) -> Response:
    """Get the time for which the organization's events are kept."""
    return Response(200, encode(core.retention.get(request.key)))


async def set_retention(core: ServerCore, request: Request) -> Response:
    """Set the time for which the organization's events are kept. Hourly totals stay."""
    body = await request.model(RetentionChange, core.settings.max_event_bytes)
    return Response(200, encode(await core.retention.set(request.key, body.event_days)))


RETENTION_ROUTES: Final = (
    Route(
        "GET",
        _PATH,
        get_retention,
        "costs:read",
        200,
        RetentionResponse,
        is_extension=True,
    ),
    Route(
        "PUT",
        _PATH,
        set_retention,
        "retention:write",
        200,
        RetentionResponse,
        body=RetentionChange,
        errors=(400, 413, 415, 503),
        is_extension=True,
    ),
)
