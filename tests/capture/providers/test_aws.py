"""Bedrock by way of botocore: what calls cost, however they are made and read."""

from __future__ import annotations

import gc
import io
import json
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from botocore.client import BaseClient  # type: ignore[import-untyped]
from botocore.eventstream import EventStream  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    ClientError,
    EventStreamError,
    IncompleteReadError,
    ResponseStreamingError,
)
from botocore.response import StreamingBody  # type: ignore[import-untyped]

import outlay
from outlay._capture.extraction.registry import _routes
from outlay._capture.providers.aws import LIBRARY
from tests.capture.providers.amazon import (
    REGION,
    Answer,
    Service,
    conversed,
    failed,
    invoked,
)
from tests.capture.providers.api import ProviderApi, Scripted
from tests.support.observing import observing
from tests.support.recorded import Recorded as Tracked
from tests.support.responses import Recorded, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.capture.providers.conftest import Capture

WORDS: Final = "to be or not to be"
HAIKU: Final = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
LLAMA: Final = "meta.llama3-3-70b-instruct-v1:0"
ASKED: Final[Any] = {
    "modelId": HAIKU,
    "messages": [{"role": "user", "content": [{"text": WORDS}]}],
}
TOKENS: Final = {"inputTokens": 512, "outputTokens": 20, "totalTokens": 532}
CONVERSED: Final = {
    "output": {"message": {"role": "assistant", "content": [{"text": WORDS}]}},
    "stopReason": "end_turn",
    "usage": TOKENS,
    "metrics": {"latencyMs": 1275},
}
USAGE: Final = {"input_tokens": 512, "output_tokens": 20}
MESSAGE: Final = {
    "id": "msg_bdrk_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [{"type": "text", "text": WORDS}],
    "usage": USAGE,
}
OBSERVED: Final = outlay.extractors.Observation(
    provider="aws",
    event_type="cost.ai.inference",
    operation_id="req-1",
    model=HAIKU,
    region=REGION,
    flavor="default",
    usage=TOKENS,
)
INVOKED: Final = msgspec.structs.replace(OBSERVED, flavor="anthropic", usage=USAGE)


def bedrock(*answers: Answer) -> Any:
    """Return a client that gets these answers."""
    return Service(*answers).client("bedrock-runtime")


def converse(client: Any, **more: Any) -> Any:
    """Ask, in the shape that all models have in common."""
    return client.converse(**{**ASKED, **more})


def invoke(client: Any, model: str = HAIKU, sent: Any = None) -> Any:
    """Ask, in a model's own shape."""
    return client.invoke_model(modelId=model, body=json.dumps(sent or {"q": WORDS}))


@pytest.mark.parametrize("row", recorded("bedrock-"), ids=lambda row: row.name)
def test_a_recorded_response_is_observed(row: Recorded, capture: Capture) -> None:
    """What the table says is what the library's calls are seen as."""
    told = dict(row.response)
    facts = told.pop("ResponseMetadata", {"RequestId": row.observed.operation_id})
    body = msgspec.json.Encoder(decimal_format="number").encode(told)
    client = bedrock(Answer(body, row.headers, request_id=facts["RequestId"]))
    _, model, operation = urlsplit(row.request.partition(" ")[2]).path.split("/")[1:]
    with capture(LIBRARY, client) as seen:
        if operation == "converse":
            converse(client, modelId=unquote(model))
        else:
            invoke(client, unquote(model))["body"].read()

    assert seen == [row.observed]


def test_a_conversation_is_observed(capture: Capture) -> None:
    """And the caller gets what the service answered."""
    client = bedrock(Answer(CONVERSED))
    with capture(LIBRARY, client) as seen:
        answer = converse(client)

    assert answer["output"] == CONVERSED["output"]
    assert seen == [OBSERVED]


# Ways to read a body: what is returned is all of it.


def at_once(body: Any) -> bytes:
    """Read all."""
    whole: bytes = body.read()
    return whole


def in_parts(body: Any) -> bytes:
    """Read until nothing comes."""
    return b"".join(iter(lambda: body.read(7), b""))


