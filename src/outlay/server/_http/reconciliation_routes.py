"""Serve saved reconciliations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import BODY_ERRORS, Request, Response, Route
from outlay.server._wire.reconciliation_models import (
    MatchesBody,
    ReconciliationBody,
    ReconciliationList,
    ReconciliationResponse,
    WithdrawBody,
)
from outlay.server._wire.request_models import ListQuery
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

_WRITE: Final = "events:correct"


async def begin_reconciliation(core: ServerCore, request: Request) -> Response:
    """Begin to save a reconciliation. It counts after its last matches."""
    body = await request.model(ReconciliationBody, core.settings.max_event_bytes)
    found = await core.reconciliations.respond_begin(request.key, body)
    return Response(201, encode(found))


async def add_matches(core: ServerCore, request: Request) -> Response:
    """Add matches to a reconciliation, and its totals with the last ones."""
    body = await request.model(MatchesBody, core.settings.max_batch_bytes)
    found = await core.reconciliations.respond_add(
        request.key, request.identifier, body
    )
    return Response(200, encode(found))


async def list_reconciliations(core: ServerCore, request: Request) -> Response:
    """List the saved reconciliations, withdrawn ones too. The last one is the first."""
    query = request.query(ListQuery)
    core.auth.check_namespace(request.key, "merchantId", query.merchant_id)
    return Response(200, encode(core.reconciliations.list(request.key, query)))


async def get_reconciliation(core: ServerCore, request: Request) -> Response:
    """Get a saved reconciliation."""
    found = core.reconciliations.respond_get(request.key, request.identifier)
    return Response(200, encode(found))


async def withdraw_reconciliation(core: ServerCore, request: Request) -> Response:
    """Let a reconciliation count no more. It stays on record."""
    body = await request.model(WithdrawBody, core.settings.max_event_bytes)
    found = await core.reconciliations.respond_withdraw(
        request.key, request.identifier, body
    )
    return Response(200, encode(found))


RECONCILIATION_ROUTES: Final = (
    Route(
        "POST",
        "/v0/reconciliations",
        begin_reconciliation,
        _WRITE,
        201,
        ReconciliationResponse,
        body=ReconciliationBody,
        errors=(*BODY_ERRORS, 503),
        is_extension=True,
    ),
    Route(
        "PUT",
        "/v0/reconciliations/{id}",
        add_matches,
        _WRITE,
        200,
        ReconciliationResponse,
        body=MatchesBody,
        errors=(*BODY_ERRORS, 404, 409, 503),
        is_extension=True,
    ),
    Route(
        "GET",
        "/v0/reconciliations",
        list_reconciliations,
        "events:read",
        200,
        ReconciliationList,
        query=ListQuery,
        errors=(400,),
        is_extension=True,
    ),
    Route(
        "GET",
        "/v0/reconciliations/{id}",
        get_reconciliation,
        "events:read",
        200,
        ReconciliationResponse,
        errors=(404,),
        is_extension=True,
    ),
    Route(
        "POST",
        "/v0/reconciliations/{id}/withdraw",
        withdraw_reconciliation,
        _WRITE,
        200,
        ReconciliationResponse,
        body=WithdrawBody,
        errors=(*BODY_ERRORS, 404, 503),
        is_extension=True,
    ),
)
