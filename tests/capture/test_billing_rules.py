"""Rules of providers' bills, through their real packages on fake transports."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anthropic
import httpx2
import openai
import pytest

import outlay
from outlay import testing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from outlay.testing import Costs

Body = dict[str, Any]


def http(answer: Body | httpx2.Response) -> httpx2.Client:
    """Return an HTTP client whose server gives ``answer`` to every request."""

    def respond(_request: httpx2.Request) -> httpx2.Response:
        if isinstance(answer, httpx2.Response):
            return answer
        return httpx2.Response(200, json=answer)

    return httpx2.Client(transport=httpx2.MockTransport(respond))


def oa(answer: Body | httpx2.Response, **options: Any) -> openai.OpenAI:
    """Return a captured client of openai."""
    client = openai.OpenAI(api_key="k", http_client=http(answer), **options)
    return outlay.instrument(client)


def an(
    answer: Body | httpx2.Response, kind: Any = anthropic.Anthropic, **options: Any
) -> Any:
    """Return a captured client of anthropic."""
    given = options or {"api_key": "k"}
    return outlay.instrument(kind(http_client=http(answer), **given))


def claude(model: str, usage: Body, **more: Any) -> Body:
    """Return a message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": "end_turn",
        "usage": usage,
        **more,
    }


def chat(model: str, **usage: int) -> Body:
    """Return a chat completion."""
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [],
        "usage": usage,
    }


def response(
    model: str, output: tuple[Body, ...] = (), tool: str | None = None, **usage: Any
) -> Body:
    """Return a response of 1,000 tokens in and 100 out."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": model,
        "status": "completed",
        "output": [*output],
        "tools": [] if tool is None else [{"type": tool}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "usage": {
            "input_tokens": 1000,
            "output_tokens": 100,
            "total_tokens": 1100,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
            **usage,
        },
    }


def tokens(given: int, made: int, written: int = 0, read: int = 0) -> Body:
    """Return usage in Anthropic's shape."""
    return {
        "input_tokens": given,
        "output_tokens": made,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
    }


def search(status: str = "completed") -> Body:
    """Return a web search of a response."""
    action = {"type": "search", "query": "…"}
    return {"type": "web_search_call", "id": "w", "status": status, "action": action}


ASKED: Final[Body] = {"max_tokens": 9, "messages": [{"role": "user", "content": "…"}]}
FALLBACK: Final = claude(
    "claude-opus-4-8",
    tokens(2, 13658, read=79214)
    | {
        "iterations": [
            {"type": "message", "model": "claude-fable-5"}
            | tokens(2, 578, 10421, 72769),
            {"type": "fallback_message", "model": "claude-opus-4-8"}
            | tokens(2, 13658, read=79214),
        ]
    },
)
DECLINED: Final = claude(
    "claude-opus-4-8",
    tokens(2, 13658, read=79214)
    | {
        "iterations": [
            {"type": "message", "model": "claude-fable-5"} | tokens(2, 0, 10421, 72769),
            {"type": "fallback_message", "model": "claude-opus-4-8"}
            | tokens(2, 13658, read=79214),
        ]
    },
)
REFUSAL: Final = claude("claude-fable-5", tokens(2706, 0), stop_reason="refusal")
SONNET_ON_VERTEX: Final = "claude-sonnet-4-5@20250929"
SONNET: Final = claude("claude-sonnet-4-5-20250929", tokens(1000, 100))
BEDROCK: Final = {
    "kind": anthropic.AnthropicBedrock,
    "aws_access_key": "a",
    "aws_secret_key": "b",
    "aws_region": "us-east-1",
}
VERTEX: Final = {
    "kind": anthropic.AnthropicVertex,
    "project_id": "p",
    "access_token": "t",
}
GEMINI: Final = "https://generativelanguage.googleapis.com/v1beta/openai/"


def ask(client: Any, model: str = "claude-fable-5", **more: Any) -> None:
    """Ask Claude."""
    client.messages.create(model=model, **ASKED, **more)


def respond(client: openai.OpenAI, model: str = "gpt-4o") -> None:
    """Create a response."""
    client.responses.create(model=model, input="…")


def complete(client: openai.OpenAI) -> None:
    """Create a chat completion."""
    client.chat.completions.create(model="requested", messages=[])


class Bill(NamedTuple):
    """A call, and the amounts of its cost lines."""

    name: str
    call: Callable[[], None]
    amounts: dict[str | None, str]
    provenance: str = "priced"


