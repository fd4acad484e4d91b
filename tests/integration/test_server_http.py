"""The reference server over real HTTP: what clients may rely on."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from outlay.server import BackgroundServer, ServerSettings, create_app
from outlay.server._storage.opening import open_store
from tests.support.stores import OPENERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from outlay.server._storage.store import Store

KEY = "sk_test_integration"
PERIOD = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
BATCH_HEADER = "/v0/events/batch; max=1000"

_exact = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass
class ManualClock:
    """A clock that tests move."""

    ms: int = 1_767_700_000_000  # 2026-01-06

    def now_ms(self) -> int:
        """Return the time it was set to."""
        return self.ms

    def now_ns(self) -> int:
        """Return the same in nanoseconds."""
        return self.ms * 1_000_000

    def monotonic(self) -> float:
        """Return the same in seconds."""
        return self.ms / 1000

    def advance(self, duration: timedelta) -> None:
        """Let ``duration`` pass."""
        self.ms += duration // timedelta(milliseconds=1)


@dataclass
class Site:
    """A running server and a client of it."""

    server: BackgroundServer
    http: httpx.Client
    clock: ManualClock

    def post(self, **fields: Any) -> httpx.Response:  # noqa: ANN401 - JSON
        """Post one event."""
        return self.http.post("/v0/events", json=event(**fields))

    def post_batch(self, *events: object) -> httpx.Response:
        """Post a batch."""
        return self.http.post("/v0/events/batch", json={"events": events})

    def post_raw(self, body: str | bytes, path: str = "/v0/events") -> httpx.Response:
        """Post bytes as they are."""
        headers = {"content-type": "application/json"}
        return self.http.post(path, content=body, headers=headers)

    def create_cost(self, **overrides: Any) -> str:  # noqa: ANN401 - JSON
        """Create a cost and return its id."""
        answer = self.http.post("/v0/costs", json=cost(**overrides))
        assert answer.status_code == 201, answer.text
        identifier: str = answer.json()["id"]
        return identifier

    def summary(self, cost_id: str, **query: str) -> dict[str, Any]:
        """Return a cost's summary over January 2026, its numbers exact."""
        answer = self.http.get(
            f"/v0/costs/{cost_id}/summary", params={**PERIOD, **query}
        )
        assert answer.status_code == 200, answer.text
        decoded: dict[str, Any] = _exact(answer.content)
        return decoded


