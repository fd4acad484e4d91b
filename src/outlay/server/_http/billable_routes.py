"""The routes of billable metrics, their meters and their raw events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import Request, Response, Route
from outlay.server._services import query_services
from outlay.server._wire.billable_models import (
    BillableMetricCreate,
    BillableMetricList,
    BillableMetricListQuery,
    BillableMetricPatch,
    BillableMetricResponse,
    MeterQuery,
    MeterResponse,
)
from outlay.server._wire.event_models import MeterEventList, MeterEventQuery
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

_PATH: Final = "/v0/billableMetrics"
_ONE: Final = "/v0/billableMetrics/{id}"
_READ: Final = "costs:read"
_WRITE: Final = "costs:write"
_BODY_ERRORS: Final = (400, 404, 413, 415)


async def create_billable_metric(core: ServerCore, request: Request) -> Response:
    """Create a billable metric. Earlier events count as well."""
    body = await request.model(BillableMetricCreate, core.settings.max_event_bytes)
    return Response(201, encode(await core.billable.create(request.key, body)))


async def list_billable_metrics(core: ServerCore, request: Request) -> Response:
    """List billable metrics, oldest first."""
    query = request.query(BillableMetricListQuery)
    return Response(200, encode(core.billable.list(request.key, query)))


async def get_billable_metric(core: ServerCore, request: Request) -> Response:
    """Get a billable metric."""
    return Response(200, encode(core.billable.get(request.key, request.identifier)))


async def change_billable_metric(core: ServerCore, request: Request) -> Response:
    """Change a billable metric. Null clears a field."""
    patch = await request.model(BillableMetricPatch, core.settings.max_event_bytes)
    metric = await core.billable.change(request.key, request.identifier, patch)
    return Response(200, encode(metric))


async def meter(core: ServerCore, request: Request) -> Response:
    """Read the quantity of a period: in total, by dimension, and by window."""
    query = request.query(MeterQuery)
    body = await core.queries.run(
        request.disconnected,
        query_services.meter,
        request.key,
        request.identifier,
        query,
    )
    return Response(200, body)


async def list_meter_events(core: ServerCore, request: Request) -> Response:
    """List the raw events of a billable metric, the newest first."""
    query = request.query(MeterEventQuery)
    body = await core.queries.run(
        request.disconnected,
        query_services.meter_events,
        request.key,
        request.identifier,
        query,
    )
    return Response(200, body)


BILLABLE_ROUTES: Final = (
    Route(
        "POST",
        _PATH,
        create_billable_metric,
        _WRITE,
        201,
        BillableMetricResponse,
        body=BillableMetricCreate,
        errors=_BODY_ERRORS,
    ),
    Route(
        "GET",
        _PATH,
        list_billable_metrics,
        _READ,
        200,
        BillableMetricList,
        query=BillableMetricListQuery,
        errors=(400, 404),
    ),
    Route(
        "GET",
        _ONE,
        get_billable_metric,
        _READ,
        200,
        BillableMetricResponse,
        errors=(404,),
    ),
    Route(
        "PATCH",
        _ONE,
        change_billable_metric,
        _WRITE,
        200,
        BillableMetricResponse,
        body=BillableMetricPatch,
        errors=_BODY_ERRORS,
    ),
    Route(
        "GET",
        f"{_ONE}/meter",
        meter,
        _READ,
        200,
        MeterResponse,
        query=MeterQuery,
        errors=(400, 404, 503),
    ),
    Route(
        "GET",
        f"{_ONE}/events",
        list_meter_events,
        "events:read",
        200,
        MeterEventList,
        query=MeterEventQuery,
        errors=(400, 404, 503),
    ),
)
