"""Probes, metrics and logs of the server, and its end."""

from __future__ import annotations

import importlib.metadata
import json
import re
import signal
import socket
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from outlay.server import BackgroundServer, DamagedDatabaseError, ServerSettings
from tests.support import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY: Final = "sk_test_operations"
DEADLINE: Final = 20.0  # seconds; only a hang takes that long
PERIOD: Final = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}


@contextmanager
def running(**settings: Any) -> Iterator[tuple[BackgroundServer, httpx.Client]]:  # noqa: ANN401 - any setting
    """Run a server with some settings, and yield it with a client of it."""
    fields = {"port": 0, "database": ":memory:", "api_key": KEY, **settings}
    headers = {"authorization": f"Bearer {KEY}"}
    with (
        BackgroundServer(ServerSettings(**fields)) as server,
        httpx.Client(base_url=server.url, headers=headers, timeout=30) as http,
    ):
        yield server, http


def event(number: int) -> dict[str, Any]:
    """Return the body of an event that costs 1."""
    return {
        "type": "cost.ai",
        "source": "tests",
        "subject": "cus_1",
        "idempotencyKey": f"k{number}",
        "data": {"amount": 1},
    }


# -- probes


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version"])
def test_probes_need_no_key_and_may_be_a_head(path: str) -> None:
    """Load balancers often send HEAD, and have no key."""
    with running() as (server, _):
        get = httpx.get(server.url + path, timeout=30)
        head = httpx.head(server.url + path)

    assert (get.status_code, head.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))


def test_each_get_may_be_a_head() -> None:
    """RFC 9110, section 9.1, demands both of a general-purpose server."""
    with running() as (_, http):
        assert http.head("/v0/costs").status_code == 200
        assert http.head("/v0/events").status_code in {200, 400}


def test_the_version_is_that_of_the_package() -> None:
    """It is the first question of every report of a fault."""
    with running() as (server, _):
        shown = httpx.get(f"{server.url}/version", timeout=30).json()["version"]

    assert shown == importlib.metadata.version("outlay")


# -- metrics


def test_metrics_count_events_and_requests() -> None:
    """By route, so that ids and wrong paths make no new series."""
    with running(accept_unmatched=True) as (_, http):
        for number in (1, 2, 2):
            http.post("/v0/events", json=event(number))
        http.post("/v0/events", json={})
        http.post("/v0/events/batch", json={"events": []})
        http.get("/v0/costs/cst_1")
        http.get("/v0/costs/cst_2")
        http.get("/no/such/path")
        response = http.get("/metrics")

    lines = dict(line.rsplit(" ", 1) for line in response.text.splitlines())
    count = "outlay_http_request_duration_seconds_count"
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert lines['outlay_events_total{outcome="accepted"}'] == "2.0"
    assert lines['outlay_events_total{outcome="duplicate"}'] == "1.0"
    assert lines['outlay_events_total{outcome="refused"}'] == "2.0"
    assert lines["outlay_waiting_events"] == "0.0"
    assert float(lines["outlay_database_bytes"]) > 0
    assert lines[count + '{method="GET",route="/v0/costs/{id}",status="404"}'] == "2.0"
    assert lines[count + '{method="GET",route="unknown",status="404"}'] == "1.0"
    assert "cst_1" not in response.text


def test_metrics_need_a_key_unless_they_are_public() -> None:
    """The numbers of events say much about a business."""
    with running() as (server, _):
        scraper = server.create_key("prometheus", ["metrics:read"])
        headers = {"authorization": f"Bearer {scraper}"}
        url = f"{server.url}/metrics"
        statuses = [
            httpx.get(url, timeout=30).status_code,
            httpx.get(url, headers=headers, timeout=30).status_code,
        ]
    with running(public_metrics=True) as (server, _):
        statuses.append(httpx.get(f"{server.url}/metrics", timeout=30).status_code)

    assert statuses == [401, 200, 200]


# -- logs


