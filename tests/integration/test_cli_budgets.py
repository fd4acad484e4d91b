"""Budgets as the command, the Python API and a tracking program see them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

import pytest

from outlay import Client
from outlay.api import Api, AsyncApi
from outlay.errors import NotFoundError, RejectedError, UnavailableError
from outlay.server import BackgroundServer, ServerSettings
from outlay.transport import TransportResponse
from tests.support import command_line
from tests.support.answers import refused
from tests.support.command_line import KEY, Ran, reaching
from tests.support.servers import ScriptedServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 20.0
"""Seconds that only a fault takes."""


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """Return a server of one's own, whose webhooks may reach this machine."""
    settings = ServerSettings(
        port=0,
        database=":memory:",
        api_key=KEY,
        default_metrics=True,
        webhook_networks=(IPv4Network("127.0.0.1"),),
    )
    with BackgroundServer(settings) as server:
        yield server


@pytest.fixture
def client(server: BackgroundServer, tmp_path: Path) -> Iterator[Client]:
    """Return a client that tracks on it."""
    with Client(base_url=server.url, api_key=KEY, journal_dir=tmp_path) as client:
        yield client


def spend(client: Client, amount: str, customer: str = "cus_1") -> None:
    """Track a cost, and wait for its delivery."""
    client.track_cost("cost.ai.inference", amount, customer_id=customer)
    assert client.flush(PATIENCE).complete


def budgets(server: BackgroundServer, *words: str) -> Ran:
    """Run ``outlay budgets``."""
    return command_line.call("budgets", *words, *reaching(server))


def test_the_command_sets_lists_and_deletes(
    server: BackgroundServer, client: Client
) -> None:
    """As a table for people, and exactly as JSON and CSV."""
    assert "type: outlay budgets set" in budgets(server, "list").out
    made = budgets(
        server,
        *("set", "acme", "99.500000000000000000001", "--customer", "cus_1"),
        *("--period", "week", "--time-zone", "Europe/Berlin", "--threshold", "50"),
    )
    assert made.code == 0, made.err
    assert "99.500000000000000000001" in made.out
    spend(client, "10.000000000000000000001")

    [row] = json.loads(budgets(server, "list", "--json").out)
    assert row["spent"] == "10.000000000000000000001"
    assert row["thresholds"] == [50]
    [line] = csv.DictReader(io.StringIO(budgets(server, "list", "--csv").out))
    assert (line["id"], line["spent"]) == ("acme", row["spent"])
    assert json.loads(budgets(server, "list", "--customer", "x", "--json").out) == []

    assert budgets(server, "delete", "acme").out == "deleted acme\n"
    gone = budgets(server, "delete", "acme")
    assert (gone.code, "acme does not exist" in gone.err) == (1, True)


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "much"])
def test_a_limit_that_is_none_is_refused_before_a_request(limit: str) -> None:
    """The message says what to pass."""
    ran = command_line.call("budgets", "set", "--", "a", limit)

    assert ran.code == 2
    assert "pass 500 or 99.50" in ran.err


def test_a_dimension_that_no_metric_has_is_warned_of(server: BackgroundServer) -> None:
    """Such a budget would never pass anything."""
    ran = budgets(server, "set", "a", "1", "--where", "colour=red")

    assert ran.code == 0
    assert "lack a dimension of colour" in ran.err


def test_the_command_adds_and_tests_webhooks(server: BackgroundServer) -> None:
    """The secret is shown once. A failed test is an exit code for scripts."""
    assert "type: outlay budgets webhook URL" in budgets(server, "test").out
    with ScriptedServer(lambda _: TransportResponse(200, {}, b"")) as receiver:
        added = budgets(server, "webhook", receiver.url, "--json")
        webhook = json.loads(added.out)
        assert webhook["secret"].startswith("whsec_")
        good = budgets(server, "test")
        receiver.respond = lambda _: refused(500)
        bad = budgets(server, "test", "--json")

    assert (good.code, good.out) == (0, f"{webhook['id']}  delivered\n")
    assert bad.code == 1
    assert json.loads(bad.out)[0]["error"] == "it responded with 500"
    listed = budgets(server, "webhook")
    assert receiver.url in listed.out
    assert (
        webhook["secret"] not in listed.out + budgets(server, "webhook", "--json").out
    )
    assert budgets(server, "webhook", "--delete", webhook["id"]).code == 0
    assert "no webhooks yet" in budgets(server, "webhook").out
    both = budgets(server, "webhook", "http://a", "--delete", "x")
    assert both.code == 2


