"""Messages through the real anthropic package, captured."""

from __future__ import annotations

import base64
import gc
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import anthropic
import httpx2
import pytest

import outlay
from tests.support.observing import observing
from tests.support.recorded import Recorded
from tests.support.stainless import Events, answer, sent, streamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ID: Final = "msg_01XFDUDYJgAACzvnptvVoYEL"
MODEL: Final = "claude-sonnet-4-5-20250929"
START: Final = {
    "input_tokens": 25,
    "cache_read_input_tokens": 10,
    "output_tokens": 1,
    "service_tier": "standard",
}
FINAL: Final = {
    "input_tokens": 25,
    "cache_read_input_tokens": 10,
    "output_tokens": 15,
}
MESSAGE: Final = {
    "id": ID,
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {**START, **FINAL},
}
ASKED: Final[dict[str, Any]] = {
    "model": "claude-sonnet-latest",
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "Hello"}],
}


def events() -> Events:
    """Return the stream of a message."""
    begun = {**MESSAGE, "content": [], "stop_reason": None, "usage": START}
    return Events(
        [
            {"type": "message_start", "message": begun},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": "Hi"},
            },
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 15},
            },
            {"type": "message_stop"},
        ],
        done=False,
    )


def messaging(request: httpx2.Request) -> httpx2.Response:
    """Answer as the provider does."""
    return streamed(events()) if sent(request).get("stream") else answer(MESSAGE)


def client() -> anthropic.Anthropic:
    """Return a client that never touches the network."""
    transport = httpx2.MockTransport(messaging)
    return anthropic.Anthropic(
        api_key="sk-test", http_client=httpx2.Client(transport=transport)
    )


def create(chat: anthropic.Anthropic) -> object:
    """Ask, and wait for the whole answer."""
    return chat.messages.create(**ASKED)


def raw(chat: anthropic.Anthropic) -> object:
    """Ask for the response with its headers."""
    return chat.messages.with_raw_response.create(**ASKED).parse()


def beta(chat: anthropic.Anthropic) -> object:
    """Ask by a path that is not stable yet."""
    return chat.beta.messages.create(**ASKED).id


def streaming(chat: anthropic.Anthropic) -> object:
    """Ask for a stream, and read it."""
    return list(chat.messages.create(stream=True, **ASKED))


def helper(chat: anthropic.Anthropic) -> object:
    """Ask by the helper that adds a stream up."""
    with chat.messages.stream(**ASKED) as stream:
        return stream.get_final_message()


@pytest.mark.parametrize(
    "way", [create, raw, beta, streaming, helper], ids=lambda way: way.__name__
)
def test_every_way_to_ask_is_observed_once(
    way: Callable[[anthropic.Anthropic], object],
) -> None:
    """A stream tells its usage in two parts; together they are the whole."""
    chat = client()
    bare = way(chat)

    with observing(chat) as seen:
        captured = way(chat)

    assert type(captured) is type(bare)
    assert captured == bare
    assert [
        (one.provider, one.operation_id, one.model, one.usage, one.is_complete)
        for one in seen
    ] == [("anthropic", ID, MODEL, FINAL, True)]
    assert [one.service_tier for one in seen] == ["standard"]


class Broken(Events):
    """A body that breaks off after its first event."""

    def _lines(self) -> Iterator[bytes]:
        yield next(super()._lines())
        raise httpx2.ReadError("connection lost")


@pytest.mark.parametrize("end", ["closed", "broken", "forgotten", "raw and left"])
def test_a_message_that_is_not_read_to_its_end_is_observed_as_incomplete(
    end: str,
) -> None:
    """The start tells what came in, but not what went out."""
    whole = events()
    body = Broken(whole.events, done=False) if end == "broken" else whole
    transport = httpx2.MockTransport(lambda _: streamed(body))
    chat = anthropic.Anthropic(
        api_key="sk-test", http_client=httpx2.Client(transport=transport)
    )

    with observing(chat) as seen:
        if end == "raw and left":
            asking = chat.messages.with_streaming_response.create
            with asking(stream=True, **ASKED) as response:
                next(response.iter_bytes())
        else:
            stream = chat.messages.create(stream=True, **ASKED)
            next(stream)
            if end == "closed":
                stream.close()
            elif end == "broken":
                with pytest.raises(httpx2.ReadError):
                    next(stream)
            del stream
            gc.collect()

    assert [(one.operation_id, one.usage, one.is_complete) for one in seen] == [
        (ID, {name: START[name] for name in START if name != "service_tier"}, False)
    ]


