"""Google's library: what its calls cost, whichever way they are made."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, Final

import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

import outlay
from outlay._capture.observation import Observation
from outlay._capture.providers.google import LIBRARY
from outlay.testing import RecordingClient
from tests.capture.providers.api import WORDS, ProviderApi, Scripted, events
from tests.support.responses import Recorded, recorded

if TYPE_CHECKING:
    from tests.capture.providers.conftest import Capture

pytestmark = pytest.mark.filterwarnings(
    # google-genai's own: it subclasses what aiohttp would rather not have subclassed.
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
)

USAGE: Final = {
    "promptTokenCount": 12,
    "candidatesTokenCount": 30,
    "thoughtsTokenCount": 5,
    "totalTokenCount": 47,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 12}],
}


def answer(**changes: Any) -> dict[str, Any]:
    """Return generated content, in the API's own shape."""
    return {
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": WORDS}]},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": USAGE,
        "modelVersion": "gemini-2.5-flash",
        "responseId": "wK9zaJ2GM8",
        **changes,
    }


def observed(**changes: Any) -> Observation:
    """Return what is observed of `answer`."""
    return Observation(
        **{
            "provider": "google",
            "event_type": "cost.ai.inference",
            "operation_id": "wK9zaJ2GM8",
            "model": "gemini-2.5-flash",
            "flavor": "default",
            "usage": USAGE,
            **changes,
        }
    )


def client_of(api: ProviderApi, **options: Any) -> genai.Client:
    """Return a client that knows only ``api``."""
    return genai.Client(
        **{"api_key": "test", **options},
        http_options=types.HttpOptions(
            httpx_client=api.client2(), httpx_async_client=api.async_client2()
        ),
    )