def event(**overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return an event's body; None leaves a field out."""
    fields = {
        "type": "cost.ai",
        "source": "https://api.myapp.com",
        "subject": "cus_1",
        "timestamp": "2026-01-05T12:00:00.000Z",
        "data": {"amount": 1, "provider": "anthropic", "region": "us"},
        **overrides,
    }
    return {name: value for name, value in fields.items() if value is not None}


def cost(**overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a cost's body; None leaves a field out."""
    fields = {
        "type": "metered",
        "name": "AI",
        "unitCost": 1,
        "currency": "USD",
        "productId": "prod_p1",
        "eventType": "cost.ai",
        "aggregation": "SUM",
        "valueProperty": "$.amount",
        "groupBy": {"provider": "$.provider", "region": "$.region"},
        **overrides,
    }
    return {name: value for name, value in fields.items() if value is not None}


@contextmanager
def running(
    *,
    middleware: Sequence[Middleware] = (),
    open_store: Callable[[ServerSettings], Store] = open_store,
    **settings: Any,  # noqa: ANN401 - any setting
) -> Iterator[Site]:
    """Run a server with some settings."""
    clock = ManualClock()
    fields = {"port": 0, "database": ":memory:", "api_key": KEY, **settings}
    with (
        BackgroundServer(
            ServerSettings(**fields),
            clock=clock,
            middleware=middleware,
            open_store=open_store,
        ) as server,
        httpx.Client(
            base_url=server.url,
            headers={"authorization": f"Bearer {KEY}"},
            timeout=30,
        ) as http,
    ):
        yield Site(server, http, clock)


@pytest.fixture(params=OPENERS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Return a running server of the test's own, over each kind of store."""
    with running(open_store=OPENERS[request.param]) as site:
        yield site


@pytest.fixture(scope="module")
def refusing() -> Iterator[Site]:
    """Return a server with a cost, shared by tests whose requests are all refused."""
    with running() as site:
        site.create_cost()
        yield site


# -- one event


def test_an_accepted_event_is_answered_with_what_was_kept(site: Site) -> None:
    """Both official SDKs parse this body, and refuse null for absent fields."""
    site.create_cost()

    answer = site.post(idempotencyKey="job-1", externalId="ex_1")

    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.pop("id").startswith("evt_")
    assert body == {
        "object": "event",
        "type": "cost.ai",
        "source": "https://api.myapp.com",
        "subject": "cus_1",
        "namespace": "org_local",
        "timestamp": "2026-01-05T12:00:00.000Z",
        "idempotencyKey": "job-1",
        "externalId": "ex_1",
    }


def test_an_event_without_key_or_time_gets_both_from_the_server(site: Site) -> None:
    """The contract makes both optional."""
    site.create_cost()

    first = site.post(timestamp=None).json()
    second = site.post(timestamp=None).json()

    assert first["timestamp"] == "2026-01-06T11:46:40.000Z"
    assert first["idempotencyKey"] != second["idempotencyKey"]


@pytest.mark.parametrize(
    ("given", "echoed"),
    [
        pytest.param("2026-01-05T12:00:00", "2026-01-05T12:00:00.000Z", id="naive"),
        pytest.param(
            "2026-01-05T12:00:00+02:00", "2026-01-05T10:00:00.000Z", id="offset"
        ),
        pytest.param(
            "2026-01-05T12:00:00.123456Z",
            "2026-01-05T12:00:00.123456Z",
            id="microseconds",
        ),
        pytest.param(
            "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z", id="first-year"
        ),
    ],
)
def test_times_are_echoed_in_utc(site: Site, given: str, echoed: str) -> None:
    """One SDK sends naive times, and another refuses them in answers."""
    site.create_cost()

    assert site.post(timestamp=given).json()["timestamp"] == echoed


@pytest.mark.parametrize("given", ["yesterday", "2026-12-31T23:59:61Z"])
def test_what_is_no_instant_is_answered_with_an_example(site: Site, given: str) -> None:
    """The sender learns what to send instead."""
    answer = site.post(timestamp=given)

    assert answer.status_code == 400
    assert "such as 2026-01-01T12:00:00Z" in answer.json()["errors"][0]["message"]


def test_strict_timestamps_need_an_offset() -> None:
    """Who wants to know about naive times before the real service says so."""
    with running(strict_timestamps=True) as site:
        site.create_cost()

        answer = site.post(timestamp="2026-01-05T12:00:00")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "timestamp"


def test_a_duplicate_is_answered_like_the_first(site: Site) -> None:
    """A client that retries must not have to tell the two apart."""
    cost_id = site.create_cost()
    first = site.post(idempotencyKey="k")

    again = site.post(idempotencyKey="k")

    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["outlay-duplicate"] == "true"
    assert "outlay-duplicate" not in first.headers
    assert site.summary(cost_id)["totalCost"] == 1


def test_a_conflicting_duplicate_keeps_the_first_and_is_reported(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal would make clients drop it; silence would hide a bug."""
    cost_id = site.create_cost()
    site.post(idempotencyKey="k")

    with caplog.at_level(logging.WARNING, "outlay.server"):
        again = site.post(idempotencyKey="k", data={"amount": 5})

    assert again.status_code == 202
    assert site.summary(cost_id)["totalCost"] == 1
    assert site.server.counts.conflicts == 1
    assert "another payload" in caplog.text


def test_a_key_counts_again_after_the_window(site: Site) -> None:
    """The window starts at first receipt and is not renewed by duplicates."""
    cost_id = site.create_cost()
    site.post(idempotencyKey="k")
    site.clock.advance(timedelta(hours=24) - timedelta(milliseconds=1))
    site.post(idempotencyKey="k")
    within = site.summary(cost_id)["totalCost"]

    site.clock.advance(timedelta(milliseconds=1))
    site.post(idempotencyKey="k")

    assert [within, site.summary(cost_id)["totalCost"]] == [1, 2]


def test_an_unmatched_type_is_refused_in_the_spelling_exporters_know(
    refusing: Site,
) -> None:
    """A published exporter mutes a type only on exactly this error."""
    answer = refusing.post(type="cost.unknown")

    assert answer.status_code == 422
    assert answer.json()["error"] == "invalid_event_type"
    assert answer.json()["code"] == "INVALID_EVENT_TYPE"
    assert answer.json()["details"] == {"type": "cost.unknown"}


def test_unmatched_types_are_kept_when_allowed() -> None:
    """In development events often come before their metric."""
    with running(accept_unmatched=True) as site:
        assert site.post().status_code == 202
        assert site.summary(site.create_cost())["totalCost"] == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"type": None}, "type", id="no-type"),
        pytest.param({"type": ""}, "type", id="empty-type"),
        pytest.param({"type": "x" * 256}, "type", id="long-type"),
        pytest.param({"type": "a\nb"}, "type", id="control-character"),
        pytest.param({"type": 7}, "type", id="type-not-text"),
        pytest.param({"source": None}, "source", id="no-source"),
        pytest.param({"source": "x" * 256}, "source", id="long-source"),
        pytest.param({"subject": None}, "subject", id="no-customer"),
        pytest.param({"subject": ""}, "subject", id="empty-subject"),
        pytest.param({"subject": "x" * 256}, "subject", id="long-subject"),
        pytest.param({"externalSubject": "a b"}, "externalSubject", id="ext-subject"),
        pytest.param({"externalId": "é"}, "externalId", id="external-id"),
        pytest.param({"idempotencyKey": ""}, "idempotencyKey", id="empty-key"),
        pytest.param({"idempotencyKey": "k" * 256}, "idempotencyKey", id="long-key"),
        pytest.param({"idempotencyKey": "k\0"}, "idempotencyKey", id="nul-in-key"),
        pytest.param({"timestamp": "yesterday"}, "timestamp", id="no-instant"),
        pytest.param(
            {"timestamp": "0001-01-01T00:00:00+01:00"}, "timestamp", id="before-year-1"
        ),
        pytest.param({"data": None}, "data", id="no-data"),
        pytest.param({"data": [1]}, "data", id="data-an-array"),
        pytest.param({"data": "text"}, "data", id="data-a-text"),
    ],
)
def test_a_bad_field_is_named(
    refusing: Site, fields: dict[str, Any], field: str
) -> None:
    """The reader of the error should not have to search."""
    answer = refusing.post(**fields)

    assert answer.status_code == 400
    assert answer.json()["error"] == "validation_error"
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert answer.headers["outlay-batch"] == BATCH_HEADER


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut-short"),
        pytest.param(b"amount=1", id="a-form"),
        pytest.param(b'{"type":"\xff"}', id="not-utf-8"),
        pytest.param(b'"text"', id="a-text"),
        pytest.param(b"[" * 100_000, id="deeply-nested"),
        pytest.param(b'{"type":"cost.ai","data":' + b"[" * 100_000, id="deep-data"),
        pytest.param(
            b'{"type":"cost.ai","source":"s","subject":"c","data":{"a":NaN}}',
            id="nan",
        ),
        pytest.param(
            b'{"type":"cost.ai","source":"s","subject":"c","data":{"a":"\\ud800"}}',
            id="lone-surrogate",
        ),
        pytest.param(
            b'{"type":"cost.ai","source":"s","subject":"c","data":{"a":%b}}'
            % (b"7" * 5000),
            id="integer-beyond-all-use",
        ),
        pytest.param(
            b'{"type":"cost.ai","source":"s","subject":"c","data":{"a":%b}}'
            % (b"[" * 101 + b"]" * 101),
            id="a-little-too-deep",
        ),
    ],
)
def test_an_unreadable_body_is_a_400(refusing: Site, body: bytes) -> None:
    """Sending the same bytes again cannot help, so clients must not."""
    answer = refusing.post_raw(body)

    assert answer.status_code == 400
    assert answer.json()["message"]


def test_an_array_is_told_where_batches_go(refusing: Site) -> None:
    """One path, one shape: what works here must not fail on the real service."""
    answer = refusing.post_raw(b' [{"type":"cost.ai"}]')

    assert answer.status_code == 400
    assert "/v0/events/batch" in answer.json()["message"]


def test_another_media_type_is_a_415(refusing: Site) -> None:
    """The usual cause is a curl without a header; the message names it."""
    answer = refusing.http.post(
        "/v0/events", content=b"{}", headers={"content-type": "text/plain"}
    )

    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["message"]


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_a_body_over_a_mebibyte_is_a_413(refusing: Site, *, chunked: bool) -> None:
    """With or without a length up front."""
    body = json.dumps(event(data={"text": "x" * 1024 * 1024})).encode()

    answer = refusing.http.post(
        "/v0/events",
        content=iter([body[:1000], body[1000:]]) if chunked else body,
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 413
    assert answer.json()["error"] == "payload_too_large"


def test_unicode_goes_through_unharmed(site: Site) -> None:
    """Customers have names."""
    cost_id = site.create_cost()
    site.post(subject="Ünïcödé 顧客 🧾", data={"amount": 1, "provider": "Пример"})

    [group] = site.summary(cost_id, groupBy="subject,provider")["groups"]

    assert group["dimensions"] == {"subject": "Ünïcödé 顧客 🧾", "provider": "Пример"}


# -- batches


def test_a_batch_answers_for_each_event(site: Site) -> None:
    """One bad event must not hold up the others."""
    cost_id = site.create_cost()

    answer = site.post_batch(
        event(idempotencyKey="a"),
        event(type="cost.unknown", idempotencyKey="b"),
        event(idempotencyKey="a"),
        {"type": 7, "idempotencyKey": "c"},
        "no event",
        event(data={"text": "x" * 1024 * 1024}),
    )

    assert answer.status_code == 207
    assert answer.headers["outlay-batch"] == BATCH_HEADER
    body = answer.json()
    assert body["object"] == "batchEvents"
    assert body["summary"] == {
        "total": 6,
        "successful": 2,
        "failed": 4,
        "duplicates": 1,
    }
    assert [one["idempotencyKey"] for one in body["successful"]] == ["a", "a"]
    assert [
        (one["index"], one["status"], one["error"], one.get("idempotencyKey"))
        for one in body["failed"]
    ] == [
        (1, 422, "invalid_event_type", "b"),
        (3, 400, "validation_error", "c"),
        (4, 400, "validation_error", None),
        (5, 413, "payload_too_large", None),
    ]
    assert site.summary(cost_id)["totalCost"] == 1


def test_a_batch_without_failures_is_a_202(site: Site) -> None:
    """A status that clients can trust without reading the body."""
    site.create_cost()

    answer = site.post_batch(*[event() for _ in range(1000)])

    assert answer.status_code == 202
    assert answer.json()["summary"]["successful"] == 1000
    assert answer.json()["failed"] == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"events":[]}', id="empty"),
        pytest.param(b'{"events":[' + b"{}," * 1000 + b"{}]}", id="too-many"),
        pytest.param(b"[]", id="bare-array"),
        pytest.param(b'{"events":{}}', id="no-array"),
        pytest.param(b'{"events":[{]}', id="broken"),
        pytest.param(b"{}", id="no-events"),
        pytest.param(b'{"events":["\xff"]}', id="not-utf-8"),
    ],
)
def test_a_malformed_envelope_is_a_400(refusing: Site, body: bytes) -> None:
    """Nothing of it was kept, and the client can tell."""
    answer = refusing.post_raw(body, "/v0/events/batch")

    assert answer.status_code == 400
    assert answer.headers["outlay-batch"] == BATCH_HEADER


# -- exact sums


def test_sums_are_exact_to_the_last_digit(site: Site) -> None:
    """Thirty digits, nine places, strings and exponents in one sum."""
    cost_id = site.create_cost()
    for literal in (
        "0.10",
        "1e-9",
        '"0.0042"',
        "123456789012345678901234567890",
        "0.000000000000000000000000000001",
        "-0.10",
    ):
        body = json.dumps(event(data={"amount": "AMOUNT"}))
        assert site.post_raw(body.replace('"AMOUNT"', literal)).status_code == 202

    summary = site.summary(cost_id)

    expected = "123456789012345678901234567890.004200001000000000000000000001"
    assert summary["totalCost"] == Decimal(expected)
    assert summary["totalCostExact"] == expected


def test_what_does_not_count_is_kept_and_counted(site: Site) -> None:
    """An absurd amount must neither vanish nor spoil the total."""
    cost_id = site.create_cost()
    for literal in ("1", "null", "true", '"free"', "[1]", "1e999999", "1e-999999"):
        body = json.dumps(event(data={"amount": "AMOUNT"}))
        assert site.post_raw(body.replace('"AMOUNT"', literal)).status_code == 202
    site.post(data={})

    summary = site.summary(cost_id)

    assert summary["totalCost"] == 1
    assert (summary["events"], summary["excluded"]) == (8, 7)


# -- costs


def test_a_cost_is_answered_in_the_types_that_sdks_demand(site: Site) -> None:
    """The unit cost is a number in requests and a string in answers."""
    answer = site.http.post(
        "/v0/costs", json=cost(unitCost=1e-06, aggregation="sum", currency="eur")
    )

    body = answer.json()
    assert body["object"] == "cost"
    assert body["id"].startswith("cst_")
    assert body["unitCost"] == "0.000001"
    assert (body["aggregation"], body["currency"]) == ("SUM", "EUR")
    assert body["createdAt"].endswith("Z")
    assert None not in body.values()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"valueProperty": "$.a["}, "valueProperty", id="bad-path"),
        pytest.param({"valueProperty": "$..a"}, "valueProperty", id="many-values"),
        pytest.param({"groupBy": {"p": "p"}}, "groupBy.p", id="bad-dimension"),
        pytest.param({"groupBy": {"a,b": "$.a"}}, "groupBy.a,b.[key]", id="comma"),
        pytest.param({"unitCost": -1}, "unitCost", id="negative-price"),
        pytest.param({"unitCost": "much"}, "unitCost", id="price-not-a-number"),
        pytest.param({"unitCost": True}, "unitCost", id="price-a-boolean"),
        pytest.param({"currency": "dollars"}, "currency", id="currency"),
        pytest.param({"aggregation": "MEDIAN"}, "aggregation", id="aggregation"),
        pytest.param({"productId": "p1"}, "productId", id="product"),
        pytest.param({"name": None}, "name", id="no-name"),
        pytest.param({"eventType": ""}, "eventType", id="empty-type"),
        pytest.param({"type": "flat"}, "type", id="type"),
        pytest.param({"valueProperty": None}, "valueProperty", id="sum-of-nothing"),
        pytest.param({"type": None}, "type", id="no-type"),
        pytest.param({"eventType": "cost.*"}, "eventType", id="wildcard"),
    ],
)
def test_a_bad_cost_is_a_400_naming_the_field(
    refusing: Site, fields: dict[str, Any], field: str
) -> None:
    """Both shapes of a 400 exist; for a field at fault it is this one."""
    answer = refusing.http.post("/v0/costs", json=cost(**fields))

    assert answer.status_code == 400
    assert answer.json()["error"] == "validation_error"
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_paths_beyond_dotted_names_are_an_extension(site: Site) -> None:
    """Any RFC 9535 query that finds at most one value."""
    cost_id = site.create_cost(valueProperty="$['usage'][0]['in USD']")
    site.post(data={"usage": [{"in USD": 3}]})

    assert site.summary(cost_id)["totalCost"] == 3


def test_lists_page_and_filter(site: Site) -> None:
    """SDKs always send limit and offset."""
    ids = [site.create_cost(productId=f"prod_{n % 2}") for n in range(5)]

    page = site.http.get("/v0/costs", params={"limit": 2, "offset": 1}).json()
    of_one = site.http.get("/v0/costs", params={"productId": "prod_1"}).json()

    assert page["object"] == "list"
    assert [one["id"] for one in page["data"]] == ids[1:3]
    assert page["pagination"] == {"limit": 2, "offset": 1, "total": 5}
    assert [one["id"] for one in of_one["data"]] == ids[1::2]
    assert site.http.get("/v0/costs", params={"limit": 101}).status_code == 400


def test_a_price_change_holds_for_earlier_events(site: Site) -> None:
    """Costs are evaluated when they are read."""
    cost_id = site.create_cost()
    site.post()

    answer = site.http.patch(f"/v0/costs/{cost_id}", json={"unitCost": 2.5})

    assert answer.status_code == 200
    assert site.summary(cost_id)["totalCost"] == Decimal("2.5")


def test_null_clears_and_absence_keeps(site: Site) -> None:
    """The Python SDK sends an explicit None as null."""
    cost_id = site.create_cost(unit="call")

    body = site.http.patch(
        f"/v0/costs/{cost_id}", json={"groupBy": None, "name": "new"}
    ).json()

    assert "groupBy" not in body
    assert (body["name"], body["unit"]) == ("new", "call")


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"name": None}, id="name-cleared"),
        pytest.param({"unitCost": None}, id="price-cleared"),
        pytest.param({"valueProperty": None}, id="sum-of-nothing"),
        pytest.param({"aggregation": "MEDIAN"}, id="aggregation"),
    ],
)
def test_a_bad_change_changes_nothing(site: Site, patch: dict[str, Any]) -> None:
    """Half a change would be worse than none."""
    cost_id = site.create_cost()
    before = site.http.get(f"/v0/costs/{cost_id}").json()

    answer = site.http.patch(f"/v0/costs/{cost_id}", json=patch)

    assert answer.status_code == 400
    assert site.http.get(f"/v0/costs/{cost_id}").json() == before


def test_a_cost_without_aggregation_computes_nothing(site: Site) -> None:
    """Null is the contract's word for 'could not be computed'."""
    cost_id = site.create_cost()
    site.http.patch(f"/v0/costs/{cost_id}", json={"aggregation": None})

    summary = site.summary(cost_id)

    assert summary["totalCost"] is None
    assert summary["totalQuantity"] is None


def test_a_deleted_cost_is_gone(site: Site) -> None:
    """204 without a body: one SDK raises on 200."""
    cost_id = site.create_cost()

    answer = site.http.delete(f"/v0/costs/{cost_id}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert site.http.get(f"/v0/costs/{cost_id}").status_code == 404
    assert site.http.delete(f"/v0/costs/{cost_id}").status_code == 404
    assert site.post().status_code == 422


def test_the_older_spelling_makes_a_cost_of_price_one(site: Site) -> None:
    """Some documentation knows only cost metrics."""
    answer = site.http.post(
        "/v0/costMetrics",
        json={
            "name": "AI",
            "eventType": "cost.ai",
            "valueProperty": "$.amount",
            "aggregation": "sum",
        },
    )

    body = answer.json()
    assert answer.status_code == 201
    assert (body["unitCost"], body["currency"]) == ("1", "USD")
    assert site.http.get(f"/v0/costMetrics/{body['id']}").json() == body
    assert site.http.get("/v0/costMetrics").json()["pagination"]["total"] == 1
    assert site.http.delete(f"/v0/costMetrics/{body['id']}").status_code == 204


def test_products_are_kept_and_registered_by_costs(site: Site) -> None:
    """A cost needs a product, and a demo should not need two requests."""
    made = site.http.post(
        "/v0/products",
        json={"name": "P", "description": "d", "merchantId": "org_local"},
    )
    site.create_cost(productId="prod_other")

    listed = site.http.get("/v0/products").json()

    assert made.status_code == 201
    assert site.http.get(f"/v0/products/{made.json()['id']}").json() == made.json()
    assert [one["id"] for one in listed["data"]] == [made.json()["id"], "prod_other"]
    assert site.http.get("/v0/products/prod_none").status_code == 404


def test_a_product_names_its_organization(site: Site) -> None:
    """The contract requires it. Another organization is refused."""
    body = {"name": "P", "description": "d"}

    without = site.http.post("/v0/products", json=body)
    other = site.http.post("/v0/products", json={**body, "merchantId": "org_b"})

    assert without.status_code == 400
    assert [one["field"] for one in without.json()["errors"]] == ["merchantId"]
    assert other.status_code == 404, other.text


def test_strict_products_must_exist() -> None:
    """What the real service may well insist on."""
    with running(strict_products=True) as site:
        assert site.http.post("/v0/costs", json=cost()).status_code == 404


# -- summaries


@pytest.fixture(scope="module")
def spent() -> Iterator[tuple[Site, str]]:
    """Return a site with a cost and events over two months, and the cost's id.

    Shared: the tests that use it only read.
    """
    with running() as site:
        yield site, spend(site)


def spend(site: Site) -> str:
    """Create a cost and post its events; return the cost's id."""
    cost_id = site.create_cost()
    for moment, customer, amount, provider in (
        ("2026-01-05T12:00:30Z", "cus_1", 1, "anthropic"),
        ("2026-01-05T12:00:59.999Z", "cus_2", 2, "anthropic"),
        ("2026-01-05T12:01:00Z", "cus_1", 4, "openai"),
        ("2026-01-31T23:59:59.999999Z", "cus_1", 8, "openai"),
        ("2026-02-01T00:00:00Z", "cus_1", 16, "openai"),
    ):
        site.post(
            timestamp=moment,
            subject=customer,
            data={"amount": amount, "provider": provider},
        )
    return cost_id


def test_a_period_is_half_open(spent: tuple[Site, str]) -> None:
    """Two months side by side must count each event once."""
    site, cost_id = spent

    assert site.summary(cost_id)["totalCost"] == 15
    assert site.summary(cost_id, to="2026-02-01T00:00:00.000001Z")["totalCost"] == 31


def test_groups_and_series_are_independent(spent: tuple[Site, str]) -> None:
    """With both parameters the contract gives two breakdowns of the same total."""
    site, cost_id = spent

    summary = site.summary(cost_id, groupBy="subject,provider", window="DAY")

    assert [
        (*group["dimensions"].values(), group["cost"]) for group in summary["groups"]
    ] == [("cus_1", "anthropic", 1), ("cus_1", "openai", 12), ("cus_2", "anthropic", 2)]
    assert [
        (point["windowStart"], point["windowEnd"], point["cost"])
        for point in summary["timeSeries"]
    ] == [
        ("2026-01-05T00:00:00.000Z", "2026-01-06T00:00:00.000Z", 7),
        ("2026-01-31T00:00:00.000Z", "2026-02-01T00:00:00.000Z", 8),
    ]


@pytest.mark.parametrize(
    ("window", "starts"),
    [
        ("MINUTE", ["05T12:00", "05T12:01", "31T23:59"]),
        ("HOUR", ["05T12:00", "31T23:00"]),
        ("DAY", ["05T00:00", "31T00:00"]),
        ("MONTH", ["01T00:00"]),
    ],
)
@pytest.mark.parametrize("parameter", ["window", "windowSize"])
def test_windows_are_aligned_to_utc(
    spent: tuple[Site, str], window: str, starts: list[str], parameter: str
) -> None:
    """Full bounds even at the edges, and no empty windows."""
    site, cost_id = spent

    series = site.summary(cost_id, **{parameter: window})["timeSeries"]

    assert [point["windowStart"][8:16] for point in series] == starts
    assert sum(point["cost"] for point in series) == 15


@pytest.mark.parametrize(
    ("query", "total"),
    [
        pytest.param({"subject": "cus_1"}, 13, id="subject"),
        pytest.param({"filterGroupBy": '{"provider":"openai"}'}, 12, id="one"),
        pytest.param(
            {"filterGroupBy": '{"provider":["openai","anthropic"]}'}, 15, id="several"
        ),
        pytest.param(
            {"filterGroupBy": '{"provider":"anthropic","subject":"cus_2"}'},
            2,
            id="built-in-dimension",
        ),
        pytest.param({"subject": "cus_none"}, 0, id="nobody"),
        pytest.param({"unknown": "ignored"}, 15, id="unknown-parameter"),
        pytest.param({"from": "2026-01-05T13:00:00 01:00"}, 15, id="unescaped-plus"),
    ],
)
def test_filters_narrow_the_total(
    spent: tuple[Site, str], query: dict[str, str], total: int
) -> None:
    """Per customer, per dimension, or both."""
    site, cost_id = spent

    assert site.summary(cost_id, **query)["totalCost"] == total


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param({"from": ""}, "from", id="no-from"),
        pytest.param({"to": "tomorrow"}, "to", id="bad-to"),
        pytest.param({"to": "2026-01-01T00:00:00Z"}, "to", id="empty-period"),
        pytest.param({"window": "WEEK"}, "window", id="window"),
        pytest.param({"groupBy": "colour"}, "groupBy", id="unknown-dimension"),
        pytest.param(
            {"filterGroupBy": '{"colour":"red"}'}, "filterGroupBy", id="unknown-filter"
        ),
        pytest.param({"filterGroupBy": "red"}, "filterGroupBy", id="filter-no-json"),
        pytest.param({"filterGroupBy": "[1]"}, "filterGroupBy", id="filter-no-object"),
    ],
)
def test_a_bad_query_is_named(
    spent: tuple[Site, str], query: dict[str, str], field: str
) -> None:
    """An unknown dimension is told which there are."""
    site, cost_id = spent

    answer = site.http.get(f"/v0/costs/{cost_id}/summary", params={**PERIOD, **query})

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_aggregations(site: Site) -> None:
    """Each multiplies its quantity with the unit cost."""
    names = ("SUM", "COUNT", "AVG", "MIN", "MAX", "UNIQUE_COUNT", "LATEST")
    costs = {name: site.create_cost(aggregation=name, unitCost=2) for name in names}
    for second, amount in enumerate((3, 1, 1, 5)):
        site.post(timestamp=f"2026-01-05T12:00:0{9 - second}Z", data={"amount": amount})

    totals = {name: site.summary(costs[name])["totalCost"] for name in names}

    assert totals == {
        "SUM": 20,
        "COUNT": 8,
        "AVG": 5,
        "MIN": 2,
        "MAX": 10,
        "UNIQUE_COUNT": 6,
        "LATEST": 6,
    }


def test_distinct_events_without_a_path_are_all_events(site: Site) -> None:
    """The contract leaves the path of this aggregation open."""
    distinct = site.create_cost(aggregation="UNIQUE_COUNT", valueProperty=None)
    for _ in range(3):
        site.post(data={"amount": 1})

    assert site.summary(distinct)["totalQuantity"] == 3


def test_an_average_of_nothing_is_null(site: Site) -> None:
    """Zero would be a claim; null says that there is nothing to say."""
    summary = site.summary(site.create_cost(aggregation="AVG"))

    assert summary["totalCost"] is None
    assert "totalCostExact" not in summary


def test_as_many_dimensions_as_a_metric_may_have(site: Site) -> None:
    """Each of them is a breakdown of its own."""
    names = [f"d{number}" for number in range(50)]
    cost_id = site.create_cost(groupBy={name: f"$.{name}" for name in names})
    site.post(data={"amount": 1, **{name: name.upper() for name in names}})
    site.post(data={"amount": 2})

    summary = site.summary(cost_id, groupBy="d49,d0")

    assert [(group["dimensions"], group["cost"]) for group in summary["groups"]] == [
        ({"d49": "", "d0": ""}, 2),
        ({"d49": "D49", "d0": "D0"}, 1),
    ]


# -- access


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({}, id="none"),
        pytest.param({"authorization": "Bearer sk_test_wrong"}, id="unknown"),
        pytest.param({"authorization": f"Basic {KEY}"}, id="scheme"),
        pytest.param({"authorization": "Bearer"}, id="empty"),
    ],
)
def test_a_request_without_a_known_key_is_a_401(
    refusing: Site, header: dict[str, str]
) -> None:
    """The batch header is there even so: it says nothing secret."""
    answer = httpx.post(
        f"{refusing.server.url}/v0/events",
        json=event(),
        headers=header,
        timeout=30,
    )

    assert answer.status_code == 401
    assert answer.json()["error"] == "unauthorized"
    assert answer.headers["outlay-batch"] == BATCH_HEADER


@pytest.mark.parametrize(
    ("granted", "method", "path", "needed"),
    [
        ("costs:read", "POST", "/v0/events", "events:create"),
        ("costs:read", "POST", "/v0/events/batch", "events:create"),
        ("events:create", "GET", "/v0/costs", "costs:read"),
        ("events:create", "GET", "/v0/costs/cst_1/summary", "costs:read"),
        ("costs:read", "POST", "/v0/costs", "costs:write"),
        ("costs:write", "POST", "/v0/costMetrics", "costMetrics:write"),
    ],
)
def test_a_key_without_the_permission_is_told_which(
    site: Site, granted: str, method: str, path: str, needed: str
) -> None:
    """A 403 that says what to ask for saves a support ticket."""
    key = site.server.create_key("limited", [granted])

    answer = site.http.request(
        method, path, headers={"authorization": f"Bearer {key}"}, json={}
    )

    assert answer.status_code == 403
    assert answer.json()["reason"] == "no_permission"
    assert answer.json()["requiredPermissions"] == [needed]


def test_the_older_write_permission_implies_the_newer(site: Site) -> None:
    """Keys made by the older documentation go on working."""
    key = site.server.create_key("older", ["costMetrics:write"])

    answer = site.http.post(
        "/v0/costs", json=cost(), headers={"authorization": f"bearer {key}"}
    )

    assert answer.status_code == 201


def test_organizations_are_separate(site: Site) -> None:
    """Neither events nor costs of one are visible to the other."""
    cost_id = site.create_cost()
    key = site.server.create_key("other", ["*"], namespace="org_other")
    other = {"authorization": f"Bearer {key}"}

    seen = site.http.get(f"/v0/costs/{cost_id}", headers=other)
    posted = site.http.post("/v0/events", json=event(), headers=other)

    assert (seen.status_code, posted.status_code) == (404, 422)


@pytest.mark.parametrize(
    ("namespace", "status"), [("org_local", 202), ("org_other", 403), ("org_none", 404)]
)
def test_naming_an_organization(site: Site, namespace: str, status: int) -> None:
    """One's own is fine, another's is forbidden, an unknown one is not found."""
    site.create_cost()
    site.server.create_key("other", ["*"], namespace="org_other")

    assert site.post(namespace=namespace).status_code == status


def test_an_unknown_permission_is_refused() -> None:
    """A typing error must not make a key that can do nothing."""
    settings = ServerSettings(port=0, database=":memory:", api_key=KEY)
    with (
        BackgroundServer(settings) as server,
        pytest.raises(ValueError, match="no permission 'costs:reed'"),
    ):
        server.create_key("typo", ["costs:reed"])


# -- the rest


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v0", 404),
        ("GET", "/v0/nothing", 404),
        ("GET", "/v0/costs/a/b/c", 404),
        ("PUT", "/v0/events", 405),
        ("GET", "/v0/events/batch", 405),
        ("POST", "/v0/costs/cst_1", 405),
    ],
)
def test_unknown_routes_answer_in_the_same_error_body(
    refusing: Site, method: str, path: str, status: int
) -> None:
    """SDKs raise something unhelpful for an error without a message."""
    answer = refusing.http.request(method, path)

    assert answer.status_code == status
    assert answer.json()["message"]
    assert ("allow" in answer.headers) == (status == 405)


