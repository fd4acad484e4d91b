"""Serve revenue, rates, customers and profitability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import BODY_ERRORS, Request, Response, Route
from outlay.server._services import query_services
from outlay.server._wire.request_models import ListQuery
from outlay.server._wire.response_models import encode
from outlay.server._wire.revenue_models import (
    CustomerBody,
    CustomerList,
    CustomerPath,
    CustomerResponse,
    CustomersBody,
    CustomersStored,
    ProfitabilityQuery,
    ProfitabilityResponse,
    RateList,
    RatesBody,
    RatesStored,
    RevenueBody,
    RevenueImportResponse,
    RevenueList,
    RevenueQuery,
)

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

READ: Final = "revenue:read"
WRITE: Final = "revenue:write"


async def put_revenue(core: ServerCore, request: Request) -> Response:
    """Import lines of revenue. A later line with the same source and key counts."""
    body = await request.model(RevenueBody, core.settings.max_batch_bytes)
    return Response(200, encode(await core.revenue.add(request.key, body)))


async def list_revenue(core: ServerCore, request: Request) -> Response:
    """List the lines of revenue of a period, with those that were replaced."""
    query = request.query(RevenueQuery)
    core.auth.check_namespace(request.key, "merchantId", query.merchant_id)
    return Response(200, encode(core.revenue.list(request.key, query)))


async def put_rates(core: ServerCore, request: Request) -> Response:
    """Store rates between currencies."""
    body = await request.model(RatesBody, core.settings.max_batch_bytes)
    return Response(200, encode(await core.revenue.put_rates(request.key, body)))


async def list_rates(core: ServerCore, request: Request) -> Response:
    """List the current rates between currencies."""
    return Response(200, encode(core.revenue.rates(request.key)))


async def put_customers(core: ServerCore, request: Request) -> Response:
    """Name customers."""
    body = await request.model(CustomersBody, core.settings.max_batch_bytes)
    return Response(200, encode(await core.revenue.put_customers(request.key, body)))


async def list_customers(core: ServerCore, request: Request) -> Response:
    """List the customers with a name, by id."""
    query = request.query(ListQuery)
    core.auth.check_namespace(request.key, "merchantId", query.merchant_id)
    return Response(200, encode(core.revenue.customers(request.key, query)))


async def put_customer(core: ServerCore, request: Request) -> Response:
    """Name a customer."""
    body = await request.model(CustomerBody, core.settings.max_event_bytes)
    customer_id = request.path(CustomerPath).id
    customer = await core.revenue.put_customer(request.key, customer_id, body.name)
    return Response(200, encode(customer))


async def get_customer(core: ServerCore, request: Request) -> Response:
    """Get a customer with a name."""
    return Response(200, encode(core.revenue.customer(request.key, request.identifier)))


async def profitability(core: ServerCore, request: Request) -> Response:
    """Compare revenue and cost over a period, by customer."""
    query = request.query(ProfitabilityQuery)
    core.auth.check_namespace(request.key, "merchantId", query.merchant_id)

    body = await core.queries.run(
        request.disconnected,
        query_services.profitability,
        request.key.namespace,
        query,
    )
    return Response(200, body)


REVENUE_ROUTES: Final = (
    Route(
        "PUT",
        "/v0/revenue",
        put_revenue,
        WRITE,
        200,
        RevenueImportResponse,
        body=RevenueBody,
        errors=(*BODY_ERRORS, 409, 503),
    ),
    Route(
        "GET",
        "/v0/revenue",
        list_revenue,
        READ,
        200,
        RevenueList,
        query=RevenueQuery,
        errors=(400,),
    ),
    Route(
        "PUT",
        "/v0/rates",
        put_rates,
        WRITE,
        200,
        RatesStored,
        body=RatesBody,
        errors=(*BODY_ERRORS, 503),
    ),
    Route("GET", "/v0/rates", list_rates, READ, 200, RateList),
    Route(
        "PUT",
        "/v0/customers",
        put_customers,
        WRITE,
        200,
        CustomersStored,
        body=CustomersBody,
        errors=(*BODY_ERRORS, 503),
    ),
    Route(
        "GET",
        "/v0/customers",
        list_customers,
        READ,
        200,
        CustomerList,
        query=ListQuery,
        errors=(400,),
    ),
    Route(
        "PUT",
        "/v0/customers/{id}",
        put_customer,
        WRITE,
        200,
        CustomerResponse,
        body=CustomerBody,
        errors=(*BODY_ERRORS, 503),
    ),
    Route(
        "GET",
        "/v0/customers/{id}",
        get_customer,
        READ,
        200,
        CustomerResponse,
        errors=(404,),
    ),
    Route(
        "GET",
        "/v0/profitability",
        profitability,
        READ,
        200,
        ProfitabilityResponse,
        query=ProfitabilityQuery,
        errors=(400, 404),
    ),
)
