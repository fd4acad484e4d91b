"""aiobotocore's clients, against a server on loopback."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiobotocore.session import get_session
from aiohttp import web

from outlay._capture.providers import library
from tests.capture.providers.amazon import Answer, conversed, invoked
from tests.support.observing import observing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from outlay._capture.observation import Observation

MODEL: Final = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
USAGE: Final = {"inputTokens": 512, "outputTokens": 20, "totalTokens": 532}
MESSAGE: Final = {
    "id": "msg_1",
    "type": "message",
    "content": [],
    "usage": {"input_tokens": 512, "output_tokens": 20},
}


def calls(body: Any, use: Callable[[Any], Awaitable[None]]) -> list[Observation]:
    """Return what is observed while ``use`` uses a client of a server."""
    answered = body if isinstance(body, Answer) else Answer(json.dumps(body).encode())

    async def answer(_request: Any) -> Any:
        return web.Response(
            body=answered.body,
            content_type=answered.kind,
            headers={"x-amzn-requestid": answered.request_id},
        )

    async def run() -> list[Observation]:
        app = web.Application()
        app.router.add_post("/{tail:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with get_session().create_client(
                "bedrock-runtime",
                region_name="us-east-1",
                endpoint_url=f"http://127.0.0.1:{port}",
                aws_access_key_id="a",
                aws_secret_access_key="b",
            ) as client:
                with observing(client) as seen:
                    await use(client)
        finally:
            await runner.cleanup()
        return seen

    return asyncio.run(run())


def test_a_conversation_is_observed() -> None:
    """As with boto3."""

    async def use(client: Any) -> None:
        await client.converse(modelId=MODEL, messages=[])

    (seen,) = calls({"usage": USAGE, "stopReason": "end_turn"}, use)

    assert (seen.provider, seen.model, seen.usage) == ("aws", MODEL, USAGE)
    assert (seen.region, seen.operation_id) == ("us-east-1", "req-1")


@pytest.mark.parametrize("chunks", [None, 7], ids=["whole", "in parts"])
def test_a_body_is_observed_when_it_was_read(chunks: int | None) -> None:
    """Whole or in parts; the caller gets all of it."""

    async def use(client: Any) -> None:
        response = await client.invoke_model(modelId=MODEL, body=b"{}")
        if chunks is None:
            content = await response["body"].read()
        else:
            parts = [part async for part in response["body"].iter_chunks(chunks)]
            content = b"".join(parts)
        assert json.loads(content) == MESSAGE

    (seen,) = calls(MESSAGE, use)

    assert seen.is_complete
    assert seen.usage == MESSAGE["usage"]


STREAMED: Final = conversed(
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Yes."}}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}}),
)


def test_a_streamed_conversation_is_observed_at_its_end() -> None:
    """The caller gets every event."""

    async def use(client: Any) -> None:
        response = await client.converse_stream(modelId=MODEL, messages=[])
        names = [next(iter(event)) async for event in response["stream"]]
        assert names == ["messageStart", "contentBlockDelta", "messageStop", "metadata"]

    (seen,) = calls(STREAMED, use)

    assert (seen.provider, seen.model, seen.usage) == ("aws", MODEL, USAGE)
    assert seen.is_complete


def test_a_streamed_conversation_that_is_left_has_no_price() -> None:
    """Its usage is in its last event."""

    async def use(client: Any) -> None:
        response = await client.converse_stream(modelId=MODEL, messages=[])
        async for _ in response["stream"]:
            break
        response["stream"].close()

    (seen,) = calls(STREAMED, use)

    assert not seen.is_complete


def test_a_model_s_own_stream_is_observed_at_its_end() -> None:
    """Bedrock wraps a model's events as bytes."""
    start = {"type": "message_start", "message": MESSAGE}
    end = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 20}}

    async def use(client: Any) -> None:
        response = await client.invoke_model_with_response_stream(
            modelId=MODEL, body=b"{}"
        )
        chunks = [json.loads(e["chunk"]["bytes"]) async for e in response["body"]]
        assert chunks == [start, end]

    (seen,) = calls(invoked(start, end), use)

    assert seen.is_complete
    assert seen.usage == MESSAGE["usage"]


def test_aioboto3_is_the_same_library() -> None:
    """Its clients are aiobotocore's."""
    assert library("aioboto3") is library("aiobotocore")
