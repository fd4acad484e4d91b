"""Mistral's library: what its calls cost, whichever way they are made."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, Final

import pytest
from mistralai.client import Mistral, basesdk, errors

from outlay._capture.observation import Observation
from outlay._capture.providers.mistral import LIBRARY
from tests.capture.providers.api import ProviderApi, Scripted, events
from tests.support.responses import Recorded, recorded

if TYPE_CHECKING:
    from tests.capture.providers.conftest import Capture

WORDS: Final = "to be or not to be"
MESSAGES: Final[Any] = [{"role": "user", "content": WORDS}]
USAGE: Final = {"prompt_tokens": 12, "completion_tokens": 30, "total_tokens": 42}
ANSWER: Final = {
    "id": "cmpl-1",
    "object": "chat.completion",
    "created": 1795176000,
    "model": "mistral-small-2603",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": WORDS},
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}
OBSERVED: Final = Observation(
    provider="mistral",
    event_type="cost.ai.inference",
    operation_id="cmpl-1",
    model="mistral-small-2603",
    flavor="default",
    usage=USAGE,
)


def client_of(api: ProviderApi) -> Mistral:
    """Return a client that knows only ``api``."""
    return Mistral(
        api_key="test", client=api.client2(), async_client=api.async_client2()
    )


def chat(client: Mistral) -> Any:
    """Ask something."""
    return client.chat.complete(model="mistral-small-latest", messages=MESSAGES)


def chat_stream(client: Mistral) -> Any:
    """Ask for an answer in parts."""
    return client.chat.stream(model="mistral-small-latest", messages=MESSAGES)


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in recorded("mistral-")
        if row.name not in {"mistral-batch", "mistral-ocr"}
    ],
    ids=lambda row: row.name,
)
def test_a_recorded_response_is_observed(row: Recorded, capture: Capture) -> None:
    """What the table says is what the library's calls are seen as."""
    client = client_of(ProviderApi(Scripted(row.response)))
    with capture(LIBRARY, client) as seen:
        chat(client)

    assert seen == [row.observed]


def test_a_chat_is_observed(capture: Capture) -> None:
    """And answers as ever."""
    client = client_of(ProviderApi(Scripted(ANSWER)))
    with capture(LIBRARY, client) as seen:
        answer = chat(client)

    assert answer.choices[0].message.content == WORDS
    assert seen == [OBSERVED]


def test_an_asynchronous_chat_is_observed(capture: Capture) -> None:
    """As the others."""

    async def ask(client: Mistral) -> None:
        await client.chat.complete_async(
            model="mistral-small-latest", messages=MESSAGES
        )

    client = client_of(ProviderApi(Scripted(ANSWER)))
    with capture(LIBRARY, client) as seen:
        asyncio.run(ask(client))

    assert seen == [OBSERVED]


def test_other_clients_are_left_alone(capture: Capture) -> None:
    """One client is instrumented, not all of them."""
    client, other = (client_of(ProviderApi(Scripted(ANSWER))) for _ in range(2))
    with capture(LIBRARY, client) as seen:
        chat(other)

    assert seen == []


def test_all_clients_can_be_captured_and_released(capture: Capture) -> None:
    """No trace stays."""
    names = ("do_request", "do_request_async")
    before = [vars(basesdk.BaseSDK)[name] for name in names]
    client = client_of(ProviderApi(Scripted(ANSWER), Scripted(ANSWER)))
    with capture(LIBRARY) as seen:
        chat(client)
    chat(client)

    assert seen == [OBSERVED]
    assert [vars(basesdk.BaseSDK)[name] for name in names] == before


def test_an_error_costs_nothing(capture: Capture) -> None:
    """And is the caller's, as it is."""
    client = client_of(ProviderApi(Scripted({"message": WORDS}, 400)))
    with capture(LIBRARY, client) as seen, pytest.raises(errors.MistralError):
        chat(client)

    assert seen == []


def parts() -> Scripted:
    """Return a stream of a chat."""
    chunk = {
        "id": "cmpl-1",
        "object": "chat.completion.chunk",
        "created": 1795176000,
        "model": "mistral-small-2603",
    }
    choice = {"index": 0, "delta": {"content": WORDS}}
    return events(
        {**chunk, "choices": [{**choice, "finish_reason": None}]},
        {**chunk, "choices": [{**choice, "finish_reason": None}]},
        {**chunk, "choices": [{**choice, "finish_reason": "stop"}], "usage": USAGE},
        done=True,
    )


def test_a_stream_is_observed_once_at_its_end(capture: Capture) -> None:
    """The last part tells the usage."""
    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen, chat_stream(client) as stream:
        next(stream)
        assert seen == []
        assert len(list(stream)) == 2

    assert seen == [OBSERVED]


def test_an_asynchronous_stream_is_observed_once(capture: Capture) -> None:
    """As the others."""

    async def read(client: Mistral) -> int:
        stream = await client.chat.stream_async(
            model="mistral-small-latest", messages=MESSAGES
        )
        return len([part async for part in stream])

    client = client_of(ProviderApi(parts()))
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
    assert (seen[0].operation_id, seen[0].usage) == ("cmpl-1", {})
    assert not seen[0].complete


def test_embeddings_are_observed(capture: Capture) -> None:
    """As tokens."""
    usage = {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}
    body = {
        "id": "emb-1",
        "object": "list",
        "model": "mistral-embed",
        "data": [{"object": "embedding", "embedding": [0.5], "index": 0}],
        "usage": usage,
    }
    client = client_of(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        client.embeddings.create(model="mistral-embed", inputs=[WORDS])

    assert [(each.event_type, each.operation_id, each.usage) for each in seen] == [
        ("cost.ai.embeddings", "emb-1", usage)
    ]


@pytest.mark.parametrize(
    ("asked", "flavor"),
    [
        ({}, "ocr"),
        ({"document_annotation_format": {"type": "json_object"}}, "ocr_annotated"),
    ],
    ids=["plain", "annotated"],
)
def test_a_document_is_observed_by_its_pages(
    asked: dict[str, Any], flavor: str, capture: Capture
) -> None:
    """Annotated pages have a price of their own."""
    row = recorded("mistral-ocr")[0]
    page = {"index": 0, "markdown": WORDS, "images": [], "dimensions": None}
    body = {**row.response, "pages": [page]}
    client = client_of(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        client.ocr.process(
            model="mistral-ocr-latest",
            document={"type": "document_url", "document_url": "https://example.com"},
            **asked,
        )

    assert [(each.flavor, each.usage) for each in seen] == [
        (flavor, row.observed.usage)
    ]


def conversation() -> dict[str, Any]:
    """Return what was added to a conversation."""
    return {
        "object": "conversation.response",
        "conversation_id": "conv_1",
        "outputs": [
            {
                "object": "entry",
                "type": "message.output",
                "id": "msg_1",
                "model": "mistral-small-2603",
                "role": "assistant",
                "content": WORDS,
            }
        ],
        "usage": USAGE,
    }


def test_each_turn_of_a_conversation_is_an_operation(capture: Capture) -> None:
    """A conversation's id stays the same: turns with it would count as one."""
    client = client_of(ProviderApi(Scripted(conversation())))
    with capture(LIBRARY, client) as seen:
        client.beta.conversations.start(model="mistral-small-latest", inputs=WORDS)

    assert [(each.operation_id, each.model, each.usage) for each in seen] == [
        ("msg_1", "mistral-small-2603", USAGE)
    ]
