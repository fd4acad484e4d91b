"""Extract costs from OpenAI's endpoints, and from APIs that are like OpenAI's.

Extractors are pure. They read only the fields in `Endpoint.fields`, never content.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from outlay._capture import event_types
from outlay._capture.extraction.fields import only_numbers, read_fields, to_amount
from outlay._capture.extraction.registry import (
    Call,
    Endpoint,
    Extracted,
    provider_of,
    register,
    register_alias,
)
from outlay._capture.extraction.usage_checks import contradiction_in
from outlay._capture.observation import UNKNOWN_PROVIDER, Observation
from outlay._capture.pricing.price_lists import strip_zeros
from outlay._capture.providers.generators.stainless import StainlessLibrary, library
from outlay._capture.providers.openai_websockets import (
    REALTIME_MODULE,
    RESPONSES_MODULE,
    realtime_patches,
    websocket_patches,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from outlay._capture.instrumentation.library import InstrumentedClients, Patch

Response = Mapping[str, Any]

_AMAZON: Final = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".api.aws",
    ".api.amazonwebservices.com.cn",
    ".api.amazonwebservices.eu",
)
"""The hosts of Amazon's public partitions: commercial and for governments of the US,
China, and the sovereign cloud of the EU. Source: ``partitions.json`` of botocore 1.44,
November 2026."""

_DIALECT: Final = StainlessLibrary(
    "openai",
    classes={"Azure": "azure", "Bedrock": "aws"},
    hosts=dict.fromkeys(_AMAZON, "aws"),
    provider=UNKNOWN_PROVIDER,
)


def _websocket_patches(
    module: ModuleType, scope: InstrumentedClients
) -> Iterable[Patch]:
    return websocket_patches(module, scope, _DIALECT, RESPONSES)


LIBRARY: Final = library(
    _DIALECT,
    extra_modules={
        RESPONSES_MODULE: _websocket_patches,
        REALTIME_MODULE: realtime_patches,
    },
)
# These packages speak the same language, to one provider each.
GROQ: Final = library(StainlessLibrary("groq", provider="groq"))
TOGETHER: Final = library(StainlessLibrary("together", provider="together"))

_ALIKE: Final = (
    "azure",
    "cerebras",
    "deepseek",
    "fireworks",
    "groq",
    "mistral",
    "moonshotai",
    "openrouter",
    "perplexity",
    "together",
    "x-ai",
)
"""Providers whose API is like OpenAI's."""
for _provider in _ALIKE:
    register_alias(_provider, "openai")


def chat(response: Response, call: Call) -> Iterator[Observation]:
    """Read a chat completion, or a completion."""
    usage = response.get("usage") or response.get("x_groq.usage")
    yield from _tokens(response, call, "chat", usage=usage)
    line = _search_line_of(str(response.get("model") or call.model))
    if line is not None and call.provider == "openai":
        yield _tool(response, call, line, response.get("model"), {"web_searches": 1})


def _search_line_of(model: str) -> str | None:
    """Return the cost line of a model that searches the web for every completion.

    Source: https://developers.openai.com/api/docs/pricing, November 2026: the search
    models of chat completions pay the fee of one search for each call.
    """
    if "-search-preview" in model:
        return "web_search_preview"
    return "web_search" if "-search-api" in model else None


def responses(response: Response, call: Call) -> Iterator[Observation]:
    """Read a response and the tools that it used, which are charged apart."""
    is_running = response.get("status") in _RUNNING
    for observed in _response(response, call):
        if response.get("background") is True:
            # Code that retrieves the response observes it again, with its usage.
            yield replace(observed, price_pending=is_running, is_lookup=True)
        else:
            yield observed


