"""Everything but chats, through the real openai package, captured and priced."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from pydantic import BaseModel

import outlay
from outlay.pricing import Entry, PriceBook
from tests.capture.test_openai_chat import ASKED, client
from tests.support.observing import observing
from tests.support.recorded import Recorded
from tests.support.responses import WHEN, recorded
from tests.support.stainless import Events, answer, sent, streamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import openai


WORDS: Final = "to be or not to be"
ROWS: Final = {row.name: row for row in recorded("openai-")}


def row(name: str) -> dict[str, Any]:
    """Return a recorded response."""
    response: dict[str, Any] = json.loads(
        json.dumps(ROWS[name].response, default=float)
    )
    return response


class Answer(BaseModel):
    """What a response is to look like."""

    n: int


RESPONSE: Final = {
    **row("openai-responses-gpt-5-2025-08-07"),
    "object": "response",
    "created_at": 1795176000,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": '{"n": 1}', "annotations": []}],
        }
    ],
}
USAGE: Final[dict[str, Any]] = RESPONSE["usage"]
BEGUN: Final = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
ID: Final = RESPONSE["id"]
INPUT: Final[dict[str, Any]] = {"model": "gpt-5", "input": WORDS}


def responding(request: httpx2.Request) -> httpx2.Response:
    """Answer as the provider's responses do."""
    if not sent(request).get("stream"):
        return answer(RESPONSE)
    parts = [
        {"type": "response.created", "sequence_number": 0, "response": BEGUN},
        {
            "type": "response.output_item.added",
            "sequence_number": 1,
            "output_index": 0,
            "item": {**RESPONSE["output"][0], "content": []},
        },
        {
            "type": "response.content_part.added",
            "sequence_number": 2,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "part": {"type": "output_text", "text": "", "annotations": []},
        },
        {
            "type": "response.output_text.delta",
            "sequence_number": 3,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": '{"n": 1}',
            "logprobs": [],
        },
        {"type": "response.completed", "sequence_number": 4, "response": RESPONSE},
    ]
    return streamed(Events(parts, done=False))


def create(chat: openai.OpenAI) -> object:
    """Ask, and wait for the whole response."""
    return chat.responses.create(**INPUT)


def parse(chat: openai.OpenAI) -> object:
    """Ask for a response of a given form."""
    return chat.responses.parse(text_format=Answer, **INPUT).output_parsed


def raw(chat: openai.OpenAI) -> object:
    """Ask for the response with its headers."""
    return chat.responses.with_raw_response.create(**INPUT).parse()


def in_parts(chat: openai.OpenAI) -> object:
    """Ask for a response that is read in parts."""
    with chat.responses.with_streaming_response.create(**INPUT) as response:
        return b"".join(response.iter_bytes(7))


def beta(chat: openai.OpenAI) -> object:
    """Ask by a path that is not stable yet."""
    return chat.beta.responses.create(**INPUT).id


def compact(chat: openai.OpenAI) -> object:
    """Ask for a shorter conversation."""
    return chat.responses.compact(model="gpt-5", input=WORDS).id


def streaming(chat: openai.OpenAI) -> object:
    """Ask for a stream, and read it."""
    return list(chat.responses.create(stream=True, **INPUT))


def helper(chat: openai.OpenAI) -> object:
    """Ask by the helper that adds a stream up."""
    with chat.responses.stream(**INPUT) as stream:
        return stream.get_final_response().id


def parsing_helper(chat: openai.OpenAI) -> object:
    """Ask by the helper for a response of a given form."""
    with chat.responses.stream(text_format=Answer, **INPUT) as stream:
        stream.until_done()
        return stream.get_final_response().output_parsed


