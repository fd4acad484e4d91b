"""The client against the reference server: from track_cost to exact totals."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import httpx
import pytest

from outlay import Client
from outlay.server import BackgroundServer, ServerSettings
from tests.support.events import EVENT_TYPE, assert_conserved, total_of, track
from tests.support.processes import run, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.events import Batching

_COST = {
    "type": "metered",
    "name": "inference",
    "unitCost": 1,
    "currency": "USD",
    "productId": "prod_1",
    "eventType": EVENT_TYPE,
    "aggregation": "SUM",
    "valueProperty": "$.amount",
}


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """Return a fresh reference server on loopback."""
    settings = ServerSettings(port=0, database=":memory:", api_key="sk_test_1")
    with BackgroundServer(settings) as running:
        yield running


def _api(server: BackgroundServer) -> httpx.Client:
    headers = {"authorization": "Bearer sk_test_1"}
    return httpx.Client(base_url=server.url, headers=headers, timeout=30)


def _total(server: BackgroundServer, cost_id: str) -> Decimal:
    window = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    with _api(server) as api:
        summary = api.get(f"/v0/costs/{cost_id}/summary", params=window)
    return Decimal(summary.raise_for_status().json()["totalCostExact"])


def _create_cost(server: BackgroundServer) -> str:
    with _api(server) as api:
        return str(api.post("/v0/costs", json=_COST).raise_for_status().json()["id"])


@pytest.mark.parametrize("batching", ["never", "auto", "always"])
def test_totals_equal_what_was_tracked_to_the_last_digit(
    server: BackgroundServer, tmp_path: Path, batching: Batching
) -> None:
    """The point of it all."""
    cost_id = _create_cost(server)

    with Client(
        base_url=server.url,
        api_key="sk_test_1",
        journal_dir=tmp_path,
        batching=batching,
    ) as client:
        for number in range(500):
            track(client, number)
        report = client.flush(20)

    assert report.complete
    assert _total(server, cost_id) == total_of(range(500))
    assert_conserved(report.stats)


def test_an_operation_that_is_run_again_counts_once(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """The key comes from the operation; the server knows it."""
    cost_id = _create_cost(server)

    known: list[int] = []
    for run_number in range(2):
        with Client(
            base_url=server.url,
            api_key="sk_test_1",
            journal_dir=tmp_path / str(run_number),
        ) as client:
            for number in range(20):
                track(client, number)
            known.append(client.flush(20).stats.duplicates)

    assert known == [0, 20]
    assert _total(server, cost_id) == total_of(range(20))


def test_an_event_without_a_metric_waits_for_it(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """422 parks; once the cost exists, the next start delivers."""
    with Client(
        base_url=server.url, api_key="sk_test_1", journal_dir=tmp_path
    ) as client:
        track(client, 1)
        parked = client.flush(20).stats

    cost_id = _create_cost(server)
    with Client(
        base_url=server.url, api_key="sk_test_1", journal_dir=tmp_path
    ) as client:
        delivered = client.flush(20).stats

    assert (parked.parked, delivered.delivered) == (1, 1)
    assert _total(server, cost_id) == total_of([1])


def test_a_killed_process_is_succeeded_by_one_that_delivers_its_events(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """SIGKILL right after track_cost, the reference server, exact totals."""
    cost_id = _create_cost(server)
    settings = settings_for(server.url, tmp_path, linger=30)
    program = "for n in range(100):\n    track(outlay.default_client(), n)\ndie()"

    run(program, settings, code=-9)
    said = run("say(outlay.flush(20).stats.recovered)", settings)

    assert said == "100\n"
    assert _total(server, cost_id) == total_of(range(100))
