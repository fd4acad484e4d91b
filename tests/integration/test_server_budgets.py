"""Budgets over real HTTP: exact costs, each threshold once, signed and guarded."""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from outlay._model.clock import format_rfc3339
from outlay.server import BackgroundServer, ServerSettings
from outlay.transport import TransportResponse
from tests.support.answers import refused
from tests.support.clock import ManualClock
from tests.support.servers import Fault, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.servers import Request

# The clock of the server stands at noon of 2026-01-01, a Thursday, in UTC.
NOON: Final = "2026-01-01T12:00:00.000Z"
HOUR: Final = 3600
DEADLINE: Final = 20  # seconds; only a hang takes that long
KEY: Final = "sk_test_budgets"
_organizations = itertools.count(1)


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    """Return the clock of the server."""
    return ManualClock()


@pytest.fixture(scope="module")
def server(clock: ManualClock) -> Iterator[BackgroundServer]:
    """Return a server for all tests. Each test has an organization of its own."""
    with BackgroundServer(settings(), clock=clock) as server:
        yield server


def settings(webhook_timeout: float = 10.0) -> ServerSettings:
    """Return the settings of a server that may send to this machine."""
    return ServerSettings(
        port=0,
        database=":memory:",
        webhook_networks=(IPv4Network("127.0.0.1"),),
        webhook_timeout=webhook_timeout,
    )


@pytest.fixture
def http(server: BackgroundServer) -> Iterator[httpx.Client]:
    """Return a client of an organization with one cost metric."""
    with finance(server) as http:
        yield http


@contextmanager
def finance(server: BackgroundServer) -> Iterator[httpx.Client]:
    """Return a client of a new organization with one cost metric."""
    organization = f"org_b{next(_organizations)}"
    key = server.create_key("finance", ["*"], namespace=organization)
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=DEADLINE) as http:
        add_metric(http)
        yield http


@pytest.fixture
def receiver() -> Iterator[ScriptedServer]:
    """Return a receiver of webhooks, which accepts everything."""
    with ScriptedServer(lambda _: TransportResponse(204, {}, b"")) as receiver:
        yield receiver


def add_metric(http: httpx.Client, **overrides: object) -> None:
    """Create a cost metric that sums amounts, in dollars."""
    body = {
        "type": "metered",
        "name": "AI",
        "unitCost": "1",
        "currency": "USD",
        "productId": "prod_1",
        "eventType": "cost.ai",
        "aggregation": "SUM",
        "valueProperty": "$.amount",
        "groupBy": {"provider": "$.provider"},
        **overrides,
    }
    done(http.post("/v0/costs", json=body))


def done(response: httpx.Response) -> Any:  # noqa: ANN401 - any JSON
    """Return the body of a response, which must be a success."""
    assert response.is_success, response.text
    return response.json() if response.content else None


def spend(
    http: httpx.Client,
    amount: str,
    customer: str = "cus_1",
    at: str = NOON,
    provider: str = "acme",
    **fields: object,
) -> str:
    """Record a cost, and return the id of its event."""
    body = json.dumps(
        {
            "type": "cost.ai",
            "source": "tests",
            "subject": customer,
            "timestamp": at,
            "data": {"amount": 0, "provider": provider},
            **fields,
        }
    ).replace('"amount": 0', f'"amount": {amount}')
    headers = {"content-type": "application/json"}
    event_id: str = done(http.post("/v0/events", content=body, headers=headers))["id"]
    return event_id


def put(http: httpx.Client, budget_id: str = "b1", **fields: object) -> dict[str, Any]:
    """Store a budget of 100 dollars a month, and return it."""
    body = {"name": "Acme", "limit": "100", "currency": "USD", **fields}
    budget: dict[str, Any] = done(http.put(f"/v0/budgets/{budget_id}", json=body))
    return budget


def state(http: httpx.Client, budget_id: str = "b1") -> dict[str, Any]:
    """Return the state of a budget."""
    found: dict[str, Any] = done(http.get(f"/v0/budgets/{budget_id}"))["state"]
    return found