@pytest.mark.parametrize(
    "way",
    [
        create,
        parse,
        raw,
        in_parts,
        beta,
        compact,
        streaming,
        helper,
        parsing_helper,
    ],
    ids=lambda way: way.__name__,
)
def test_every_way_to_a_response_is_observed_once(
    way: Callable[[openai.OpenAI], object],
) -> None:
    """And the caller gets what the bare client gives."""
    chat = client(responding)
    bare = way(chat)

    with observing(chat) as seen:
        captured = way(chat)

    assert type(bare) is type(captured)
    assert bare == captured
    assert [(one.operation_id, one.usage, one.is_complete) for one in seen] == [
        (ID, USAGE, True)
    ]
    assert [(one.flavor, one.model, one.line) for one in seen] == [
        ("responses", "gpt-5-2025-08-07", None)
    ]


def test_a_response_that_is_not_read_to_its_end_is_observed_as_incomplete() -> None:
    """The first event says that it is under way: it costs something all the same."""
    chat = client(responding)

    with observing(chat) as seen:
        stream = chat.responses.create(stream=True, **INPUT)
        next(stream)
        stream.close()

    assert [(one.operation_id, one.is_complete, one.price_pending) for one in seen] == [
        (ID, False, False)
    ]


def background(*states: dict[str, Any]) -> openai.OpenAI:
    """Return a client whose responses run in the background, through some states."""
    answers = iter(states)
    return client(lambda _: answer({"background": True, **next(answers)}))


QUEUED: Final = {**BEGUN, "status": "queued", "background": True}
DONE: Final = {**RESPONSE, "background": True}


def test_a_response_in_the_background_is_its_makers_and_counts_once() -> None:
    """However often it is retrieved, and whatever code does."""
    chat = background(QUEUED, BEGUN, DONE, DONE)

    with Recorded() as tracked:
        outlay.instrument(chat, client=tracked.client)
        try:
            with outlay.attribute(customer_id="cus_maker"):
                chat.responses.create(background=True, **INPUT)
            assert tracked.client.stats().unpriced == 1
            for reader in ("cus_a", "cus_b", "cus_maker"):
                with outlay.attribute(customer_id=reader):
                    chat.responses.retrieve(ID)
        finally:
            outlay.uninstrument(chat)
        event = tracked.only()

    assert event.subject == "cus_maker"
    assert Decimal(ROWS["openai-responses-gpt-5-2025-08-07"].expected["amount"]) == (
        Decimal(event.data["amount"])
    )
    assert tracked.client.stats().unpriced == 0


def test_one_that_another_process_made_is_whoevers_retrieves_it_first() -> None:
    """In a process that did not see it being made, that is the best guess."""
    chat = background(DONE, DONE)

    with Recorded() as tracked:
        outlay.instrument(chat, client=tracked.client)
        try:
            for reader in ("cus_a", "cus_b"):
                with outlay.attribute(customer_id=reader):
                    chat.responses.retrieve(ID)
        finally:
            outlay.uninstrument(chat)

        assert tracked.only().subject == "cus_a"


def test_one_that_was_streamed_in_the_background_counts_once_too() -> None:
    """Its maker saw its end; others may look at it afterwards."""
    parts = [
        {"type": "response.created", "sequence_number": 0, "response": QUEUED},
        {"type": "response.completed", "sequence_number": 1, "response": DONE},
    ]
    answers = iter([streamed(Events(parts, done=False)), answer(DONE)])
    chat = client(lambda _: next(answers))

    with Recorded() as tracked:
        outlay.instrument(chat, client=tracked.client)
        try:
            with outlay.attribute(customer_id="cus_maker"):
                list(chat.responses.create(background=True, stream=True, **INPUT))
            with outlay.attribute(customer_id="cus_reader"):
                chat.responses.retrieve(ID)
        finally:
            outlay.uninstrument(chat)

        assert tracked.only().subject == "cus_maker"


def test_a_stream_in_the_background_that_is_left_waits_for_its_retrieval() -> None:
    """It runs on without its reader."""
    parts = [
        {"type": "response.created", "sequence_number": 0, "response": QUEUED},
        {"type": "response.in_progress", "sequence_number": 1, "response": QUEUED},
    ]
    answers = iter([streamed(Events(parts, done=False)), answer(DONE)])
    chat = client(lambda _: next(answers))

    with Recorded() as tracked:
        outlay.instrument(chat, client=tracked.client)
        try:
            with outlay.attribute(customer_id="cus_maker"):
                stream = chat.responses.create(background=True, stream=True, **INPUT)
                next(stream)
                stream.close()
            assert tracked.client.stats().unpriced == 1
            with outlay.attribute(customer_id="cus_reader"):
                chat.responses.retrieve(ID)
        finally:
            outlay.uninstrument(chat)

        assert tracked.only().subject == "cus_maker"
    assert tracked.client.stats().unpriced == 0


