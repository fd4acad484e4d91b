"""Every answer of the server, held to the rules of the strictest official client.

The Node SDK refuses what the Python SDK lets pass: null for an absent field, a time
without an offset, a number written as a string. So each kind of request is made here,
with and without a slash at the end of its path, and its answer is checked twice: by
schemas written from the contract, and by the server's own description of itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from jsonschema import Draft202012Validator

from tests.contract import schemas
from tests.contract.budget_exchanges import (
    BUDGET_EXCHANGES,
    create_budget,
    create_webhook,
)
from tests.contract.correction_exchanges import CORRECTION_EXCHANGES, corrected_names
from tests.contract.exchange import Exchange
from tests.contract.reconciliation_exchanges import (
    RECONCILIATION_EXCHANGES,
    reconciliation_names,
)
from tests.contract.reference import (
    EVENT_TYPE,
    JANUARY,
    Tenant,
    calling,
    cost_body,
    create_cost,
    serving,
    tenant_of,
)
from tests.contract.report_schema import REPORT
from tests.contract.revenue_exchanges import RATES, REVENUE_EXCHANGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from outlay.server import BackgroundServer
    from tests.contract.schemas import Schema

BATCH_HEADER: Final = "/v0/events/batch; max=1000"


def event(**overrides: object) -> dict[str, object]:
    """Return an event's body; None leaves a field out."""
    fields: dict[str, object] = {
        "type": EVENT_TYPE,
        "source": "https://api.myapp.com",
        "subject": "cus_1",
        "timestamp": "2026-01-05T12:00:00.000Z",
        "data": {"amount": 0.0042, "provider": "anthropic"},
        **overrides,
    }
    return {name: value for name, value in fields.items() if value is not None}


def posted(status: int, schema: Schema, body: object) -> Exchange:
    """Return the exchange that posts one event."""
    return Exchange(status, schema, "POST", "/v0/events", body)


def batched(status: int, schema: Schema, *events: object) -> Exchange:
    """Return the exchange that posts a batch."""
    return Exchange(
        status, schema, "POST", "/v0/events/batch", {"events": list(events)}
    )


def summed(cost: str = "cost", **query: str) -> Exchange:
    """Return the exchange that asks for a summary."""
    path = f"/v0/costs/{{{cost}}}/summary"
    return Exchange(200, schemas.SUMMARY, "GET", path, query={**JANUARY, **query})


def reported(**query: str) -> Exchange:
    """Return the exchange that asks for a report."""
    asked = {**JANUARY, "groupBy": "customer", "currency": "USD", **query}
    return Exchange(200, REPORT, "GET", "/v0/costs/report", query=asked)


def misasked(**query: str) -> Exchange:
    """Return the exchange that asks for a summary in a way that is refused."""
    path = "/v0/costs/{cost}/summary"
    return Exchange(400, schemas.INVALID, "GET", path, query={**JANUARY, **query})


def created(status: int, schema: Schema, **overrides: object) -> Exchange:
    """Return the exchange that creates a cost."""
    return Exchange(status, schema, "POST", "/v0/costs", cost_body(**overrides))


def patched(status: int, schema: Schema, body: object) -> Exchange:
    """Return the exchange that changes a cost."""
    return Exchange(status, schema, "PATCH", "/v0/costs/{other}", body)


MINIMAL_COST: Final = {
    name: value
    for name, value in cost_body(aggregation="COUNT").items()
    if name not in {"groupBy", "valueProperty"}
}
METRIC: Final = {
    "name": "Inference",
    "eventType": EVENT_TYPE,
    "valueProperty": "$.amount",
    "aggregation": "sum",
    "currency": "USD",
}
PRODUCT: Final = {"name": "Summaries", "description": "", "merchantId": "{org}"}
_BILLABLE_PATH: Final = "/v0/billableMetrics"
BILLABLE: Final = {
    "name": "Tokens",
    "description": "",
    "unit": "token",
    "merchantId": "{org}",
    "eventType": EVENT_TYPE,
    "aggregation": "SUM",
    "valueProperty": "$.amount",
}
NEW_KEY: Final = {"name": "reader", "permissions": ["costs:read"]}
TEXT_HEADER: Final = {"content-type": "text/plain"}
NO_KEY: Final = {"authorization": ""}
WRONG_KEY: Final = {"authorization": "Bearer sk_test_wrong"}
WEAK_KEY: Final = {"authorization": "Bearer {weak}"}

