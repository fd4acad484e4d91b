"""Providers that are captured through HTTP clients, known by their hosts."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

import outlay
from outlay._capture.observation import Observation
from tests.support.adapters import ScriptedAdapter
from tests.support.observing import observing
from tests.support.recorded import Recorded

if TYPE_CHECKING:
    from pathlib import Path

SECRET: Final = "to be or not to be"
QUEUED: Final = {"id": "tr_1", "status": "queued", "audio_duration": None}
HEARD: Final = {
    "id": "tr_1",
    "status": "completed",
    "text": SECRET,
    "audio_duration": 61,
    "speech_model": "universal",
}
STARTED: Final = {"data": {"id": "run_1", "actId": "act_1", "status": "READY"}}
RUN: Final = {
    "id": "run_1",
    "actId": "act_1",
    "status": "SUCCEEDED",
    "finishedAt": "2026-11-20T08:00:00.000Z",
    "usageTotalUsd": 0.0012345678901234567,
    "defaultKeyValueStoreId": SECRET,
}


def answered(answer: Any, **headers: str) -> httpx.Client:
    """Return a client of httpx whose calls are answered so."""
    response = httpx.Response(200, json=answer, headers=headers)
    return httpx.Client(transport=httpx.MockTransport(lambda _: response))


@pytest.mark.parametrize("host", ["api.assemblyai.com", "api.eu.assemblyai.com"])
def test_a_transcription_of_assemblyai_is_pending_when_it_is_made(host: str) -> None:
    """One that is fetched tells no time, may be of last month, and does not count."""
    with answered(QUEUED) as client, observing(client) as observed:
        client.post(f"https://{host}/v2/transcript", json={"audio_url": "…"})
        client.get(f"https://{host}/v2/transcript/tr_1")

    assert observed == [
        Observation(
            provider="assemblyai",
            event_type="cost.ai.audio",
            operation_id="tr_1",
            price_pending=True,
        )
    ]


def test_a_transcription_of_assemblyai_is_tracked_when_it_is_handed_over(
    tmp_path: Path,
) -> None:
    """By the second, and once."""
    book = tmp_path / "prices.toml"
    book.write_text(
        '[[price]]\nprovider = "assemblyai"\nmodel = "universal"\nfrom = 2026-01-01\n'
        "units.second = { price = 0.15, per = 3600 }\nrounding = { places = 6 }\n"
    )
    session = ScriptedAdapter(QUEUED).session()
    with Recorded(price_book=book) as tracked:
        outlay.instrument(session, client=tracked.client)
        session.post("https://api.assemblyai.com/v2/transcript", json={})
        outlay.uninstrument(session)
        assert tracked.client.stats().unpriced == 1
        for answer in (QUEUED, HEARD, HEARD):
            outlay.observe(answer, provider="assemblyai", client=tracked.client)

        assert tracked.only().data["amount"] == Decimal("0.002542")
        assert tracked.client.stats().unpriced == 0


def test_a_run_of_apify_is_tracked_by_what_it_reports() -> None:
    """Once, by the code that polls and by a web hook; only numbers and ids of it."""
    start = answered(STARTED)
    finished = answered({"data": RUN}, date="Fri, 20 Nov 2026 08:00:05 GMT")
    with Recorded() as tracked:
        for client in (start, finished):
            outlay.instrument(client, client=tracked.client)
        start.post("https://api.apify.com/v2/acts/act_1/runs", json={"query": SECRET})
        assert tracked.client.stats().unpriced == 1
        for _ in range(2):
            finished.get("https://api.apify.com/v2/actor-runs/run_1")
        outlay.observe({"resource": RUN}, provider="apify", client=tracked.client)
        outlay.uninstrument()

        event = tracked.only()
        assert event.data["amount"] == Decimal("0.0012345678901234567")
        assert event.data["provenance"] == "reported"
        assert tracked.client.stats().unpriced == 0
        assert SECRET not in tracked.text()


@pytest.mark.parametrize(
    ("run", "date"),
    [
        ({**RUN, "status": "RUNNING"}, "Fri, 20 Nov 2026 08:00:05 GMT"),
        (RUN, "Sat, 21 Nov 2026 08:00:05 GMT"),
    ],
    ids=["not ended", "ended long ago"],
)
def test_a_run_of_apify_is_not_counted_too_early_or_too_late(
    run: dict[str, Any], date: str
) -> None:
    """What it cost so far is not what it costs."""
    client = answered({"data": run}, date=date)
    with observing(client) as observed:
        client.get("https://api.apify.com/v2/actor-runs/run_1")

    assert observed == []
