"""The table of routes, and the handler of each."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from outlay.server._http.billable_routes import BILLABLE_ROUTES
from outlay.server._http.budget_routes import BUDGET_ROUTES
from outlay.server._http.correction_routes import CORRECTION_ROUTES
from outlay.server._http.erasure_routes import ERASURE_ROUTES
from outlay.server._http.event_routes import EVENT_ROUTES
from outlay.server._http.export_routes import EXPORT_ROUTES
from outlay.server._http.key_routes import KEY_ROUTES
from outlay.server._http.openapi import document
from outlay.server._http.ops_routes import OPS_ROUTES
from outlay.server._http.reconciliation_routes import RECONCILIATION_ROUTES
from outlay.server._http.retention_routes import RETENTION_ROUTES
from outlay.server._http.revenue_routes import REVENUE_ROUTES
from outlay.server._http.router import (
    BATCH_PATH,
    BODY_ERRORS,
    EVENTS_PATH,
    Request,
    Response,
    Route,
    prefers_minimal,
    warning_header,
)
from outlay.server._services import query_services
from outlay.server._wire.problems import UNPARKS
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


async def ingest(core: ServerCore, request: Request) -> Response:
    """Record one event."""
    body = await request.body(core.settings.max_event_bytes)
    event, duplicate = await core.ingest.ingest_event(request.key, body)
    return Response(202, encode(event), [_DUPLICATE] if duplicate else [])


async def ingest_batch(core: ServerCore, request: Request) -> Response:
    """Record several events, each with its own outcome."""
    body = await request.body(core.settings.max_batch_bytes)
    minimal = prefers_minimal(request.headers.get(b"prefer", b""))
    result = await core.ingest.ingest_batch(request.key, body, minimal=minimal)
    headers = [_APPLIED] if minimal else []
    if any(failure.code == "INVALID_EVENT_TYPE" for failure in result.failed):
        headers.append(UNPARKS)
    return Response(207 if result.failed else 202, encode(result), headers)


async def create_cost(core: ServerCore, request: Request) -> Response:
    """Create a cost. Earlier events count as well."""
    body = await request.model(CostCreate, core.settings.max_event_bytes)
    return _created(core, await core.costs.create(request.key, body))


async def create_cost_metric(core: ServerCore, request: Request) -> Response:
    """Create a cost, in the older form."""
    body = await request.model(CostMetricCreate, core.settings.max_event_bytes)
    return _created(core, await core.costs.create_metric(request.key, body))


def _created(core: ServerCore, cost: CostResponse) -> Response:
    """Return the response of a new cost, with a warning of events counted twice."""
    headers = []
    if others := core.costs.overlapping(cost):
        headers.append(
            warning_header(
                f"events of type {cost.event_type!r} are also counted by "
                f"{', '.join(others)}; totals over these metrics count them twice"
            )
        )
    return Response(201, encode(cost), headers)


async def list_costs(core: ServerCore, request: Request) -> Response:
    """List costs, oldest first."""
    query = request.query(CostListQuery)
    return Response(200, encode(core.costs.list(request.key, query)))


async def get_cost(core: ServerCore, request: Request) -> Response:
    """Get a cost."""
    return Response(200, encode(core.costs.get(request.key, request.identifier)))


async def change_cost(core: ServerCore, request: Request) -> Response:
    """Change a cost. Null clears a field. A new price applies to earlier events too."""
    patch = await request.model(CostPatch, core.settings.max_event_bytes)
    return Response(
        200, encode(await core.costs.change(request.key, request.identifier, patch))
    )


async def delete_cost(core: ServerCore, request: Request) -> Response:
    """Delete a cost. Its events stay."""
    await core.costs.delete(request.key, request.identifier)
    return Response(204)


async def summarize(core: ServerCore, request: Request) -> Response:
    """Sum up a cost over a period: in total, by dimension, and by window."""
    query = request.query(SummaryQuery)

    body = await core.queries.run(
        request.disconnected,
        query_services.summary,
        request.key,
        request.identifier,
        query,
    )
    return Response(200, body)


async def report_costs(core: ServerCore, request: Request) -> Response:
    """Report the totals of costs over a period, by group."""
    query = request.query(ReportQuery, repeated="costId")
    core.auth.check_namespace(request.key, "merchantId", query.merchant_id)

    body = await core.queries.run(
        request.disconnected, query_services.report, request.key, query
    )
    return Response(200, body)


async def create_product(core: ServerCore, request: Request) -> Response:
    """Create a product."""
    body = await request.model(ProductCreate, core.settings.max_event_bytes)
    return Response(201, encode(await core.costs.create_product(request.key, body)))


async def list_products(core: ServerCore, request: Request) -> Response:
    """List products, oldest first."""
    query = request.query(ListQuery)
    return Response(200, encode(core.costs.list_products(request.key, query)))


async def get_product(core: ServerCore, request: Request) -> Response:
    """Get a product."""
    return Response(
        200, encode(core.costs.get_product(request.key, request.identifier))
    )


async def describe(core: ServerCore, request: Request) -> Response:
    """Describe this API: the OpenAPI document."""
    del core, request
    return Response(200, _description())


@cache
def _description() -> bytes:
    return encode(document(ROUTES, version("outlay")))


def _cost_routes(path: str, write: str) -> tuple[Route, ...]:
    """Return the routes that both names of a cost have, besides the creation."""
    one = path + "/{id}"
    return (
        Route(
            "GET",
            path,
            list_costs,
            "costs:read",
            200,
            CostList,
            query=CostListQuery,
            errors=(400,),
        ),
        Route("GET", one, get_cost, "costs:read", 200, CostResponse, errors=(404,)),
        Route(
            "PATCH",
            one,
            change_cost,
            write,
            200,
            CostResponse,
            body=CostPatch,
            errors=(*BODY_ERRORS, 404),
        ),
        Route("DELETE", one, delete_cost, write, 204, errors=(404,)),
        Route(
            "GET",
            f"{one}/summary",
            summarize,
            "costs:read",
            200,
            SummaryResponse,
            query=SummaryQuery,
            errors=(400, 404, 503),
        ),
    )


ROUTES: Final = (
    Route(
        "POST",
        EVENTS_PATH,
        ingest,
        "events:create",
        202,
        EventResponse,
        body=EventBody,
        errors=(*BODY_ERRORS, 404, 422, 503),
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
        errors=(*BODY_ERRORS, 503),
    ),
    Route(
        "POST",
        "/v0/costs",
        create_cost,
        "costs:write",
        201,
        CostResponse,
        body=CostCreate,
        errors=(*BODY_ERRORS, 404, 409),
    ),
    # Readers expect it before "/v0/costs/{id}". The router finds a full path first.
    Route(
        "GET",
        "/v0/costs/report",
        report_costs,
        "costs:read",
        200,
        ReportResponse,
        query=ReportQuery,
        errors=(400, 404, 503),
    ),
    *_cost_routes("/v0/costs", "costs:write"),
    Route(
        "POST",
        "/v0/costMetrics",
        create_cost_metric,
        "costMetrics:write",
        201,
        CostResponse,
        body=CostMetricCreate,
        errors=(*BODY_ERRORS, 409),
    ),
    *_cost_routes("/v0/costMetrics", "costMetrics:write"),
    Route(
        "POST",
        "/v0/products",
        create_product,
        "costs:write",
        201,
        ProductResponse,
        body=ProductCreate,
        errors=BODY_ERRORS,
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
    *ERASURE_ROUTES,
    *BILLABLE_ROUTES,
    *EVENT_ROUTES,
    *KEY_ROUTES,
    *RETENTION_ROUTES,
    *REVENUE_ROUTES,
    *RECONCILIATION_ROUTES,
    *CORRECTION_ROUTES,
    *BUDGET_ROUTES,
    *EXPORT_ROUTES,
    *OPS_ROUTES,
    Route("GET", "/openapi.json", describe, None, 200),
)