EXCHANGES: Final = {
    # Events.
    "event": posted(202, schemas.EVENT, event()),
    "event-full": posted(
        202,
        schemas.EVENT,
        event(
            externalSubject="acme-1",
            namespace="{org}",
            timestamp="2026-01-05T12:00:00.123456+02:00",
            idempotencyKey="job-full",
            externalId="ex_1",
        ),
    ),
    "event-duplicate": posted(202, schemas.EVENT, event(idempotencyKey="job-1")),
    "event-external": posted(
        202, schemas.EVENT, event(subject=None, externalSubject="acme-1")
    ),
    "event-bare": posted(202, schemas.EVENT, event(timestamp=None, data={})),
    "event-naive": posted(202, schemas.EVENT, event(timestamp="2026-01-05T12:00:00")),
    "event-nulls": posted(
        202, schemas.EVENT, {**event(), "externalSubject": None, "namespace": None}
    ),
    "event-unmatched": posted(422, schemas.UNMATCHED, event(type="cost.unknown")),
    "event-invalid": posted(400, schemas.INVALID, event(type="", source=7)),
    "event-no-customer": posted(400, schemas.INVALID, event(subject=None)),
    "event-not-json": posted(400, schemas.ERROR, b"{"),
    "event-array": posted(400, schemas.ERROR, [event()]),
    "event-too-large": posted(
        413, schemas.ERROR, event(data={"text": "x" * 1024 * 1024})
    ),
    "event-as-text": Exchange(
        415, schemas.ERROR, "POST", "/v0/events", b"{}", headers=TEXT_HEADER
    ),
    "event-no-key": Exchange(
        401, schemas.ERROR, "POST", "/v0/events", event(), headers=NO_KEY
    ),
    "event-wrong-key": Exchange(
        401, schemas.ERROR, "POST", "/v0/events", event(), headers=WRONG_KEY
    ),
    "event-weak-key": Exchange(
        403, schemas.LACKING, "POST", "/v0/events", event(), headers=WEAK_KEY
    ),
    "event-foreign": posted(403, schemas.NOT_A_MEMBER, event(namespace="{foreign}")),
    "event-nowhere": posted(404, schemas.ERROR, event(namespace="org_nowhere")),
    # Batches.
    "batch": batched(202, schemas.BATCH, event(), event(idempotencyKey="job-1")),
    "batch-partly": batched(
        207,
        schemas.BATCH,
        event(),
        event(type="cost.unknown", idempotencyKey="job-2"),
        event(subject=None),
        event(namespace="{foreign}"),
        "no event",
    ),
    "batch-refused": batched(207, schemas.BATCH, 7),
    "batch-empty": batched(400, schemas.ERROR),
    "batch-not-json": Exchange(400, schemas.ERROR, "POST", "/v0/events/batch", b"["),
    "batch-wrong-key": Exchange(
        401, schemas.ERROR, "POST", "/v0/events/batch", {}, headers=WRONG_KEY
    ),
    "batch-weak-key": Exchange(
        403, schemas.LACKING, "POST", "/v0/events/batch", {}, headers=WEAK_KEY
    ),
    # Costs.
    "cost": created(201, schemas.COST, unit="usd", unitCost=1e-06),
    "cost-lower-case": created(201, schemas.COST, aggregation="sum", currency="eur"),
    "cost-minimal": Exchange(201, schemas.COST, "POST", "/v0/costs", MINIMAL_COST),
    "cost-invalid": created(400, schemas.INVALID, unitCost=-1, currency="dollars"),
    "cost-foreign": created(403, schemas.NOT_A_MEMBER, merchantId="{foreign}"),
    "cost-nowhere": created(404, schemas.ERROR, merchantId="org_nowhere"),
    "cost-weak-key": Exchange(
        403, schemas.LACKING, "POST", "/v0/costs", cost_body(), headers=WEAK_KEY
    ),
    "costs": Exchange(200, schemas.COSTS, "GET", "/v0/costs"),
    "costs-page": Exchange(
        200, schemas.COSTS, "GET", "/v0/costs", query={"limit": "1", "offset": "1"}
    ),
    "costs-beyond": Exchange(
        200, schemas.COSTS, "GET", "/v0/costs", query={"offset": "1000"}
    ),
    "costs-invalid": Exchange(
        400, schemas.INVALID, "GET", "/v0/costs", query={"limit": "101"}
    ),
    "costs-no-key": Exchange(401, schemas.ERROR, "GET", "/v0/costs", headers=NO_KEY),
    "cost-read": Exchange(200, schemas.COST, "GET", "/v0/costs/{cost}"),
    "cost-missing": Exchange(404, schemas.ERROR, "GET", "/v0/costs/cst_1"),
    "cost-changed": patched(200, schemas.COST, {"name": "New", "unitCost": 0}),
    "cost-cleared": patched(200, schemas.COST, {"unit": None, "groupBy": None}),
    "cost-stripped": patched(
        200, schemas.COST, {"aggregation": None, "valueProperty": None}
    ),
    "cost-misread": patched(400, schemas.INVALID, {"name": None}),
    "cost-deleted": Exchange(204, None, "DELETE", "/v0/costs/{doomed}"),
    "cost-not-deleted": Exchange(404, schemas.ERROR, "DELETE", "/v0/costs/cst_1"),
    # Summaries.
    "report": reported(),
    "report-in-windows": reported(
        groupBy="cost", windowSize="DAY", topN="1", limit="1"
    ),
    "report-bad-group": Exchange(
        400,
        schemas.INVALID,
        "GET",
        "/v0/costs/report",
        query={**JANUARY, "groupBy": "x"},
    ),
    "summary": summed(),
    "summary-grouped": summed(groupBy="provider,subject"),
    "summary-windowed": summed(window="DAY"),
    "summary-both": summed(groupBy="provider", window="MINUTE"),
    "summary-month": summed(windowSize="MONTH"),
    "summary-filtered": summed(filterGroupBy='{"provider":"anthropic"}'),
    "summary-of-nothing": summed(subject="nobody", groupBy="provider", window="DAY"),
    "summary-of-average": summed("average", subject="nobody"),
    "summary-of-thirds": summed("average", groupBy="subject"),
    "summary-huge": summed("huge", groupBy="subject", window="HOUR"),
    "summary-computes-nothing": summed("inert", groupBy="provider", window="DAY"),
    "summary-no-period": Exchange(
        400, schemas.INVALID, "GET", "/v0/costs/{cost}/summary"
    ),
    "summary-no-instant": misasked(to="tomorrow"),
    "summary-of-nobody": misasked(subject=""),
    "summary-backwards": misasked(to="2025-01-01T00:00:00Z"),
    "summary-unknown-dimension": misasked(groupBy="colour"),
    "summary-unknown-window": misasked(window="YEAR"),
    "summary-bad-filter": misasked(filterGroupBy="[]"),
    "summary-missing": Exchange(
        404, schemas.ERROR, "GET", "/v0/costs/cst_1/summary", query=JANUARY
    ),
    "summary-weak-key": Exchange(
        403,
        schemas.LACKING,
        "GET",
        "/v0/costs/{cost}/summary",
        query=JANUARY,
        headers=WEAK_KEY,
    ),
    # The older spelling.
    "metric": Exchange(201, schemas.COST, "POST", "/v0/costMetrics", METRIC),
    "metrics": Exchange(200, schemas.COSTS, "GET", "/v0/costMetrics"),
    "metric-read": Exchange(200, schemas.COST, "GET", "/v0/costMetrics/{cost}"),
    "metric-deleted": Exchange(204, None, "DELETE", "/v0/costMetrics/{doomed}"),
    "metric-invalid": Exchange(400, schemas.INVALID, "POST", "/v0/costMetrics", {}),
    "metric-changed": Exchange(
        200, schemas.COST, "PATCH", "/v0/costMetrics/{other}", {"name": "Newer"}
    ),
    "metric-summary": Exchange(
        200,
        schemas.SUMMARY,
        "GET",
        "/v0/costMetrics/{cost}/summary",
        query={**JANUARY, "groupBy": "provider"},
    ),
    # Billable metrics.
    "billable": Exchange(
        201, schemas.BILLABLE, "POST", "/v0/billableMetrics", BILLABLE
    ),
    "billable-invalid": Exchange(400, schemas.INVALID, "POST", _BILLABLE_PATH, {}),
    "billables": Exchange(
        200, schemas.BILLABLES, "GET", _BILLABLE_PATH, query={"merchantId": "{org}"}
    ),
    "billables-of-nobody": Exchange(400, schemas.INVALID, "GET", _BILLABLE_PATH),
    "billable-read": Exchange(
        200, schemas.BILLABLE, "GET", f"{_BILLABLE_PATH}/{{billable}}"
    ),
    "billable-missing": Exchange(404, schemas.ERROR, "GET", f"{_BILLABLE_PATH}/bm_1"),
    "billable-changed": Exchange(
        200,
        schemas.BILLABLE,
        "PATCH",
        f"{_BILLABLE_PATH}/{{billable}}",
        {"itemId": "itm_1"},
    ),
    "meter": Exchange(
        200,
        schemas.METER,
        "GET",
        f"{_BILLABLE_PATH}/{{billable}}/meter",
        query={**JANUARY, "groupBy": "subject", "windowSize": "DAY"},
    ),
    "meter-events": Exchange(
        200,
        schemas.METER_EVENTS,
        "GET",
        f"{_BILLABLE_PATH}/{{billable}}/events",
        query=JANUARY,
    ),
    # Single events, an extension.
    "events": Exchange(
        200, schemas.ANYTHING, "GET", "/v0/events", query={"limit": "2"}
    ),
    "events-misasked": Exchange(
        400, schemas.INVALID, "GET", "/v0/events", query={"colour": "red"}
    ),
    "event-read": Exchange(200, schemas.ANYTHING, "GET", "/v0/events/{event}"),
    "event-missing": Exchange(404, schemas.ERROR, "GET", "/v0/events/evt_1"),
    # Products.
    "product": Exchange(201, schemas.PRODUCT, "POST", "/v0/products", PRODUCT),
    "product-labelled": Exchange(
        201,
        schemas.PRODUCT,
        "POST",
        "/v0/products",
        {**PRODUCT, "metadata": {"tier": "enterprise"}},
    ),
    "product-invalid": Exchange(400, schemas.INVALID, "POST", "/v0/products", {}),
    "products": Exchange(200, schemas.PRODUCTS, "GET", "/v0/products"),
    "product-read": Exchange(200, schemas.PRODUCT, "GET", "/v0/products/prod_p1"),
    "product-missing": Exchange(404, schemas.ERROR, "GET", "/v0/products/prod_0"),
    # API keys, an extension.
    "unmatched": Exchange(
        200,
        schemas.ANYTHING,
        "GET",
        "/v0/unmatchedEvents",
        query={"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"},
    ),
    "unmatched-invalid": Exchange(400, schemas.INVALID, "GET", "/v0/unmatchedEvents"),
    "key": Exchange(201, schemas.ANYTHING, "POST", "/v0/apiKeys", NEW_KEY),
    "key-invalid": Exchange(400, schemas.INVALID, "POST", "/v0/apiKeys", {}),
    "keys": Exchange(200, schemas.ANYTHING, "GET", "/v0/apiKeys"),
    "keys-weak-key": Exchange(
        403, schemas.LACKING, "GET", "/v0/apiKeys", headers=WEAK_KEY
    ),
    "key-current": Exchange(
        200, schemas.ANYTHING, "GET", "/v0/apiKeys/current", headers=WEAK_KEY
    ),
    "key-read": Exchange(200, schemas.ANYTHING, "GET", "/v0/apiKeys/{key}"),
    "key-missing": Exchange(404, schemas.ERROR, "GET", "/v0/apiKeys/key_1"),
    "key-rotated": Exchange(
        201, schemas.ANYTHING, "POST", "/v0/apiKeys/{key}/rotate", {}
    ),
    "key-revoked": Exchange(204, None, "DELETE", "/v0/apiKeys/{doomed_key}"),
    **REVENUE_EXCHANGES,
    **CORRECTION_EXCHANGES,
    **BUDGET_EXCHANGES,
    **RECONCILIATION_EXCHANGES,
    # Retention and erasures, extensions.
    "retention": Exchange(200, schemas.ANYTHING, "GET", "/v0/retention"),
    "retention-set": Exchange(
        200, schemas.ANYTHING, "PUT", "/v0/retention", {"eventDays": 36_500}
    ),
    "retention-invalid": Exchange(
        400, schemas.INVALID, "PUT", "/v0/retention", {"eventDays": 1}
    ),
    "erasure": Exchange(
        202, schemas.ANYTHING, "POST", "/v0/erasures", {"customer": "cus_gone"}
    ),
    "erasure-invalid": Exchange(400, schemas.INVALID, "POST", "/v0/erasures", {}),
    "erasures": Exchange(200, schemas.ANYTHING, "GET", "/v0/erasures"),
    # The server itself.
    "health": Exchange(200, schemas.ANYTHING, "GET", "/healthz"),
    "readiness": Exchange(200, schemas.ANYTHING, "GET", "/readyz"),
    "version": Exchange(200, schemas.ANYTHING, "GET", "/version"),
    "metrics-weak-key": Exchange(
        403, schemas.LACKING, "GET", "/metrics", headers=WEAK_KEY
    ),
    "description": Exchange(200, schemas.ANYTHING, "GET", "/openapi.json"),
}