def _response(response: Response, call: Call) -> Iterator[Observation]:
    tokens = tuple(_tokens(response, call, "responses"))
    yield from tokens
    if response.get("status") in _RUNNING or tokens[0].amount is not None:
        return  # a reported amount includes the tools
    model = response.get("model")
    for line, unit, count in _tool_calls(response, call):
        yield _tool(response, call, line, model, {unit: count})
    yield from _containers(response, call)
    drawing = only_numbers(response.get("tool_usage.image_gen")) or {}
    if drawing.get("total_tokens"):
        drawer = _tool_attribute(response, "image_generation", "tools.model")
        yield _tool(response, call, "image_generation", drawer, _in_units(drawing))


def response_lookup(response: Response, call: Call) -> Extracted:
    """Read a response that ran in the background. Others were read when created."""
    return responses(response, call) if response.get("background") is True else None


def decisions(response: Response, call: Call) -> Extracted:
    """Read decisions: responses to questions with few possible replies."""
    return _tokens(response, call, "responses")


def embeddings(response: Response, call: Call) -> Extracted:
    """Read embeddings."""
    return _tokens(response, call, "embeddings", event_type=event_types.EMBEDDINGS)


def rerank(response: Response, call: Call) -> Extracted:
    """Read a ranking."""
    return _tokens(response, call, "chat", event_type=event_types.RERANK)


def images(response: Response, call: Call) -> Iterator[Observation]:
    """Read images: by tokens, or by the image where no tokens are reported."""
    if response.get("usage"):
        yield from _tokens(response, call, "images", event_type=event_types.IMAGES)
    else:
        yield _by_the_image(response, call)
    authoring = response.get("svg_usage") or {}
    if authoring:
        yield Observation(
            provider=call.provider,
            event_type=event_types.IMAGES,
            request_id=call.request_id,
            line="svg",
            model=authoring.get("model"),
            usage=_in_units(only_numbers(authoring) or {}),
        )


def _by_the_image(response: Response, call: Call) -> Observation:
    shape = {
        name: response.get(name) or call.request.get(name)
        for name in ("size", "quality")
    }
    known = {name: value for name, value in shape.items() if isinstance(value, str)}
    requested = call.request.get("n")
    count = requested if isinstance(requested, int) else 1
    kinds = itertools.accumulate(["image", *known.values()], "{}/{}".format)
    return Observation(
        provider=call.provider,
        event_type=event_types.IMAGES,
        request_id=call.request_id,
        model=response.get("model") or call.model,
        usage=dict.fromkeys(kinds, count),
        data=known,
    )


def transcription(response: Response, call: Call) -> Extracted:
    """Read a transcription or translation: by tokens, or by the second."""
    usage = response.get("usage") or {}
    if "input_tokens" in usage:
        details = usage.get("input_token_details") or {}
        # The shape of a chat's usage, in which price lists know the price of audio.
        usage = {
            "prompt_tokens": usage["input_tokens"],
            "prompt_tokens_details": {"audio_tokens": details.get("audio_tokens")},
            "completion_tokens": usage.get("output_tokens"),
        }
        return _tokens(
            response, call, "chat", usage=usage, event_type=event_types.AUDIO
        )
    seconds = to_amount(usage.get("seconds", response.get("duration")))
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=call.request_id,
        model=call.model,
        usage={} if seconds is None else dict.fromkeys(_SECONDS, seconds),
        is_complete=seconds is not None,
    )


_SECONDS: Final = ("audio_seconds", "input_audio_seconds")  # a whole, and its part


def speech(response: Response, call: Call) -> Extracted:
    """Read speech: by the tokens that a stream reports, or by the characters sent."""
    text = call.request.get("input")
    units = _in_units(only_numbers(response.get("usage")) or {})
    if not units and isinstance(text, str):
        units = {"input_characters": len(text)}
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=call.request_id,
        model=call.model,
        usage=units,
        is_complete=bool(units),
    )


