"""The route of events that no cost metric counts, an extension of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import Request, Response, Route
from outlay.server._services import query_services
from outlay.server._wire.unmatched_models import UnmatchedList, UnmatchedQuery

if TYPE_CHECKING:
    from outlay.server._core import ServerCore


async def list_unmatched(core: ServerCore, request: Request) -> Response:
    """List the event types of a period that no cost metric counts."""
    query = request.query(UnmatchedQuery)

    body = await core.queries.run(
        request.disconnected, query_services.unmatched, request.key.namespace, query
    )
    return Response(200, body)


UNMATCHED_ROUTES: Final = (
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