NOT_JSON: Final = {("expose_metrics", "200"), ("export", "200")}
"""Operations whose bodies are another text. Tests of their own read them."""

# Not in the server's description, because there is nothing to describe.
UNSERVED: Final = {
    "no-such-route": Exchange(404, schemas.ERROR, "GET", "/v0/usage"),
    "no-such-method": Exchange(405, schemas.ERROR, "PUT", "/v0/costs", {}),
}

ALL: Final = {**EXCHANGES, **UNSERVED}

every_exchange = pytest.mark.parametrize("name", ALL)
with_and_without_slash = pytest.mark.parametrize("slash", ["", "/"], ids=["", "slash"])


def create_key(http: httpx.Client) -> str:
    """Create an API key, and return its id."""
    identifier: str = http.post("/v0/apiKeys", json=NEW_KEY).json()["id"]
    return identifier


def create_billable(http: httpx.Client, organization: str) -> str:
    """Create a billable metric, and return its id."""
    body = {**BILLABLE, "merchantId": organization}
    identifier: str = http.post(_BILLABLE_PATH, json=body).json()["id"]
    return identifier


class World:
    """An organization in which every exchange makes sense, and its answers.

    Attributes:
        tenant: the organization.
        http: who asks.
    """

    def __init__(self, tenant: Tenant, http: httpx.Client) -> None:
        self.tenant = tenant
        self.http = http
        self._answers: dict[tuple[str, str], httpx.Response] = {}
        self._names = {
            "org": tenant.organization,
            "foreign": tenant_of(tenant.server).organization,
            "weak": tenant.server.create_key("weak", ["events:read"]),
            "cost": create_cost(http),
            "other": create_cost(http, eventType="cost.other"),
            "average": create_cost(http, aggregation="AVG"),
            "inert": create_cost(http, eventType="cost.inert"),
            "huge": create_cost(http, eventType="cost.huge", unitCost=1000),
            "key": create_key(http),
            "billable": create_billable(http, tenant.organization),
            "budget": create_budget(http),
            "webhook": create_webhook(http),
        }
        self._spend()
        # Some exchanges create metrics in euros.
        assert http.put("/v0/rates", json=RATES).status_code == 200
        http.put("/v0/customers/cus_2", json={"name": "Globex"})
        [newest] = http.get("/v0/events", params={"limit": "1"}).json()["data"]
        self._names["event"] = newest["id"]
        self._names |= corrected_names(http, self._names["cost"], EVENT_TYPE)
        self._names |= reconciliation_names(http)

    def _spend(self) -> None:
        huge = {"amount": "99999999999999999999999999.9999999999999999"}
        for body in (
            event(data={"amount": 1}, subject="cus_3"),
            event(data={"amount": 1}, subject="cus_3"),
            event(data={"amount": 0}, subject="cus_3"),
            event(type="cost.huge", data=huge),
            event(type="cost.huge", data={"amount": 1e-09}, subject="cus_2"),
        ):
            assert self.http.post("/v0/events", json=body).status_code == 202
        inert = {"aggregation": None, "eventType": None}
        path = f"/v0/costs/{self._names['inert']}"
        assert self.http.patch(path, json=inert).status_code == 200

    def answer(self, name: str, slash: str) -> httpx.Response:
        """Return the answer to an exchange, which is made once."""
        if (name, slash) not in self._answers:
            self._answers[name, slash] = self._ask(ALL[name], slash)
        return self._answers[name, slash]

    def _ask(self, exchange: Exchange, slash: str) -> httpx.Response:
        if "{doomed}" in exchange.path:
            self._names["doomed"] = create_cost(self.http, name="Doomed")
        if "{doomed_key}" in exchange.path:
            self._names["doomed_key"] = create_key(self.http)
        if "{doomed_budget}" in exchange.path:
            self._names["doomed_budget"] = create_budget(self.http)
        if "{doomed_webhook}" in exchange.path:
            self._names["doomed_webhook"] = create_webhook(self.http)
        content = exchange.body
        if content is not None and not isinstance(content, bytes):
            content = self._filled(json.dumps(content)).encode()
        headers = {
            "content-type": "application/json",
            **{name: self._filled(text) for name, text in exchange.headers.items()},
        }
        return self.http.request(
            exchange.method,
            self._filled(exchange.path) + slash,
            content=content,
            params={name: self._filled(text) for name, text in exchange.query.items()},
            headers=headers,
            follow_redirects=False,
        )

    def _filled(self, template: str) -> str:
        for name, value in self._names.items():
            template = template.replace(f"{{{name}}}", value)
        return template


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Return a server for all tests of this module."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def world(server: BackgroundServer) -> Iterator[World]:
    """Return a world for all tests of this module."""
    tenant = tenant_of(server)
    with calling(tenant) as http:
        yield World(tenant, http)