def batch_line(response: Response, call: Call) -> Iterator[Observation]:
    """Read a line of a batch's output: one response, at the price of a batch."""
    body = {
        name.removeprefix(_BODY): value
        for name, value in response.items()
        if name.startswith(_BODY)
    }
    endpoint = _BATCHED.get(body.get("object", ""))
    if response.get("response.status_code") != _OK or endpoint is None:
        return  # an error, or a free operation, such as a moderation
    request_id = response.get("response.request_id")
    inner = replace(call, method="POST", request={}, model=None, request_id=request_id)
    extracted = endpoint.extract(body, inner) or ()
    for observed in (extracted,) if isinstance(extracted, Observation) else extracted:
        yield replace(
            observed,
            operation_id=observed.operation_id or response.get("id"),
            service_tier="batch",
            is_lookup=True,
        )


def _tokens(
    response: Response,
    call: Call,
    shape: str,
    *,
    usage: object = None,
    event_type: str = event_types.INFERENCE,
) -> Iterator[Observation]:
    """Yield the cost of tokens, with the provider's own amount where it reports one."""
    report = only_numbers(usage or response.get("usage")) or {}
    counts, contradiction = _reconciled(call.provider, _without_amounts(report))
    shapes = _SHAPES.get(call.provider)
    flavor = shape if shapes is None else shapes.get(shape)
    endpoint, region = _endpoint_of(call)
    tokens = Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=response.get("id"),
        request_id=call.request_id,
        model=response.get("model") or call.model,
        service_tier=response.get("service_tier"),
        region=region,
        endpoint=endpoint,
        usage=counts if flavor else _in_units(counts),
        flavor=flavor,
        amount=_reported(report, call),
        is_complete=bool(counts),
        contradiction=contradiction,
    )
    yield tokens
    if call.provider == "openrouter":
        upstream = _upstream(report, response.get("usage"))
        if upstream:
            yield replace(
                tokens, line="upstream", usage={}, flavor=None, amount=upstream
            )


