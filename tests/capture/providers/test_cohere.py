"""Cohere's library: what its calls cost, whichever way they are made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import cohere
import pytest
from cohere.core.api_error import ApiError
from cohere.core.http_client import AsyncHttpClient, HttpClient

import outlay
from outlay._capture.observation import Observation
from outlay._capture.providers.cohere import LIBRARY
from outlay.testing import RecordingClient
from tests.capture.providers.api import (
    MESSAGES,
    WORDS,
    ProviderApi,
    Scripted,
    events,
    give_up,
)
from tests.support.responses import Recorded, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.providers.conftest import Capture

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


def embed(client: Any, model: str | None) -> Any:
    """Ask for embeddings."""
    return client.embed(
        model=model,
        texts=[WORDS],
        input_type="search_document",
        embedding_types=["float"],
    )


def rank(client: Any, model: str | None) -> Any:
    """Ask for a ranking."""
    return client.rerank(model=model, query=WORDS, documents=[WORDS])


ASKING: Final = {
    "/v2/chat": lambda client, _: client.chat(model="an-alias", messages=MESSAGES),
    "/v2/embed": embed,
    "/v2/rerank": rank,
}


@pytest.mark.parametrize("row", recorded("cohere-"), ids=lambda row: row.name)
def test_a_recorded_response_is_observed(row: Recorded, capture: Capture) -> None:
    """What the table says is what the library's calls are seen as."""
    client = client_of(ProviderApi(Scripted(row.response)))
    ask = ASKING[urlsplit(row.request.split()[1]).path]
    with capture(LIBRARY, client) as seen:
        ask(client, row.observed.model)

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


@pytest.mark.parametrize("how", ["close", "forget"])
def test_a_stream_that_is_given_up_is_incomplete(how: str, capture: Capture) -> None:
    """What it cost is not known, and not guessed."""
    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        give_up(lambda: chat_stream(client), how)

    assert len(seen) == 1
    assert (seen[0].operation_id, seen[0].usage) == ("c14c80c3", {})
    assert not seen[0].is_complete


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


def test_an_answer_without_usage_is_incomplete(capture: Capture) -> None:
    """A call that was answered has cost something: zero would be made up."""
    client = client_of(ProviderApi(Scripted({**ANSWER, "usage": None})))
    with capture(LIBRARY, client) as seen:
        chat(client)

    assert [(each.usage, each.is_complete) for each in seen] == [({}, False)]


def test_a_ranking_without_units_is_incomplete(capture: Capture) -> None:
    """Nor is a search made up."""
    client = client_of(ProviderApi(metered()))
    with capture(LIBRARY, client) as seen:
        client.rerank(model="rerank-v4.0-pro", query=WORDS, documents=[WORDS])

    assert [(each.usage, each.is_complete) for each in seen] == [({}, False)]


def test_a_stream_is_complete_with_its_last_event(capture: Capture) -> None:
    """Many readers stop there, and never ask for the end."""
    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        stream = chat_stream(client)
        for _ in range(3):
            next(stream)
        stream.close()

    assert seen == [OBSERVED]


def test_images_are_embedded_by_tokens_of_their_own(capture: Capture) -> None:
    """A call with both has two lines, for they have two prices."""
    client = client_of(ProviderApi(metered(input_tokens=7, image_tokens=300)))
    with capture(LIBRARY, client) as seen:
        client.embed(model="embed-v4.0", input_type="image", images=["data:,a"])

    assert [(each.line, each.usage) for each in seen] == [
        (None, {"billed_units": {"input_tokens": 7, "image_tokens": 300}}),
        ("images", {"input_image_tokens": 300}),
    ]


def test_images_alone_are_one_line(capture: Capture) -> None:
    """There was no text to bill."""
    client = client_of(ProviderApi(metered(image_tokens=300)))
    with capture(LIBRARY, client) as seen:
        client.embed(model="embed-v4.0", input_type="image", images=["data:,a"])

    assert [(each.line, each.usage) for each in seen] == [
        ("images", {"input_image_tokens": 300})
    ]


def test_a_document_that_was_read_is_observed_by_its_pages(capture: Capture) -> None:
    """In a plain unit, for price books."""
    client = client_of(ProviderApi(metered(pages=3)))
    with capture(LIBRARY, client) as seen:
        client.parse(
            model="parse-v1",
            document={"type": "document_url", "document_url": "https://example.com"},  # type: ignore[arg-type]  # as JSON
        )

    assert [(each.event_type, each.usage) for each in seen] == [
        ("cost.documents.ocr", {"page": 3})
    ]


FIRST_ANSWER: Final = {
    "generation_id": "gen-1",
    "text": WORDS,
    "meta": {"api_version": {"version": "1"}, **USAGE},
}


def first_client(api: ProviderApi) -> cohere.Client:
    """Return a client of the API's first version."""
    return cohere.Client("test", httpx_client=api.client())


def ask_first(client: cohere.Client) -> object:
    """Ask in the first version of the API."""
    return client.chat(model="command-a-03-2025", message=WORDS)


def stream_first(client: cohere.Client) -> object:
    """Ask it for an answer in parts."""
    return list(client.chat_stream(model="command-a-03-2025", message=WORDS))


@pytest.mark.parametrize(
    ("ask", "answered"),
    [
        (ask_first, Scripted(FIRST_ANSWER)),
        (
            stream_first,
            events(
                {"event_type": "stream-start", "generation_id": "gen-1"},
                {"event_type": "text-generation", "text": WORDS},
                {
                    "event_type": "stream-end",
                    "finish_reason": "COMPLETE",
                    "response": FIRST_ANSWER,
                },
            ),
        ),
    ],
    ids=["whole", "streamed"],
)
def test_the_first_version_of_the_api_is_observed(
    ask: Callable[[cohere.Client], object], answered: Scripted, capture: Capture
) -> None:
    """It calls the id and the usage by other names."""
    client = first_client(ProviderApi(answered))
    with capture(LIBRARY, client) as seen:
        ask(client)

    assert [(each.operation_id, each.model) for each in seen] == [
        ("gen-1", "command-a-03-2025")
    ]
    assert {name: seen[0].usage[name] for name in USAGE} == USAGE
    assert seen[0].is_complete


def test_classifications_are_observed_by_the_text(capture: Capture) -> None:
    """In a plain unit, for price books."""
    body = {
        "id": "class-1",
        "classifications": [],
        "meta": {"billed_units": {"classifications": 2}},
    }
    client = first_client(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        client.classify(model="ours", inputs=[WORDS, WORDS])

    assert [(each.operation_id, each.usage) for each in seen] == [
        ("class-1", {"classification": 2})
    ]


def test_a_call_is_tracked_through_the_public_door() -> None:
    """From the provider's answer to the event, to the last digit."""
    client = client_of(ProviderApi(Scripted(ANSWER)))
    with RecordingClient() as tracker:
        assert outlay.instrument(client, client=tracker) is client
        with outlay.attribute(customer_id="cus_1"):
            chat(client)
        outlay.uninstrument(client)

    # 5 in at 2.50, and 418 out at 10, each for a million.
    tracker.costs.assert_total(
        "0.0041925", customer="cus_1", provider="cohere", operation_id="c14c80c3"
    )
