"""The route of events that no cost metric counts, an extension of the contract."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from outlay.server._http.router import Request, Response, Route
from outlay.server._wire.response_models import encode
from outlay.server._wire.unmatched_models import (
    UnmatchedList,
    UnmatchedQuery,
    UnmatchedType,
)

if TYPE_CHECKING:
    from outlay.server._core import ServerCore


async def list_unmatched(core: ServerCore, request: Request) -> Response:
    """List the event types of a period that no cost metric counts."""
    query = request.query(UnmatchedQuery)

    def compute() -> dict[str, int]:
        with core.store.reading() as reader:
            return reader.unmatched_types(request.key.namespace, query.start, query.end)

    # In a thread, because posts must not wait for it.
    found = await asyncio.to_thread(compute)
    types = [UnmatchedType(name, events) for name, events in found.items()]
    return Response(200, encode(UnmatchedList(types)))


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
