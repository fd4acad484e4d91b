"""Rules of the contract on the wire: currencies, times, warnings, unparking, keys."""

from __future__ import annotations

import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import ValidationError

from outlay._capture import event_types
from outlay.server import BackgroundServer, ServerSettings
from outlay.server._http.limited_protocol import MAX_HEAD_BYTES
from outlay.server._services.default_metrics import DEFAULT_METRICS
from tests.contract.reference import (
    ALL_TIME,
    API_KEY,
    EVENT_TYPE,
    JANUARY,
    calling,
    cost_body,
    create_cost,
    serving,
    summary,
    tenant_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Run one server for all tests of this file."""
    with serving() as running:
        yield running


@pytest.fixture
def http(server: BackgroundServer) -> Iterator[httpx.Client]:
    """Return a client of an organization of the test's own."""
    with calling(tenant_of(server)) as client:
        yield client


def post(http: httpx.Client, data: str, **fields: str) -> httpx.Response:
    """Send one event."""
    texts = {"type": EVENT_TYPE, "source": "tests", "subject": "cus_1", **fields}
    members = "".join(f'"{name}":"{text}",' for name, text in texts.items())
    body = f'{{{members}"data":{data}}}'
    return http.post(
        "/v0/events", content=body, headers={"content-type": "application/json"}
    )


# -- currencies


@pytest.mark.parametrize("aggregation", ["SUM", "AVG", "MIN", "MAX", "LATEST"])
def test_amounts_of_another_currency_are_excluded_and_counted(
    http: httpx.Client, aggregation: str
) -> None:
    """5 dollars and 7 euros are not 12 of anything."""
    cost_id = create_cost(http, aggregation=aggregation)
    for currency, amount in (("USD", 5), ("usd", 5), ("EUR", 7), ("eur", 1)):
        post(http, f'{{"amount":{amount},"currency":"{currency}"}}')
    post(http, '{"amount":5,"currency":"dollars"}')

    found = summary(http, cost_id)
    report = http.get("/v0/costs/report", params={**ALL_TIME, "groupBy": "customer"})

    assert found["totalCost"] == (15 if aggregation == "SUM" else 5)
    assert (found["excluded"], found["otherCurrency"]) == (2, 2)
    assert report.json()["warnings"][0] == (
        "excluded, because they are in another currency than the metric: "
        f"2 of the events of AI ({cost_id})"
    )


def test_counts_have_no_currency(http: httpx.Client) -> None:
    """A call is a call in any currency."""
    cost_id = create_cost(http, aggregation="COUNT")
    post(http, '{"amount":1,"currency":"EUR"}')

    assert summary(http, cost_id)["totalCost"] == 1


def test_a_new_currency_counts_anew(http: httpx.Client) -> None:
    """Rollups know no currency, so they are folded again."""
    cost_id = create_cost(http)
    post(http, '{"amount":7,"currency":"EUR"}')
    before = summary(http, cost_id)["totalCost"]

    http.patch(f"/v0/costs/{cost_id}", json={"currency": "EUR"})

    assert (before, summary(http, cost_id)["totalCost"]) == (0, 7)


# -- times


@pytest.mark.parametrize(
    ("timestamp", "stored"),
    [
        ("2026-01-31T23:59:59.9999999Z", "2026-01-31T23:59:59.999999Z"),
        ("2026-01-31T23:59:59.123456789Z", "2026-01-31T23:59:59.123456Z"),
        ("2026-01-31T23:59:60Z", "2026-01-31T23:59:59.999999Z"),
    ],
)
def test_a_time_is_cut_to_microseconds_and_never_rounded(
    http: httpx.Client, timestamp: str, stored: str
) -> None:
    """An event of January must not count in February."""
    cost_id = create_cost(http)

    response = post(http, '{"amount":1}', timestamp=timestamp)

    assert (response.status_code, response.json()["timestamp"]) == (202, stored)
    assert summary(http, cost_id, **JANUARY)["totalCost"] == 1


# -- warnings


def test_unknown_query_parameters_are_named(http: httpx.Client) -> None:
    """A misspelled parameter would be ignored in silence."""
    create_cost(http)

    wrong = http.get(
        "/v0/costs/report",
        params={**ALL_TIME, "groupBy": "cost", "grupBy": "x", "ä\r\n": "1"},
    )
    right = http.get("/v0/costs", params={"limit": "10", "offset": "0"})

    assert wrong.headers["outlay-warning"] == (
        "'unknown query parameters are ignored: grupBy, \\xe4\\r\\n'"
    )
    assert "outlay-warning" not in right.headers


def test_a_metric_that_counts_the_same_events_is_pointed_out(
    http: httpx.Client,
) -> None:
    """Totals over both would be twice the money."""
    first = create_cost(http)

    second = http.post("/v0/costs", json=cost_body(name="AI again"))

    assert second.status_code == 201
    assert f"AI ({first})" in second.headers["outlay-warning"]
    other = http.post("/v0/costs", json=cost_body(eventType="cost.ocr"))
    assert "outlay-warning" not in other.headers


# -- unparking


def test_an_unmatched_type_says_that_it_can_be_probed(http: httpx.Client) -> None:
    """A metric that appears later frees parked events within seconds."""
    single = post(http, '{"amount":1}')
    batch = http.post(
        "/v0/events/batch",
        json={
            "events": [
                {"type": "cost.x", "source": "s", "subject": "c", "data": {}},
            ]
        },
    )

    assert (single.status_code, single.headers["outlay-unparks"]) == (422, "true")
    assert (batch.status_code, batch.headers["outlay-unparks"]) == (207, "true")
    create_cost(http)
    assert "outlay-unparks" not in post(http, '{"amount":1}').headers


# -- development


def test_development_needs_no_key_and_counts_captured_types() -> None:
    """A newcomer's first event has a total, without any set-up."""
    settings = ServerSettings(port=0, database=":memory:", dev=True)
    with (
        BackgroundServer(settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as http,
    ):
        accepted = [
            post(http, '{"amount":1}', type=kind).status_code
            for kind in (EVENT_TYPE, "cost.of.my.own", "invoice")
        ]
        metrics = http.get("/v0/costs", params={"limit": "100"}).json()["data"]

    assert server.api_key is None
    assert accepted == [202, 202, 422]
    assert {metric["eventType"] for metric in metrics} == set(DEFAULT_METRICS)


def test_events_that_no_metric_counts_are_listed() -> None:
    """They are accepted in development, and would be in no total in silence."""
    period = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
    settings = ServerSettings(port=0, database=":memory:", dev=True)
    with (
        BackgroundServer(settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as http,
    ):
        for kind, day in [
            (EVENT_TYPE, 1),
            ("cost.mine", 1),
            ("cost.mine", 31),
            ("cost.yours", 2),
            ("cost.late", 32),
        ]:
            at = f"2026-{1 + day // 32:02}-{(day - 1) % 31 + 1:02}T00:00:00Z"
            assert post(http, '{"amount":1}', type=kind, timestamp=at).is_success
        listed = http.get("/v0/unmatchedEvents", params=period).json()
        create_cost(http, eventType="cost.mine")
        after = http.get("/v0/unmatchedEvents", params=period).json()

    mine = {"eventType": "cost.mine", "events": 2}
    yours = {"eventType": "cost.yours", "events": 1}
    assert listed == {"object": "list", "data": [mine, yours]}
    assert after == {"object": "list", "data": [yours]}


def test_development_takes_no_requests_of_foreign_web_pages() -> None:
    """A browser would send them, also to a name that leads to this machine."""
    settings = ServerSettings(port=0, database=":memory:", dev=True)
    with (
        BackgroundServer(settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as http,
    ):
        statuses = [
            http.get("/v0/costs", headers=headers).status_code
            for headers in (
                {},
                {"Host": "localhost:80"},
                {"Host": "[::1]"},
                {"Origin": server.url},
                {"Origin": "https://attacker.example"},
                {"Origin": "null"},
                {"Origin": "http://127.0.0.1:1"},
                {"Host": "attacker.example"},
                {"Host": "127.0.0.1.attacker.example"},
            )
        ]

    assert statuses == [200] * 4 + [403] * 5


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104 - refused
def test_development_stays_on_loopback(host: str) -> None:
    """A server without a key must not be reachable by others."""
    with pytest.raises(ValidationError, match="must be a loopback address"):
        ServerSettings(dev=True, host=host)


def test_default_metrics_cover_all_captured_types() -> None:
    """The client and the server share no code. An event without one would be parked."""
    captured = {value for name, value in vars(event_types).items() if name.isupper()}
    assert set(DEFAULT_METRICS) == captured


def test_a_metric_replaces_the_untouched_default_of_its_type() -> None:
    """Nothing is counted in two totals on the first day."""
    with serving(default_metrics=True) as server:
        headers = {"authorization": f"Bearer {API_KEY}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
            before = metrics_of(http, EVENT_TYPE)
            changed = metrics_of(http, "cost.voice")
            http.patch(f"/v0/costs/{changed[0]}", json={"name": "Calls"})

            mine = create_cost(http)
            voice = create_cost(http, eventType="cost.voice")

            assert len(before) == 1
            assert metrics_of(http, EVENT_TYPE) == [mine]
            assert metrics_of(http, "cost.voice") == [*changed, voice]


def test_defaults_are_created_once(tmp_path: Path) -> None:
    """A default that was deleted on purpose stays away."""
    settings = ServerSettings(
        port=0, database=tmp_path / "outlay.db", api_key=API_KEY, default_metrics=True
    )
    headers = {"authorization": f"Bearer {API_KEY}"}
    with (
        BackgroundServer(settings) as server,
        httpx.Client(base_url=server.url, headers=headers, timeout=30) as http,
    ):
        [default] = metrics_of(http, EVENT_TYPE)
        assert http.delete(f"/v0/costs/{default}").status_code == 204
    with (
        BackgroundServer(settings) as server,
        httpx.Client(base_url=server.url, headers=headers, timeout=30) as http,
    ):
        assert metrics_of(http, EVENT_TYPE) == []
        assert len(metrics_of(http, "cost.voice")) == 1


def metrics_of(http: httpx.Client, event_type: str) -> list[str]:
    """Return the ids of the metrics of an event type, oldest first."""
    found: list[dict[str, Any]]
    found = http.get("/v0/costs", params={"limit": "100"}).json()["data"]
    return [metric["id"] for metric in found if metric["eventType"] == event_type]


# -- keys and files


def test_a_revoked_key_is_refused_by_the_next_request(
    server: BackgroundServer,
) -> None:
    """A key is revoked for a reason that cannot wait for a restart."""
    key = server.create_key("leaked", ["*"], namespace="org_leak")
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
        before = http.get("/v0/costs").status_code

        server.revoke_key(key)

        assert (before, http.get("/v0/costs").status_code) == (200, 401)


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """Costs of customers are private."""
    path = tmp_path / "outlay.db"
    path.touch(0o644)
    settings = ServerSettings(port=0, database=path, api_key=API_KEY)
    with BackgroundServer(settings) as server:
        headers = {"authorization": f"Bearer {API_KEY}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
            create_cost(http)
        modes = {
            file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()
        }

    assert set(modes) == {f"outlay.db{end}" for end in ("", "-wal", "-shm", ".lock")}
    assert set(modes.values()) == {0o600}


# -- limits before anything is read


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(
            b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(500)), id="many"
        ),
        pytest.param(b"x: " + b"y" * 5_000_000, id="one-large"),
    ],
)
def test_large_headers_are_refused_before_they_are_kept(
    server: BackgroundServer, head: bytes
) -> None:
    """They come before any key, and would fill the memory."""
    with connected(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
        with suppress(OSError):  # the server may close before all is sent
            connection.sendall(head)
        with suppress(OSError):
            assert connection.recv(1000).startswith(b"HTTP/1.1 431 ")

    assert httpx.get(f"{server.url}/healthz", timeout=30).status_code == 200


def test_headers_within_the_limit_are_read_in_any_pieces(
    server: BackgroundServer,
) -> None:
    """A limit on the head must not count the body, nor the next request."""
    body = b'{"x":"%s"}' % (b"y" * 2 * MAX_HEAD_BYTES)
    request = (
        b"POST /v0/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n"
        b"content-type: application/json\r\nx-pad: %s\r\n\r\n%s"
        % (len(body), b"z" * (MAX_HEAD_BYTES - 1000), body)
    )
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(request[:70_000])
            connection.sendall(request[70_000:])
            response = connection.recv(1000)
            while b"\r\n\r\n{" not in response:
                response += connection.recv(1000)
            assert response.startswith(b"HTTP/1.1 401 ")


def connected(server: BackgroundServer) -> socket.socket:
    """Return a connection to the server."""
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)
