"""Cohere's library: what its calls cost, whichever way they are made."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, Final

import cohere
import pytest
from cohere.core.api_error import ApiError
from cohere.core.http_client import AsyncHttpClient, HttpClient

from outlay._capture.observation import Observation
from outlay._capture.providers.cohere import LIBRARY
from tests.capture.providers.api import ProviderApi, Scripted, events
from tests.support.responses import Recorded, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.providers.conftest import Capture

WORDS: Final = "to be or not to be"
MESSAGES: Final[Any] = [{"role": "user", "content": WORDS}]
USAGE: Final = {
    "billed_units": {"input_tokens": 5, "output_tokens": 418},
    "tokens": {"input_tokens": 71, "output_tokens": 418},
}
ANSWER: Final = {
    "id": "c14c80c3",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": WORDS}]},
    "usage": USAGE,
}
OBSERVED: Final = Observation(
    provider="cohere",
    event_type="cost.ai.inference",
    operation_id="c14c80c3",
    model="command-a-03-2025",
    flavor="default",
    usage=USAGE,
)


def client_of(api: ProviderApi) -> cohere.ClientV2:
    """Return a client that knows only ``api``."""
    return cohere.ClientV2("test", httpx_client=api.client())


def async_client_of(api: ProviderApi) -> cohere.AsyncClientV2:
    """Return its asynchronous twin."""
    return cohere.AsyncClientV2("test", httpx_client=api.async_client())


def chat(client: Any) -> Any:
    """Ask something."""
    return client.chat(model="command-a-03-2025", messages=MESSAGES)


def chat_stream(client: Any) -> Any:
    """Ask for an answer in parts."""
    return client.chat_stream(model="command-a-03-2025", messages=MESSAGES)


@pytest.mark.parametrize("row", recorded("cohere-"), ids=lambda row: row.name)
def test_a_recorded_response_is_observed(row: Recorded, capture: Capture) -> None:
    """What the table says is what the library's calls are seen as."""
    client = client_of(ProviderApi(Scripted(row.response)))
    with capture(LIBRARY, client) as seen:
        client.chat(model="command-alias", messages=MESSAGES)

    assert seen == [row.observed]


@pytest.mark.parametrize(
    "ask",
    [chat, lambda client: chat(client.with_raw_response).data],
    ids=["plain", "raw"],
)
def test_a_chat_is_observed(ask: Callable[[Any], Any], capture: Capture) -> None:
    """By the model that was asked for: the answer names none."""
    client = client_of(ProviderApi(Scripted(ANSWER)))
    with capture(LIBRARY, client) as seen:
        answer = ask(client)

    assert answer.message.content[0].text == WORDS
    assert seen == [OBSERVED]


def test_an_asynchronous_chat_is_observed(capture: Capture) -> None:
    """As the others."""
    client = async_client_of(ProviderApi(Scripted(ANSWER)))
    with capture(LIBRARY, client) as seen:
        asyncio.run(chat(client))

    assert seen == [OBSERVED]


def test_all_clients_can_be_captured_and_released(capture: Capture) -> None:
    """No trace stays."""
    owners = [
        (o, n) for o in (HttpClient, AsyncHttpClient) for n in ("request", "stream")
    ]
    before = [vars(owner)[name] for owner, name in owners]
    client = client_of(ProviderApi(Scripted(ANSWER), Scripted(ANSWER)))
    with capture(LIBRARY) as seen:
        chat(client)
    chat(client)

    assert seen == [OBSERVED]
    assert [vars(owner)[name] for owner, name in owners] == before


def test_a_call_that_was_tried_again_is_observed_once(capture: Capture) -> None:
    """The library calls itself to try again: its caller sees one answer."""
    refused = Scripted({"message": WORDS}, 429, {"retry-after-ms": "1"})
    client = client_of(ProviderApi(refused, Scripted(ANSWER)))
    with capture(LIBRARY, client) as seen:
        chat(client)

    assert seen == [OBSERVED]


def test_an_error_costs_nothing(capture: Capture) -> None:
    """And is the caller's, as it is."""
    client = client_of(ProviderApi(Scripted({"message": WORDS}, 400)))
    with capture(LIBRARY, client) as seen, pytest.raises(ApiError):
        chat(client)

    assert seen == []


def parts() -> Scripted:
    """Return a stream of a chat."""
    return events(
        {"type": "message-start", "id": "c14c80c3", "delta": {"message": {}}},
        {
            "type": "content-delta",
            "index": 0,
            "delta": {"message": {"content": {"text": WORDS}}},
        },
        {
            "type": "message-end",
            "delta": {"finish_reason": "COMPLETE", "usage": USAGE},
        },
    )


def test_a_stream_is_observed_once_at_its_end(capture: Capture) -> None:
    """The first event tells the id, the last one the usage."""
    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        stream = chat_stream(client)
        first = next(stream)
        assert seen == []
        rest = list(stream)

    assert [part.type for part in (first, *rest)] == [
        "message-start",
        "content-delta",
        "message-end",
    ]
    assert seen == [OBSERVED]


def test_an_asynchronous_stream_is_observed_once(capture: Capture) -> None:
    """As the others."""

    async def read(client: cohere.AsyncClientV2) -> int:
        return len([part async for part in chat_stream(client)])

    client = async_client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        assert asyncio.run(read(client)) == 3

    assert seen == [OBSERVED]


@pytest.mark.parametrize("give_up", ["close", "forget"])
def test_a_stream_that_is_given_up_is_incomplete(
    give_up: str, capture: Capture
) -> None:
    """What it cost is not known, and not guessed."""
    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        stream = chat_stream(client)
        next(stream)
        if give_up == "close":
            stream.close()
        del stream
        gc.collect()

    assert len(seen) == 1
    assert (seen[0].operation_id, seen[0].usage) == ("c14c80c3", {})
    assert not seen[0].complete


def metered(**billed: float) -> Scripted:
    """Return an answer that bills units."""
    meta = {"api_version": {"version": "2"}, "billed_units": billed}
    return Scripted({"id": "id-1", "results": [], "embeddings": {}, "meta": meta})


def test_a_ranking_is_observed_by_its_searches(capture: Capture) -> None:
    """In a plain unit, for price books."""
    client = client_of(ProviderApi(metered(search_units=2)))
    with capture(LIBRARY, client) as seen:
        client.rerank(model="rerank-v4.0-pro", query=WORDS, documents=[WORDS])

    assert seen == [
        Observation(
            provider="cohere",
            event_type="cost.ai.rerank",
            operation_id="id-1",
            model="rerank-v4.0-pro",
            usage={"search": 2},
        )
    ]


def test_embeddings_are_observed(capture: Capture) -> None:
    """By the token."""
    client = client_of(ProviderApi(metered(input_tokens=7)))
    with capture(LIBRARY, client) as seen:
        client.embed(
            model="embed-v4.0",
            texts=[WORDS],
            input_type="search_document",
            embedding_types=["float"],
        )

    assert seen == [
        Observation(
            provider="cohere",
            event_type="cost.ai.embeddings",
            operation_id="id-1",
            model="embed-v4.0",
            flavor="embeddings",
            usage={"billed_units": {"input_tokens": 7}},
        )
    ]