def reporting(usage: dict[str, Any], **more: Any) -> anthropic.Anthropic:
    """Return a client whose messages report that usage."""
    body = {**MESSAGE, "usage": usage, **more}
    transport = httpx2.MockTransport(lambda _: answer(body))
    return anthropic.Anthropic(
        api_key="sk-test", http_client=httpx2.Client(transport=transport)
    )


def amounts_of(chat: anthropic.Anthropic) -> list[tuple[str | None, str]]:
    """Return what one call of a client comes to: by line, or why it waits."""
    with Recorded() as tracked:
        outlay.instrument(chat, client=tracked.client)
        try:
            chat.beta.messages.create(**ASKED)
        finally:
            outlay.uninstrument(chat)
        events = tracked.events()
    return [
        (event.data.get("line"), format(Decimal(event.data["amount"]), "f"))
        for event in events
    ]


NO_CACHE: Final = {"input_tokens": 1000, "output_tokens": 100}


@pytest.mark.parametrize(
    ("usage", "amounts"),
    [
        pytest.param(NO_CACHE, [(None, "0.0045")], id="plain"),
        pytest.param(
            {
                **NO_CACHE,
                "cache_creation_input_tokens": 3000,
                "cache_read_input_tokens": 10000,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 1000,
                    "ephemeral_1h_input_tokens": 2000,
                },
            },
            # + 1000 x 3.75 + 2000 x 6.00 + 10000 x 0.30 per million
            [(None, "0.02325")],
            id="cache of 5 minutes and of an hour",
        ),
        pytest.param(
            {**NO_CACHE, "server_tool_use": {"web_search_requests": 2}},
            [(None, "0.0245")],
            id="web search",
        ),
        pytest.param(
            {
                **NO_CACHE,
                "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 5},
            },
            [(None, "0.0045")],
            id="web fetch is free",
        ),
        pytest.param(
            {**NO_CACHE, "service_tier": "batch"}, [(None, "0.00225")], id="batch"
        ),
        pytest.param({**NO_CACHE, "service_tier": "priority"}, [], id="priority"),
        pytest.param(
            {**NO_CACHE, "inference_geo": "us"},
            [(None, "0.00495")],
            id="in one country",
        ),
        pytest.param(
            {
                **NO_CACHE,
                "inference_geo": "us",
                "server_tool_use": {"web_search_requests": 2},
            },
            [],
            id="in one country, with searches",
        ),
        pytest.param(
            {**NO_CACHE, "inference_geo": "global", "speed": "standard"},
            [(None, "0.0045")],
            id="anywhere, at the usual speed",
        ),
        pytest.param(
            {
                **NO_CACHE,
                "iterations": [
                    {**NO_CACHE, "type": "compaction", "output_tokens": 200},
                    {**NO_CACHE, "type": "message"},
                    {
                        **NO_CACHE,
                        "type": "advisor_message",
                        "model": "claude-opus-4-5-20251101",
                    },
                    {**NO_CACHE, "type": "compaction", "output_tokens": 300},
                ],
            },
            [
                (None, "0.0045"),
                ("compaction", "0.006"),
                ("advisor_message", "0.0075"),
                ("compaction 2", "0.0075"),
            ],
            id="what is done on the way",
        ),
    ],
)
def test_what_a_message_reports_makes_its_price(
    usage: dict[str, Any], amounts: list[tuple[str | None, str]]
) -> None:
    """What has no price of its own waits for one, rather than being too cheap."""
    full = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, **usage}

    assert amounts == amounts_of(reporting(full))


def test_the_fast_mode_is_dearer() -> None:
    """It is told as a speed, and priced as a service tier."""
    usage = {**NO_CACHE, "service_tier": "standard", "speed": "fast"}

    amounts = amounts_of(reporting(usage, model="claude-opus-5"))

    # 1000 x 10.00 + 100 x 50.00 per million
    assert amounts == [(None, "0.015")]


def test_what_is_told_on_the_way_of_a_stream_is_observed_with_its_end() -> None:
    """As of a message that comes whole."""
    begun = {**MESSAGE, "content": [], "stop_reason": None, "usage": START}
    end = {
        "output_tokens": 15,
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "iterations": [{**NO_CACHE, "type": "compaction"}],
    }
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    parts: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "message_delta", "delta": delta, "usage": end},
        {"type": "message_stop"},
    ]
    transport = httpx2.MockTransport(lambda _: streamed(Events(parts, done=False)))
    chat = anthropic.Anthropic(
        api_key="sk-test", http_client=httpx2.Client(transport=transport)
    )

    with observing(chat) as seen:
        list(chat.beta.messages.create(stream=True, **ASKED))

    searched = {**FINAL, "server_tool_use": end["server_tool_use"]}
    assert [(one.line, one.usage, one.is_complete) for one in seen] == [
        (None, searched, True),
        ("compaction", NO_CACHE, True),
    ]


