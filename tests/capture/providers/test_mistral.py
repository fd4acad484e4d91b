"""Mistral's library: what its calls cost, whichever way they are made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from mistralai.client import Mistral, basesdk, errors

import outlay
from outlay._capture.observation import Observation
from outlay._capture.providers.mistral import LIBRARY
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


def embed(client: Mistral) -> Any:
    """Ask for embeddings."""
    return client.embeddings.create(model="mistral-alias", inputs=[WORDS])


def transcribe(client: Mistral) -> Any:
    """Ask for a transcription."""
    file: Any = {"file_name": "a.mp3", "content": b"a"}
    return client.audio.transcriptions.complete(model="voxtral-alias", file=file)


ASKING: Final = {
    "/v1/chat/completions": chat,
    "/v1/embeddings": embed,
    "/v1/audio/transcriptions": transcribe,
}


@pytest.mark.parametrize(
    ("row", "ask"),
    [
        pytest.param(row, ask, id=row.name)
        for row in recorded("mistral-")
        for path, ask in ASKING.items()
        if row.request.endswith(path) and row.name != "mistral-batch"
    ],
)
def test_a_recorded_response_is_observed(
    row: Recorded, ask: Callable[[Mistral], Any], capture: Capture
) -> None:
    """What the table says is what the library's calls are seen as."""
    client = client_of(ProviderApi(Scripted(row.response)))
    with capture(LIBRARY, client) as seen:
        ask(client)

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


@pytest.mark.parametrize("how", ["close", "forget"])
def test_a_stream_that_is_given_up_is_incomplete(how: str, capture: Capture) -> None:
    """What it cost is not known, and not guessed."""
    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        give_up(lambda: chat_stream(client), how)

    assert len(seen) == 1
    assert (seen[0].operation_id, seen[0].usage) == ("cmpl-1", {})
    assert not seen[0].is_complete


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


def test_an_answer_without_usage_is_incomplete(capture: Capture) -> None:
    """A call that was answered has cost something: zero would be made up."""
    client = client_of(ProviderApi(Scripted({**ANSWER, "usage": {}})))
    with capture(LIBRARY, client) as seen:
        chat(client)

    assert [(each.usage, each.is_complete) for each in seen] == [({}, False)]