def test_a_response_that_was_made_in_the_foreground_costs_nothing_to_retrieve() -> None:
    """It was counted when it was made."""
    chat = client(lambda _: answer({**RESPONSE, "background": False}))

    with observing(chat) as seen:
        chat.responses.retrieve(ID)

    assert seen == []


def test_a_response_that_is_cancelled_is_observed_with_what_it_used() -> None:
    """Without usage its cost is not known, which is not nothing."""
    chat = background(
        {**DONE, "status": "cancelled"}, {**DONE, "status": "cancelled", "usage": None}
    )

    with observing(chat) as seen:
        chat.responses.cancel(ID)
        chat.responses.cancel(ID)

    assert [(one.usage, one.is_complete) for one in seen] == [
        (USAGE, True),
        ({}, False),
    ]


def test_tools_that_are_charged_apart_have_lines_of_their_own() -> None:
    """What the provider bills, it counts itself."""
    drawing = {
        "input_tokens": 60,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 50},
        "output_tokens": 1000,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": 1000},
        "total_tokens": 1060,
    }
    reported = {
        **RESPONSE,
        "tools": [
            {"type": "web_search"},
            {"type": "image_generation", "model": "gpt-image-1"},
        ],
        "tool_usage": {"web_search": {"num_requests": 3}, "image_gen": drawing},
        "output": [
            {
                "id": f"ws_{number}",
                "type": "web_search_call",
                "status": "completed",
                "action": {"type": kind, "query": WORDS, "url": WORDS},
            }
            for number, kind in enumerate(["search", "search", "open_page"])
        ]
        + [
            {
                "id": "fs_1",
                "type": "file_search_call",
                "status": "completed",
                "queries": [WORDS],
            }
        ],
    }
    counted = {name: value for name, value in reported.items() if name != "tool_usage"}
    answers = iter([reported, counted])
    chat = client(lambda _: answer(next(answers)))

    with observing(chat) as seen:
        create(chat)
        create(chat)

    units = {
        "input_tokens": 60,
        "input_text_tokens": 10,
        "input_image_tokens": 50,
        "output_tokens": 1000,
        "output_text_tokens": 0,
        "output_image_tokens": 1000,
    }
    assert [(one.line, one.model, one.usage) for one in seen if one.line] == [
        ("web_search", "gpt-5-2025-08-07", {"web_searches": 3}),
        ("file_search", "gpt-5-2025-08-07", {"storage_searches": 1}),
        ("image_generation", "gpt-image-1", units),
        ("web_search", "gpt-5-2025-08-07", {"web_searches": 2}),
        ("file_search", "gpt-5-2025-08-07", {"storage_searches": 1}),
    ]
    assert {one.operation_id for one in seen} == {ID}
    assert WORDS not in repr(seen)


def test_tools_that_were_not_charged_have_no_lines() -> None:
    """The provider tells zeros of them; and not every search is billed."""
    nothing = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    searched = {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": WORDS},
    }
    body = {
        **RESPONSE,
        "output": [searched],
        "tool_usage": {"image_gen": nothing, "web_search": {"num_requests": 0}},
    }
    chat = client(lambda _: answer(body))

    with observing(chat) as seen:
        create(chat)

    assert [one.line for one in seen] == [None]