def test_a_trailing_slash_is_served_without_a_redirect(site: Site) -> None:
    """Clients turn a redirected POST into a GET without a body."""
    site.create_cost()

    answer = site.http.post("/v0/events/", json=event())

    assert answer.status_code == 202
    assert answer.headers["outlay-batch"] == BATCH_HEADER


def test_health_needs_no_key(refusing: Site) -> None:
    """Whatever watches the server should not hold one."""
    answer = httpx.get(f"{refusing.server.url}/healthz", timeout=30)

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_the_api_describes_all_that_it_serves(refusing: Site) -> None:
    """Every reference resolves, and every path of the contract is there."""
    document = httpx.get(f"{refusing.server.url}/openapi.json", timeout=30).json()

    assert document["openapi"] == "3.1.0"
    assert {"/v0/events", "/v0/events/batch", "/v0/costs/{id}/summary"} <= set(
        document["paths"]
    )
    names = set(document["components"]["schemas"])
    assert references(document) <= {f"#/components/schemas/{name}" for name in names}
    ingest = document["paths"]["/v0/events"]["post"]
    assert {"202", "400", "401", "403", "404", "413", "415", "422", "500"} <= set(
        ingest["responses"]
    )


def references(node: object) -> set[str]:
    """Return every ``$ref`` inside a JSON document."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(references, node.values()))
    return found | {node["$ref"]} if isinstance(node.get("$ref"), str) else found


class Outage:
    """Middleware that answers 503 while it is switched on."""

    on = False

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 503, or pass the request on."""
        if scope["type"] == "http" and Outage.on:
            await PlainTextResponse("try later", 503)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def test_middleware_can_inject_an_outage() -> None:
    """Demos and tests of clients need a server that fails on demand."""
    with running(middleware=[Middleware(Outage)]) as site:
        site.create_cost()

        Outage.on = True
        during = site.post()
        Outage.on = False

        assert (during.status_code, site.post().status_code) == (503, 202)