def in_chunks(body: Any) -> bytes:
    """Iterate over parts of a size."""
    return b"".join(body.iter_chunks(7))


def by_iterating(body: Any) -> bytes:
    """Iterate."""
    return b"".join(body)


def by_next(body: Any) -> bytes:
    """Read part by part."""
    return b"".join(iter(lambda: next(body, b""), b""))


def in_lines(body: Any) -> bytes:
    """Iterate over lines; there is one."""
    return b"".join(body.iter_lines(7))


def all_lines(body: Any) -> bytes:
    """Read all lines."""
    return b"".join(body.readlines())


def into_a_buffer(body: Any) -> bytes:
    """Read into a buffer of one's own."""
    buffer, whole = bytearray(7), bytearray()
    while count := body.readinto(buffer):
        whole += buffer[:count]
    return bytes(whole)


def in_a_block(body: Any) -> bytes:
    """Read what ``with`` gives."""
    with body as raw:
        whole: bytes = raw.read()
    return whole


def as_raw_stream(body: Any) -> bytes:
    """Read what ``with`` gives, part by part."""
    with body as raw:
        return b"".join(raw.stream(7))


def as_raw_lines(body: Any) -> bytes:
    """Iterate over what ``with`` gives."""
    with body as raw:
        return b"".join(raw)


def nothing_first(body: Any) -> bytes:
    """Read no byte, then all: no byte is not the end."""
    assert body.read(0) == b""
    whole: bytes = body.read(-1)
    return whole


def by_its_length(body: Any) -> bytes:
    """Read as much as there is, and close it."""
    whole: bytes = body.read(len(json.dumps(MESSAGE)))
    body.close()
    return whole


