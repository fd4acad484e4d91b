"""A metric that appears while events of its type are parked, on the real server."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from outlay import Client
from outlay._shipping import parking
from outlay.server import BackgroundServer, ServerSettings
from tests.support.events import track

if TYPE_CHECKING:
    from pathlib import Path

_METRIC: Final = {
    "type": "metered",
    "name": "new",
    "unitCost": 1,
    "currency": "USD",
    "productId": "prod_1",
    "eventType": "cost.new",
    "aggregation": "SUM",
    "valueProperty": "$.amount",
}


@pytest.mark.parametrize("batching", ["never", "always"])
def test_events_follow_within_seconds_when_their_metric_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batching: str
) -> None:
    """The server invites the client to ask again, which does not wait for an hour."""
    monkeypatch.setattr(parking, "EARLY_RETRY", (0.1, 0.2))
    with (
        BackgroundServer(
            ServerSettings(port=0, database=":memory:", api_key="k")
        ) as server,
        Client(
            base_url=server.url,
            api_key="k",
            journal_dir=tmp_path,
            linger=0,
            batching=batching,  # type: ignore[arg-type]
        ) as client,
    ):
        for number in range(20):
            track(client, number, event_type="cost.new")
        client.flush(20)
        parked = client.stats().parked

        headers = {"authorization": "Bearer k"}
        httpx.post(
            f"{server.url}/v0/costs",
            json=_METRIC,
            headers=headers,
            timeout=30,
        ).raise_for_status()
        ends, pause = time.monotonic() + 20, threading.Event()
        while (stats := client.stats()).delivered < 20 and time.monotonic() < ends:
            pause.wait(0.02)

    assert parked == 20
    assert (stats.delivered, stats.parked) == (20, 0)