def until(http: httpx.Client, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Ask for the state of the budget until it is as wanted, within the deadline.

    Each question waits for the server's commits, so that the loop does not spin.
    """
    ends = time.monotonic() + DEADLINE
    while not holds(state(http)):
        assert time.monotonic() < ends, state(http)


def percents(found: dict[str, Any]) -> list[int]:
    """Return the passed thresholds of a state."""
    return [one["percent"] for one in found["passed"]]


def add_webhook(http: httpx.Client, url: str) -> dict[str, Any]:
    """Add a webhook, and return it with its secret."""
    webhook: dict[str, Any] = done(http.post("/v0/webhooks", json={"url": url}))
    return webhook


def messages(receiver: ScriptedServer) -> list[dict[str, Any]]:
    """Return the messages that arrived."""
    return [json.loads(request.body) for request in receiver.requests]


def check_signature(request: Request, secret: str, place: int = 0) -> None:
    """Verify a request as a receiver does, by the text of the specification."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = b".".join(
        [
            request.headers["webhook-id"].encode(),
            request.headers["webhook-timestamp"].encode(),
            request.body,
        ]
    )
    signature = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    signatures = request.headers["webhook-signature"].split(" ")
    assert signatures[place] == f"v1,{signature}"


def now_of(clock: ManualClock) -> str:
    """Return the time of the server."""
    return format_rfc3339(clock.now_ms())


# -- costs


def test_a_budget_counts_the_exact_costs_of_its_customer_and_dimensions(
    http: httpx.Client,
) -> None:
    """Budgets of different kinds are computed together, and none gets another's."""
    put(http, "all", limit="1000")
    put(http, "one", customerId="cus_1")
    put(http, "other", customerId="cus_2")
    put(http, "acme", dimensions={"provider": "acme"})
    put(http, "both", customerId="cus_1", dimensions={"provider": "acme"})
    put(http, "none", customerId="cus_2", dimensions={"provider": "zeta"})
    spend(http, "0.100000000000000000000000000001")
    spend(http, "0.2", provider="zeta")
    spend(http, "40", customer="cus_2")

    found = done(http.get("/v0/budgets"))
    assert found["pagination"]["total"] == 6
    assert {one["id"]: one["state"]["spent"] for one in found["data"]} == {
        "all": "40.300000000000000000000000000001",
        "one": "0.300000000000000000000000000001",
        "other": "40",
        "acme": "40.100000000000000000000000000001",
        "both": "0.100000000000000000000000000001",
        "none": "0",
    }
    other = state(http, "other")
    assert (other["remaining"], other["sharePct"]) == ("60", "40")
    [only] = done(http.get("/v0/budgets", params={"customerId": "cus_2", "limit": 1}))[
        "data"
    ]
    assert only["id"] == "none"