WAYS: Final = (
    at_once,
    in_parts,
    in_chunks,
    by_iterating,
    by_next,
    in_lines,
    all_lines,
    into_a_buffer,
    in_a_block,
    as_raw_stream,
    as_raw_lines,
    nothing_first,
    by_its_length,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_body_reads_as_ever_and_is_observed_once(
    way: Callable[[Any], bytes], capture: Capture
) -> None:
    """Not before it was read, for it is not ours to read."""
    client = bedrock(Answer(MESSAGE))
    with capture(LIBRARY, client) as seen:
        body = invoke(client)["body"]
        assert (type(body), seen) == (StreamingBody, [])
        whole = way(body)
        assert seen == [INVOKED]
        body.close()
        del body

    assert json.loads(whole) == MESSAGE
    assert seen == [INVOKED]


@pytest.mark.parametrize("give_up", ["close", "forget", "part"])
def test_a_body_that_was_not_read_is_incomplete(give_up: str, capture: Capture) -> None:
    """Headers do not tell of cached tokens: their counts would be a guess."""
    headers = {
        "x-amzn-bedrock-input-token-count": "512",
        "x-amzn-bedrock-output-token-count": "20",
    }
    client = bedrock(Answer(MESSAGE, headers))
    with capture(LIBRARY, client) as seen:
        body = invoke(client)["body"]
        if give_up == "part":
            body.read(7)
        if give_up == "close":
            body.close()
        del body

    assert [(each.operation_id, each.is_complete) for each in seen] == [
        ("req-1", False)
    ]


class Broken(io.RawIOBase):
    """A connection that breaks where it is read."""

    def readable(self) -> bool:
        """Seem well."""
        return True

    def readinto(self, _buffer: object) -> int:
        """Break."""
        raise ConnectionResetError


def test_a_body_that_cannot_be_read_raises_as_ever(capture: Capture) -> None:
    """And is settled there and then."""
    client = bedrock(Answer(Broken(), {"content-length": "100"}))
    with capture(LIBRARY, client) as seen:
        body = invoke(client)["body"]
        with pytest.raises(ResponseStreamingError):
            body.read()
        assert [each.is_complete for each in seen] == [False]
        body.close()

    assert len(seen) == 1


def test_a_body_that_breaks_off_raises_as_ever(capture: Capture) -> None:
    """What was used is not known then."""
    client = bedrock(Answer(MESSAGE, {"content-length": "100000"}))
    with capture(LIBRARY, client) as seen:
        body = invoke(client)["body"]
        with pytest.raises(IncompleteReadError):
            body.read()

    assert len(seen) == 1


def test_a_body_keeps_what_else_it_has(capture: Capture) -> None:
    """Where it is, whether it can be read."""
    client = bedrock(Answer(MESSAGE))
    with capture(LIBRARY, client):
        body = invoke(client)["body"]
        body.read(7)

        assert (body.tell(), body.readable()) == (7, True)


COUNTS: Final = {
    "x-amzn-bedrock-input-token-count": "512",
    "x-amzn-bedrock-output-token-count": "20",
}
COUNTED: Final = {"input_tokens": 512, "output_tokens": 20}
NOVA: Final = "amazon.nova-pro-v1:0"
TITAN: Final = "amazon.titan-text-express-v1"
EMBED: Final = "amazon.titan-embed-text-v2:0"


@pytest.mark.parametrize(
    ("model", "body", "headers", "usage"),
    [
        pytest.param(
            LLAMA,
            {
                "generation": WORDS,
                "prompt_token_count": 512,
                "generation_token_count": 20,
            },
            {},
            COUNTED,
            id="llama",
        ),
        pytest.param(
            TITAN,
            {
                "inputTextTokenCount": 512,
                "results": [
                    {"tokenCount": 12, "outputText": WORDS},
                    {"tokenCount": 8, "outputText": WORDS},
                ],
            },
            {},
            COUNTED,
            id="titan",
        ),
        pytest.param(
            "mistral.mistral-large-2402-v1:0",
            {"outputs": [{"text": WORDS}]},
            COUNTS,
            COUNTED,
            id="mistral, by headers",
        ),
        pytest.param(
            "cohere.command-r-v1:0",
            {"text": WORDS, "generation_id": "1"},
            COUNTS,
            COUNTED,
            id="cohere, by headers",
        ),
        pytest.param(
            "openai.gpt-oss-120b-1:0",
            {
                "usage": {
                    "prompt_tokens": 612,
                    "completion_tokens": 20,
                    "prompt_tokens_details": {"cached_tokens": 100},
                }
            },
            COUNTS,
            {"input_tokens": 612, "output_tokens": 20, "cache_read_tokens": 100},
            id="of openai's shape",
        ),
        pytest.param(
            NOVA,
            {
                "output": {"message": {}},
                "usage": {
                    "inputTokens": 12,
                    "outputTokens": 20,
                    "totalTokens": 532,
                    "cacheReadInputTokenCount": 400,
                    "cacheWriteInputTokenCount": 100,
                },
            },
            {},
            {
                "input_tokens": 512,
                "output_tokens": 20,
                "cache_read_tokens": 400,
                "cache_write_tokens": 100,
            },
            id="nova",
        ),
        pytest.param(
            EMBED,
            {"embedding": [0.1], "inputTextTokenCount": 512},
            {},
            {"input_tokens": 512},
            id="titan's embeddings",
        ),
        pytest.param(
            "cohere.embed-english-v3",
            {"embeddings": [[0.1]], "texts": [WORDS], "id": "1"},
            {"x-amzn-bedrock-input-token-count": "512"},
            {"input_tokens": 512},
            id="cohere's embeddings, by headers",
        ),
        pytest.param(
            "amazon.nova-canvas-v1:0",
            {"images": [WORDS, WORDS], "error": None},
            {},
            {"image": 2},
            id="images",
        ),
        pytest.param(
            "cohere.rerank-v3-5:0",
            {"results": [{"index": 0, "relevance_score": 0.9}]},
            {},
            {"call": 1},
            id="a ranking",
        ),
    ],
)
def test_each_makers_shape_is_read(
    model: str,
    body: Any,
    headers: Mapping[str, str],
    usage: Mapping[str, int],
    capture: Capture,
) -> None:
    """By what it tells itself, or else by what Bedrock counted."""
    client = bedrock(Answer(body, headers))
    with capture(LIBRARY, client) as seen:
        invoke(client, model)["body"].read()

    kinds = {"embed": "embeddings", "canvas": "images", "rerank": "rerank"}
    kind = next((kinds[part] for part in kinds if part in model), "inference")
    assert seen == [
        msgspec.structs.replace(
            OBSERVED,
            model=model,
            usage=usage,
            flavor=None,
            event_type=f"cost.ai.{kind}",
        )
    ]


def test_an_image_to_be_embedded_is_a_cost_of_its_own(capture: Capture) -> None:
    """Charged by the image, beside the tokens of its words."""
    client = bedrock(Answer({"embedding": [0.1], "inputTextTokenCount": 6}))
    with capture(LIBRARY, client) as seen:
        invoke(client, "amazon.titan-embed-image-v1", {"inputImage": WORDS})[
            "body"
        ].read()

    assert [(each.line, each.usage) for each in seen] == [
        (None, {"input_tokens": 6}),
        ("images", {"image": 1}),
    ]


@pytest.mark.parametrize("body", [{"text": WORDS}, b"[1]", b"{", b"sound"])
def test_an_answer_that_tells_no_usage_is_incomplete(
    body: Any, capture: Capture
) -> None:
    """Neither zero nor a guess."""
    client = bedrock(Answer(body))
    with capture(LIBRARY, client) as seen:
        invoke(client, "ai21.j2-mid-v1")["body"].read()

    assert [each.is_complete for each in seen] == [False]


# What decides the price besides the counts.

ACCOUNT: Final = "arn:aws:bedrock:us-east-1:123456789012"


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        (LLAMA, LLAMA),
        (HAIKU, HAIKU),
        (f"arn:aws:bedrock:us-east-1::foundation-model/{LLAMA}", LLAMA),
        (f"{ACCOUNT}:inference-profile/{HAIKU}", HAIKU),
        (f"{ACCOUNT}:application-inference-profile/x1", "our-haiku"),
        (
            f"{ACCOUNT}:custom-model-deployment/y2",
            "custom-model-deployment/y2",
        ),
    ],
    ids=["id", "profile", "model-arn", "profile-arn", "told", "own"],
)
def test_a_model_has_the_name_that_price_lists_have_for_it(
    asked: str, model: str, capture: Capture
) -> None:
    """Of a profile of one's own, only its owner can tell."""
    client = bedrock(Answer(CONVERSED))
    models = {f"{ACCOUNT}:application-inference-profile/x1": "our-haiku"}
    with capture(LIBRARY, client, models=models) as seen:
        converse(client, modelId=asked)

    assert [each.model for each in seen] == [model]