COMPLETION: Final = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1795176000,
    "model": "gpt-3.5-turbo-instruct",
    "choices": [{"index": 0, "text": WORDS, "finish_reason": "stop", "logprobs": None}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
}
EMBEDDINGS: Final = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 1000, "total_tokens": 1000},
}
DECISION: Final = {
    "answers": [],
    "model": "gpt-6-luna",
    "usage": {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1010,
    },
}
DRAWN: Final = {**row("openai-images"), "size": "1024x1024", "quality": "high"}
DRAWN_BY_IMAGE: Final = {
    "created": 1795176000,
    "data": [{"url": f"https://example.com/{WORDS}"}] * 2,
}
DRAWN_AS_SVG: Final = {
    **DRAWN,
    "svg_usage": {
        "model": "gpt-5-mini",
        "input_tokens": 100,
        "output_tokens": 1000,
        "reasoning_tokens": 200,
        "total_tokens": 1100,
    },
}
HEARD: Final = {
    "text": WORDS,
    "usage": {
        "type": "tokens",
        "input_tokens": 100,
        "input_token_details": {"text_tokens": 10, "audio_tokens": 90},
        "output_tokens": 20,
        "total_tokens": 120,
    },
}
SOUND: Final = ("sound.wav", WORDS.encode(), "audio/wav")
PICTURE: Final = ("picture.png", WORDS.encode(), "image/png")
TOKENS: Final = {
    "prompt_tokens": 100,
    "prompt_tokens_details": {"audio_tokens": 90},
    "completion_tokens": 20,
}


def said(api: openai.OpenAI, model: str = "tts-1", **more: Any) -> bytes:
    """Say something."""
    content = api.audio.speech.create(model=model, voice="alloy", input=WORDS, **more)
    return bytes(content.content)


SECONDS: Final = ("audio_seconds", "input_audio_seconds")

CALLS: Final[dict[str, tuple[Any, Callable[[openai.OpenAI], object], Any]]] = {
    "completion": (
        COMPLETION,
        lambda api: api.completions.create(
            model="gpt-3.5-turbo-instruct", prompt=WORDS
        ),
        [("cost.ai.inference", "cmpl-1", None, COMPLETION["usage"], "0.0000215")],
    ),
    "embeddings": (
        EMBEDDINGS,
        lambda api: api.embeddings.create(model="text-embedding-3-small", input=WORDS),
        [("cost.ai.embeddings", None, None, EMBEDDINGS["usage"], "0.00002")],
    ),
    "decisions": (
        DECISION,
        lambda api: api.decisions.create(model="gpt-6-luna", input=WORDS, questions=[]),
        [("cost.ai.inference", None, None, DECISION["usage"], "0.000105")],
    ),
    "image by tokens": (
        DRAWN,
        lambda api: api.images.generate(model="gpt-image-1", prompt=WORDS, n=1),
        [("cost.ai.images", None, None, DRAWN["usage"], "0.16665")],
    ),
    "edited image": (
        row("openai-images-edit"),
        lambda api: api.images.edit(model="gpt-image-1", image=PICTURE, prompt=WORDS),
        [
            (
                "cost.ai.images",
                None,
                None,
                row("openai-images-edit")["usage"],
                ROWS["openai-images-edit"].expected["amount"],
            )
        ],
    ),
    "image with drawing instructions": (
        DRAWN_AS_SVG,
        lambda api: api.images.generate(model="gpt-image-1", prompt=WORDS),
        [
            ("cost.ai.images", None, None, DRAWN["usage"], "0.16665"),
            (
                "cost.ai.images",
                None,
                "svg",
                {
                    "input_tokens": 100,
                    "output_tokens": 1000,
                    "output_reasoning_tokens": 200,
                },
                "0.002025",
            ),
        ],
    ),
    "images by size and quality": (
        DRAWN_BY_IMAGE,
        lambda api: api.images.generate(
            model="dall-e-3", prompt=WORDS, n=2, size="1024x1024", quality="hd"
        ),
        [
            (
                "cost.ai.images",
                None,
                None,
                {"image": 2, "image/1024x1024": 2, "image/1024x1024/hd": 2},
                None,
            )
        ],
    ),
    "transcription by tokens": (
        HEARD,
        lambda api: api.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=SOUND
        ),
        # 90 x 6.00 + 10 x 2.50 + 20 x 10.00 per million
        [("cost.ai.audio", None, None, TOKENS, "0.000765")],
    ),
    "transcription by the second": (
        {"text": WORDS, "usage": {"type": "duration", "seconds": 90}},
        lambda api: api.audio.transcriptions.create(model="whisper-1", file=SOUND),
        [("cost.ai.audio", None, None, dict.fromkeys(SECONDS, Decimal(90)), "0.009")],
    ),
    "translation by its duration": (
        {
            "text": WORDS,
            "duration": 8.5,
            "language": "en",
            "segments": [],
            "task": "translate",
        },
        lambda api: api.audio.translations.create(
            model="whisper-1", file=SOUND, response_format="verbose_json"
        ),
        [
            (
                "cost.ai.audio",
                None,
                None,
                dict.fromkeys(SECONDS, Decimal("8.5")),
                "0.00085",
            )
        ],
    ),
    "speech by characters": (
        WORDS.encode(),
        said,
        [("cost.ai.audio", None, None, {"input_characters": 18}, "0.00027")],
    ),
    "speech that is charged by tokens which no response tells": (
        WORDS.encode(),
        lambda api: said(api, "gpt-4o-mini-tts"),
        [("cost.ai.audio", None, None, {"input_characters": 18}, None)],
    ),
    "moderation": (
        {"id": "modr-1", "model": "omni-moderation-latest", "results": []},
        lambda api: api.moderations.create(input=WORDS),
        [],
    ),
}