@pytest.mark.parametrize(
    ("period", "zone", "start", "end"),
    [
        ("month", "UTC", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ("week", "UTC", "2025-12-29T00:00:00Z", "2026-01-05T00:00:00Z"),
        ("day", "Asia/Kolkata", "2025-12-31T18:30:00Z", "2026-01-01T18:30:00Z"),
        ("month", "Pacific/Kiritimati", "2025-12-31T10:00:00Z", "2026-01-31T10:00:00Z"),
    ],
)
def test_a_period_begins_at_midnight_of_its_zone(
    http: httpx.Client, period: str, zone: str, start: str, end: str
) -> None:
    """A cost counts from the first instant, and no more at the end."""
    put(http, period=period, timeZone=zone)
    spend(http, "1", at=start)
    spend(http, "10", at=end)

    found = state(http)
    assert found["period"] == {
        "from": start.replace("Z", ".000Z"),
        "to": end.replace("Z", ".000Z"),
    }
    assert found["spent"] == "1"


def test_the_state_is_net_of_corrections_and_names_what_is_excluded(
    http: httpx.Client,
) -> None:
    """As in a report: a voided event costs nothing, and currencies are not added."""
    add_metric(http, currency="EUR", name="Euros", eventType="cost.eur")
    add_metric(http, groupBy={}, name="Plain", eventType="cost.plain")
    put(http, dimensions={"provider": "acme"})
    spend(http, "5")
    event = spend(http, "7")
    done(http.post(f"/v0/events/{event}/void", json={"reason": "a mistake"}))

    found = state(http)
    assert found["spent"] == "5"
    currency, dimension = found["warnings"]
    assert "not in USD: Euros" in currency
    assert "lack a dimension of provider: Plain" in dimension


def test_thresholds_are_passed_exactly_and_in_the_background(
    http: httpx.Client, clock: ManualClock
) -> None:
    """The last digit decides, and not the rounded share."""
    put(http)
    spend(http, "79.99999999999999999999")
    spend(http, "0", customer="cus_2")
    assert state(http)["sharePct"] == "80"
    assert percents(state(http)) == []

    spend(http, "0.00000000000000000001")
    until(http, lambda found: percents(found) == [80])
    spend(http, "20")
    until(http, lambda found: percents(found) == [80, 100])
    [first, second] = state(http)["passed"]
    assert first == {"percent": 80, "passedAt": now_of(clock), "spent": "80"}
    assert second["spent"] == "100"


def test_corrections_and_prices_reach_budgets_as_events_do(http: httpx.Client) -> None:
    """No later event has to wake the evaluation."""
    put(http)
    event = spend(http, "50")
    [cost] = done(http.get("/v0/costs"))["data"]
    body = {"costId": cost["id"], "delta": "30", "reason": "the bill says so"}
    done(http.post(f"/v0/events/{event}/adjust", json=body))
    until(http, lambda found: percents(found) == [80])
    done(http.patch(f"/v0/costs/{cost['id']}", json={"unitCost": "2"}))
    until(http, lambda found: percents(found) == [80, 100])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1e"}, "limit"),
        ({"currency": "dollars"}, "currency"),
        ({"period": "year"}, "period"),
        ({"timeZone": "Mars/Olympus"}, "timeZone"),
        ({"thresholds": []}, "thresholds"),
        ({"thresholds": [0]}, "thresholds.0"),
        ({"dimensions": {"subject": "cus_1"}}, "dimensions.subject"),
    ],
)
def test_a_wrong_budget_is_refused_with_the_field(
    http: httpx.Client, fields: dict[str, object], named: str
) -> None:
    """Nothing is stored."""
    body = {"name": "Acme", "limit": "100", "currency": "USD", **fields}
    response = http.put("/v0/budgets/b1", json=body)

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"].startswith(named)
    assert done(http.get("/v0/budgets"))["data"] == []


def test_a_budget_can_be_created_replaced_and_deleted(http: httpx.Client) -> None:
    """The server gives an id, if the caller has none."""
    body = {"name": "All", "limit": 1.5, "currency": "usd", "thresholds": [100, 50, 50]}
    created = done(http.post("/v0/budgets", json=body))
    assert (created["limit"], created["currency"]) == ("1.5", "USD")
    assert (created["thresholds"], created["timeZone"]) == ([50, 100], "UTC")
    path = f"/v0/budgets/{created['id']}"
    replaced = done(http.put(path, json={**body, "limit": "2"}))

    assert (replaced["id"], replaced["limit"]) == (created["id"], "2")
    assert http.delete(path).status_code == 204
    assert http.delete(path).status_code == http.get(path).status_code == 404
    assert http.put("/v0/budgets/a%20b", json=body).status_code == 400