def test_a_router_tells_which_model_it_chose(capture: Capture) -> None:
    """Where its trace is in the answer."""
    chosen = f"{ACCOUNT}:inference-profile/{HAIKU}"
    trace = {"promptRouter": {"invokedModelId": chosen}}
    client = bedrock(Answer({**CONVERSED, "trace": trace}))
    with capture(LIBRARY, client) as seen:
        converse(client, modelId=f"{ACCOUNT}:default-prompt-router/anthropic.claude:1")

    assert [each.model for each in seen] == [HAIKU]


@pytest.mark.parametrize("kind", ["provisioned-model/x1", "imported-model/x1"])
def test_what_is_charged_by_the_hour_costs_nothing_by_the_call(
    kind: str, capture: Capture
) -> None:
    """Whether it is called or not."""
    client = bedrock(Answer(CONVERSED))
    with capture(LIBRARY, client) as seen:
        converse(client, modelId=f"{ACCOUNT}:{kind}")

    assert seen == []


@pytest.mark.parametrize(
    ("tier", "latency", "expected"),
    [
        ("default", "standard", None),
        ("priority", None, "priority"),
        (None, "optimized", "optimized"),
        ("flex", "standard", "flex"),
    ],
)
def test_tier_and_latency_are_told(
    tier: str | None, latency: str | None, expected: str | None, capture: Capture
) -> None:
    """As the answer says that it was served, by either operation."""
    served: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if tier is not None:
        served["serviceTier"] = {"type": tier}
        headers["X-Amzn-Bedrock-Service-Tier"] = tier
    if latency is not None:
        served["performanceConfig"] = {"latency": latency}
        headers["X-Amzn-Bedrock-PerformanceConfig-Latency"] = latency
    client = bedrock(Answer({**CONVERSED, **served}), Answer(MESSAGE, headers))
    with capture(LIBRARY, client) as seen:
        converse(client)
        invoke(client)["body"].read()

    assert [each.service_tier for each in seen] == [expected, expected]


