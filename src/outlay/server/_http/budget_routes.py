"""Serve budgets and webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import BODY_ERRORS, Request, Response, Route
from outlay.server._services import budgets
from outlay.server._wire.budget_models import (
    BudgetBody,
    BudgetList,
    BudgetListQuery,
    BudgetResponse,
    WebhookBody,
    WebhookList,
    WebhookResponse,
    WebhookTestResponse,
)
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

READ: Final = "budgets:read"
WRITE: Final = "budgets:write"


async def create_budget(core: ServerCore, request: Request) -> Response:
    """Create a budget with an id of the server's."""
    body = await request.model(BudgetBody, core.settings.max_event_bytes)
    budget = await core.budgets.put(request.key, body)
    return Response(201, await _state(core, request, budget.id))


async def put_budget(core: ServerCore, request: Request) -> Response:
    """Create a budget with an id of the caller's, or replace it."""
    body = await request.model(BudgetBody, core.settings.max_event_bytes)
    budget = await core.budgets.put(request.key, body, request.identifier)
    return Response(200, await _state(core, request, budget.id))


async def list_budgets(core: ServerCore, request: Request) -> Response:
    """List budgets by id, with the costs of their current periods."""
    query = request.query(BudgetListQuery)
    core.auth.check_namespace(request.key, "merchantId", query.merchant_id)
    body = await core.queries.run(
        request.disconnected,
        budgets.encoded_page,
        request.key.namespace,
        query,
        core.now(),
    )
    return Response(200, body)


async def get_budget(core: ServerCore, request: Request) -> Response:
    """Get a budget, with the costs of its current period."""
    return Response(200, await _state(core, request, request.identifier))


async def delete_budget(core: ServerCore, request: Request) -> Response:
    """Delete a budget."""
    await core.budgets.delete(request.key, request.identifier)
    return Response(204)


async def create_webhook(core: ServerCore, request: Request) -> Response:
    """Add a webhook. Only this response has its secret."""
    body = await request.model(WebhookBody, core.settings.max_event_bytes)
    return Response(201, encode(await core.webhooks.add(request.key, body.url)))


async def list_webhooks(core: ServerCore, request: Request) -> Response:
    """List webhooks, with the states of their deliveries."""
    return Response(200, encode(core.webhooks.list(request.key)))


async def delete_webhook(core: ServerCore, request: Request) -> Response:
    """Delete a webhook, and the messages that wait for it."""
    await core.webhooks.delete(request.key, request.identifier)
    return Response(204)


async def rotate_secret(core: ServerCore, request: Request) -> Response:
    """Give a webhook a new secret. The old one signs for a day as well."""
    webhook = await core.webhooks.rotate(request.key, request.identifier)
    return Response(200, encode(webhook))


async def send_test(core: ServerCore, request: Request) -> Response:
    """Send a test message once. A success enables a disabled webhook."""
    outcome = await core.webhooks.test(request.key, request.identifier)
    return Response(200, encode(outcome))


async def _state(core: ServerCore, request: Request, budget_id: str) -> bytes:
    return await core.queries.run(
        request.disconnected,
        budgets.encoded_state,
        request.key.namespace,
        budget_id,
        core.now(),
    )


BUDGET_ROUTES: Final = (
    Route(
        "POST",
        "/v0/budgets",
        create_budget,
        WRITE,
        201,
        BudgetResponse,
        body=BudgetBody,
        errors=(*BODY_ERRORS, 503),
        is_extension=True,
    ),
    Route(
        "GET",
        "/v0/budgets",
        list_budgets,
        READ,
        200,
        BudgetList,
        query=BudgetListQuery,
        errors=(400, 503),
        is_extension=True,
    ),
    Route(
        "PUT",
        "/v0/budgets/{id}",
        put_budget,
        WRITE,
        200,
        BudgetResponse,
        body=BudgetBody,
        errors=(*BODY_ERRORS, 503),
        is_extension=True,
    ),
    Route(
        "GET",
        "/v0/budgets/{id}",
        get_budget,
        READ,
        200,
        BudgetResponse,
        errors=(404, 503),
        is_extension=True,
    ),
    Route(
        "DELETE",
        "/v0/budgets/{id}",
        delete_budget,
        WRITE,
        204,
        errors=(404, 503),
        is_extension=True,
    ),
    Route(
        "POST",
        "/v0/webhooks",
        create_webhook,
        WRITE,
        201,
        WebhookResponse,
        body=WebhookBody,
        errors=(*BODY_ERRORS, 409, 503),
        is_extension=True,
    ),
    Route(
        "GET",
        "/v0/webhooks",
        list_webhooks,
        READ,
        200,
        WebhookList,
        is_extension=True,
    ),
    Route(
        "DELETE",
        "/v0/webhooks/{id}",
        delete_webhook,
        WRITE,
        204,
        errors=(404, 503),
        is_extension=True,
    ),
    Route(
        "POST",
        "/v0/webhooks/{id}/rotate",
        rotate_secret,
        WRITE,
        200,
        WebhookResponse,
        errors=(404, 409, 503),
        is_extension=True,
    ),
    Route(
        "POST",
        "/v0/webhooks/{id}/test",
        send_test,
        WRITE,
        200,
        WebhookTestResponse,
        errors=(404, 503),
        is_extension=True,
    ),
)