X_AI: Final = "https://api.x.ai/v1"
BILLS: Final = [
    Bill(
        "every attempt is billed at its own model",
        lambda: an(FALLBACK).beta.messages.create(model="claude-fable-5", **ASKED),
        {None: "0.381067", "attempt": "0.2319515"},
    ),
    Bill(
        "an attempt that was declined before output is free",
        lambda: an(DECLINED).beta.messages.create(model="claude-fable-5", **ASKED),
        {None: "0.381067"},
    ),
    Bill(
        "a refusal before any output is free",
        lambda: ask(an(REFUSAL)),
        {None: "0"},
    ),
    Bill(
        "a refusal is free by way of Bedrock",
        lambda: ask(an(REFUSAL, **BEDROCK), "anthropic.claude-fable-5"),
        {None: "0"},
    ),
    Bill(
        "a refusal is free by way of Vertex AI",
        lambda: ask(an(REFUSAL, **VERTEX, region="global")),
        {None: "0"},
    ),
    Bill(
        "a failed search is free",
        lambda: respond(oa(response("gpt-4o", (search("failed"),), "web_search"))),
        {None: "0.0035"},
    ),
    Bill(
        "xAI reports the amount in ticks, tools included",
        lambda: respond(
            oa(
                response(
                    "grok-4.20",
                    server_side_tool_usage_details={"x_search_calls": 2},
                    cost_in_usd_ticks=115_000_000,
                ),
                base_url=X_AI,
            )
        ),
        {None: "0.0115"},
        "reported",
    ),
    Bill(
        "xAI's tools cost by the call where it reports no amount",
        lambda: respond(
            oa(
                response(
                    "grok-4.20", server_side_tool_usage_details={"x_search_calls": 2}
                ),
                base_url=X_AI,
            )
        ),
        {None: "0.0015", "x_search": "0.01"},
    ),
    Bill(
        "OpenRouter reports the amount through any package",
        lambda: ask(
            an(
                claude("claude-opus-4-8", {**tokens(2, 1), "cost": 0.5}),
                base_url="https://openrouter.ai/api",
                api_key="k",
            )
        ),
        {None: "0.5"},
        "reported",
    ),
    Bill(
        "a proxy of LiteLLM reports the amount in a header",
        lambda: complete(
            oa(
                httpx2.Response(
                    200,
                    json=chat("gpt-4o", prompt_tokens=9, completion_tokens=3),
                    headers={"x-litellm-response-cost": "0.0123"},
                ),
                base_url="http://proxy.test:4000",
            )
        ),
        {None: "0.0123"},
        "reported",
    ),
    Bill(
        "Gemini bills thinking that only the total contains",
        lambda: complete(
            oa(
                chat(
                    "gemini-3-flash-preview",
                    prompt_tokens=9,
                    completion_tokens=3,
                    total_tokens=105,
                ),
                base_url=GEMINI,
            )
        ),
        {None: "0.0002925"},
    ),
    Bill(
        "the preview of web search costs more without reasoning",
        lambda: respond(oa(response("gpt-4o", (search(),), "web_search_preview"))),
        {None: "0.0035", "web_search_preview": "0.025"},
    ),
    Bill(
        "the preview of web search with reasoning",
        lambda: respond(oa(response("gpt-5", (search(),), "web_search_preview"))),
        {None: "0.00225", "web_search_preview": "0.01"},
    ),
    Bill(
        "web search",
        lambda: respond(oa(response("gpt-4o", (search(),), "web_search"))),
        {None: "0.0035", "web_search": "0.01"},
    ),
    Bill(
        "a search model pays for a search with every completion",
        lambda: complete(
            oa(chat("gpt-4o-search-preview", prompt_tokens=1000, completion_tokens=100))
        ),
        {None: "0.0035", "web_search_preview": "0.025"},
    ),
    Bill(
        "an endpoint of a region costs a tenth more",
        lambda: respond(
            oa(response("gpt-5.4"), base_url="https://eu.api.openai.com/v1")
        ),
        {None: "0.0044"},
    ),
    Bill(
        "a global profile of Bedrock costs a tenth less",
        lambda: ask(
            an(SONNET, **BEDROCK), "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
        ),
        {None: "0.0045"},
    ),
    Bill(
        "a regional endpoint of Vertex AI costs a tenth more",
        lambda: ask(
            an(SONNET, **VERTEX, region="us-east5"), "claude-sonnet-4-5@20250929"
        ),
        {None: "0.00495"},
    ),
    Bill(
        "the global endpoint of Vertex AI",
        lambda: ask(
            an(SONNET, **VERTEX, region="global"), "claude-sonnet-4-5@20250929"
        ),
        {None: "0.0045"},
    ),
]


