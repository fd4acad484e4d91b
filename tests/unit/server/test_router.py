"""The dispatcher, without a network: what the network makes hard to provoke."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec

from outlay.server import IngestCounts, ServerSettings, StoreUnavailableError
from outlay.server._http.byte_budget import ByteBudget
from outlay.server._http.router import Request, Response, Route, Router
from outlay.server._services.auth import ANONYMOUS
from outlay.server._services.telemetry import ServerTelemetry

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from starlette.types import Message, Receive

    from outlay.server._core import ServerCore


def answered(
    handler: Callable[[ServerCore, Request], Any], *messages: Message
) -> tuple[int, dict[str, Any], dict[bytes, bytes]]:
    """Return status, body and headers of what a handler's endpoint answers."""
    waiting = list(messages)
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    telemetry = ServerTelemetry(IngestCounts(), lambda: 0, lambda: 0)
    engine = cast(
        "ServerCore",
        SimpleNamespace(settings=ServerSettings(api_key="k"), telemetry=telemetry),
    )
    endpoint = Route("POST", "/test", handler, None, 200)
    scope = {"type": "http", "method": "POST", "path": "/test", "headers": []}
    asyncio.run(Router(engine, [endpoint])(scope, receive, send))
    head, body = sent
    return head["status"], msgspec.json.decode(body["body"]), dict(head["headers"])


def test_a_bug_is_a_500_with_a_message_and_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client learns nothing of the inside, and the operator learns it all."""

    async def broken(_: ServerCore, __: Request) -> Response:
        raise ZeroDivisionError("inside")

    with caplog.at_level(logging.ERROR, "outlay.server"):
        status, body, _ = answered(broken)

    assert status == 500
    assert body["error"] == "internal_error"
    assert "inside" not in body["message"]
    assert "ZeroDivisionError: inside" in caplog.text


def test_a_database_that_fails_is_a_503_to_be_tried_again() -> None:
    """A full disk is emptied some day; the events must come again then."""

    async def full(_: ServerCore, __: Request) -> Response:
        raise StoreUnavailableError("disk is full")

    status, body, headers = answered(full)

    assert (status, body["message"]) == (503, "disk is full")
    assert headers[b"retry-after"] == b"1"


def test_a_body_that_ends_early_is_refused() -> None:
    """Half a body must not be taken for a whole one."""

    async def read(_: ServerCore, call: Request) -> Response:
        return Response(200, await call.body(1000))

    status, body, _ = answered(
        read,
        {"type": "http.request", "body": b'{"a":', "more_body": True},
        {"type": "http.disconnect"},
    )

    assert status == 400
    assert "ended early" in body["message"]


def test_a_middleware_that_repeats_the_body_tells_nothing_of_the_client() -> None:
    """The handler waits for the client, and must not keep the loop busy."""

    async def repeat() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    assert not asyncio.run(_leaves(repeat))


def test_a_client_that_leaves_is_noticed() -> None:
    """A query whose client is gone is stopped."""
    messages: list[Message] = [
        {"type": "http.request", "body": b"", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    assert asyncio.run(_leaves(receive))


async def _leaves(receive: Receive) -> bool:
    """Return whether a client was noticed to leave, after a few turns of the loop."""
    request = Request({}, receive, {}, ANONYMOUS, "", budget=ByteBudget(1))
    leaving = asyncio.create_task(request.disconnected())
    for _ in range(5):
        await asyncio.sleep(0)
    left = leaving.done()
    leaving.cancel()
    return left