@pytest.mark.parametrize(
    ("told", "tier"), [("flex", "flex"), ("standard", None)], ids=["flex", "standard"]
)
def test_the_tier_that_served_a_call_is_told(
    told: str, tier: str | None, capture: Capture
) -> None:
    """It changes the price."""
    body = {**ANSWER, "usage": {**USAGE, "service_tier": told}}
    client = client_of(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        chat(client)

    assert [(each.service_tier, each.usage) for each in seen] == [(tier, USAGE)]


def test_a_stream_is_complete_with_its_usage(capture: Capture) -> None:
    """Many readers stop at the reason to finish, and never ask for the end."""
    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        stream = chat_stream(client)
        for _ in range(3):
            next(stream)
        stream.close()

    assert seen == [OBSERVED]


def ask_agent(client: Mistral) -> Any:
    """Ask an agent."""
    return client.agents.complete(agent_id="ag_1", messages=MESSAGES)


def fill(client: Mistral) -> Any:
    """Ask for what is missing in the middle."""
    return client.fim.complete(model="codestral-latest", prompt=WORDS)


@pytest.mark.parametrize("ask", [ask_agent, fill])
def test_agents_and_middles_are_observed_alike(ask: Any, capture: Capture) -> None:
    """Their answers are chats'."""
    client = client_of(ProviderApi(Scripted(ANSWER)))
    with capture(LIBRARY, client) as seen:
        ask(client)

    assert seen == [OBSERVED]


def test_a_document_s_operation_is_its_request(capture: Capture) -> None:
    """The answer has no id, and two pages more would be another operation."""
    row = recorded("mistral-ocr")[0]
    page = {"index": 0, "markdown": WORDS, "images": [], "dimensions": None}
    headers = {"mistral-correlation-id": "req-1"}
    body = Scripted({**row.response, "pages": [page]}, headers=headers)
    client = client_of(ProviderApi(body))
    with capture(LIBRARY, client) as seen:
        client.ocr.process(
            model="mistral-ocr-latest",
            document={"type": "document_url", "document_url": "https://example.com"},
        )

    assert [(each.operation_id, each.request_id) for each in seen] == [(None, "req-1")]


def test_a_document_without_pages_told_is_incomplete(capture: Capture) -> None:
    """How many there were is not guessed from the answer."""
    page = {"index": 0, "markdown": WORDS, "images": [], "dimensions": None}
    body = {"model": "mistral-ocr-2512", "pages": [page], "usage_info": None}
    client = client_of(ProviderApi(Scripted(body)))
    with (
        capture(LIBRARY, client) as seen,
        pytest.raises(errors.ResponseValidationError),
    ):
        client.ocr.process(
            model="mistral-ocr-latest",
            document={"type": "document_url", "document_url": "https://example.com"},
        )

    assert [(each.usage, each.is_complete) for each in seen] == [({}, False)]


def test_the_last_of_several_outputs_names_a_turn(capture: Capture) -> None:
    """The first may be of a tool that ran before."""
    body = conversation()
    body["outputs"].insert(0, {**body["outputs"][0], "id": "msg_0", "model": "other"})
    client = client_of(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        client.beta.conversations.start(model="mistral-small-latest", inputs=WORDS)

    assert [(each.operation_id, each.model) for each in seen] == [
        ("msg_1", "mistral-small-2603")
    ]


def test_a_streamed_turn_is_observed_as_a_whole_one(capture: Capture) -> None:
    """Its events tell the id, and the last one the usage."""
    stream = events(
        {"type": "conversation.response.started", "conversation_id": "conv_1"},
        {
            "type": "message.output.delta",
            "id": "msg_1",
            "model": "mistral-small-2603",
            "role": "assistant",
            "content": WORDS,
        },
        {"type": "conversation.response.done", "usage": USAGE},
    )
    client = client_of(ProviderApi(stream))
    with capture(LIBRARY, client) as seen:
        assert (
            len(
                list(
                    client.beta.conversations.start_stream(
                        model="mistral-small-latest", inputs=WORDS
                    )
                )
            )
            == 3
        )

    assert seen == [msgspec.structs.replace(OBSERVED, operation_id="msg_1")]


def test_a_transcription_is_observed_by_its_seconds(capture: Capture) -> None:
    """In a plain unit, for price books."""
    body: dict[str, Any] = {
        "model": "voxtral-mini-2602",
        "text": WORDS,
        "language": None,
        "segments": [],
        "usage": {**USAGE, "prompt_audio_seconds": 203},
    }
    client = client_of(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        client.audio.transcriptions.complete(
            model="voxtral-mini-latest", file={"file_name": "a.mp3", "content": b"a"}
        )

    assert seen == [
        Observation(
            provider="mistral",
            event_type="cost.ai.audio",
            model="voxtral-mini-2602",
            usage={"audio_seconds": 203, "input_audio_seconds": 203},
        )
    ]


def test_speech_is_observed_by_what_was_to_be_said(capture: Capture) -> None:
    """The answer tells nothing but the sound."""
    client = client_of(ProviderApi(Scripted({"audio_data": "AAAA"})))
    with capture(LIBRARY, client) as seen:
        client.audio.speech.complete(model="voxtral-tts", input=WORDS)

    assert [(each.event_type, each.model, each.usage) for each in seen] == [
        ("cost.ai.audio", "voxtral-tts", {"character": len(WORDS)})
    ]


def test_a_call_is_tracked_through_the_public_door() -> None:
    """From the provider's answer to the event."""
    client = client_of(ProviderApi(Scripted(ANSWER)))
    with RecordingClient() as tracker:
        assert outlay.instrument(client, client=tracker) is client
        with outlay.attribute(customer_id="cus_1"):
            chat(client)
        outlay.uninstrument(client)

    (event,) = tracker.costs.events_where(customer="cus_1", provider="mistral")
    assert event.data["operationId"] == "cmpl-1"
    assert event.data["amount"] > 0