ROWS: Final = [
    row
    for row in recorded("google-")
    if row.request.endswith(":generateContent") and "batch" not in row.name
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_recorded_response_is_observed(row: Recorded, capture: Capture) -> None:
    """What the table says is what the library's calls are seen as."""
    client = client_of(ProviderApi(Scripted(row.response)))
    with capture(LIBRARY, client) as seen:
        client.models.generate_content(model="gemini-alias", contents=WORDS)

    assert seen == [row.observed]


def test_the_answer_is_what_it_is_without_capture(capture: Capture) -> None:
    """The caller gets the library's own object, whole."""
    bare = client_of(ProviderApi(Scripted(answer())))
    expected = bare.models.generate_content(model="gemini-2.5-flash", contents=WORDS)
    client = client_of(ProviderApi(Scripted(answer())))
    with capture(LIBRARY, client):
        got = client.models.generate_content(model="gemini-2.5-flash", contents=WORDS)

    assert type(got) is type(expected)
    assert got.text == expected.text == WORDS


def test_other_clients_are_left_alone(capture: Capture) -> None:
    """One client is instrumented, not all of them."""
    client, other = (client_of(ProviderApi(Scripted(answer()))) for _ in range(2))
    with capture(LIBRARY, client) as seen:
        other.models.generate_content(model="gemini-2.5-flash", contents=WORDS)

    assert seen == []


def test_all_clients_can_be_captured(capture: Capture) -> None:
    """Those of before, and those that are made after."""
    before = client_of(ProviderApi(Scripted(answer())))
    with capture(LIBRARY) as seen:
        after = client_of(ProviderApi(Scripted(answer())))
        for client in (before, after):
            client.models.generate_content(model="gemini-2.5-flash", contents=WORDS)

    assert seen == [observed()] * 2


def test_released_the_library_is_as_it_was(capture: Capture) -> None:
    """No trace stays."""
    owner = genai._api_client.BaseApiClient
    names = (
        "request",
        "async_request",
        "request_streamed",
        "async_request_streamed",
    )
    before = [vars(owner)[name] for name in names]
    with capture(LIBRARY):
        hooked = [vars(owner)[name] for name in names]
        assert not set(hooked) & set(before)

    assert [vars(owner)[name] for name in names] == before


async def call_async(client: genai.Client) -> None:
    """Make a call, and give the connection back."""
    await client.aio.models.generate_content(model="gemini-2.5-flash", contents=WORDS)
    await client.aio.aclose()


def test_asynchronous_calls_are_observed(capture: Capture) -> None:
    """As the others."""
    client = client_of(ProviderApi(Scripted(answer())))
    with capture(LIBRARY, client) as seen:
        asyncio.run(call_async(client))

    assert seen == [observed()]


def test_every_request_of_automatic_function_calling_is_observed(
    capture: Capture,
) -> None:
    """The caller sees the last answer only, and pays for all of them."""
    asks = answer(
        responseId="first",
        candidates=[
            {
                "content": {
                    "role": "model",
                    "parts": [{"functionCall": {"name": "weather", "args": {}}}],
                }
            }
        ],
    )

    def weather() -> str:
        """Tell the weather."""
        return "fair"

    client = client_of(ProviderApi(Scripted(asks), Scripted(answer())))
    with capture(LIBRARY, client) as seen:
        client.models.generate_content(
            model="gemini-2.5-flash",
            contents=WORDS,
            config=types.GenerateContentConfig(tools=[weather]),
        )

    assert seen == [observed(operation_id="first"), observed()]


def test_chats_are_observed(capture: Capture) -> None:
    """They go the same way."""
    client = client_of(ProviderApi(Scripted(answer())))
    with capture(LIBRARY, client) as seen:
        client.chats.create(model="gemini-2.5-flash").send_message(WORDS)

    assert seen == [observed()]


def parts() -> Scripted:
    """Return a stream whose usage grows."""
    first = answer(usageMetadata={"promptTokenCount": 12})
    first["candidates"][0].pop("finishReason")
    return events(first, answer())


def test_a_stream_is_observed_once_at_its_end(capture: Capture) -> None:
    """By the usage of its last part."""
    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        stream = client.models.generate_content_stream(
            model="gemini-2.5-flash", contents=WORDS
        )
        texts = [next(stream).text]
        assert seen == []
        texts += [part.text for part in stream]

    assert texts == [WORDS, WORDS]
    assert seen == [observed()]


def test_an_asynchronous_stream_is_observed_once(capture: Capture) -> None:
    """As the others."""

    async def read(client: genai.Client) -> int:
        stream = await client.aio.models.generate_content_stream(
            model="gemini-2.5-flash", contents=WORDS
        )
        count = len([part async for part in stream])
        await client.aio.aclose()
        return count

    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        assert asyncio.run(read(client)) == 2

    assert seen == [observed()]


def test_a_stream_that_is_given_up_is_incomplete(capture: Capture) -> None:
    """Its usage so far is known, and is not its price."""
    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        stream = client.models.generate_content_stream(
            model="gemini-2.5-flash", contents=WORDS
        )
        next(stream)
        del stream
        gc.collect()

    assert seen == [observed(usage={"promptTokenCount": 12}, is_complete=False)]


def test_an_error_costs_nothing(capture: Capture) -> None:
    """And is the caller's, as it is."""
    refused = Scripted({"error": {"code": 429, "message": WORDS}}, status=429)
    client = client_of(ProviderApi(refused))
    with capture(LIBRARY, client) as seen, pytest.raises(errors.ClientError):
        client.models.generate_content(model="gemini-2.5-flash", contents=WORDS)

    assert seen == []


def test_counting_tokens_is_free(capture: Capture) -> None:
    """Whatever has no extractor is not observed."""
    client = client_of(ProviderApi(Scripted({"totalTokens": 4})))
    with capture(LIBRARY, client) as seen:
        client.models.count_tokens(model="gemini-2.5-flash", contents=WORDS)

    assert seen == []


@pytest.mark.parametrize(
    ("model", "searches"),
    [("gemini-2.5-flash", 1), ("gemini-3.5-flash", 2)],
    ids=["by-the-prompt", "by-the-query"],
)
def test_searches_are_a_line_of_their_own(
    model: str, searches: int, capture: Capture
) -> None:
    """They are charged by distinct queries; what was searched for is not kept."""
    grounded = answer(modelVersion=model)
    grounded["candidates"][0]["groundingMetadata"] = {
        "webSearchQueries": [WORDS, "another", WORDS, ""]
    }
    client = client_of(ProviderApi(Scripted(grounded)))
    with capture(LIBRARY, client) as seen:
        client.models.generate_content(model=model, contents=WORDS)

    assert seen == [
        observed(model=model),
        observed(
            model=model,
            line="web_search",
            flavor=None,
            usage={"web_searches": searches},
        ),
    ]


@pytest.mark.parametrize(
    ("model", "contradiction"),
    [
        ("gemini-2.5-flash", None),
        ("gemini-3-flash-preview", "the number of queries of maps is not known"),
    ],
)
def test_maps_are_a_line_of_their_own(
    model: str, contradiction: str | None, capture: Capture
) -> None:
    """They cost by the prompt; from Gemini 3 on by the query, which is not reported."""
    grounded = answer(modelVersion=model)
    place = {"maps": {"placeId": "places/1", "title": WORDS}}
    grounded["candidates"][0]["groundingMetadata"] = {"groundingChunks": [place, place]}
    client = client_of(ProviderApi(Scripted(grounded)))
    with capture(LIBRARY, client) as seen:
        client.models.generate_content(model=model, contents=WORDS)

    assert seen[1:] == [
        observed(
            model=model,
            line="google_maps",
            flavor=None,
            usage={"map_search": 1},
            contradiction=contradiction,
        ),
    ]


def test_embeddings_are_observed_by_the_model_asked_for(capture: Capture) -> None:
    """Their answer names neither a model nor itself."""
    body = {
        "embeddings": [{"values": [0.25]}],
        "usageMetadata": {"promptTokenCount": 7},
    }
    client = client_of(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        client.models.embed_content(model="gemini-embedding-001", contents=WORDS)

    assert seen == [
        observed(
            event_type="cost.ai.embeddings",
            operation_id=None,
            model="gemini-embedding-001",
            usage={"promptTokenCount": 7},
        )
    ]


def vertex(api: ProviderApi) -> genai.Client:
    """Return a client of Vertex AI in Belgium."""
    return client_of(
        api,
        api_key=None,
        vertexai=True,
        project="p",
        location="europe-west1",
        credentials=Credentials("token"),  # type: ignore[no-untyped-call]  # theirs
    )


def test_vertex_tells_region_and_tier(capture: Capture) -> None:
    """Both change the price."""
    usage = {**USAGE, "trafficType": "ON_DEMAND_PRIORITY"}
    client = vertex(ProviderApi(Scripted(answer(usageMetadata=usage))))
    with capture(LIBRARY, client) as seen:
        client.models.generate_content(model="gemini-2.5-flash", contents=WORDS)

    assert seen == [
        observed(region="europe-west1", endpoint="regional", service_tier="priority")
    ]


@pytest.mark.filterwarnings("ignore:The generate_images method is deprecated")
def test_images_that_were_made_are_counted(capture: Capture) -> None:
    """Those held back are free."""
    body = {
        "predictions": [
            {"mimeType": "image/png", "bytesBase64Encoded": "AAAA"},
            {"raiFilteredReason": WORDS},
        ]
    }
    client = vertex(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        client.models.generate_images(model="imagen-4.0-generate-001", prompt=WORDS)

    assert seen == [
        observed(
            event_type="cost.ai.images",
            operation_id=None,
            model="imagen-4.0-generate-001",
            region="europe-west1",
            flavor=None,
            usage={"image": 1},
        )
    ]


def test_interactions_are_observed(capture: Capture) -> None:
    """They come from a client of their own within the library."""
    body = {
        "id": "int_1",
        "model": "gemini-3.5-flash",
        "status": "completed",
        "usage": {
            "total_input_tokens": 12,
            "total_output_tokens": 30,
            "total_thought_tokens": 5,
            "total_tokens": 47,
            "input_tokens_by_modality": [{"modality": "text", "tokens": 12}],
            "grounding_tool_count": [{"type": "google_search", "count": 2}],
        },
    }
    client = client_of(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        client.interactions.create(model="gemini-3.5-flash", input=WORDS)

    assert seen == [
        observed(
            operation_id="int_1",
            model="gemini-3.5-flash",
            usage={name: USAGE[name] for name in USAGE if name != "totalTokenCount"},
        ),
        observed(
            operation_id="int_1",
            model="gemini-3.5-flash",
            line="google_search",
            flavor=None,
            usage={"web_searches": 2},
        ),
    ]


def test_an_answer_without_usage_is_incomplete(capture: Capture) -> None:
    """A call that was answered has cost something: zero would be made up."""
    body = answer()
    del body["usageMetadata"]
    client = client_of(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        client.models.generate_content(model="gemini-2.5-flash", contents=WORDS)

    assert seen == [observed(usage={}, is_complete=False)]


@pytest.mark.parametrize(
    ("told", "tier"),
    [
        ({"serviceTier": "PRIORITY"}, "priority"),
        ({"serviceTier": "standard"}, None),
        ({"trafficType": "ON_DEMAND"}, None),
        ({"trafficType": "ON_DEMAND_FLEX"}, "flex"),
        ({"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned_throughput"),
    ],
    ids=lambda told: "-".join(told.values()) if isinstance(told, dict) else str(told),
)
def test_the_tier_that_served_a_call_is_told(
    told: dict[str, str], tier: str | None, capture: Capture
) -> None:
    """The Gemini API and Vertex AI say it in words of their own."""
    client = client_of(ProviderApi(Scripted(answer(usageMetadata={**USAGE, **told}))))
    with capture(LIBRARY, client) as seen:
        client.models.generate_content(model="gemini-2.5-flash", contents=WORDS)

    assert seen == [observed(service_tier=tier)]


def test_a_stream_tells_its_searches_once(capture: Capture) -> None:
    """Each part repeats those of the whole answer so far."""
    first, last = answer(), answer()
    first["candidates"][0].pop("finishReason")
    for part, queries in ((first, [WORDS]), (last, [WORDS, "or not to be"])):
        part["modelVersion"] = "gemini-3.5-flash"
        grounding = {"webSearchQueries": queries}
        part["candidates"][0]["groundingMetadata"] = grounding
    client = client_of(ProviderApi(events(first, last)))
    with capture(LIBRARY, client) as seen:
        list(
            client.models.generate_content_stream(
                model="gemini-3.5-flash", contents=WORDS
            )
        )

    assert [each.usage for each in seen] == [USAGE, {"web_searches": 2}]


def test_a_stream_is_complete_with_its_last_part(capture: Capture) -> None:
    """Many readers stop at the reason to finish, and never ask for the end."""
    client = client_of(ProviderApi(parts()))
    with capture(LIBRARY, client) as seen:
        stream = client.models.generate_content_stream(
            model="gemini-2.5-flash", contents=WORDS
        )
        next(stream)
        next(stream)
        del stream
        gc.collect()

    assert seen == [observed()]


def test_a_stream_without_a_reason_to_finish_is_complete_at_its_end(
    capture: Capture,
) -> None:
    """A prompt that is blocked gets no candidate, and its tokens are charged."""
    blocked = answer(promptFeedback={"blockReason": "SAFETY"})
    del blocked["candidates"]
    client = client_of(ProviderApi(events(blocked)))
    with capture(LIBRARY, client) as seen:
        list(
            client.models.generate_content_stream(
                model="gemini-2.5-flash", contents=WORDS
            )
        )

    assert seen == [observed()]


def test_an_error_in_the_midst_of_a_stream_leaves_what_is_known(
    capture: Capture,
) -> None:
    """The caller gets the library's own error."""
    broken = events({**answer(), "candidates": []})
    broken.body.append(b'data: {"error": {"code": 500, "message": "%s"}}\n\n' % b"x")
    client = client_of(ProviderApi(broken))
    with capture(LIBRARY, client) as seen, pytest.raises(errors.APIError):
        list(
            client.models.generate_content_stream(
                model="gemini-2.5-flash", contents=WORDS
            )
        )

    assert seen == [observed(is_complete=False)]


def test_embeddings_of_vertex_are_added_up(capture: Capture) -> None:
    """It counts the tokens of each text, with a decimal point or without."""
    counts = [{"token_count": 4.0, "truncated": False}, {"token_count": 3}]
    body = {
        "predictions": [
            {"embeddings": {"values": [0.5], "statistics": each}} for each in counts
        ]
    }
    client = vertex(ProviderApi(Scripted(body)))
    with capture(LIBRARY, client) as seen:
        texts: list[Any] = [WORDS, WORDS]
        client.models.embed_content(model="text-embedding-005", contents=texts)

    assert seen == [
        observed(
            event_type="cost.ai.embeddings",
            operation_id=None,
            model="text-embedding-005",
            region="europe-west1",
            usage={"promptTokenCount": 7},
        )
    ]


def interaction(**changes: Any) -> dict[str, Any]:
    """Return an interaction that has ended."""
    usage = {
        "total_input_tokens": 12,
        "total_cached_tokens": 4,
        "total_tool_use_tokens": 3,
        "total_output_tokens": 30,
        "cached_tokens_by_modality": [{"modality": "audio", "tokens": 4}],
    }
    body = {"id": "int_1", "model": "gemini-3.5-flash", "status": "completed"}
    return {**body, "usage": usage, **changes}


INTERACTED: Final = observed(
    operation_id="int_1",
    model="gemini-3.5-flash",
    usage={
        "promptTokenCount": 12,
        "cachedContentTokenCount": 4,
        "toolUsePromptTokenCount": 3,
        "candidatesTokenCount": 30,
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}],
    },
)


def test_a_streamed_interaction_is_observed_once(capture: Capture) -> None:
    """Its last event has all of it."""
    begun = {"id": "int_1", "model": "gemini-3.5-flash", "status": "in_progress"}
    said = {"event_type": "content.delta", "index": 0, "delta": {"text": WORDS}}
    client = client_of(
        ProviderApi(
            events(
                {"event_type": "interaction.start", "interaction": begun},
                {**said, "delta": {"type": "text", "text": WORDS}},
                {"event_type": "interaction.completed", "interaction": interaction()},
            )
        )
    )
    with capture(LIBRARY, client) as seen:
        stream = client.interactions.create(
            model="gemini-3.5-flash", input=WORDS, stream=True
        )
        assert len(list(stream)) == 3

    assert seen == [INTERACTED]


def test_an_interaction_in_the_background_is_observed_when_it_is_retrieved(
    capture: Capture,
) -> None:
    """Not while it runs; and what ran in the foreground was observed when made."""
    api = ProviderApi(
        Scripted(interaction(status="in_progress", background=True, usage=None)),
        Scripted(interaction(status="in_progress", background=True, usage=None)),
        Scripted(interaction(background=True)),
        Scripted(interaction()),
    )
    client = client_of(api)
    counts = []
    with capture(LIBRARY, client) as seen:
        client.interactions.create(
            model="gemini-3.5-flash", input=WORDS, background=True
        )
        for _ in range(3):
            counts.append(len(seen))
            client.interactions.get("int_1")

    assert counts == [0, 0, 1]
    assert seen == [INTERACTED]


def test_asynchronous_interactions_are_observed(capture: Capture) -> None:
    """They go through a client of their own, too."""

    async def interact(client: genai.Client) -> None:
        await client.aio.interactions.create(model="gemini-3.5-flash", input=WORDS)
        await client.aio.aclose()

    client = client_of(ProviderApi(Scripted(interaction())))
    with capture(LIBRARY, client) as seen:
        asyncio.run(interact(client))

    assert seen == [INTERACTED]


def test_a_call_is_tracked_through_the_public_door() -> None:
    """From the provider's answer to the event, to the last digit."""
    client = client_of(ProviderApi(Scripted(answer())))
    with RecordingClient() as tracker:
        assert outlay.instrument(client, client=tracker) is client
        with outlay.attribute(customer_id="cus_1"):
            client.models.generate_content(model="gemini-2.5-flash", contents=WORDS)
        outlay.uninstrument(client)

    # 12 in at 0.30, and 30 and 5 thought at 2.50, each for a million.
    tracker.costs.assert_total(
        "0.0000911", customer="cus_1", provider="google", operation_id="wK9zaJ2GM8"
    )