def _without_amounts(report: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of a report, without the amounts that `_reported` reads."""
    if _AMOUNTS.isdisjoint(report):
        return report
    return {name: n for name, n in report.items() if name not in _AMOUNTS}


def _endpoint_of(call: Call) -> tuple[str | None, str | None]:
    """Return the kind of an OpenAI endpoint, and its region.

    Source: https://developers.openai.com/api/docs/guides/data-residency, November 2026:
    the host of a region is ``eu.api.openai.com``, and so on.
    """
    region, found, _ = (call.host or "").partition(".api.openai.com")
    if call.provider != "openai" or not found:
        return None, call.region
    return ("gov" if region == "gov" else "regional"), region


def _reconciled(
    provider: str, counts: dict[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Return counts that add up, or the reason why no rule makes them add up.

    Some APIs leave thinking out of the output, and report it only in the total:

    * Gemini's OpenAI-compatible API bills thinking as output. Source:
      https://ai.google.dev/gemini-api/docs/thinking#pricing, November 2026.
    * xAI reports reasoning apart for some models, and bills it as output. Source:
      https://docs.x.ai/docs/guides/reasoning, November 2026.
    """
    total = counts.get("total_tokens")
    given = counts.get("prompt_tokens", counts.get("input_tokens"))
    name = "completion_tokens" if "completion_tokens" in counts else "output_tokens"
    made = counts.get(name, 0)
    if type(total) is not int or type(given) is not int or type(made) is not int:
        return counts, None
    missing = total - given - made
    if not total or not missing:
        return counts, None
    details = counts.get(f"{name}_details")
    reasoning = details.get("reasoning_tokens") if isinstance(details, dict) else None
    if (provider == "google" and missing > 0) or (
        provider == "x-ai" and missing == reasoning
    ):
        return {**counts, name: made + missing}, None
    return counts, contradiction_in(total, given + made)


def _tool(
    response: Response, call: Call, line: str, model: str | None, usage: dict[str, Any]
) -> Observation:
    return Observation(
        provider=call.provider,
        event_type=event_types.INFERENCE,
        operation_id=response.get("id"),
        request_id=call.request_id,
        line=line,
        model=model,
        usage=usage,
    )


def _in_units(usage: Response) -> dict[str, Any]:
    """Return a report in the units of price lists that do not read its shape."""
    units: dict[str, Any] = {}
    for path, unit in _UNITS.items():
        count: Any = usage
        for name in path.split("."):
            count = count.get(name) if isinstance(count, Mapping) else None
        if count is not None:
            units[unit] = count
    return units


def _upstream(report: Response, usage: object) -> Decimal | None:
    """Return the amount that the provider behind OpenRouter charges.

    With the user's own key, OpenRouter charges its fee, and the provider behind it
    charges the tokens: two bills.
    """
    if not isinstance(usage, Mapping):
        return None
    details = report.get("cost_details")
    if usage.get("is_byok") is not True or not isinstance(details, Mapping):
        return None
    return to_amount(details.get("upstream_inference_cost"))


_SHAPES: Final[Mapping[str, Mapping[str, str]]] = {
    "aws": {},
    "azure": {
        "chat": "chat",
        "responses": "responses",
        "embeddings": "embeddings",
    },
    "cerebras": {"chat": "chat"},
    "deepseek": {"chat": "chat"},
    "fireworks": {"chat": "chat"},
    "google": {"chat": "chat"},
    "groq": {"chat": "default"},
    "mistral": {"chat": "default"},
    "moonshotai": {"chat": "chat"},
    "openrouter": {"chat": "chat", "responses": "default"},
    "perplexity": {
        "chat": "default",
        "responses": "responses",
        "embeddings": "embeddings",
    },
    "together": {},
    "x-ai": {"chat": "chat", "responses": "responses"},
}
"""The shapes that genai-prices reads of providers for which it differs from OpenAI's.

Usage in any other shape is observed in units."""
_UNITS: Final = {
    "prompt_tokens": "input_tokens",
    "prompt_tokens_details.cached_tokens": "cache_read_tokens",
    "completion_tokens": "output_tokens",
    "completion_tokens_details.reasoning_tokens": "output_reasoning_tokens",
    "input_tokens": "input_tokens",
    "input_tokens_details.cached_tokens": "cache_read_tokens",
    "input_tokens_details.text_tokens": "input_text_tokens",
    "input_tokens_details.image_tokens": "input_image_tokens",
    "cached_tokens": "cache_read_tokens",
    "cached_tokens_details.cached_text_tokens": "cache_text_read_tokens",
    "cached_tokens_details.cached_image_tokens": "cache_image_read_tokens",
    "output_tokens": "output_tokens",
    "output_tokens_details.reasoning_tokens": "output_reasoning_tokens",
    "output_tokens_details.text_tokens": "output_text_tokens",
    "output_tokens_details.image_tokens": "output_image_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
}


def _reported(report: Mapping[str, Any], call: Call) -> Decimal | None:
    """Return the amount that the provider or a gateway reports, in USD, or None.

    * xAI: ``usage.cost_in_usd_ticks``, 10,000,000,000 to the dollar, tools included.
      Source: https://docs.x.ai/developers/cost-tracking, November 2026.
    * OpenRouter, and gateways that follow it: ``usage.cost``. Source:
      https://openrouter.ai/docs/use-cases/usage-accounting, November 2026.
    * Perplexity: ``usage.cost.total_cost``.
    * LiteLLM's proxy: a header. It contains 0 for models without a price. Source:
      https://docs.litellm.ai/docs/proxy/cost_tracking, November 2026.
    """
    ticks = report.get("cost_in_usd_ticks")
    if type(ticks) is int and ticks >= 0:
        return strip_zeros(Decimal(ticks).scaleb(-_TICK_PLACES, _EXACT))
    cost = report.get("cost")
    if isinstance(cost, Mapping):
        cost = cost.get("total_cost")
    if cost is not None:
        return to_amount(cost)
    if call.host is not None and provider_of(call.host) is not None:
        return None  # no proxy: most calls, which need not look into their headers
    return to_amount(call.headers.get("x-litellm-response-cost")) or None


_AMOUNTS: Final = frozenset({"cost", "cost_details", "cost_in_usd_ticks"})
_TICK_PLACES: Final = 10
_EXACT: Final = Context(prec=100)  # whatever the application's context is


def _tool_calls(response: Response, call: Call) -> Iterator[tuple[str, str, int]]:
    """Yield tools that are charged by the call: line, unit and count."""
    if call.provider == "x-ai":
        details = (response.get("usage") or {}).get("server_side_tool_usage_details")
        used = details if isinstance(details, Mapping) else {}
        for name, (line, unit) in _XAI_TOOLS.items():
            if used.get(name):
                yield line, unit, used[name]
        return
    kinds = response.get("output.type") or []
    actions = response.get("output.action.type") or [None] * len(kinds)
    states = response.get("output.status") or [None] * len(kinds)
    requests = response.get("tool_usage.web_search.num_requests")
    for kind, (line, unit) in _TOOLS.items():
        count = sum(
            1
            for used, action, state in zip(kinds, actions, states, strict=False)
            # A web search may also open pages, which is free. So are failed calls.
            if used == kind and action in {None, "search"} and state != "failed"
        )
        if kind == _WEB_SEARCH and isinstance(requests, int):
            count = requests
        if kind == _WEB_SEARCH and _uses_preview(response):
            line = "web_search_preview"  # noqa: PLW2901 - the fee of another tool
        if count:
            yield line, unit, count


def _uses_preview(response: Response) -> bool:
    """Return whether the web search is the preview, whose fee depends on the model.

    Source: https://developers.openai.com/api/docs/pricing, November 2026.
    """
    tools = response.get("tools.type") or ()
    return any(str(tool).startswith("web_search_preview") for tool in tools)


def _containers(response: Response, call: Call) -> Iterator[Observation]:
    """Yield each container that code ran in. Its id names the operation.

    Later responses may use the same container, which is charged once a session.
    """
    ids = (*(response.get(name) or () for name in _CONTAINER_IDS),)
    limit = _tool_attribute(response, "code_interpreter", _MEMORY)
    usage = {"session": 1}
    if limit in _LARGE:
        usage[f"session/{limit}"] = 1
    for container in dict.fromkeys(filter(None, itertools.chain(*ids))):
        yield replace(
            _tool(response, call, "code_interpreter", response.get("model"), usage),
            operation_id=container,
        )


def _tool_attribute(response: Response, tool: str, path: str) -> str | None:
    kinds, values = response.get("tools.type") or [], response.get(path) or []
    return dict(zip(kinds, values, strict=False)).get(tool)


_WEB_SEARCH: Final = "web_search_call"
_TOOLS: Final = {
    _WEB_SEARCH: ("web_search", "web_searches"),
    "file_search_call": ("file_search", "storage_searches"),
}
_XAI_TOOLS: Final = {
    "web_search_calls": ("web_search", "web_searches"),
    "x_search_calls": ("x_search", "social_searches"),
    "code_interpreter_calls": ("code_execution", "code_executions"),
    "file_search_calls": ("file_search", "storage_searches"),
    "document_search_calls": ("document_search", "storage_searches"),
}
"""Source: https://docs.x.ai/docs/guides/tools/overview, November 2026."""
_CONTAINER_IDS: Final = ("output.container_id", "output.environment.container_id")
_MEMORY: Final = "tools.container.memory_limit"
_LARGE: Final = {"4g", "16g", "64g"}  # 1g is the usual size
_RUNNING: Final = {"queued", "in_progress"}


def _merge_chat_event(response: dict[str, Any], event: Response) -> bool:
    response.update(read_fields(event, _CHAT))
    choices = event.get("choices")
    # Some report the usage so far with every chunk. Only the last one is final.
    last = not choices or any(choice.get("finish_reason") for choice in choices)
    return "usage" in response and last


def _merge_response_event(response: dict[str, Any], event: Response) -> bool:
    found = event.get("response")
    if isinstance(found, Mapping):
        response.update(read_fields(found, _RESPONSE))
    return event.get("type") in _RESPONSE_ENDS


def _merge_usage_event(response: dict[str, Any], event: Response) -> bool:
    """Keep the usage of an image or a transcription, which the last event contains."""
    if event.get("usage"):
        response["usage"] = event["usage"]
    return "usage" in response


def _with_usage_requested(request: Mapping[str, Any]) -> dict[str, Any]:
    given = request.get("stream_options") or {}
    return {**request, "stream_options": {**given, "include_usage": True}}


_CHAT: Final = ("id", "model", "usage", "service_tier", "x_groq.usage")
_RESPONSE: Final = (
    "id",
    "model",
    "usage",
    "service_tier",
    "status",
    "background",
    "output.type",
    "output.status",
    "output.action.type",
    *_CONTAINER_IDS,
    "tools.type",
    "tools.model",
    _MEMORY,
    "tool_usage.image_gen",
    "tool_usage.web_search.num_requests",
)
_RESPONSE_ENDS: Final = {
    "response.completed",
    "response.incomplete",
    "response.failed",
}
_USAGE: Final = (b'"usage"',)

COMPLETIONS: Final = Endpoint(
    chat, _CHAT, _merge_chat_event, _USAGE, _with_usage_requested
)
RESPONSES: Final = Endpoint(
    responses, _RESPONSE, _merge_response_event, (b'"response"',)
)
_IMAGES: Final = Endpoint(
    images,
    ("model", "usage", "svg_usage", "size", "quality"),
    _merge_usage_event,
    _USAGE,
)
EMBEDDINGS: Final = Endpoint(embeddings, ("id", "model", "usage"))
_TRANSCRIPTION: Final = Endpoint(
    transcription, ("usage", "duration"), _merge_usage_event, _USAGE
)
_SPEECH: Final = Endpoint(speech, (), _merge_usage_event, _USAGE)

_OK: Final = 200
_BODY: Final = "response.body."
_BATCHED: Final = {
    "chat.completion": COMPLETIONS,
    "text_completion": COMPLETIONS,
    "response": RESPONSES,
    "list": EMBEDDINGS,
}
"""The endpoints by the ``object`` of their responses."""
_LINE: Final = (
    "id",
    "custom_id",
    "response.status_code",
    "response.request_id",
    *(_BODY + name for name in dict.fromkeys(("object", *_CHAT, *_RESPONSE))),
)

ENDPOINTS: Final = {
    # The pattern also matches "/chat/completions". Both are read alike.
    "POST /completions": COMPLETIONS,
    "POST /responses": RESPONSES,
    "POST /responses/compact": RESPONSES,
    "GET /responses/{id}": RESPONSES._replace(extract=response_lookup),
    "POST /responses/{id}/cancel": RESPONSES._replace(extract=response_lookup),
    "POST /decisions": Endpoint(decisions, ("model", "usage")),
    "POST /embeddings": EMBEDDINGS,
    "POST /rerank": Endpoint(rerank, ("id", "model", "usage")),
    "POST /images/generations": _IMAGES,
    "POST /images/edits": _IMAGES,
    "POST /images/variations": _IMAGES,
    "POST /audio/transcriptions": _TRANSCRIPTION,
    "POST /audio/translations": _TRANSCRIPTION,
    "POST /audio/speech": _SPEECH,
    "GET /files/{id}/content": Endpoint(
        batch_line, _LINE, markers=(b'"custom_id"',), is_json_lines=True
    ),
}
"""Moderations, models, files and batches are free: the cost of a batch is known when
its output is read. docs/providers.md names what is charged and missing here."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("openai", _pattern, _endpoint)