def test_permissions_and_organizations_are_separate(
    http: httpx.Client, server: BackgroundServer
) -> None:
    """A key that may read sees budgets, and changes none."""
    put(http)
    reader = server.create_key("r", ["budgets:read"], namespace="org_reader")
    headers = {"authorization": f"Bearer {reader}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as other:
        assert done(other.get("/v0/budgets"))["data"] == []
        assert other.get("/v0/budgets/b1").status_code == 404
        body = {"name": "A", "limit": "1", "currency": "USD"}
        assert other.put("/v0/budgets/b1", json=body).status_code == 403
        assert other.post("/v0/webhooks", json={"url": "x"}).status_code == 403


# -- webhooks


def test_each_threshold_is_reported_once_and_signed(
    http: httpx.Client, receiver: ScriptedServer, clock: ManualClock
) -> None:
    """Renaming reports none again. Another limit does, once it is reached."""
    secret = add_webhook(http, f"{receiver.url}/hook?token=1")["secret"]
    put(http, customerId="cus_1")
    spend(http, "80")
    receiver.wait_for_requests(1)
    put(http, customerId="cus_1", name="Renamed")
    spend(http, "1")
    spend(http, "19")
    receiver.wait_for_requests(2)
    put(http, customerId="cus_1", limit="110", thresholds=[90])
    receiver.wait_for_requests(3)

    for request in receiver.requests:
        check_signature(request, secret)
        assert request.path == "/hook?token=1"
        assert request.headers["webhook-timestamp"] == f"{clock.now_ms() // 1000}"
    first, *later = messages(receiver)
    assert first == {
        "type": "budget.threshold_passed",
        "timestamp": now_of(clock),
        "data": {
            "budgetId": "b1",
            "name": "Acme",
            "thresholdPct": 80,
            "spent": "80",
            "limit": "100",
            "sharePct": "80",
            "currency": "USD",
            "period": {
                "from": "2026-01-01T00:00:00.000Z",
                "to": "2026-02-01T00:00:00.000Z",
            },
            "periodKind": "month",
            "timeZone": "UTC",
            "dimensions": {},
            "customerId": "cus_1",
        },
    }
    assert [one["data"]["thresholdPct"] for one in later] == [100, 90]
    assert [one["data"]["name"] for one in later] == ["Renamed", "Acme"]
    assert len({one.headers["webhook-id"] for one in receiver.requests}) == 3


def test_a_rotated_secret_overlaps_with_the_new_one(
    http: httpx.Client, receiver: ScriptedServer
) -> None:
    """A receiver may still have the first one, if a rotated secret got lost."""
    added = add_webhook(http, receiver.url)
    lost = done(http.post(f"/v0/webhooks/{added['id']}/rotate"))
    rotated = done(http.post(f"/v0/webhooks/{added['id']}/rotate"))
    assert len({one["secret"] for one in (added, lost, rotated)}) == 3
    assert rotated["oldSecretEndsAt"] > rotated["createdAt"]
    put(http)
    spend(http, "80")
    receiver.wait_for_requests(1)

    [request] = receiver.requests
    check_signature(request, rotated["secret"])
    check_signature(request, lost["secret"], place=1)
    check_signature(request, added["secret"], place=2)
    [listed] = done(http.get("/v0/webhooks"))["data"]
    assert "secret" not in listed
    assert http.post("/v0/webhooks/whk_none/rotate").status_code == 404


def test_a_day_has_room_for_ten_old_secrets(
    http: httpx.Client, receiver: ScriptedServer
) -> None:
    """The signatures are one header, which receivers limit."""
    path = f"/v0/webhooks/{add_webhook(http, receiver.url)['id']}/rotate"
    for _ in range(10):
        done(http.post(path))

    refused = http.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "TOO_MANY_SECRETS")
    assert "rotate again after" in refused.json()["message"]


def test_a_failed_delivery_is_retried_with_the_same_id(
    http: httpx.Client, receiver: ScriptedServer, clock: ManualClock
) -> None:
    """The webhook shows why, and never shows its secret again."""
    receiver.respond = lambda _: refused(500)
    secret = add_webhook(http, receiver.url)["secret"]
    put(http)
    spend(http, "80")
    failing = wait_for_webhook(http, lambda one: one["status"] == "failing")
    assert failing["lastError"] == "it responded with 500"
    assert (failing["failures"], failing["waitingMessages"]) == (1, 1)
    assert "secret" not in failing

    receiver.respond = lambda _: TransportResponse(200, {}, b"ok")
    clock.advance(5)
    working = wait_for_webhook(http, lambda one: one["status"] == "ok")
    assert (working["waitingMessages"], "lastError" in working) == (0, False)
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    check_signature(second, secret)