@pytest.fixture(scope="module")
def description(world: World) -> dict[str, Any]:
    """Return the server's description of itself."""
    described: dict[str, Any] = world.http.get("/openapi.json").json()
    return described


def faults(schema: Schema, value: object) -> list[str]:
    """Return where ``value`` breaks ``schema``, and how."""
    return [
        f"{fault.json_path}: {fault.message}"
        for fault in Draft202012Validator(schema).iter_errors(value)
    ]


def strictly(content: bytes) -> Any:  # noqa: ANN401 - JSON
    """Decode JSON as a strict client does: no NaN, no field given twice."""

    def no_constant(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    def no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
        fields = dict(pairs)
        assert len(fields) == len(pairs), f"a field twice in {pairs}"
        return fields

    return json.loads(content, parse_constant=no_constant, object_pairs_hook=no_twins)


def is_margin(place: str) -> bool:
    """Return whether the contract has null at a place of a profitability summary."""
    return place.endswith((".marginPct", ".trend", ".periodChange"))


def nulls(value: object, path: str = "$") -> list[str]:
    """Return the places in ``value`` that hold null."""
    if isinstance(value, dict):
        inner = [nulls(one, f"{path}.{name}") for name, one in value.items()]
    elif isinstance(value, list):
        inner = [nulls(one, f"{path}[{at}]") for at, one in enumerate(value)]
    else:
        return [path] if value is None else []
    return [place for places in inner for place in places]


# -- the contract


@with_and_without_slash
@every_exchange
def test_the_status_is_the_one_that_the_contract_names(
    world: World, name: str, slash: str
) -> None:
    """Clients raise on 200 for 201 and 202, and lose the body on a redirect."""
    answer = world.answer(name, slash)

    assert answer.status_code == ALL[name].status, answer.text
    assert "location" not in answer.headers


@with_and_without_slash
@every_exchange
def test_the_body_is_strict_json_or_nothing_at_all(
    world: World, name: str, slash: str
) -> None:
    """An empty body under application/json ends a Node process."""
    answer = world.answer(name, slash)

    if ALL[name].schema is None:
        assert answer.content == b""
        assert "content-type" not in answer.headers
    else:
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-length"] == str(len(answer.content))
        assert isinstance(strictly(answer.content), dict)


@with_and_without_slash
@every_exchange
def test_the_body_has_the_fields_and_types_of_the_contract(
    world: World, name: str, slash: str
) -> None:
    """Objects named, instants with offsets, numbers as numbers, texts as texts."""
    schema = ALL[name].schema
    answer = world.answer(name, slash)

    if schema is not None:
        assert faults(schema, answer.json()) == []


@with_and_without_slash
@every_exchange
def test_absent_fields_are_absent_and_not_null(
    world: World, name: str, slash: str
) -> None:
    """Only figures that cannot be computed are null; Node refuses any other.

    The contract demands the item of a billable metric, and null without one.
    """
    answer = world.answer(name, slash)

    # The API's description is about null in places, and no client parses it.
    if answer.content and name != "description":
        places = {place for place in nulls(answer.json()) if not is_margin(place)}
        items = {place for place in places if place.endswith(".itemId")}
        assert places - items <= {"$.totalCost", "$.totalQuantity"}


@with_and_without_slash
@every_exchange
def test_only_event_paths_advertise_the_batch_path(
    world: World, name: str, slash: str
) -> None:
    """Refusals too: a client whose first event fails learns it all the same."""
    answer = world.answer(name, slash)

    is_event = ALL[name].path in {"/v0/events", "/v0/events/batch"}
    assert answer.headers.get("outlay-batch") == (BATCH_HEADER if is_event else None)


@pytest.mark.parametrize(
    "name", [name for name, one in ALL.items() if one.status == 401]
)
def test_a_401_says_how_to_authenticate(world: World, name: str) -> None:
    """RFC 9110, section 15.5.2, demands the header."""
    assert world.answer(name, "").headers["www-authenticate"] == "Bearer"


def test_the_exchanges_reach_every_endpoint(description: dict[str, Any]) -> None:
    """An endpoint that is added must be held to the contract as well."""
    asked = {
        (operation["operationId"], str(exchange.status))
        for exchange in EXCHANGES.values()
        for operation in [described(description, exchange)]
    }
    successes = {
        (operation["operationId"], status)
        for operations in description["paths"].values()
        for operation in operations.values()
        for status in operation["responses"]
        if status < "300"
    }

    assert successes - NOT_JSON <= asked


# -- the server's own description


def described(description: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
    """Return the description of the operation that serves ``exchange``."""
    parts = exchange.path.split("/")
    template = exchange.path
    if template not in description["paths"]:
        template = "/".join([*parts[:3], "{id}", *parts[4:]])
    operation: dict[str, Any] = description["paths"][template][exchange.method.lower()]
    return operation


def within(description: dict[str, Any], schema: Schema) -> Schema:
    """Return ``schema`` with what its references point to."""
    return {**schema, "components": description["components"]}


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_answer_is_as_the_server_describes_it(
    world: World, description: dict[str, Any], name: str
) -> None:
    """Clients are generated from the description, so it must hold."""
    answer = world.answer(name, "")
    responses = described(description, EXCHANGES[name])["responses"]

    assert str(answer.status_code) in responses
    content = responses[str(answer.status_code)].get("content")
    if name == "description":
        return  # it describes everything but itself
    assert (content is None) == (not answer.content)
    if content is not None:
        schema = content["application/json"]["schema"]
        assert faults(within(description, schema), answer.json()) == []


# Taken all the same: aggregations and currencies in any case, and batches that have
# some bad events among the good ones.
LENIENT: Final = {"cost-lower-case", "metric", "batch-partly", "batch-refused"}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, one in EXCHANGES.items()
        if one.status < 300 and one.body is not None and name not in LENIENT
    ],
)
def test_what_the_server_takes_is_as_it_describes_it(
    description: dict[str, Any], name: str
) -> None:
    """A generated client must be able to say all that a hand-written one can."""
    exchange = EXCHANGES[name]
    content = described(description, exchange)["requestBody"]["content"]

    schema = within(description, content["application/json"]["schema"])

    assert faults(schema, exchange.body) == []


