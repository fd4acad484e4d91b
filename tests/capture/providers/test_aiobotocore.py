"""aiobotocore's clients, against a server on loopback."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from outlay._capture.providers import library
from tests.support.observing import observing

aiobotocore_session = pytest.importorskip("aiobotocore.session")
web = pytest.importorskip("aiohttp.web")

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

    async def answer(_request: Any) -> Any:
        headers = {"x-amzn-requestid": "req-1"}
        return web.Response(
            text=json.dumps(body), content_type="application/json", headers=headers
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
            async with aiobotocore_session.get_session().create_client(
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


def test_aioboto3_is_the_same_library() -> None:
    """Its clients are aiobotocore's."""
    assert library("aioboto3") is library("aiobotocore")