def returning(body: Any) -> Callable[[httpx2.Request], httpx2.Response]:
    """Return what answers with JSON, or with bytes."""
    if isinstance(body, bytes):
        headers = {"content-type": "audio/mpeg"}
        return lambda _: httpx2.Response(200, content=body, headers=headers)
    return lambda _: answer(body)


# The library calls translations so.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", CALLS)
def test_each_endpoint_is_observed_with_what_it_reports(name: str) -> None:
    """Numbers, names and ids: never what was said, heard or drawn."""
    body, call, expected = CALLS[name]
    api = client(returning(body))
    bare = call(api)

    with observing(api) as seen:
        captured = call(api)

    assert bare == captured
    assert [
        (one.event_type, one.operation_id, one.line, one.usage) for one in seen
    ] == [facts[:-1] for facts in expected]
    assert all(one.is_complete for one in seen)
    assert WORDS not in repr(seen)


# The library calls translations so.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", CALLS)
def test_each_endpoint_is_priced_or_waits_for_a_price(name: str) -> None:
    """To the last digit; what the list does not know is neither zero nor a guess."""
    body, call, expected = CALLS[name]
    api = client(returning(body))

    with Recorded() as tracked:
        outlay.instrument(api, client=tracked.client)
        try:
            call(api)
        finally:
            outlay.uninstrument(api)
        events = tracked.events()
        waiting = tracked.client.stats().unpriced

    amounts = [facts[-1] for facts in expected]
    assert [Decimal(amount) for amount in amounts if amount] == [
        Decimal(event.data["amount"]) for event in events
    ]
    assert amounts.count(None) == waiting


def test_images_are_priced_by_size_and_quality_where_the_book_has_such_prices() -> None:
    """And at the price of any image where it has not."""
    body, call, _ = CALLS["images by size and quality"]
    api = client(returning(body))
    with observing(api) as seen:
        call(api)
    shapes = {
        "any": {"image": "0.04"},
        "size": {"image": "0.04", "image/1024x1024": "0.05"},
        "quality": {
            "image": "0.04",
            "image/1024x1024": "0.05",
            "image/1024x1024/hd": "0.08",
        },
        "other": {"image/1792x1024": "0.12"},
    }
    amounts = {}
    for name, units in shapes.items():
        row = {"provider": "openai", "from": "2026-01-01", "units": units}
        price = PriceBook([Entry.model_validate(row)]).price(seen[0], WHEN)
        amounts[name] = getattr(price, "amount", None)

    assert amounts == {
        "any": Decimal("0.08"),
        "size": Decimal("0.1"),
        "quality": Decimal("0.16"),
        "other": None,
    }


