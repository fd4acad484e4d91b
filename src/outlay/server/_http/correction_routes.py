"""Serve corrections of events, and closed periods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import BODY_ERRORS, Request, Response, Route
from outlay.server._wire.correction_models import (
    AdjustBody,
    CorrectionList,
    CorrectionListQuery,
    CorrectionResponse,
    CorrectionsBody,
    CorrectionsResponse,
    PeriodBody,
    PeriodList,
    PeriodResponse,
    RevertBody,
    VoidBody,
)
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

_WRITE: Final = "events:correct"


async def void_event(core: ServerCore, request: Request) -> Response:
    """Let an event count nothing. The event stays."""
    body = await request.model(VoidBody, core.settings.max_event_bytes)
    correction = await core.corrections.void(request.key, request.identifier, body)
    return Response(200, encode(correction))


async def adjust_event(core: ServerCore, request: Request) -> Response:
    """Add an amount to what an event counts in one SUM metric."""
    body = await request.model(AdjustBody, core.settings.max_event_bytes)
    correction = await core.corrections.adjust(request.key, request.identifier, body)
    return Response(200, encode(correction))


async def revert_correction(core: ServerCore, request: Request) -> Response:
    """Take a correction back. It stays on record."""
    body = await request.model(RevertBody, core.settings.max_event_bytes)
    correction = await core.corrections.revert(request.key, request.identifier, body)
    return Response(200, encode(correction))


async def correct_events(core: ServerCore, request: Request) -> Response:
    """Correct the events that a filter finds, or count them in a dry run."""
    body = await request.model(CorrectionsBody, core.settings.max_event_bytes)
    return Response(200, encode(await core.corrections.correct_many(request.key, body)))


async def list_corrections(core: ServerCore, request: Request) -> Response:
    """List corrections, newest first."""
    query = request.query(CorrectionListQuery)
    core.auth.check_namespace(request.key, "merchantId", query.merchant_id)
    return Response(200, encode(core.corrections.list(request.key, query)))


async def get_correction(core: ServerCore, request: Request) -> Response:
    """Get a correction."""
    return Response(200, encode(core.corrections.get(request.key, request.identifier)))


async def close_period(core: ServerCore, request: Request) -> Response:
    """Close a month. Later events and corrections of it count in the open period."""
    body = await request.model(PeriodBody, core.settings.max_event_bytes)
    return Response(200, encode(await core.corrections.close(request.key, body.period)))


async def list_periods(core: ServerCore, request: Request) -> Response:
    """List the closed periods, oldest first."""
    return Response(200, encode(core.corrections.periods(request.key)))


CORRECTION_ROUTES: Final = (
    Route(
        "POST",
        "/v0/events/{id}/void",
        void_event,
        _WRITE,
        200,
        CorrectionResponse,
        body=VoidBody,
        errors=(*BODY_ERRORS, 404, 409, 503),
    ),
    Route(
        "POST",
        "/v0/events/{id}/adjust",
        adjust_event,
        _WRITE,
        200,
        CorrectionResponse,
        body=AdjustBody,
        errors=(*BODY_ERRORS, 404, 409, 503),
    ),
    Route(
        "POST",
        "/v0/corrections",
        correct_events,
        _WRITE,
        200,
        CorrectionsResponse,
        body=CorrectionsBody,
        errors=(*BODY_ERRORS, 404, 409, 503),
    ),
    Route(
        "GET",
        "/v0/corrections",
        list_corrections,
        "events:read",
        200,
        CorrectionList,
        query=CorrectionListQuery,
        errors=(400,),
    ),
    Route(
        "GET",
        "/v0/corrections/{id}",
        get_correction,
        "events:read",
        200,
        CorrectionResponse,
        errors=(404,),
    ),
    Route(
        "POST",
        "/v0/corrections/{id}/revert",
        revert_correction,
        _WRITE,
        200,
        CorrectionResponse,
        body=RevertBody,
        errors=(*BODY_ERRORS, 404, 409, 503),
    ),
    Route(
        "POST",
        "/v0/closedPeriods",
        close_period,
        "periods:close",
        200,
        PeriodResponse,
        body=PeriodBody,
        errors=(*BODY_ERRORS, 409, 503),
    ),
    Route("GET", "/v0/closedPeriods", list_periods, "costs:read", 200, PeriodList),
)
