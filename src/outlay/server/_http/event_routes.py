"""The routes that read single events, and what no metric counts: an extension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import EVENTS_PATH, Request, Response, Route
from outlay.server._services import query_services
from outlay.server._wire.event_models import (
    EventDetail,
    EventPageResponse,
    EventQuery,
    UnmatchedList,
    UnmatchedQuery,
)

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

_READ: Final = "events:read"


async def list_events(core: ServerCore, request: Request) -> Response:
    """List events, the newest first, by type, customer, time, dimension or key."""
    query = request.query(EventQuery)

    body = await core.queries.run(
        request.disconnected,
        query_services.events,
        request.key,
        query,
        core.events.dedupe_window,
    )
    return Response(200, body)


async def get_event(core: ServerCore, request: Request) -> Response:
    """Get an event with its receipt, the origin of its price, and what it counts."""
    body = await core.queries.run(
        request.disconnected,
        query_services.event,
        request.key,
        request.identifier,
        core.events.dedupe_window,
    )
    return Response(200, body)


async def list_unmatched(core: ServerCore, request: Request) -> Response:
    """List the event types of a period that no cost metric counts."""
    query = request.query(UnmatchedQuery)

    body = await core.queries.run(
        request.disconnected, query_services.unmatched, request.key.namespace, query
    )
    return Response(200, body)


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
    Route(
        "GET",
        "/v0/unmatchedEvents",
        list_unmatched,
        "costs:read",
        200,
        UnmatchedList,
        query=UnmatchedQuery,
        errors=(400,),
        is_extension=True,
    ),
)
