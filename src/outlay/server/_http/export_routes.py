"""Serve exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import Request, Response, Route
from outlay.server._services import query_services
from outlay.server._wire.export_models import ExportFormat, ExportQuery

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

_TYPES: Final = {
    ExportFormat.CSV: b"text/csv; charset=utf-8",
    ExportFormat.JSONL: b"application/x-ndjson",
}


async def export(core: ServerCore, request: Request) -> Response:
    """Export events or totals as CSV or JSON Lines, a page at a time."""
    query = request.query(ExportQuery)
    page = await core.queries.run(
        request.disconnected,
        query_services.export,
        request.key.namespace,
        query,
        core.now(),
    )
    headers = [(b"content-type", _TYPES[query.format])]
    if page.cursor is not None:
        headers.append((b"outlay-next-cursor", page.cursor.encode()))
    return Response(200, page.body, headers)


EXPORT_ROUTES: Final = (
    Route(
        "GET",
        "/v0/export",
        export,
        "events:read",
        200,
        query=ExportQuery,
        errors=(400, 503),
        is_extension=True,
    ),
)
