"""Replicate's package: predictions, once each, however often they are looked at."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError

import outlay
from outlay._capture.observation import Observation
from outlay._capture.providers.replicate import LIBRARY
from tests.capture.providers.api import ProviderApi, Scripted
from tests.support.recorded import Recorded

if TYPE_CHECKING:
    from pathlib import Path

    from tests.capture.providers.conftest import Capture

SECRET: Final = "a portrait of Ada"
MODEL: Final = "black-forest-labs/flux-schnell"
BEGUN: Final = {
    "id": "p1",
    "model": MODEL,
    "version": "v1",
    "status": "starting",
    "input": {"prompt": SECRET},
    "output": None,
    "urls": {
        "get": "https://api.replicate.com/v1/predictions/p1",
        "stream": "https://stream.replicate.com/p1",
    },
}
ENDED: Final = {
    **BEGUN,
    "status": "succeeded",
    "output": SECRET,
    "completed_at": "2026-11-20T08:00:00.123456Z",
    "metrics": {
        "predict_time": 12.345678901,
        "total_time": 20.5,
        "image_count": 2,
        "tokens_per_second": 7.5,
        "token_input_count": 9,
    },
}
SOON: Final = {"date": "Fri, 20 Nov 2026 08:00:01 GMT"}
LATER: Final = {"date": "Sat, 21 Nov 2026 08:00:01 GMT"}


def client_of(*answers: Any, **headers: str) -> Client:
    """Return a client of an API that answers so, quickly."""
    client = Client("test", transport=transport(*answers, **headers))
    client.poll_interval = 0
    return client


def transport(*answers: Any, **headers: str) -> httpx.MockTransport:
    """Return the API."""
    given = [
        each if isinstance(each, Scripted) else Scripted(each, headers=headers or SOON)
        for each in answers
    ]
    return httpx.MockTransport(ProviderApi(*given)._answer(httpx))


def seen(**fields: Any) -> Observation:
    """Return what is observed of the prediction."""
    return Observation(
        provider="replicate",
        event_type="cost.ai.compute",
        operation_id="p1",
        model=MODEL,
        **fields,
    )


PENDING: Final = seen(price_pending=True)
SECONDS: Final = Decimal("12.345678901")
DONE: Final = seen(
    usage={"second": SECONDS, "image": 2, "input_tokens": 9}, is_lookup=True
)


def test_a_run_is_observed_when_it_has_ended(capture: Capture) -> None:
    """By what may be charged for, to the last digit, and by nothing else."""
    client = client_of(BEGUN, {**BEGUN, "status": "processing"}, ENDED)
    with capture(LIBRARY, client) as observed:
        output = client.run(MODEL, input={"prompt": SECRET}, use_file_output=False)

    assert output == SECRET
    assert observed == [PENDING, DONE]
    assert SECRET not in repr(observed)


def test_a_run_that_is_waited_for_is_observed_at_once(capture: Capture) -> None:
    """The answer may have the metrics already."""
    client = client_of(ENDED)
    with capture(LIBRARY, client) as observed:
        client.run(MODEL, input={"prompt": SECRET}, use_file_output=False)

    assert observed == [DONE]


def test_an_asynchronous_run_is_observed_alike(capture: Capture) -> None:
    """As the others."""
    client = client_of(BEGUN, ENDED)
    with capture(LIBRARY, client) as observed:
        asyncio.run(
            client.async_run(MODEL, input={"prompt": SECRET}, use_file_output=False)
        )

    assert observed == [PENDING, DONE]


def test_a_prediction_is_tracked_once_however_often_it_is_looked_at(
    tmp_path: Path,
) -> None:
    """Wait, reload, get and a web hook are all about the same operation."""
    book = tmp_path / "prices.toml"
    book.write_text(
        '[[price]]\nprovider = "replicate"\nfrom = 2026-01-01\nunits.second = 0.0001\n'
        'free = ["image", "input_tokens"]\n'
    )
    client = client_of(BEGUN, ENDED, ENDED, ENDED)
    with Recorded(price_book=book) as tracked:
        outlay.instrument(client, client=tracked.client)
        with outlay.attribute(customer_id="cus_2"):
            prediction = client.predictions.create(version="v1", input={"p": SECRET})
        assert tracked.client.stats().unpriced == 1
        prediction.wait()
        prediction.reload()
        client.predictions.get("p1")
        outlay.observe(json.dumps(ENDED), provider="replicate", client=tracked.client)
        outlay.uninstrument(client)

        assert tracked.client.stats().unpriced == 0
        event = tracked.only()
    assert (event.subject, event.data["model"]) == ("cus_2", MODEL)
    assert event.data["amount"] == Decimal("0.0012345678901")
    assert SECRET not in tracked.text()


def test_whoever_looks_first_at_a_prediction_of_another_process_pays() -> None:
    """A second look, for another customer, is no second cost."""
    client = client_of(ENDED, ENDED)
    with Recorded() as recorded:
        outlay.instrument(client, client=recorded.client)
        for customer in ("cus_2", "cus_3"):
            with outlay.attribute(customer_id=customer):
                client.predictions.get("p1")
        outlay.uninstrument(client)

        assert recorded.client.stats().unpriced == 1


def test_an_old_prediction_is_not_counted_once_more(capture: Capture) -> None:
    """Servers know a key for a day."""
    client = client_of(ENDED, **LATER)
    with capture(LIBRARY, client) as observed:
        client.predictions.get("p1")

    assert observed == []


def test_a_list_is_not_counted(capture: Capture) -> None:
    """A look at the result spends nothing."""
    client = client_of({"previous": None, "next": None, "results": [ENDED]})
    with capture(LIBRARY, client) as observed:
        assert [one.id for one in client.predictions.list()] == ["p1"]

    assert observed == []


@pytest.mark.parametrize(
    ("metrics", "usage"),
    [({"predict_time": 3.5}, {"second": Decimal("3.5")}), ({}, {"second": 0})],
    ids=["ran", "never ran"],
)
def test_a_failure_costs_the_time_that_it_ran(
    metrics: dict[str, float], usage: dict[str, Any], capture: Capture
) -> None:
    """Compute time is charged, whatever came of it."""
    client = client_of({**ENDED, "status": "failed", "metrics": metrics})
    with capture(LIBRARY, client) as observed, pytest.raises(ModelError):
        client.run(MODEL, input={})

    assert observed == [seen(usage=usage, is_lookup=True)]


def test_a_prediction_that_is_cancelled_has_ended(capture: Capture) -> None:
    """Its answer tells how long it ran."""
    cancelled = {**ENDED, "status": "canceled", "metrics": {"predict_time": 1.5}}
    client = client_of(BEGUN, cancelled)
    with capture(LIBRARY, client) as observed:
        client.predictions.create(version="v1", input={}).cancel()

    assert observed == [PENDING, seen(usage={"second": Decimal("1.5")}, is_lookup=True)]


def test_success_without_metrics_is_not_free(capture: Capture) -> None:
    """It is a cost that is not known."""
    client = client_of({**ENDED, "metrics": None})
    with capture(LIBRARY, client) as observed:
        client.predictions.get("p1")

    assert observed == [seen(is_complete=False, is_lookup=True)]


def test_a_stream_leaves_its_cost_pending(capture: Capture) -> None:
    """It ends without metrics. The code that fetches the prediction will see them."""
    said = b"event: output\nid: 1\ndata: Ada\n\nevent: done\nid: 2\ndata: {}\n\n"
    stream = Scripted([said], kind="text/event-stream")
    client = client_of(BEGUN, stream)
    with capture(LIBRARY, client) as observed:
        assert [str(one) for one in client.stream(MODEL, input={})] == ["Ada", ""]

    assert observed == [PENDING]


def test_an_error_costs_nothing(capture: Capture) -> None:
    """And is the caller's; the package tries some of them again."""
    client = client_of(Scripted({"detail": SECRET, "status": 422}, 422))
    with capture(LIBRARY, client) as observed, pytest.raises(ReplicateError):
        client.run(MODEL, input={})

    assert observed == []


def test_all_clients_can_be_captured_and_released(capture: Capture) -> None:
    """No trace stays."""
    names = ("_request", "_async_request")
    before = [vars(Client)[name] for name in names]
    client = client_of(ENDED, ENDED)
    with capture(LIBRARY) as observed:
        client.predictions.get("p1")
    client.predictions.get("p1")

    assert observed == [DONE]
    assert [vars(Client)[name] for name in names] == before
