"""Requests about budgets and webhooks, which are additions of this server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.contract import schemas
from tests.contract.exchange import Exchange
from tests.contract.revenue_exchanges import EXACT, make_list, make_object
from tests.contract.schemas import COUNT, INSTANT, TEXT

if TYPE_CHECKING:
    import httpx

    from tests.contract.schemas import Schema

_PATH: Final = "/v0/budgets"
_HOOKS: Final = "/v0/webhooks"
_BUDGET: Final = {"name": "Acme", "limit": "100.50", "currency": "USD"}
_HOOK: Final = {"url": "https://receiver.invalid/costs"}

_STATE: Final = make_object(
    period=make_object(**{"from": INSTANT, "to": INSTANT}),
    spent=EXACT,
    remaining=EXACT,
    sharePct=EXACT,
    passed=make_list(make_object(percent=COUNT, passedAt=INSTANT, spent=EXACT)),
    warnings=make_list(TEXT),
)
BUDGET: Final = make_object(
    object={"const": "budget"},
    id=TEXT,
    name=TEXT,
    limit=EXACT,
    currency=TEXT,
    period={"enum": ["day", "week", "month"]},
    timeZone=TEXT,
    dimensions={"type": "object"},
    thresholds=make_list(COUNT),
    createdAt=INSTANT,
    updatedAt=INSTANT,
    state=_STATE,
)
_BUDGETS: Final = make_object(
    object={"const": "list"},
    data=make_list(BUDGET),
    pagination=make_object(limit=COUNT, offset=COUNT, total=COUNT),
)
_WEBHOOK: Final = make_object(
    object={"const": "webhook"},
    id=TEXT,
    url=TEXT,
    status=TEXT,
    waitingMessages=COUNT,
    failures=COUNT,
    createdAt=INSTANT,
)
_WEBHOOKS: Final = make_object(object={"const": "list"}, data=make_list(_WEBHOOK))
_TEST: Final = make_object(
    object={"const": "webhookTest"}, messageId=TEXT, delivered={"type": "boolean"}
)


def create_webhook(http: httpx.Client) -> str:
    """Create a webhook whose receiver does not exist, and return its id."""
    identifier: str = http.post(_HOOKS, json=_HOOK).json()["id"]
    return identifier


def create_budget(http: httpx.Client) -> str:
    """Create a budget, and return its id."""
    identifier: str = http.post(_PATH, json=_BUDGET).json()["id"]
    return identifier


def _hook(status: int, schema: Schema, **fields: object) -> Exchange:
    return Exchange(status, schema, "POST", _HOOKS, {**_HOOK, **fields})


def _budget(status: int, schema: Schema, **fields: object) -> Exchange:
    return Exchange(status, schema, "POST", _PATH, {**_BUDGET, **fields})


BUDGET_EXCHANGES: Final = {
    "budget": _budget(201, BUDGET),
    "budget-of-a-customer": _budget(
        201, BUDGET, customerId="cus_3", period="day", timeZone="Europe/Berlin"
    ),
    "budget-invalid": _budget(400, schemas.INVALID, limit=-1, timeZone="Mars"),
    "budget-set": Exchange(200, BUDGET, "PUT", f"{_PATH}/mine", _BUDGET),
    "budgets": Exchange(200, _BUDGETS, "GET", _PATH),
    "budget-found": Exchange(200, BUDGET, "GET", f"{_PATH}/{{budget}}"),
    "budget-missing": Exchange(404, schemas.ERROR, "GET", f"{_PATH}/none"),
    "budget-deleted": Exchange(204, None, "DELETE", f"{_PATH}/{{doomed_budget}}"),
    "webhook": _hook(201, _WEBHOOK),
    "webhook-invalid": _hook(400, schemas.INVALID, url="ftp://receiver.invalid"),
    "webhooks": Exchange(200, _WEBHOOKS, "GET", _HOOKS),
    "webhook-rotated": Exchange(200, _WEBHOOK, "POST", f"{_HOOKS}/{{webhook}}/rotate"),
    "webhook-test": Exchange(200, _TEST, "POST", f"{_HOOKS}/{{webhook}}/test"),
    "webhook-missing": Exchange(404, schemas.ERROR, "DELETE", f"{_HOOKS}/none"),
    "webhook-deleted": Exchange(204, None, "DELETE", f"{_HOOKS}/{{doomed_webhook}}"),
}