def test_streams_of_sound_and_pictures_are_observed_with_what_they_report() -> None:
    """The usage comes with the last event."""
    usage = {"input_tokens": 9, "output_tokens": 300, "total_tokens": 309}
    heard = [
        {"type": "transcript.text.delta", "delta": WORDS},
        {"type": "transcript.text.done", "text": WORDS, "usage": HEARD["usage"]},
    ]
    drawn = [
        {"type": "image_generation.partial_image", "b64_json": WORDS},
        {"type": "image_generation.completed", "b64_json": "", **row("openai-images")},
    ]
    spoken = [
        {"type": "speech.audio.delta", "audio": WORDS},
        {"type": "speech.audio.done", "usage": usage},
    ]
    bodies: Iterator[Any] = iter([heard, drawn, spoken])
    api = client(lambda _: streamed(Events(next(bodies), done=False)))

    with observing(api) as seen:
        list(
            api.audio.transcriptions.create(
                model="gpt-4o-transcribe", file=SOUND, stream=True
            )
        )
        list(api.images.generate(model="gpt-image-1", prompt=WORDS, stream=True))
        said(api, "gpt-4o-mini-tts", stream_format="sse")

    assert [(one.usage, one.is_complete, one.model) for one in seen] == [
        (TOKENS, True, "gpt-4o-transcribe"),
        (row("openai-images")["usage"], True, "gpt-image-1"),
        ({"input_tokens": 9, "output_tokens": 300}, True, "gpt-4o-mini-tts"),
    ]


def test_sound_is_not_held_back() -> None:
    """Where the request alone is charged, the answer is private."""

    class Sound(httpx2.SyncByteStream):
        def __init__(self) -> None:
            self.sent = 0

        def __iter__(self) -> Iterator[bytes]:
            for _ in range(3):
                self.sent += 1
                yield b"sound"

    body = Sound()
    api = client(
        lambda _: httpx2.Response(
            200, stream=body, headers={"content-type": "audio/mpeg"}
        )
    )
    speaking = api.audio.speech.with_streaming_response.create

    with (
        observing(api) as seen,
        speaking(model="tts-1", voice="alloy", input=WORDS) as response,
    ):
        assert len(seen) == 1
        for number, _ in enumerate(response.iter_bytes(), 1):
            assert number == body.sent


@pytest.mark.parametrize(
    ("tier", "amount"),
    [
        pytest.param("default", "0.0022500", id="default"),
        pytest.param("flex", "0.001125", id="flex"),
        pytest.param("priority", "0.0045", id="priority"),
        pytest.param("scale", None, id="one without a price"),
    ],
)
def test_the_service_tier_that_answered_makes_the_price(
    tier: str, amount: str | None
) -> None:
    """Not the one that was asked for."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-5-2025-08-07",
        "choices": [],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
        "service_tier": tier,
    }
    chat = client(lambda _: answer(body))

    with Recorded() as tracked:
        outlay.instrument(chat, client=tracked.client)
        try:
            chat.chat.completions.create(service_tier="auto", **ASKED)
        finally:
            outlay.uninstrument(chat)
        events = tracked.events()

    expected = [] if amount is None else [Decimal(amount)]
    assert expected == [Decimal(event.data["amount"]) for event in events]
    assert tier == "default" or all(e.data["serviceTier"] == tier for e in events)


@pytest.mark.parametrize("model", [7, ["gpt-4o"], {"name": WORDS}, None])
def test_a_model_that_is_no_name_leaves_its_cost_unpriced(model: Any) -> None:
    """A cost is a cost: it waits for a person to say what it was."""
    body = {
        "id": "chatcmpl-1",
        "model": model,
        "choices": [],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1},
    }
    chat = client(lambda _: answer(body))

    with observing(chat) as seen:
        chat.chat.completions.create(**{**ASKED, "model": "gpt-4o"})

    [observed] = seen
    assert observed.model == ("gpt-4o" if model is None else None)
    assert observed.usage == body["usage"]
