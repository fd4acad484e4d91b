"""fal's package: billable units, for what was asked for."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import fal_client
import httpx
import pytest
import respx
from fal_client.client import FalClientHTTPError

import outlay
from outlay._capture.observation import Observation
from outlay._capture.providers.fal import LIBRARY
from tests.support.recorded import Recorded
from tests.support.unpriced import client_in, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.capture.providers.conftest import Capture

APP: Final = "fal-ai/flux/dev"
SECRET: Final = "a portrait of Ada"
OUTPUT: Final = {"images": [{"url": "https://v3.fal.media/1.png"}], "prompt": SECRET}
QUEUE: Final = "https://queue.fal.run/fal-ai/flux/requests/r1"
BILLED: Final = {"x-fal-request-id": "r1", "x-fal-billable-units": "1.5"}


@pytest.fixture
def api() -> Iterator[respx.MockRouter]:
    """Return the API, in the place of all HTTP."""
    with respx.mock(assert_all_called=False) as router:
        router.post(f"https://fal.run/{APP}").respond(json=OUTPUT, headers=BILLED)
        router.post(f"https://queue.fal.run/{APP}").respond(
            json={
                "request_id": "r1",
                "response_url": QUEUE,
                "status_url": f"{QUEUE}/status",
                "cancel_url": f"{QUEUE}/cancel",
            }
        )
        router.get(f"{QUEUE}/status").respond(
            json={"status": "COMPLETED", "logs": None, "metrics": {}}
        )
        router.get(QUEUE).respond(json=OUTPUT, headers=BILLED)
        yield router


def seen(**fields: Any) -> Observation:
    """Return what is observed of the request."""
    common: dict[str, Any] = {
        "provider": "fal",
        "event_type": "cost.ai.compute",
        "operation_id": "r1",
        "model": APP,
    }
    return Observation(**{**common, **fields})


PENDING: Final = seen(price_pending=True)
DONE: Final = seen(usage={"billable_unit": Decimal("1.5")})
RESULT: Final = seen(
    model="fal-ai/flux", usage={"billable_unit": Decimal("1.5")}, is_lookup=True
)


@pytest.mark.usefixtures("api")
def test_a_run_is_observed(capture: Capture) -> None:
    """By the units that a header tells."""
    client = fal_client.SyncClient(key="test")
    with capture(LIBRARY, client) as observed:
        assert client.run(APP, {"prompt": SECRET}) == OUTPUT

    assert observed == [DONE]
    assert SECRET not in repr(observed)


@pytest.mark.usefixtures("api")
def test_a_queued_request_is_observed_by_its_result(capture: Capture) -> None:
    """However often its status is asked for."""
    client = fal_client.SyncClient(key="test")
    with capture(LIBRARY, client) as observed:
        assert client.subscribe(APP, {"prompt": SECRET}) == OUTPUT

    assert observed == [PENDING, RESULT]


@pytest.mark.usefixtures("api")
def test_an_asynchronous_client_is_observed_alike(capture: Capture) -> None:
    """Its HTTP client is made when it is first used."""

    async def ask() -> None:
        await client.run(APP, {"prompt": SECRET})
        await client.subscribe(APP, {"prompt": SECRET})

    client = fal_client.AsyncClient(key="test")
    with capture(LIBRARY, client) as observed:
        asyncio.run(ask())

    assert observed == [DONE, PENDING, RESULT]


@pytest.mark.usefixtures("api")
def test_a_client_that_was_used_before_can_be_captured(capture: Capture) -> None:
    """And another one is left alone, although the package calls them equal."""

    async def ask() -> None:
        await later.run(APP, {})
        with capture(LIBRARY, later) as observed:
            await later.run(APP, {})
            await fal_client.AsyncClient(key="c").run(APP, {})
        assert observed == [DONE]

    client, other = fal_client.SyncClient(key="a"), fal_client.SyncClient(key="a")
    later = fal_client.AsyncClient(key="c")
    client.run(APP, {})
    assert client == other
    with capture(LIBRARY, client) as observed:
        client.run(APP, {})
        other.run(APP, {})

    assert observed == [DONE]
    asyncio.run(ask())


@pytest.mark.usefixtures("api")
def test_a_request_waits_in_whole_for_the_price_of_what_was_asked_for(
    tmp_path: Path,
) -> None:
    """The address of a result tells the half of it."""
    client = fal_client.SyncClient(key="test")
    with client_in(tmp_path) as tracker:
        outlay.instrument(client, client=tracker)
        with outlay.attribute(customer_id="cus_2"):
            handle = client.submit(APP, {"prompt": SECRET})
        handle.get()
        outlay.uninstrument(client)

        (line,) = waiting(tmp_path)

    kept = json.loads(bytes(line.cost.observation))
    assert (kept["model"], kept["usage"]) == (APP, {"billable_unit": 1.5})
    assert json.loads(bytes(line.cost.event))["subject"] == "cus_2"
    assert line.cost.reason != "pending"


@pytest.mark.usefixtures("api")
def test_a_result_is_priced_by_ones_own_book(tmp_path: Path) -> None:
    """By what was asked for, which has a price of its own."""
    book = tmp_path / "prices.toml"
    book.write_text(
        '[[price]]\nprovider = "fal"\nmodel = "fal-ai/flux/dev"\nfrom = 2026-01-01\n'
        "units.billable_unit = 0.025\n"
    )
    client = fal_client.SyncClient(key="test")
    with Recorded(price_book=book) as tracked:
        outlay.instrument(client, client=tracked.client)
        for _ in range(2):
            client.subscribe(APP, {"prompt": SECRET})
        outlay.uninstrument(client)

    event = tracked.only()
    assert event.data["amount"] == Decimal("0.0375")
    assert event.data["model"] == APP
    assert event.data["usage"] == {"billable_unit": Decimal("1.5")}
    assert SECRET not in tracked.text()


def test_an_answer_without_units_is_not_free(
    api: respx.MockRouter, capture: Capture
) -> None:
    """What it cost is not known, and not guessed."""
    api.post(f"https://fal.run/{APP}").respond(
        json=OUTPUT, headers={"x-fal-request-id": "r1"}
    )
    client = fal_client.SyncClient(key="test")
    with capture(LIBRARY, client) as observed:
        client.run(APP, {})

    assert observed == [seen(is_complete=False)]


def stream_of(router: respx.MockRouter) -> None:
    """Let the API answer in parts."""
    said = b'data: {"output": "A"}\n\ndata: {"output": "da"}\n\n'
    router.post(f"https://fal.run/{APP}/stream").respond(
        content=said, headers={**BILLED, "content-type": "text/event-stream"}
    )


def test_a_stream_is_observed_at_its_end(
    api: respx.MockRouter, capture: Capture
) -> None:
    """By its headers: the content is private."""

    async def read() -> int:
        later = fal_client.AsyncClient(key="test")
        return len([part async for part in later.stream(APP, {})])

    stream_of(api)
    client = fal_client.SyncClient(key="test")
    with capture(LIBRARY) as observed:
        assert len(list(client.stream(APP, {}))) == 2
        assert asyncio.run(read()) == 2

    assert observed == [DONE, DONE]


def test_uploads_and_errors_cost_nothing(
    api: respx.MockRouter, capture: Capture
) -> None:
    """Files go to hosts of their own."""
    api.post("https://rest.fal.ai/storage/upload/initiate").respond(
        json={"upload_url": "https://upload.test/1", "file_url": "https://file.test"}
    )
    api.put("https://upload.test/1").respond(200)
    api.post(f"https://fal.run/{APP}").respond(422, json={"detail": SECRET})
    client = fal_client.SyncClient(key="test")
    with capture(LIBRARY, client) as observed:
        client.upload(b"1", "text/plain", repository="fal")
        with pytest.raises(FalClientHTTPError):
            client.run(APP, {})

    assert observed == []


@pytest.mark.usefixtures("api")
def test_all_clients_can_be_captured_and_released(capture: Capture) -> None:
    """No trace stays, not even in the properties that make HTTP clients."""
    module = fal_client.client
    names = ("_request", "_async_request", "connect_sse", "aconnect_sse")
    made = [vars(kind)["_client"] for kind in (module.SyncClient, module.AsyncClient)]
    before = [vars(module)[name] for name in names], [each.func for each in made]
    with capture(LIBRARY) as observed:
        fal_client.SyncClient(key="test").run(APP, {})
    fal_client.SyncClient(key="test").run(APP, {})

    assert observed == [DONE]
    after = [vars(module)[name] for name in names], [each.func for each in made]
    assert before == after


def test_a_client_of_httpx_observes_the_same(api: respx.MockRouter) -> None:
    """For code that calls the API without the package."""
    from tests.support.observing import observing  # noqa: PLC0415 - here only

    assert api
    with httpx.Client() as client, observing(client) as observed:
        client.post(f"https://fal.run/{APP}", json={"prompt": SECRET})
        client.get(QUEUE)

    assert observed == [DONE, RESULT]