def test_the_access_log_has_neither_query_nor_key() -> None:
    """Both can name customers, or let others in."""
    process = command_line.start(
        *("serve", "--port", "0", "--db", ":memory:"),
        *("--access-log", "--log-format", "json"),
        OUTLAY_SERVER_API_KEY=KEY,
    )
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if "export OUTLAY_API_KEY" in line:
            break
    found = re.search(r"address +(\S+)", shown)
    assert found is not None
    headers = {"authorization": f"Bearer {KEY}"}
    httpx.get(f"{found[1]}/v0/costs?productId=prod_secret", headers=headers, timeout=30)
    process.terminate()
    _, err = process.communicate(timeout=DEADLINE)

    records = [json.loads(line) for line in err.splitlines()]
    [request] = [one for one in records if one["logger"] == "outlay.server.access"]
    assert (request["method"], request["path"]) == ("GET", "/v0/costs")
    assert (request["status"], request["client"]) == (200, "127.0.0.1")
    assert request["seconds"] > 0
    assert "secret" not in err
    assert KEY not in err


def test_a_failing_disk_does_not_flood_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of a thousand posts a second would log its own line."""
    database = tmp_path / "outlay.db"
    with (
        running(database=database, accept_unmatched=True) as (_, http),
        closing(sqlite3.connect(database, isolation_level=None)) as other,
    ):
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON events"
            " BEGIN SELECT raise(ABORT, 'disk is full'); END"
        )
        statuses = {
            http.post("/v0/events", json=event(number)).status_code
            for number in range(100)
        }

    lines = [one for one in caplog.records if "disk is full" in one.getMessage()]
    assert statuses == {503}
    assert 1 <= len(lines) <= 10


# -- bad days


def test_a_locked_database_is_a_503_before_clients_give_up(tmp_path: Path) -> None:
    """Httpx waits for five seconds, and a response tells more than silence."""
    database = tmp_path / "outlay.db"
    with (
        running(database=database, accept_unmatched=True) as (_, http),
        closing(sqlite3.connect(database, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        during = http.post("/v0/events", json=event(1), timeout=4.9)
        other.execute("ROLLBACK")
        after = http.post("/v0/events", json=event(1))

    assert (during.status_code, after.status_code) == (503, 202)
    assert "locked" in during.json()["message"]


def test_a_damaged_database_is_told_in_words(tmp_path: Path) -> None:
    """The operator must not read SQLite's manual first."""
    database = tmp_path / "outlay.db"
    with running(database=database, accept_unmatched=True) as (_, http):
        for number in range(0, 2000, 500):
            events = [event(number + each) for each in range(500)]
            http.post("/v0/events/batch", json={"events": events})
    content = bytearray(database.read_bytes())
    page = 4096
    content[20 * page : -20 * page] = b"\xa5" * (len(content) - 40 * page)
    database.write_bytes(content)

    try:
        with running(database=database, accept_unmatched=True) as (_, http):
            create = {"name": "AI", "eventType": "cost.ai", "valueProperty": "$.amount"}
            metric = http.post("/v0/costMetrics", json=create).json()
            path = f"/v0/costs/{metric.get('id')}/summary"
            message = http.get(path, params=PERIOD).json()["message"]
    except DamagedDatabaseError as error:
        message = str(error)

    assert "damaged" in message
    assert "outlay restore" in message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_has_a_bound(number: signal.Signals) -> None:
    """A client that never ends its request must not keep the server."""
    process = command_line.start(
        *("serve", "--port", "0", "--db", ":memory:"),
        OUTLAY_SERVER_API_KEY=KEY,
        OUTLAY_SERVER_SHUTDOWN_TIMEOUT="1",
    )
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if "export OUTLAY_API_KEY" in line:
            break
    found = re.search(r"address +(\S+)", shown)
    assert found is not None
    parts = urlsplit(found[1])
    with socket.create_connection((parts.hostname, parts.port)) as stuck:
        stuck.sendall(
            b"POST /v0/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
            b"Expect: 100-continue\r\n"
            b"Authorization: Bearer " + KEY.encode() + b"\r\n\r\n"
        )
        assert stuck.recv(100).startswith(b"HTTP/1.1 100")
        process.send_signal(number)
        out, _ = process.communicate(timeout=DEADLINE)

    assert process.returncode == 0
    assert "all accepted events are stored" in out