def wait_for_webhook(
    http: httpx.Client, holds: Callable[[dict[str, Any]], bool], place: int = 0
) -> dict[str, Any]:
    """Return a webhook once it is as wanted, within the deadline."""
    ends = time.monotonic() + DEADLINE
    while True:
        found: dict[str, Any] = done(http.get("/v0/webhooks"))["data"][place]
        if holds(found):
            return found
        assert time.monotonic() < ends, found


def test_a_receiver_that_hangs_holds_up_no_other(
    receiver: ScriptedServer, clock: ManualClock
) -> None:
    """It has a time limit, while events and other webhooks go on."""
    with (
        BackgroundServer(settings(webhook_timeout=2), clock=clock) as server,
        finance(server) as http,
        ScriptedServer(lambda _: Fault.HANG) as hanging,
    ):
        add_webhook(http, hanging.url)
        add_webhook(http, receiver.url)
        put(http)
        spend(http, "80")
        hanging.wait_for_requests(1)
        receiver.wait_for_requests(1)
        spend(http, "20")
        receiver.wait_for_requests(2)
        failing = wait_for_webhook(http, lambda one: one["status"] == "failing")

    assert failing["lastError"] == "there was no response within 2 s"


def test_a_receiver_that_is_gone_is_disabled_until_a_test_succeeds(
    http: httpx.Client, receiver: ScriptedServer
) -> None:
    """410 Gone ends deliveries. Nothing else is sent meanwhile."""
    receiver.respond = lambda _: refused(410)
    webhook = add_webhook(http, receiver.url)
    put(http)
    spend(http, "80")
    wait_for_webhook(http, lambda one: one["status"] == "disabled")
    spend(http, "20")
    until(http, lambda found: percents(found) == [80, 100])
    path = f"/v0/webhooks/{webhook['id']}/test"
    failed = done(http.post(path))
    assert (failed["delivered"], failed["error"]) == (False, "it responded with 410")

    receiver.respond = lambda _: TransportResponse(200, {}, b"")
    assert done(http.post(path))["delivered"]
    assert done(http.get("/v0/webhooks"))["data"][0]["status"] == "ok"
    assert [one["type"] for one in messages(receiver)] == [
        "budget.threshold_passed",
        "webhook.test",
        "webhook.test",
    ]
    check_signature(receiver.requests[-1], webhook["secret"])


def test_a_redirect_is_not_followed(
    http: httpx.Client, receiver: ScriptedServer
) -> None:
    """It could lead into the server's own network."""
    with ScriptedServer() as inner:
        location = {"location": f"{inner.url}/admin"}
        receiver.respond = lambda _: TransportResponse(307, location, b"")
        webhook = add_webhook(http, receiver.url)
        outcome = done(http.post(f"/v0/webhooks/{webhook['id']}/test"))

    assert "a redirect, which is not followed" in outcome["error"]
    assert inner.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "example.com/hook",
        "https://user:pass@example.com/",
        "https://example.com/#part",
        "https://exa mple.com/",
        "https://example.com:99999/",
        "https://",
        "https://exämple.com/",
    ],
)
def test_a_url_that_cannot_be_posted_to_is_refused(
    http: httpx.Client, url: str
) -> None:
    """At once, and not at the first message."""
    response = http.post("/v0/webhooks", json={"url": url})

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "url"


def test_an_organization_has_a_bounded_number_of_webhooks(http: httpx.Client) -> None:
    """Each message is stored once for each of them."""
    ids = [add_webhook(http, "https://example.com/")["id"] for _ in range(20)]
    refusal = http.post("/v0/webhooks", json={"url": "https://example.com/"})

    assert refusal.status_code == 409
    assert http.delete(f"/v0/webhooks/{ids[0]}").status_code == 204
    assert http.delete(f"/v0/webhooks/{ids[0]}").status_code == 404


def test_the_metrics_count_thresholds_and_attempts(
    http: httpx.Client, receiver: ScriptedServer
) -> None:
    """Operators see failing webhooks without asking for them."""
    add_webhook(http, receiver.url)
    put(http)
    spend(http, "80")
    wait_for_webhook(http, lambda one: "deliveredAt" in one)
    text = http.get("/metrics").text

    assert "outlay_budget_thresholds_passed_total" in text
    assert 'outlay_webhook_attempts_total{outcome="delivered"}' in text
    assert 'outlay_webhook_attempts_total{outcome="failed"}' in text
    assert "outlay_webhook_messages_given_up_total" in text