# Streams.


def spoken() -> Answer:
    """Return a stream of a conversation."""
    return conversed(
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"delta": {"text": WORDS}, "contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": TOKENS, "metrics": {"latencyMs": 1}}),
    )


def claude() -> Answer:
    """Return a stream of Anthropic's events."""
    begun = {
        **MESSAGE,
        "content": [],
        "usage": {"input_tokens": 512, "output_tokens": 1},
    }
    metrics = {"inputTokenCount": 512, "outputTokenCount": 20}
    return invoked(
        {"type": "message_start", "message": begun},
        {"type": "content_block_delta", "delta": {"text": WORDS}},
        {"type": "message_delta", "usage": {"output_tokens": 20}},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics},
    )


def llama() -> Answer:
    """Return a stream of Meta's events, with Bedrock's counts at the end."""
    metrics = {
        "inputTokenCount": 12,
        "outputTokenCount": 20,
        "cacheReadInputTokenCount": 500,
    }
    return invoked(
        {"generation": WORDS, "prompt_token_count": 12, "generation_token_count": 1},
        {"generation": "", "amazon-bedrock-invocationMetrics": metrics},
    )


def stream_of(client: Any, model: str = HAIKU) -> Any:
    """Ask for a model's own stream."""
    return client.invoke_model_with_response_stream(modelId=model, body="{}")["body"]


def conversation_of(client: Any) -> Any:
    """Ask for a stream of the common shape."""
    return client.converse_stream(**ASKED)["stream"]


@pytest.mark.parametrize(
    ("answer", "ask", "expected"),
    [
        (spoken, conversation_of, OBSERVED),
        (claude, stream_of, INVOKED),
        (
            llama,
            lambda client: stream_of(client, LLAMA),
            msgspec.structs.replace(
                OBSERVED,
                model=LLAMA,
                flavor=None,
                usage={
                    "input_tokens": 512,
                    "output_tokens": 20,
                    "cache_read_tokens": 500,
                },
            ),
        ),
    ],
    ids=["converse", "anthropic", "metrics"],
)
def test_a_stream_is_observed_once_at_its_end(
    answer: Callable[[], Answer],
    ask: Callable[[Any], Any],
    expected: outlay.extractors.Observation,
    capture: Capture,
) -> None:
    """Its reader gets every event, of the same kind of stream."""
    plain = list(ask(bedrock(answer())))
    client = bedrock(answer())
    with capture(LIBRARY, client) as seen:
        stream = ask(client)
        assert isinstance(stream, EventStream)
        events = iter(stream)
        first = next(events)
        assert seen == []
        rest = list(events)
        assert seen == [expected]
        stream.close()
        del stream, events

    assert [first, *rest] == plain
    assert seen == [expected]


def test_a_stream_can_be_read_on_after_a_break(capture: Capture) -> None:
    """Each loop makes an iterator; together they read one stream."""
    client = bedrock(spoken())
    with capture(LIBRARY, client) as seen:
        stream = conversation_of(client)
        for _ in stream:
            break
        assert seen == []
        rest = list(stream)

    assert len(rest) == 3
    assert seen == [OBSERVED]


@pytest.mark.parametrize("give_up", ["close", "forget"])
@pytest.mark.parametrize(
    ("answer", "ask"),
    [(spoken, conversation_of), (claude, stream_of)],
    ids=["converse", "invoke"],
)
def test_a_stream_that_is_given_up_is_incomplete(
    answer: Callable[[], Answer],
    ask: Callable[[Any], Any],
    give_up: str,
    capture: Capture,
) -> None:
    """What it cost is not known, and not guessed."""
    client = bedrock(answer())
    with capture(LIBRARY, client) as seen:
        stream = ask(client)
        next(iter(stream))
        if give_up == "close":
            stream.close()
        del stream
        gc.collect()  # botocore's streams hold themselves

    assert [(each.operation_id, each.is_complete) for each in seen] == [
        ("req-1", False)
    ]


