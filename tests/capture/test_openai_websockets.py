"""Responses through a WebSocket, against a server on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import openai
import pytest
from websockets.sync.server import serve

from outlay._capture.providers.openai import LIBRARY
from tests.support.observing import observing

if TYPE_CHECKING:
    from collections.abc import Iterator

# The package itself uses a form that websockets deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context")

WORDS: Final = "to be or not to be"
USAGE: Final = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}


def events(number: int) -> Iterator[dict[str, Any]]:
    """Yield the events of a response."""
    response = {
        "id": f"resp_{number}",
        "object": "response",
        "model": "gpt-4o",
        "output": [],
        "status": "completed",
        "usage": USAGE,
    }
    yield {"type": "response.created", "response": {**response, "usage": None}}
    yield {"type": "response.output_text.delta", "delta": WORDS}
    yield {"type": "response.completed", "response": response}


@contextmanager
def server() -> Iterator[str]:
    """Serve responses, and return the address."""

    def handle(socket: Any) -> None:
        for number, _ in enumerate(socket):
            for event in events(number):
                socket.send(json.dumps(event))

    with serve(handle, "127.0.0.1", 0) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        port = listener.socket.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            listener.shutdown()
            thread.join()


def use(client: openai.OpenAI) -> None:
    """Ask for two responses in one connection."""
    with client.responses.connect() as connection:
        for _ in range(2):
            connection.response.create(model="gpt-4o", input=WORDS)
            while connection.recv().type != "response.completed":
                pass


@pytest.mark.parametrize("target", ["client", "openai"])
def test_responses_through_a_websocket_are_observed(target: str) -> None:
    """Each once, whether one client is captured or all."""
    with server() as address:
        client = openai.OpenAI(api_key="k", base_url=address)
        captured: object = client if target == "client" else "openai"
        with observing(captured, provider="openai") as seen:
            use(client)
        use(client)

    assert [each.operation_id for each in seen] == ["resp_0", "resp_1"]
    assert {each.model for each in seen} == {"gpt-4o"}
    assert [each.usage for each in seen] == [USAGE, USAGE]
    assert WORDS not in repr(seen)


def test_responses_in_asynchronous_code_are_observed() -> None:
    """Through the asynchronous twin of the connection."""

    async def use_async(client: openai.AsyncOpenAI) -> None:
        async with client.responses.connect() as connection:
            await connection.response.create(model="gpt-4o", input=WORDS)
            while (await connection.recv()).type != "response.completed":
                pass

    with server() as address:
        client = openai.AsyncOpenAI(api_key="k", base_url=address)
        with observing(client, provider="openai") as seen:
            asyncio.run(use_async(client))

    assert [each.operation_id for each in seen] == ["resp_0"]


def test_a_realtime_session_is_named_in_the_log_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its costs are not captured, and the user learns of it."""
    with server() as address:
        client = openai.OpenAI(api_key="k", base_url=address)
        other = openai.OpenAI(api_key="k", base_url=address)
        with observing(client) as seen:
            for each in (other, client, client):
                with each.realtime.connect(model="gpt-realtime"):
                    pass

    said = [each for each in caplog.messages if "realtime sessions" in each]
    assert len(said) == 1
    assert not seen


def test_no_patch_stays(caplog: pytest.LogCaptureFixture) -> None:
    """The classes are as they were."""
    from openai.resources.responses import responses  # noqa: PLC0415 - loaded lazily

    before = responses.ResponsesConnection.recv_bytes
    with observing("openai"):
        assert responses.ResponsesConnection.recv_bytes is not before
    assert responses.ResponsesConnection.recv_bytes is before
    assert LIBRARY.scope.is_empty()
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
