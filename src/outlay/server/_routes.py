"""The table of routes, and what answers each: from a request to a service and back."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from outlay.server._dispatch import (
    BATCH_PATH,
    EVENTS_PATH,
    Call,
    Endpoint,
    Reply,
    wants_minimal,
)
from outlay.server._openapi import document
from outlay.server._schemas import (
    CostCreate,
    CostListQuery,
    CostMetricCreate,
    CostPatch,
    ListQuery,
    ProductCreate,
    ReportQuery,
    SummaryQuery,
)
from outlay.server._wire import (
    BatchAnswer,
    BatchBody,
    CostAnswer,
    CostList,
    EventAnswer,
    EventBody,
    HealthAnswer,
    ProductAnswer,
    ProductList,
    ReportAnswer,
    SummaryAnswer,
    encode,
)

if TYPE_CHECKING:
    from outlay.server._engine import Engine

_DUPLICATE: Final = (b"outlay-duplicate", b"true")
_APPLIED: Final = (b"preference-applied", b"return=minimal")


async def ingest(engine: Engine, call: Call) -> Reply:
    """Record one event."""
    body = await call.body(engine.settings.max_event_bytes)
    answer, duplicate = await engine.ingest.one(call.key, body)
    return Reply(202, encode(answer), [_DUPLICATE] if duplicate else [])


async def ingest_batch(engine: Engine, call: Call) -> Reply:
    """Record several events, each with its own outcome."""
    body = await call.body(engine.settings.max_batch_bytes)
    minimal = wants_minimal(call.headers.get(b"prefer", b""))
    answer = await engine.ingest.batch(call.key, body, minimal=minimal)
    return Reply(
        207 if answer.failed else 202, encode(answer), [_APPLIED] if minimal else []
    )


async def create_cost(engine: Engine, call: Call) -> Reply:
    """Create a cost; events that came earlier count as well."""
    wanted = await call.model(CostCreate, engine.settings.max_event_bytes)
    return Reply(201, encode(await engine.costs.create(call.key, wanted)))


async def create_cost_metric(engine: Engine, call: Call) -> Reply:
    """Create a cost, in the older spelling."""
    wanted = await call.model(CostMetricCreate, engine.settings.max_event_bytes)
    return Reply(201, encode(await engine.costs.create_metric(call.key, wanted)))


async def list_costs(engine: Engine, call: Call) -> Reply:
    """List costs, oldest first."""
    query = call.query(CostListQuery)
    return Reply(200, encode(engine.costs.list(call.key, query)))


async def get_cost(engine: Engine, call: Call) -> Reply:
    """Get a cost."""
    return Reply(200, encode(engine.costs.get(call.key, call.identifier)))


async def change_cost(engine: Engine, call: Call) -> Reply:
    """Change a cost; null clears a field, and a new price holds for earlier events."""
    patch = await call.model(CostPatch, engine.settings.max_event_bytes)
    return Reply(
        200, encode(await engine.costs.change(call.key, call.identifier, patch))
    )


async def delete_cost(engine: Engine, call: Call) -> Reply:
    """Delete a cost; its events stay."""
    await engine.costs.delete(call.key, call.identifier)
    return Reply(204)


async def summarize(engine: Engine, call: Call) -> Reply:
    """Sum up a cost over a period, in total, by dimension, by window of time."""
    query = call.query(SummaryQuery)
    # In a thread: folding many rollups takes a while, and posts must not wait for it.
    answer = await asyncio.to_thread(
        engine.summaries.summarize, call.key, call.identifier, query
    )
    return Reply(200, encode(answer))


async def report_costs(engine: Engine, call: Call) -> Reply:
    """Report what costs come to over a period, group by group."""
    query = call.query(ReportQuery, repeated="costId")
    engine.access.check_namespace(call.key, "merchantId", query.merchant_id)
    # In a thread, for the same reason.
    answer = await asyncio.to_thread(engine.reports.report, call.key, query)
    return Reply(200, encode(answer))


async def create_product(engine: Engine, call: Call) -> Reply:
    """Create a product."""
    wanted = await call.model(ProductCreate, engine.settings.max_event_bytes)
    return Reply(201, encode(await engine.costs.create_product(call.key, wanted)))


async def list_products(engine: Engine, call: Call) -> Reply:
    """List products, oldest first."""
    query = call.query(ListQuery)
    return Reply(200, encode(engine.costs.list_products(call.key, query)))


async def get_product(engine: Engine, call: Call) -> Reply:
    """Get a product."""
    return Reply(200, encode(engine.costs.get_product(call.key, call.identifier)))


async def health(engine: Engine, call: Call) -> Reply:
    """Say whether the server is up and can read its database."""
    del call
    engine.check()
    return Reply(200, encode(HealthAnswer("ok")))


async def describe(engine: Engine, call: Call) -> Reply:
    """Describe this API: the OpenAPI document."""
    del engine, call
    return Reply(200, _description())


@cache
def _description() -> bytes:
    return encode(document(ENDPOINTS, version("outlay")))


_BODY_ERRORS: Final = (400, 413, 415)

ENDPOINTS: Final = (
    Endpoint(
        "POST",
        EVENTS_PATH,
        ingest,
        "events:create",
        202,
        EventAnswer,
        body=EventBody,
        errors=(*_BODY_ERRORS, 404, 422, 503),
    ),
    Endpoint(
        "POST",
        BATCH_PATH,
        ingest_batch,
        "events:create",
        202,
        BatchAnswer,
        body=BatchBody,
        more_statuses=(207,),
        errors=(*_BODY_ERRORS, 503),
    ),
    Endpoint(
        "POST",
        "/v0/costs",
        create_cost,
        "costs:write",
        201,
        CostAnswer,
        body=CostCreate,
        errors=(*_BODY_ERRORS, 404),
    ),
    Endpoint(
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
    Endpoint(
        "GET",
        "/v0/costs/report",
        report_costs,
        "costs:read",
        200,
        ReportAnswer,
        query=ReportQuery,
        errors=(400, 404),
    ),
    Endpoint(
        "GET", "/v0/costs/{id}", get_cost, "costs:read", 200, CostAnswer, errors=(404,)
    ),
    Endpoint(
        "PATCH",
        "/v0/costs/{id}",
        change_cost,
        "costs:write",
        200,
        CostAnswer,
        body=CostPatch,
        errors=(*_BODY_ERRORS, 404),
    ),
    Endpoint(
        "DELETE", "/v0/costs/{id}", delete_cost, "costs:write", 204, errors=(404,)
    ),
    Endpoint(
        "GET",
        "/v0/costs/{id}/summary",
        summarize,
        "costs:read",
        200,
        SummaryAnswer,
        query=SummaryQuery,
        errors=(400, 404),
    ),
    Endpoint(
        "POST",
        "/v0/costMetrics",
        create_cost_metric,
        "costMetrics:write",
        201,
        CostAnswer,
        body=CostMetricCreate,
        errors=_BODY_ERRORS,
    ),
    Endpoint(
        "GET",
        "/v0/costMetrics",
        list_costs,
        "costs:read",
        200,
        CostList,
        query=CostListQuery,
        errors=(400,),
    ),
    Endpoint(
        "GET",
        "/v0/costMetrics/{id}",
        get_cost,
        "costs:read",
        200,
        CostAnswer,
        errors=(404,),
    ),
    Endpoint(
        "DELETE",
        "/v0/costMetrics/{id}",
        delete_cost,
        "costMetrics:write",
        204,
        errors=(404,),
    ),
    Endpoint(
        "POST",
        "/v0/products",
        create_product,
        "costs:write",
        201,
        ProductAnswer,
        body=ProductCreate,
        errors=_BODY_ERRORS,
    ),
    Endpoint(
        "GET",
        "/v0/products",
        list_products,
        "costs:read",
        200,
        ProductList,
        query=ListQuery,
        errors=(400,),
    ),
    Endpoint(
        "GET",
        "/v0/products/{id}",
        get_product,
        "costs:read",
        200,
        ProductAnswer,
        errors=(404,),
    ),
    Endpoint("GET", "/healthz", health, None, 200, HealthAnswer, errors=(503,)),
    Endpoint("GET", "/openapi.json", describe, None, 200),
)