# -- a killed server

_SERVER: Final = """
import sys
from pathlib import Path
from outlay.server import ServerSettings, serve
settings = ServerSettings(
    port=0, database=Path(sys.argv[1]), api_key=sys.argv[2],
    webhook_networks=["127.0.0.1/32"],
)
serve(settings, on_start=lambda started: print(started.url, flush=True))
"""


@contextmanager
def killed_at_the_end(database: Path) -> Iterator[httpx.Client]:
    """Run a server process, and kill it at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(database), KEY],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=url, headers=headers, timeout=DEADLINE) as http:
            yield http
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE)
        process.stdout.close()


def now() -> str:
    """Return the current time, for an event of a server with the machine's clock."""
    return datetime.now(UTC).isoformat()


def test_a_message_arrives_once_though_the_server_is_killed_before_it_is_sent(
    tmp_path: Path,
) -> None:
    """The threshold and its message are one write. The next server sends it."""
    database = tmp_path / "outlay.db"
    with ScriptedServer(lambda _: TransportResponse(204, {}, b"")) as receiver:
        receiver.stop()  # the port refuses, so that no attempt can succeed
        with killed_at_the_end(database) as http:
            add_metric(http)
            secret = add_webhook(http, receiver.url)["secret"]
            put(http, thresholds=[80])
            spend(http, "80", at=now())
            wait_for_webhook(http, lambda one: one["status"] == "failing")
        receiver.restart()
        with killed_at_the_end(database) as http:
            receiver.wait_for_requests(1)
            wait_for_webhook(http, lambda one: one["waitingMessages"] == 0)
            spend(http, "1", at=now())
            until(http, lambda found: found["spent"] == "81")
            assert percents(state(http)) == [80]
        with killed_at_the_end(database) as http:
            spend(http, "50", at=now())
            put(http, "b2", thresholds=[100])  # its message shows that none was before
            receiver.wait_for_requests(2)

    check_signature(receiver.requests[0], secret)
    assert [
        (one["data"]["budgetId"], one["data"]["thresholdPct"])
        for one in messages(receiver)
    ] == [("b1", 80), ("b2", 100)]


def test_events_that_were_not_evaluated_before_a_kill_are_evaluated_after(
    tmp_path: Path,
) -> None:
    """The event is on disk before the server looks at its budget."""
    database = tmp_path / "outlay.db"
    with ScriptedServer(lambda _: TransportResponse(204, {}, b"")) as receiver:
        with killed_at_the_end(database) as http:
            add_metric(http)
            put(http, thresholds=[80])
            add_webhook(http, receiver.url)
            http.get("/v0/budgets/b1")
            spend(http, "80", at=now())
        with killed_at_the_end(database):
            receiver.wait_for_requests(1)

    ids = {one.headers["webhook-id"] for one in receiver.requests}
    assert len(ids) == 1


def test_no_name_leads_into_the_network_of_the_server(http: httpx.Client) -> None:
    """Only the addresses that the operator allowed. Here it is 127.0.0.1 alone."""
    for host in ("127.0.0.2", "[::1]", "0.0.0.0", "169.254.169.254", "2130706434"):  # noqa: S104
        webhook = add_webhook(http, f"http://{host}:9/")
        outcome = done(http.post(f"/v0/webhooks/{webhook['id']}/test"))
        assert "is not public" in outcome["error"], outcome


def test_the_port_of_a_closed_receiver_is_told_without_the_url(
    http: httpx.Client,
) -> None:
    """A URL may hold a secret, so that no error repeats it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    webhook = add_webhook(http, f"http://127.0.0.1:{port}/services/T0KEN")
    outcome = done(http.post(f"/v0/webhooks/{webhook['id']}/test"))

    assert outcome["error"] == "the connection failed (Connection refused)"