def test_the_application_runs_in_any_asgi_server() -> None:
    """Opening the database is the application's own start-up, not a runner's."""
    settings = ServerSettings(database=":memory:", api_key=KEY)

    with TestClient(create_app(settings)) as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        made = http.post("/v0/costs", json=cost())
        posted = http.post("/v0/events", json=event())

    assert [made.status_code, posted.status_code] == [201, 202]


def test_no_log_line_holds_a_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Logs travel further than secrets should."""
    with caplog.at_level(logging.DEBUG), running(access_log=True) as site:
        site.create_cost()
        site.post()
        httpx.get(
            f"{site.server.url}/v0/costs?limit=1", headers=site.http.headers, timeout=30
        )

    assert KEY not in caplog.text
    assert KEY not in repr(ServerSettings(api_key=KEY))


# -- long queries


@pytest.mark.parametrize("kind", OPENERS)
def test_a_query_over_its_deadline_is_refused(kind: str) -> None:
    """A refusal that says how to narrow the query is better than a silent client."""
    with running(open_store=OPENERS[kind], query_timeout=1e-6) as site:
        cost_id = site.create_cost()
        event_id = site.post().json()["id"]
        answers = [
            site.http.get(path, params=parameters)
            for path, parameters in (
                (f"/v0/costs/{cost_id}/summary", PERIOD),
                ("/v0/costs/report", {**PERIOD, "groupBy": "cost"}),
                ("/v0/profitability", PERIOD),
                ("/v0/unmatchedEvents", PERIOD),
                ("/v0/export", {**PERIOD, "dataset": "events"}),
                ("/v0/events", {}),
                (f"/v0/events/{event_id}", {}),
            )
        ]

    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "QUERY_TIMEOUT"
        assert "ask for a shorter period" in answer.json()["message"]


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_query_ends_when_its_connection_is_closed() -> None:
    """A person who closes the page must not leave a process that computes on."""
    with running(query_timeout=3600.0) as site:
        cost_id = site.create_cost(
            aggregation="UNIQUE_COUNT", valueProperty="$.provider"
        )
        for number in range(20):
            site.post_batch(
                *[event(idempotencyKey=f"{number}-{at}") for at in range(1000)]
            )
        url = httpx.URL(site.server.url)
        with socket.create_connection((url.host, url.port or 80)) as connection:
            connection.sendall(
                f"GET /v0/costs/{cost_id}/summary?{urlencode(PERIOD)} HTTP/1.1\r\n"
                f"host: {url.host}\r\nauthorization: Bearer {KEY}\r\n\r\n".encode()
            )
            wait_for(lambda: len(query_processes()) == 1)
        # A process whose query is answered waits for the next query, and stays.
        wait_for(lambda: not query_processes())
        assert site.http.get("/v0/events?limit=1").status_code == 200


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds. Only a fault takes 20 seconds."""
    ends_at = time.monotonic() + 20
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < ends_at, "it never came"
        pause.wait(0.01)


