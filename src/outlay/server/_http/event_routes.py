"""The routes that read single events, an extension of the contract."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from outlay.server._http.router import EVENTS_PATH, Request, Response, Route
from outlay.server._wire.event_models import EventDetail, EventPageResponse, EventQuery
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

_READ: Final = "events:read"


async def list_events(core: ServerCore, request: Request) -> Response:
    """List events, the newest first, by type, customer, time, dimension or key."""
    query = request.query(EventQuery)

    def find() -> bytes:
        return encode(core.events.list(request.key, query))

    # In a thread, because posts must not wait for it.
    return Response(200, await asyncio.to_thread(find))


async def get_event(core: ServerCore, request: Request) -> Response:
    """Get an event with its receipt, the origin of its price, and what it counts."""

    def find() -> bytes:
        return encode(core.events.get(request.key, request.identifier))

    return Response(200, await asyncio.to_thread(find))


EVENT_ROUTES: Final = (
    Route(
        "GET",
        EVENTS_PATH,
        list_events,
        _READ,
        200,
        EventPageResponse,
        query=EventQuery,
        errors=(400, 404, 503),
        is_extension=True,
    ),
    Route(
        "GET",
        f"{EVENTS_PATH}/{{id}}",
        get_event,
        _READ,
        200,
        EventDetail,
        errors=(404, 503),
        is_extension=True,
    ),
)
