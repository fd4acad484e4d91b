"""The table of routes, and what answers each: from a request to a service and back."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from outlay.server._http.openapi import document
from outlay.server._http.router import (
    BATCH_PATH,
    EVENTS_PATH,
    Request,
    Response,
    Route,
    prefers_minimal,
)
from outlay.server._wire.request_models import (
    CostCreate,
    CostListQuery,
    CostMetricCreate,
    CostPatch,
    ListQuery,
    ProductCreate,
    ReportQuery,
    SummaryQuery,
)
from outlay.server._wire.response_models import (
    BatchBody,
    BatchResponse,
    CostList,
    CostResponse,
    EventBody,
    EventResponse,
    HealthResponse,
    ProductList,
    ProductResponse,
    ReportResponse,
    SummaryResponse,
    encode,
)

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

_DUPLICATE: Final = (b"outlay-duplicate", b"true")
_APPLIED: Final = (b"preference-applied", b"return=minimal")


async def ingest(engine: ServerCore, call: Request) -> Response:
    """Record one event."""
    body = await call.body(engine.settings.max_event_bytes)
    answer, duplicate = await engine.ingest.ingest_event(call.key, body)
    return Response(202, encode(answer), [_DUPLICATE] if duplicate else [])


async def ingest_batch(engine: ServerCore, call: Request) -> Response:
    """Record several events, each with its own outcome."""
    body = await call.body(engine.settings.max_batch_bytes)
    minimal = prefers_minimal(call.headers.get(b"prefer", b""))
    answer = await engine.ingest.ingest_batch(call.key, body, minimal=minimal)
    return Response(
        207 if answer.failed else 202, encode(answer), [_APPLIED] if minimal else []
    )


async def create_cost(engine: ServerCore, call: Request) -> Response:
    """Create a cost; events that came earlier count as well."""
    wanted = await call.model(CostCreate, engine.settings.max_event_bytes)
    return Response(201, encode(await engine.costs.create(call.key, wanted)))


async def create_cost_metric(engine: ServerCore, call: Request) -> Response:
    """Create a cost, in the older spelling."""
    wanted = await call.model(CostMetricCreate, engine.settings.max_event_bytes)
    return Response(201, encode(await engine.costs.create_metric(call.key, wanted)))


async def list_costs(engine: ServerCore, call: Request) -> Response:
    """List costs, oldest first."""
    query = call.query(CostListQuery)
    return Response(200, encode(engine.costs.list(call.key, query)))


async def get_cost(engine: ServerCore, call: Request) -> Response:
    """Get a cost."""
    return Response(200, encode(engine.costs.get(call.key, call.identifier)))


async def change_cost(engine: ServerCore, call: Request) -> Response:
    """Change a cost; null clears a field, and a new price holds for earlier events."""
    patch = await call.model(CostPatch, engine.settings.max_event_bytes)
    return Response(
        200, encode(await engine.costs.change(call.key, call.identifier, patch))
    )


async def delete_cost(engine: ServerCore, call: Request) -> Response:
    """Delete a cost; its events stay."""
    await engine.costs.delete(call.key, call.identifier)
    return Response(204)


async def summarize(engine: ServerCore, call: Request) -> Response:
    """Sum up a cost over a period, in total, by dimension, by window of time."""
    query = call.query(SummaryQuery)
    # In a thread: folding many rollups takes a while, and posts must not wait for it.
    answer = await asyncio.to_thread(
        engine.summaries.summarize, call.key, call.identifier, query
    )
    return Response(200, encode(answer))


async def report_costs(engine: ServerCore, call: Request) -> Response:
    """Report what costs come to over a period, group by group."""
    query = call.query(ReportQuery, repeated="costId")
    engine.access.check_namespace(call.key, "merchantId", query.merchant_id)
    # In a thread, for the same reason.
    answer = await asyncio.to_thread(engine.reports.report, call.key, query)
    return Response(200, encode(answer))


async def create_product(engine: ServerCore, call: Request) -> Response:
    """Create a product."""
    wanted = await call.model(ProductCreate, engine.settings.max_event_bytes)
    return Response(201, encode(await engine.costs.create_product(call.key, wanted)))


async def list_products(engine: ServerCore, call: Request) -> Response:
    """List products, oldest first."""
    query = call.query(ListQuery)
    return Response(200, encode(engine.costs.list_products(call.key, query)))


async def get_product(engine: ServerCore, call: Request) -> Response:
    """Get a product."""
    return Response(200, encode(engine.costs.get_product(call.key, call.identifier)))


async def health(engine: ServerCore, call: Request) -> Response:
    """Say whether the server is up and can read its database."""
    del call
    engine.check_database()
    return Response(200, encode(HealthResponse("ok")))


async def describe(engine: ServerCore, call: Request) -> Response:
    """Describe this API: the OpenAPI document."""
    del engine, call
    return Response(200, _description())


@cache
def _description() -> bytes:
    return encode(document(ENDPOINTS, version("outlay")))


_BODY_ERRORS: Final = (400, 413, 415)

ENDPOINTS: Final = (
    Route(
        "POST",
        EVENTS_PATH,
        ingest,
        "events:create",
        202,
        EventResponse,
        body=EventBody,
        errors=(*_BODY_ERRORS, 404, 422, 503),
    ),
    Route(
        "POST",
        BATCH_PATH,
        ingest_batch,
        "events:create",
        202,
        BatchResponse,
        body=BatchBody,
        more_statuses=(207,),
        errors=(*_BODY_ERRORS, 503),
    ),
    Route(
        "POST",
        "/v0/costs",
        create_cost,
        "costs:write",
        201,
        CostResponse,
        body=CostCreate,
        errors=(*_BODY_ERRORS, 404),
    ),
    Route(
        "GET",
        "/v0/costs",
        list_costs,
        "costs:read",
        200,
        CostList,
        query=CostListQuery,
        errors=(400,),
    ),
    # Before "/v0/costs/{id}" for readers; a path in full is always found first.
    Route(
        "GET",
        "/v0/costs/report",
        report_costs,
        "costs:read",
        200,
        ReportResponse,
        query=ReportQuery,
        errors=(400, 404),
    ),
    Route(
        "GET",
        "/v0/costs/{id}",
        get_cost,
        "costs:read",
        200,
        CostResponse,
        errors=(404,),
    ),
    Route(
        "PATCH",
        "/v0/costs/{id}",
        change_cost,
        "costs:write",
        200,
        CostResponse,
        body=CostPatch,
        errors=(*_BODY_ERRORS, 404),
    ),
    Route("DELETE", "/v0/costs/{id}", delete_cost, "costs:write", 204, errors=(404,)),
    Route(
        "GET",
        "/v0/costs/{id}/summary",
        summarize,
        "costs:read",
        200,
        SummaryResponse,
        query=SummaryQuery,
        errors=(400, 404),
    ),
    Route(
        "POST",
        "/v0/costMetrics",
        create_cost_metric,
        "costMetrics:write",
        201,
        CostResponse,
        body=CostMetricCreate,
        errors=_BODY_ERRORS,
    ),
    Route(
        "GET",
        "/v0/costMetrics",
        list_costs,
        "costs:read",
        200,
        CostList,
        query=CostListQuery,
        errors=(400,),
    ),
    Route(
        "GET",
        "/v0/costMetrics/{id}",
        get_cost,
        "costs:read",
        200,
        CostResponse,
        errors=(404,),
    ),
    Route(
        "DELETE",
        "/v0/costMetrics/{id}",
        delete_cost,
        "costMetrics:write",
        204,
        errors=(404,),
    ),
    Route(
        "POST",
        "/v0/products",
        create_product,
        "costs:write",
        201,
        ProductResponse,
        body=ProductCreate,
        errors=_BODY_ERRORS,
    ),
    Route(
        "GET",
        "/v0/products",
        list_products,
        "costs:read",
        200,
        ProductList,
        query=ListQuery,
        errors=(400,),
    ),
    Route(
        "GET",
        "/v0/products/{id}",
        get_product,
        "costs:read",
        200,
        ProductResponse,
        errors=(404,),
    ),
    Route("GET", "/healthz", health, None, 200, HealthResponse, errors=(503,)),
    Route("GET", "/openapi.json", describe, None, 200),
)