@pytest.mark.parametrize(
    "name",
    [name for name, one in EXCHANGES.items() if one.status < 300 and one.query],
)
def test_every_query_parameter_is_described(
    description: dict[str, Any], name: str
) -> None:
    """But for the alias that is there for other endpoints' users."""
    exchange = EXCHANGES[name]
    parameters = described(description, exchange)["parameters"]

    known = {one["name"] for one in parameters if one["in"] == "query"}

    assert set(exchange.query) - {"windowSize"} <= known


def test_the_description_is_made_of_valid_schemas(description: dict[str, Any]) -> None:
    """And every reference in it leads somewhere."""
    for name, schema in description["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(within(description, schema))
        list(validator.iter_errors({}))  # raises for a reference that leads nowhere
        assert name


# -- what other clients do


def test_the_headers_that_node_sends_are_taken(world: World) -> None:
    """It sends an empty cookie and lower-case names, and asks for any language."""
    headers = {
        "cookie": "",
        "accept-language": "*",
        "sec-fetch-mode": "cors",
        "accept-encoding": "gzip, deflate",
        "user-agent": "speakeasy-sdk/typescript",
    }

    answer = world.http.post("/v0/events", json=event(), headers=headers)

    assert answer.status_code == 202
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON"],
)
def test_json_by_any_spelling_is_json(world: World, media_type: str) -> None:
    """Media types have parameters, and no case."""
    answer = world.http.post(
        "/v0/events",
        content=json.dumps(event()),
        headers={"content-type": media_type},
    )

    assert answer.status_code == 202


def test_an_overload_says_when_to_come_back() -> None:
    """In whole seconds: one client ignores fractions."""
    with serving(max_waiting_events=1) as server:
        tenant = tenant_of(server)
        with calling(tenant) as http:
            create_cost(http)

            answer = http.post("/v0/events/batch", json={"events": [event(), event()]})

    assert answer.status_code == 503
    assert faults(schemas.ERROR, answer.json()) == []
    assert answer.headers["retry-after"].isdecimal()
    assert answer.headers["outlay-batch"] == BATCH_HEADER