def test_the_api_has_budgets_of_both_kinds(
    server: BackgroundServer, client: Client
) -> None:
    """Amounts are decimals, and times are aware."""
    spend(client, "4.2")
    with Api(base_url=server.url, api_key=KEY) as api:
        made = api.set_budget("b", "All", "5", dimensions={}, thresholds=[80, 100])
        assert (made.limit, made.state.spent) == (Decimal(5), Decimal("4.2"))
        assert (made.state.share, made.state.remaining) == (Decimal(84), Decimal("0.8"))
        assert made.state.period.start.tzinfo is not None
        webhook = api.add_webhook("https://example.com/")
        assert webhook.secret is not None
        assert webhook.secret not in repr(webhook)
        assert [one.id for one in api.webhooks()] == [webhook.id]
        api.delete_webhook(webhook.id)

    async def asynchronous() -> list[str]:
        async with AsyncApi(base_url=server.url, api_key=KEY) as api:
            for number in range(101):
                await api.set_budget(f"c{number}", "One", 1, customer_id="cus_1")
            found = [one.id for one in await api.budgets(customer_id="cus_1")]
            assert (await api.budget("b")).name == "All"
            await api.delete_budget("b")
            with pytest.raises(NotFoundError):
                await api.budget("b")
            return found

    assert len(set(asyncio.run(asynchronous()))) == 101


# -- the client


def test_the_client_knows_the_budget_of_a_customer(
    server: BackgroundServer, client: Client
) -> None:
    """Of several budgets, the one that is nearest to its limit."""
    with Api(base_url=server.url, api_key=KEY) as api:
        api.set_budget("month", "Month", "100", customer_id="cus_1")
        api.set_budget("day", "Day", "10", customer_id="cus_1", period="day")
    spend(client, "9.000000000000000000000000000000000001")
    status = client.budget("cus_1", timeout=PATIENCE)

    assert status is not None
    assert status.budget_id == "day"
    assert status.spent == Decimal("9.000000000000000000000000000000000001")
    assert [status.limit, status.share] == [Decimal(10), Decimal(90)]
    assert status.currency == "USD"
    assert status.start <= status.read_at < status.end
    assert status.read_at.tzinfo is not None
    assert client.budget("cus_2", timeout=PATIENCE) is None
    assert client.budget("cus_2", strict=True) is None  # it is known to have none


def response(spent: str = "1") -> TransportResponse:
    """Return the response of a server that has one budget."""
    year = datetime.now(UTC).year
    body: dict[str, Any] = {
        "data": [
            {
                "id": "b",
                "name": "B",
                "limit": "10",
                "currency": "USD",
                "state": {
                    "period": {
                        "from": f"{year}-01-01T00:00:00Z",
                        "to": f"{year + 1}-01-01T00:00:00Z",
                    },
                    "spent": spent,
                    "sharePct": "10",
                    "passed": [{"percent": 5}],
                },
            }
        ]
    }
    return TransportResponse(200, {}, json.dumps(body).encode())


def test_a_status_is_read_once_until_it_is_too_old(tmp_path: Path) -> None:
    """A call never waits by itself, and reads an old status again in the background."""
    with (
        ScriptedServer(lambda _: response()) as server,
        Client(base_url=server.url, api_key=KEY, journal_dir=tmp_path) as client,
    ):
        assert client.budget("cus_1") is None
        server.wait_for_requests(1)
        first = client.budget("cus_1", timeout=PATIENCE)
        for _ in range(10):
            assert client.budget("cus_1") == first
        assert len(server.requests) == 1

        server.respond = lambda _: response("2")
        client.budget("cus_1", max_age=0)
        server.wait_for_requests(2)
        second = client.budget("cus_1", max_age=0, timeout=PATIENCE)

    assert first is not None
    assert second is not None
    assert [first.spent, second.spent] == [Decimal(1), Decimal(2)]
    assert second.passed == (5,)
    assert server.requests[0].path == "/v0/budgets?customerId=cus_1&limit=100"


def test_a_dead_server_raises_nothing_unless_asked(tmp_path: Path) -> None:
    """And it is not asked again by each call."""
    url = f"http://127.0.0.1:{free_port()}"
    with Client(base_url=url, api_key=KEY, journal_dir=tmp_path) as client:
        assert client.budget("cus_1", timeout=PATIENCE) is None
        started = time.monotonic()
        for _ in range(1000):
            assert client.budget("cus_1", timeout=PATIENCE) is None
        assert time.monotonic() - started < PATIENCE
        with pytest.raises(UnavailableError, match="no response from"):
            client.budget("cus_1", strict=True)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (refused(403), RejectedError, "budgets:read"),
        (refused(500), UnavailableError, "HTTP 500"),
        (TransportResponse(200, {}, b"<html>"), UnavailableError, "no outlay server"),
    ],
)
def test_a_refusal_is_an_error_only_if_asked(
    tmp_path: Path, answer: TransportResponse, kind: type[Exception], text: str
) -> None:
    """It says what to do."""
    with (
        ScriptedServer(lambda _: answer) as server,
        Client(base_url=server.url, api_key=KEY, journal_dir=tmp_path) as client,
    ):
        assert client.budget("cus_1", timeout=PATIENCE) is None
        with pytest.raises(kind, match=text):
            client.budget("cus_1", strict=True)