def query_processes() -> list[str]:
    """Return the processes of long queries that this process started."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    found = []
    for child in " ".join(one.read_text() for one in children).split():
        with suppress(OSError):
            if b"query_worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


# -- limits


def test_a_metric_has_a_bounded_number_of_dimensions(refusing: Site) -> None:
    """Each dimension makes every post of the type slower."""
    group_by = {f"d{number}": f"$.d{number}" for number in range(51)}
    answer = refusing.http.post("/v0/costs", json=cost(groupBy=group_by))

    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["field"] == "groupBy"
    assert "at most 50" in error["message"]


def test_a_type_has_a_bounded_number_of_metrics(site: Site) -> None:
    """A loop that creates metrics must not stop ingest."""
    ids = [site.create_cost() for _ in range(50)]

    refused = site.http.post("/v0/costs", json=cost())
    other = site.http.post("/v0/costs", json=cost(eventType="cost.other"))
    moved = site.http.patch(
        f"/v0/costs/{other.json()['id']}", json={"eventType": cost()["eventType"]}
    )
    renamed = site.http.patch(f"/v0/costs/{ids[1]}", json={"name": "another"})
    site.http.delete(f"/v0/costs/{ids[0]}")
    again = site.http.post("/v0/costs", json=cost())

    assert refused.status_code == 409
    assert refused.json()["code"] == "TOO_MANY_METRICS"
    assert "delete or change one" in refused.json()["message"]
    assert (moved.status_code, renamed.status_code) == (409, 200)
    assert (other.status_code, again.status_code) == (201, 201)
