"""Billed responses for which the library raises: tracked, and the error passes."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any, Final

import anthropic
import httpx2
import openai
import pydantic
import pytest

import outlay
from tests.support.recorded import Recorded

USAGE: Final = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
ASKED: Final[dict[str, Any]] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "?"}],
}


class Verdict(pydantic.BaseModel):
    """A structured output."""

    guilty: bool


def chat(content: str, finish_reason: str) -> dict[str, Any]:
    """Return the response to a request for a structured output."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [choice],
        "usage": USAGE,
    }


RESPONSE: Final = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-4o",
    "status": "completed",
    "output": [
        {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "no verdict", "annotations": []}
            ],
        }
    ],
    "tools": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "usage": {
        "input_tokens": 1000,
        "output_tokens": 100,
        "total_tokens": 1100,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}


def respond_with(body: dict[str, Any]) -> httpx2.MockTransport:
    """Return a provider that gives one response."""
    return httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))


@pytest.mark.parametrize(
    ("content", "finish_reason", "error"),
    [
        pytest.param("{", "length", openai.LengthFinishReasonError, id="length"),
        pytest.param(
            "{", "content_filter", openai.ContentFilterFinishReasonError, id="filter"
        ),
        pytest.param("no verdict", "stop", pydantic.ValidationError, id="validation"),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_chat_that_cannot_be_parsed_is_tracked(
    content: str, finish_reason: str, error: type[Exception], *, asynchronous: bool
) -> None:
    """The provider bills what the model wrote, whatever it is worth."""
    transport = respond_with(chat(content, finish_reason))

    async def aparse(client: openai.AsyncOpenAI) -> None:
        await client.chat.completions.parse(**ASKED, response_format=Verdict)

    with Recorded() as recorded:
        if asynchronous:
            ahttp = httpx2.AsyncClient(transport=transport)
            aclient = openai.AsyncOpenAI(api_key="k", http_client=ahttp)
            outlay.instrument(aclient, client=recorded.client)
            with pytest.raises(error):
                asyncio.run(aparse(aclient))
        else:
            http = httpx2.Client(transport=transport)
            client = openai.OpenAI(api_key="k", http_client=http)
            outlay.instrument(client, client=recorded.client)
            with pytest.raises(error):
                client.chat.completions.parse(**ASKED, response_format=Verdict)
        outlay.uninstrument()
        event = recorded.only()

    assert event.data["amount"] == Decimal("0.0035")
    assert event.data["operationId"] == "chatcmpl-1"


def test_a_response_that_cannot_be_parsed_is_tracked() -> None:
    """Structured outputs of the responses are validated in the same place."""
    http = httpx2.Client(transport=respond_with(RESPONSE))
    with Recorded() as recorded:
        client = outlay.instrument(
            openai.OpenAI(api_key="k", http_client=http), client=recorded.client
        )
        with pytest.raises(pydantic.ValidationError):
            client.responses.parse(model="gpt-4o", input="?", text_format=Verdict)
        outlay.uninstrument()
        assert recorded.only().data["amount"] == Decimal("0.0035")


def test_a_response_of_another_shape_is_tracked() -> None:
    """A client that validates strictly refuses what the provider billed."""
    http = httpx2.Client(transport=respond_with(chat("yes", "stop") | {"created": "?"}))
    with Recorded() as recorded:
        client = openai.OpenAI(
            api_key="k", http_client=http, _strict_response_validation=True
        )
        outlay.instrument(client, client=recorded.client)
        with pytest.raises(openai.APIResponseValidationError):
            client.chat.completions.create(**ASKED)
        outlay.uninstrument()
        assert recorded.only().data["amount"] == Decimal("0.0035")


def test_a_call_that_the_provider_refused_costs_nothing() -> None:
    """An error status is no billed response."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(400, json={}))
    with Recorded() as recorded:
        client = outlay.instrument(
            openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport)),
            client=recorded.client,
        )
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**ASKED)
        outlay.uninstrument()
        assert recorded.events() == []


def test_calls_of_a_tool_runner_that_fails_are_tracked() -> None:
    """Its first message is billed, though the program never gets the second."""
    tool_use = {"type": "tool_use", "id": "t", "name": "judge", "input": {}}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": [tool_use],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1000, "output_tokens": 100},
    }
    bodies = iter([httpx2.Response(200, json=message), httpx2.Response(400, json={})])
    transport = httpx2.MockTransport(lambda _: next(bodies))

    @anthropic.beta_tool
    def judge() -> str:
        """Judge."""
        return "guilty"

    with Recorded() as recorded:
        client = outlay.instrument(
            anthropic.Anthropic(
                api_key="k", http_client=httpx2.Client(transport=transport)
            ),
            client=recorded.client,
        )
        runner = client.beta.messages.tool_runner(
            model="claude-sonnet-latest",
            max_tokens=9,
            tools=[judge],
            messages=[{"role": "user", "content": "?"}],
        )
        with pytest.raises(anthropic.BadRequestError):
            runner.until_done()
        outlay.uninstrument()
        assert recorded.only().data["amount"] == Decimal("0.0045")