def test_a_stream_that_is_closed_after_its_usage_is_complete(capture: Capture) -> None:
    """There is nothing more to come that would cost."""
    client = bedrock(spoken())
    with capture(LIBRARY, client) as seen:
        stream = conversation_of(client)
        next(event for event in stream if "metadata" in event)
        stream.close()

    assert seen == [OBSERVED]


def test_a_stream_that_breaks_raises_as_ever(capture: Capture) -> None:
    """And is settled there and then."""
    begun = conversed(("messageStart", {"role": "assistant"}))
    client = bedrock(begun._replace(body=begun.body + failed(WORDS)))
    with capture(LIBRARY, client) as seen:
        stream = conversation_of(client)
        with pytest.raises(EventStreamError):
            list(stream)
        assert [each.is_complete for each in seen] == [False]

    assert len(seen) == 1


def test_a_stream_belongs_to_whoever_asked() -> None:
    """Whatever code reads it, in any thread, after capture has ended."""
    client = bedrock(spoken())
    with Tracked() as tracked:
        outlay.instrument(client, client=tracked.client)
        try:
            with outlay.attribute(customer_id="cus_7"):
                stream = conversation_of(client)
        finally:
            outlay.uninstrument(client)
        reader = threading.Thread(target=list, args=(stream,))
        reader.start()
        reader.join()

        event = tracked.only()
    assert (event.subject, event.data["provenance"]) == ("cus_7", "priced")


@pytest.mark.parametrize(
    ("address", "answer", "expected"),
    [
        ("converse", lambda: Answer(CONVERSED), OBSERVED),
        ("invoke", lambda: Answer(MESSAGE), INVOKED),
        ("converse-stream", spoken, OBSERVED),
        ("invoke-with-response-stream", claude, INVOKED),
    ],
)
def test_calls_without_the_library_are_read_alike(
    address: str, answer: Callable[[], Answer], expected: outlay.extractors.Observation
) -> None:
    """With a key for Bedrock, through a client of httpx. The region is not told."""
    body, _, _, name, kind = answer()
    api = ProviderApi(Scripted(body, 200, {"x-amzn-requestid": name}, kind))
    client = api.client()
    url = f"https://bedrock-runtime.{REGION}.amazonaws.com/model/{HAIKU}/{address}"
    with observing(client, provider="aws") as seen:
        client.post(url, json={"q": WORDS})

    assert seen == [msgspec.structs.replace(expected, region=None)]


# Batches.

LINES: Final = [
    {"recordId": "r1", "modelInput": {"q": WORDS}, "modelOutput": MESSAGE},
    {"recordId": "r2", "modelInput": {"q": WORDS}, "error": {"errorMessage": WORDS}},
]
BOOK: Final = """
[[price]]
provider = "aws"
model = "us.anthropic.claude-haiku-4-5*"
service_tier = "batch"
from = 2026-01-01
per = 1_000_000
units = { input_tokens = 0.55, output_tokens = 2.75 }
"""


def test_a_jobs_output_is_observed_once_by_line(tmp_path: Path) -> None:
    """At a batch's price, for the customer of the record's id. Errors cost nothing."""
    book = tmp_path / "prices.toml"
    book.write_text(BOOK)
    text = "\n".join(map(json.dumps, LINES))
    with Tracked(price_book=book) as tracked:
        counts = [
            outlay.observe_batch(
                text,
                provider="aws",
                model=HAIKU,
                customer_of={"r1": "cus_7"}.get,
                client=tracked.client,
            )
            for _ in range(2)
        ]
        event = tracked.only()

    assert counts == [2, 2]
    assert (event.subject, event.data["operationId"]) == ("cus_7", "msg_bdrk_01")
    # 512 x 0.55 + 20 x 2.75, USD a million
    assert event.data["amount"] == Decimal("0.0003366")