@pytest.fixture
def costs() -> Any:
    """Return the tracked costs of one customer."""
    with testing.recording() as recorded, outlay.attribute(customer_id="cus_1"):
        yield recorded


@pytest.mark.parametrize("bill", BILLS, ids=lambda bill: bill.name)
def test_a_call_costs_its_bill(bill: Bill, costs: Costs) -> None:
    """To the last digit, one event for each cost line."""
    bill.call()

    amounts = {each.data.get("line"): each.data["amount"] for each in costs.events}
    assert amounts == {line: Decimal(text) for line, text in bill.amounts.items()}
    assert {each.data["provenance"] for each in costs.events} == {bill.provenance}
    assert not costs.unpriced


def sse(*events: Body) -> httpx2.Response:
    """Return a stream of events."""
    lines = (f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events)
    return httpx2.Response(
        200,
        content="".join(lines).encode(),
        headers={"content-type": "text/event-stream"},
    )


def test_a_streamed_refusal_is_free(costs: Costs) -> None:
    """The stop reason comes with the last event."""
    stream = sse(
        {"type": "message_start", "message": {**REFUSAL, "stop_reason": None}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "refusal"},
            "usage": {"output_tokens": 0},
        },
        {"type": "message_stop"},
    )
    with an(stream).messages.stream(model="claude-fable-5", **ASKED) as events:
        for _ in events:
            pass

    assert [each.data["amount"] for each in costs.events] == [Decimal(0)]


def test_a_refusal_in_a_batch_is_free(costs: Costs) -> None:
    """Not half of the price, but nothing."""
    line = {
        "custom_id": "job-1",
        "result": {"type": "succeeded", "message": REFUSAL},
    }
    outlay.observe_batch([json.dumps(line)], provider="anthropic")

    assert [each.data["amount"] for each in costs.events] == [Decimal(0)]


def test_a_refusal_on_bedrock_is_free(costs: Costs) -> None:
    """In the shape of Anthropic's models, and in that of conversations."""
    for path, body in {
        "invoke": {"usage": tokens(2706, 0), "stop_reason": "refusal"},
        "converse": {
            "usage": {"inputTokens": 2706, "outputTokens": 0, "totalTokens": 2706},
            "stopReason": "refusal",
        },
    }.items():
        outlay.observe(
            body,
            provider="aws",
            endpoint=f"POST /model/anthropic.claude-fable-5/{path}",
            headers={"x-amzn-requestid": path},
        )

    assert [each.data["amount"] for each in costs.events] == [Decimal(0)] * 2


def test_a_price_book_has_prices_by_the_attributed_region(tmp_path: Path) -> None:
    """The region of the call, or else the one that the application names."""
    book = tmp_path / "prices.toml"
    book.write_text(
        """
[[price]]
provider = "openai"
region = "eu-*"
from = 2026-01-01
per = 1_000_000
units = { input_tokens = 7, output_tokens = 0 }
"""
    )
    with (
        testing.recording(price_book=book) as costs,
        outlay.attribute(customer_id="cus_1", region="eu-west-1"),
    ):
        respond(oa(response("gpt-4o")))

    (event,) = costs.events
    assert event.data["amount"] == Decimal("0.007")
    assert event.data["region"] == "eu-west-1"


UNPRICED: Final = {
    "an iteration of an unknown type": lambda: ask(
        an(
            claude(
                "claude-opus-4-8",
                tokens(2, 13658) | {"iterations": [{"type": "new"} | tokens(2, 9)]},
            )
        )
    ),
    "a total that is more than its parts": lambda: complete(
        oa(chat("gpt-4o", prompt_tokens=9, completion_tokens=3, total_tokens=105))
    ),
}


@pytest.mark.parametrize("call", UNPRICED.values(), ids=UNPRICED)
def test_usage_that_contradicts_itself_has_no_price(
    call: Callable[[], None], costs: Costs
) -> None:
    """It is stored with its reason, rather than tracked too cheap."""
    call()

    assert not costs.events
    assert {each.reason for each in costs.unpriced} == {"contradictory_usage"}


def test_a_container_is_named_by_its_id_and_waits_for_its_minutes(
    costs: Costs,
) -> None:
    """Responses do not report how many minutes a container ran."""
    ran = {
        "type": "code_interpreter_call",
        "id": "ci",
        "status": "completed",
        "container_id": "cntr_1",
        "code": "…",
    }
    for _ in range(2):
        respond(oa(response("gpt-4o", (ran, ran), "code_interpreter")))

    waiting = [each for each in costs.unpriced if each.event.data["line"]]
    assert [each.event.data["operationId"] for each in waiting] == ["cntr_1"]
    assert waiting[0].event.data["usage"] == {"session": 1}