def through(cloud: str) -> Any:
    """Return a client that reaches the models by way of a cloud."""
    http = httpx2.Client(transport=httpx2.MockTransport(messaging))
    if cloud == "bedrock":
        return anthropic.AnthropicBedrock(
            aws_region="us-east-1", api_key="k", http_client=http
        )
    if cloud == "mantle":
        return anthropic.AnthropicBedrockMantle(
            aws_region="us-east-1", api_key="k", http_client=http
        )
    if cloud == "vertex":
        return anthropic.AnthropicVertex(
            region="us-east5", project_id="p", access_token="t", http_client=http
        )
    if cloud == "foundry":
        return anthropic.AnthropicFoundry(
            resource="acme", api_key="k", http_client=http
        )
    return anthropic.AnthropicAWS(
        aws_region="us-east-1", api_key="k", workspace_id="w", http_client=http
    )


@pytest.mark.parametrize(
    ("cloud", "provider", "flavor"),
    [
        ("bedrock", "aws", "anthropic"),
        ("mantle", "aws", "anthropic"),
        ("vertex", "google", "anthropic"),
        ("foundry", "azure", "anthropic"),
        ("marketplace", "anthropic", "default"),
    ],
)
@pytest.mark.parametrize("way", [create, raw], ids=lambda way: way.__name__)
def test_by_way_of_a_cloud_the_cloud_charges(
    cloud: str, provider: str, flavor: str, way: Callable[[Any], object]
) -> None:
    """Unless it is only the place where Anthropic's own service is sold."""
    chat = through(cloud)

    with observing(chat) as seen:
        way(chat)

    assert [(one.provider, one.flavor, one.usage) for one in seen] == [
        (provider, flavor, FINAL)
    ]


@pytest.mark.parametrize("cloud", ["mantle", "vertex", "foundry", "marketplace"])
def test_streams_by_way_of_a_cloud_are_observed_alike(cloud: str) -> None:
    """Where they are framed as Anthropic frames them."""
    chat = through(cloud)

    with observing(chat) as seen:
        streaming(chat)

    assert [(one.operation_id, one.usage, one.is_complete) for one in seen] == [
        (ID, FINAL, True)
    ]


def test_a_stream_of_bedrock_is_framed_as_amazon_frames_it() -> None:
    """Each event within a message of Amazon's, with checksums."""

    def frame(event: dict[str, Any]) -> bytes:
        chunk = {"bytes": base64.b64encode(json.dumps(event).encode()).decode()}
        payload = json.dumps(chunk).encode()
        named = {
            ":event-type": "chunk",
            ":content-type": "application/json",
            ":message-type": "event",
        }
        headers = b"".join(
            bytes([len(name)])
            + name.encode()
            + b"\7"
            + len(value).to_bytes(2, "big")
            + value.encode()
            for name, value in named.items()
        )
        total = 16 + len(headers) + len(payload)
        prelude = total.to_bytes(4, "big") + len(headers).to_bytes(4, "big")
        prelude += crc32(prelude).to_bytes(4, "big")
        message = prelude + headers + payload
        return message + crc32(message).to_bytes(4, "big")

    body = b"".join(
        frame(json.loads(line.partition(b"data: ")[2])) for line in events()
    )
    response = httpx2.Response(
        200,
        stream=httpx2.ByteStream(body),
        headers={"content-type": "application/vnd.amazon.eventstream"},
    )
    transport = httpx2.MockTransport(lambda _: response)
    chat = anthropic.AnthropicBedrock(
        aws_region="us-east-1",
        api_key="k",
        http_client=httpx2.Client(transport=transport),
    )

    with observing(chat) as seen:
        streaming(chat)  # type: ignore[arg-type]

    assert [(one.provider, one.operation_id, one.usage) for one in seen] == [
        ("aws", ID, FINAL)
    ]


@pytest.mark.parametrize("copied", ["copy", "with_options"])
def test_copies_of_a_captured_client_are_captured(copied: str) -> None:
    """And others are not."""
    chat = client()

    with observing(chat) as seen:
        create(getattr(chat, copied)(max_retries=1))
        create(client())

    assert [one.operation_id for one in seen] == [ID]


def test_counting_tokens_is_free() -> None:
    """It says what a message would cost, and is none."""
    transport = httpx2.MockTransport(lambda _: answer({"input_tokens": 7}))
    chat = anthropic.Anthropic(
        api_key="sk-test", http_client=httpx2.Client(transport=transport)
    )
    asked = {name: ASKED[name] for name in ("model", "messages")}

    with observing(chat) as seen:
        chat.messages.count_tokens(**asked)

    assert seen == []
