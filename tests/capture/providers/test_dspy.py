"""DSPy's transport, by stand-ins that have its shape.

`tests/frameworks` calls the package itself, in an environment of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

import outlay
from outlay._capture.providers.dspy import LIBRARY
from outlay._model.attribution import current_attribution
from tests.capture.providers.api import WORDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.capture.providers.conftest import Capture

HOST: Final = "https://api.openai.com"
CHAT: Final = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o",
    "choices": [{"message": {"content": WORDS}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}


class Request(NamedTuple):
    """A request of the transport."""

    url: str = f"{HOST}/v1/chat/completions?x=1"
    method: str = "post"
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    body: bytes = json.dumps({"model": "gpt-4o", "messages": [WORDS]}).encode()


class Response:
    """A response whose chunks are read once, and which is released at the end."""

    status = 200
    headers = (("Content-Type", "application/json"), ("X-Request-Id", "req-1"))

    def __init__(self) -> None:
        content = json.dumps(CHAT).encode()
        self._chunks: Any = iter([content[:9], content[9:]])
        self._release: Any = lambda _consumed: None

    def read(self) -> bytes:
        """Return the whole body."""
        content = b"".join(self._chunks)
        self._release(True)  # noqa: FBT003 - as the transport calls it
        return content


class AsyncResponse(Response):
    """Its asynchronous twin."""

    def __init__(self) -> None:
        super().__init__()
        chunks = self._chunks

        async def achunks() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        async def release(_consumed: bool) -> None:  # noqa: FBT001 - as it is called
            """Release nothing."""

        self._chunks, self._release = achunks(), release

    async def aread(self) -> bytes:
        """Return the whole body."""
        content = b"".join([chunk async for chunk in self._chunks])
        await self._release(True)  # noqa: FBT003 - as the transport calls it
        return content


class Transport:
    """Responds to every request."""

    def stream(self, request: Request) -> Response:
        """Return a response that is not read yet."""
        assert request.url
        return Response()


class AsyncTransport:
    """Its asynchronous twin."""

    async def _do_stream(self, request: Request) -> AsyncResponse:
        assert request.url
        return AsyncResponse()


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Stand in for the modules of DSPy that are patched; return that of its pools."""
    modules: dict[str, dict[str, Any]] = {
        "dspy": {},
        "dspy._vendor.lm15.transports._sync": {"StdlibTransport": Transport},
        "dspy._vendor.lm15.transports._async": {"StdlibAsyncTransport": AsyncTransport},
        "dspy.utils.parallelizer": {"ThreadPoolExecutor": ThreadPoolExecutor},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    yield sys.modules["dspy.utils.parallelizer"]
    LIBRARY.uninstrument()


def test_a_call_is_observed_when_it_was_read(capture: Capture) -> None:
    """By its host and path, and without any of its text."""
    with capture(LIBRARY) as seen:
        response = Transport().stream(Request())
        assert not seen
        assert json.loads(response.read()) == CHAT

    [one] = seen
    assert (one.provider, one.model, one.usage) == ("openai", "gpt-4o", CHAT["usage"])
    assert (one.operation_id, one.request_id) == ("chatcmpl-1", "req-1")
    assert WORDS not in repr(one)


def test_a_call_in_asynchronous_code_is_observed(capture: Capture) -> None:
    """Through the twin of the transport."""

    async def ask() -> bytes:
        response = await AsyncTransport()._do_stream(Request())
        return await response.aread()

    with capture(LIBRARY) as seen:
        content = asyncio.run(ask())

    assert json.loads(content) == CHAT
    assert [one.usage for one in seen] == [CHAT["usage"]]


def test_a_response_that_is_left_has_no_price(capture: Capture) -> None:
    """Released or forgotten, in the middle or before."""
    with capture(LIBRARY) as seen:
        released = Transport().stream(Request())
        next(released._chunks)
        released._release(False)  # noqa: FBT003 - as the transport calls it
        forgotten = Transport().stream(Request())
        del released, forgotten
        gc.collect()

    assert [one.is_complete for one in seen] == [False, False]


def test_a_host_that_is_not_known_is_named_once(
    capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    """Its calls are captured with ``provider=``."""
    unknown = Request(url="http://models.example/v1/chat/completions")
    with capture(LIBRARY) as seen:
        for _ in range(2):
            Transport().stream(unknown).read()
    with capture(LIBRARY, provider="openai") as named:
        Transport().stream(unknown).read()

    said = [each for each in caplog.messages if "models.example was not" in each]
    assert len(said) == 1
    assert not seen
    assert len(named) == 1


def test_nothing_is_observed_that_costs_nothing(capture: Capture) -> None:
    """A list of models, and a client that is not captured."""
    with capture(LIBRARY) as seen:
        Transport().stream(Request(f"{HOST}/v1/models", "GET")).read()
    Transport().stream(Request()).read()

    assert not seen


def test_threads_of_its_pools_have_the_customer(package: ModuleType) -> None:
    """The pool's own class is back afterwards."""
    outlay.instrument("dspy")
    pool = package.ThreadPoolExecutor(1)
    with pool, outlay.attribute(customer_id="cus_1"):
        customer = pool.submit(lambda: current_attribution.get().customer_id)
    outlay.uninstrument("dspy")

    assert customer.result() == "cus_1"
    assert package.ThreadPoolExecutor is ThreadPoolExecutor


def test_a_single_model_cannot_be_captured() -> None:
    """The error says what to write."""
    kind = type("LM", (), {"__module__": "dspy.clients.lm"})

    with pytest.raises(outlay.ConfigError, match="cannot be captured alone"):
        outlay.instrument(kind())