# Clients.


def test_all_clients_are_captured_and_released(capture: Capture) -> None:
    """Made before or after; and no trace stays."""
    before = BaseClient._make_api_call
    early = bedrock(Answer(CONVERSED), Answer(CONVERSED))
    with capture(LIBRARY) as seen:
        late = bedrock(Answer(CONVERSED, request_id="req-2"))
        converse(early)
        converse(late)
    converse(early)

    assert [each.operation_id for each in seen] == ["req-1", "req-2"]
    assert BaseClient._make_api_call is before


def test_other_clients_are_left_alone(capture: Capture) -> None:
    """One client captured is one client captured."""
    client, other = bedrock(Answer(CONVERSED)), bedrock(Answer(MESSAGE))
    with capture(LIBRARY, client) as seen:
        body = invoke(other)["body"]
        assert type(body._raw_stream).__module__.startswith("urllib3")

    assert seen == []


@pytest.mark.parametrize("name", ["boto3", "botocore"])
def test_both_names_are_known(name: str) -> None:
    """Of the one library, whose calls are tracked once."""
    client = bedrock(Answer(CONVERSED), Answer(CONVERSED, request_id="req-2"))
    with Tracked() as tracked:
        outlay.instrument(name, client=tracked.client)
        outlay.instrument("boto3", client=tracked.client)
        try:
            converse(client)
        finally:
            outlay.uninstrument(name)
        converse(client)

        event = tracked.only()
    assert (event.type, event.data["operationId"]) == ("cost.ai.inference", "req-1")
    assert event.data["region"] == REGION


def test_a_call_that_was_tried_again_is_observed_once(capture: Capture) -> None:
    """By the request that was answered."""
    refused = Answer({"message": WORDS}, status=500, request_id="req-0")
    client = bedrock(refused, Answer(CONVERSED))
    with capture(LIBRARY, client) as seen:
        answer = converse(client)

    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert seen == [OBSERVED]


def test_an_error_costs_nothing(capture: Capture) -> None:
    """And is the caller's, as it is."""
    client = bedrock(Answer({"message": WORDS}, status=400))
    with capture(LIBRARY, client) as seen, pytest.raises(ClientError, match=WORDS):
        converse(client)

    assert seen == []


def test_any_service_can_be_read_by_an_extractor_of_ones_own(capture: Capture) -> None:
    """An operation's path is its service and its name."""

    def translated(answer: Any, call: Any) -> outlay.extractors.Observation:
        return outlay.extractors.Observation(
            provider="aws",
            event_type="cost.translation",
            operation_id=call.request_id,
            usage={"character": len(call.request["Text"])},
            data={"to": answer["TargetLanguageCode"]},
        )

    told = {
        "TranslatedText": WORDS,
        "SourceLanguageCode": "en",
        "TargetLanguageCode": "de",
    }
    client = Service(Answer(told)).client("translate")
    outlay.extractors.extractor("aws", "POST /translate/TranslateText")(translated)
    try:
        with capture(LIBRARY, client) as seen:
            client.translate_text(
                Text=WORDS, SourceLanguageCode="en", TargetLanguageCode="de"
            )
    finally:
        _routes["aws"].pop(0)

    assert [(each.usage, each.data) for each in seen] == [
        ({"character": len(WORDS)}, {"to": "de"})
    ]


def test_nothing_that_was_said_is_observed(capture: Capture) -> None:
    """By whichever operation, and however it ends."""
    answers = (
        Answer(CONVERSED),
        Answer(MESSAGE),
        Answer({"images": [WORDS]}),
        spoken(),
        claude(),
        llama(),
        Answer({"usage": {"input_tokens": 1, "speed": WORDS}, "results": [WORDS]}),
    )
    client = bedrock(*answers)
    with capture(LIBRARY, client) as seen:
        converse(client)
        invoke(client)["body"].read()
        invoke(client)["body"].read()
        list(conversation_of(client))
        list(stream_of(client))
        list(stream_of(client, LLAMA))
        invoke(client)["body"].read()

    assert len(seen) == len(answers)
    assert WORDS not in repr(seen)
