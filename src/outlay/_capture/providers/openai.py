"""OpenAI's endpoints, and those of everybody who speaks its language.

Extractors are pure, and read only what `Endpoint.fields` names: never content.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from outlay._capture import event_types
from outlay._capture.extraction.fields import only_numbers, read_fields, to_amount
from outlay._capture.extraction.registry import (
    Call,
    Endpoint,
    Extracted,
    register,
    register_alias,
)
from outlay._capture.observation import Observation
from outlay._capture.providers.generators.stainless import StainlessLibrary, library

if TYPE_CHECKING:
    from decimal import Decimal

Answer = Mapping[str, Any]

LIBRARY: Final = library(
    StainlessLibrary(
        "openai",
        classes={"Azure": "azure", "Bedrock": "aws"},
        hosts={".amazonaws.com": "aws", ".api.aws": "aws"},
        provider="unknown",
    )
)
# These packages speak the same language to one provider each.
GROQ: Final = library(StainlessLibrary("groq", provider="groq"))
TOGETHER: Final = library(StainlessLibrary("together", provider="together"))

# Whose API is like OpenAI's.
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
for _provider in _ALIKE:
    register_alias(_provider, "openai")


def chat(answer: Answer, call: Call) -> Extracted:
    """Read a chat completion, or a completion."""
    usage = answer.get("usage") or answer.get("x_groq.usage")
    return _tokens(answer, call, "chat", usage=usage)


def responses(answer: Answer, call: Call) -> Iterator[Observation]:
    """Read a response, and the tools that it used, which are charged apart."""
    under_way = answer.get("status") in _UNDER_WAY
    for seen in _response(answer, call):
        if answer.get("background") is True:
            # Whoever retrieves it will see it, too, or will be the first to see usage.
            yield replace(seen, price_pending=under_way, is_lookup=True)
        else:
            yield seen


def _response(answer: Answer, call: Call) -> Iterator[Observation]:
    yield from _tokens(answer, call, "responses")
    if answer.get("status") in _UNDER_WAY:
        return
    for line, unit, count in _searches(answer):
        yield _tool(answer, call, line, answer.get("model"), {unit: count})
    drawing = only_numbers(answer.get("tool_usage.image_gen")) or {}
    if drawing.get("total_tokens"):
        model = _model_of_tool(answer, "image_generation")
        yield _tool(answer, call, "image_generation", model, _in_units(drawing))


def response_lookup(answer: Answer, call: Call) -> Extracted:
    """Read a response that ran in the background; others were read when made."""
    return responses(answer, call) if answer.get("background") is True else None


def decisions(answer: Answer, call: Call) -> Extracted:
    """Read answers to questions of which each has few possible answers."""
    return _tokens(answer, call, "responses")


def embeddings(answer: Answer, call: Call) -> Extracted:
    """Read embeddings."""
    return _tokens(answer, call, "embeddings", event_type=event_types.EMBEDDINGS)


def rerank(answer: Answer, call: Call) -> Extracted:
    """Read what was put into an order."""
    return _tokens(answer, call, "chat", event_type=event_types.RERANK)


def images(answer: Answer, call: Call) -> Iterator[Observation]:
    """Read images: by tokens, or by the image where no tokens are reported."""
    if answer.get("usage"):
        yield from _tokens(answer, call, "images", event_type=event_types.IMAGES)
    else:
        yield _by_the_image(answer, call)
    authoring = answer.get("svg_usage") or {}
    if authoring:
        yield Observation(
            provider=call.provider,
            event_type=event_types.IMAGES,
            request_id=call.request_id,
            line="svg",
            model=authoring.get("model"),
            usage=_in_units(only_numbers(authoring) or {}),
        )


def _by_the_image(answer: Answer, call: Call) -> Observation:
    shape = {
        name: answer.get(name) or call.request.get(name) for name in ("size", "quality")
    }
    known = {name: value for name, value in shape.items() if isinstance(value, str)}
    asked = call.request.get("n")
    count = asked if isinstance(asked, int) else 1
    kinds = itertools.accumulate(["image", *known.values()], "{}/{}".format)
    return Observation(
        provider=call.provider,
        event_type=event_types.IMAGES,
        request_id=call.request_id,
        model=answer.get("model") or call.model,
        usage=dict.fromkeys(kinds, count),
        data=known,
    )


def transcription(answer: Answer, call: Call) -> Extracted:
    """Read a transcription or translation: by tokens, or by the second."""
    usage = answer.get("usage") or {}
    if "input_tokens" in usage:
        details = usage.get("input_token_details") or {}
        # As a chat reports it, for which price lists know that audio costs more.
        usage = {
            "prompt_tokens": usage["input_tokens"],
            "prompt_tokens_details": {"audio_tokens": details.get("audio_tokens")},
            "completion_tokens": usage.get("output_tokens"),
        }
        return _tokens(answer, call, "chat", usage=usage, event_type=event_types.AUDIO)
    seconds = to_amount(usage.get("seconds", answer.get("duration")))
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=call.request_id,
        model=call.model,
        usage={} if seconds is None else dict.fromkeys(_SECONDS, seconds),
        is_complete=seconds is not None,
    )


_SECONDS: Final = ("audio_seconds", "input_audio_seconds")  # a whole, and its part


def speech(answer: Answer, call: Call) -> Extracted:
    """Read what was to be said: by the tokens that a stream reports, or characters."""
    text = call.request.get("input")
    units = _in_units(only_numbers(answer.get("usage")) or {})
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


def batch_line(answer: Answer, call: Call) -> Iterator[Observation]:
    """Read a line of a batch's output: one response, at the price of a batch."""
    body = {
        name.removeprefix(_BODY): value
        for name, value in answer.items()
        if name.startswith(_BODY)
    }
    endpoint = _BATCHED.get(body.get("object", ""))
    if answer.get("response.status_code") != _OK or endpoint is None:
        return  # an error, or what is free, such as moderations
    request_id = answer.get("response.request_id")
    inner = replace(call, method="POST", request={}, model=None, request_id=request_id)
    extracted = endpoint.extract(body, inner) or ()
    for seen in (extracted,) if isinstance(extracted, Observation) else extracted:
        yield replace(
            seen,
            operation_id=seen.operation_id or answer.get("id"),
            service_tier="batch",
            is_lookup=True,
        )


def _tokens(
    answer: Answer,
    call: Call,
    shape: str,
    *,
    usage: object = None,
    event_type: str = event_types.INFERENCE,
) -> Iterator[Observation]:
    """Return what tokens cost, by the provider's own amount where it tells one."""
    report = only_numbers(usage or answer.get("usage")) or {}
    counts = {name: count for name, count in report.items() if name not in _COSTS}
    flavor = _SHAPES.get(call.provider, {shape: shape}).get(shape)
    tokens = Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=answer.get("id"),
        request_id=call.request_id,
        model=answer.get("model") or call.model,
        service_tier=answer.get("service_tier"),
        usage=counts if flavor else _in_units(counts),
        flavor=flavor,
        amount=_reported(call.provider, report),
        is_complete=bool(counts),
    )
    yield tokens
    upstream = _upstream(call.provider, report, answer.get("usage"))
    if upstream:
        yield replace(tokens, line="upstream", usage={}, flavor=None, amount=upstream)


def _tool(
    answer: Answer, call: Call, line: str, model: str | None, usage: dict[str, Any]
) -> Observation:
    return Observation(
        provider=call.provider,
        event_type=event_types.INFERENCE,
        operation_id=answer.get("id"),
        request_id=call.request_id,
        line=line,
        model=model,
        usage=usage,
    )


def _in_units(usage: Answer) -> dict[str, Any]:
    """Return a report in price lists' own units, where they do not read its shape."""
    units: dict[str, Any] = {}
    for path, unit in _UNITS.items():
        count: Any = usage
        for name in path.split("."):
            count = count.get(name) if isinstance(count, Mapping) else None
        if count is not None:
            units[unit] = count
    return units


def _upstream(provider: str, report: Answer, usage: object) -> Decimal | None:
    """Return what the provider behind OpenRouter charges on the user's own key.

    Then OpenRouter charges its fee, and the one behind it the tokens: two bills.
    """
    if provider != "openrouter" or not isinstance(usage, Mapping):
        return None
    details = report.get("cost_details")
    if usage.get("is_byok") is not True or not isinstance(details, Mapping):
        return None
    return to_amount(details.get("upstream_inference_cost"))


_COSTS: Final = {"cost", "cost_details"}
# What genai-prices reads of the providers whose shapes it does not call, or know, as it
# does OpenAI's own. What it does not read is told in units.
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


def _reported(provider: str, usage: Mapping[str, Any]) -> Decimal | None:
    """Return what the provider says it charged, in USD, or None: it does not say."""
    if provider == "openrouter":
        return to_amount(usage.get("cost"))
    if provider == "perplexity":
        cost = usage.get("cost")
        return to_amount(cost.get("total_cost")) if isinstance(cost, dict) else None
    return None


def _searches(answer: Answer) -> Iterator[tuple[str, str, int]]:
    """Yield the searches that are charged by the call: line, unit and count."""
    kinds = answer.get("output.type") or []
    actions = answer.get("output.action.type") or [None] * len(kinds)
    billed = answer.get("tool_usage.web_search.num_requests")
    for kind, (line, unit) in _SEARCHES.items():
        count = sum(
            1
            for used, action in zip(kinds, actions, strict=False)
            # A web search may open pages, too, which is free.
            if used == kind and action in {None, "search"}
        )
        if unit == "web_searches" and isinstance(billed, int):
            count = billed
        if count:
            yield line, unit, count


def _model_of_tool(answer: Answer, tool: str) -> str | None:
    kinds, models = answer.get("tools.type") or [], answer.get("tools.model") or []
    return dict(zip(kinds, models, strict=False)).get(tool)


_SEARCHES: Final = {
    "web_search_call": ("web_search", "web_searches"),
    "file_search_call": ("file_search", "storage_searches"),
}
_UNDER_WAY: Final = {"queued", "in_progress"}


def _fold_chat(answer: dict[str, Any], event: Answer) -> bool:
    answer.update(read_fields(event, _CHAT))
    choices = event.get("choices")
    # Some report the usage so far with every chunk: it is final with the last only.
    last = not choices or any(choice.get("finish_reason") for choice in choices)
    return "usage" in answer and last


def _fold_responses(answer: dict[str, Any], event: Answer) -> bool:
    response = event.get("response")
    if isinstance(response, Mapping):
        answer.update(read_fields(response, _RESPONSE))
    return event.get("type") in _RESPONSE_ENDS


def _fold_usage(answer: dict[str, Any], event: Answer) -> bool:
    """Keep the usage: of an image, or of a transcription, it comes with the end."""
    if event.get("usage"):
        answer["usage"] = event["usage"]
    return "usage" in answer


def _asking(request: Mapping[str, Any]) -> dict[str, Any]:
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
    "output.action.type",
    "tools.type",
    "tools.model",
    "tool_usage.image_gen",
    "tool_usage.web_search.num_requests",
)
_RESPONSE_ENDS: Final = {
    "response.completed",
    "response.incomplete",
    "response.failed",
}
_USAGE: Final = (b'"usage"',)

_COMPLETIONS: Final = Endpoint(chat, _CHAT, _fold_chat, _USAGE, _asking)
_RESPONSES: Final = Endpoint(responses, _RESPONSE, _fold_responses, (b'"response"',))
_IMAGES: Final = Endpoint(
    images, ("model", "usage", "svg_usage", "size", "quality"), _fold_usage, _USAGE
)
_EMBEDDINGS: Final = Endpoint(embeddings, ("id", "model", "usage"))
_HEARING: Final = Endpoint(transcription, ("usage", "duration"), _fold_usage, _USAGE)
_SPEECH: Final = Endpoint(speech, (), _fold_usage, _USAGE)

_OK: Final = 200
_BODY: Final = "response.body."
_BATCHED: Final = {
    "chat.completion": _COMPLETIONS,
    "text_completion": _COMPLETIONS,
    "response": _RESPONSES,
    "list": _EMBEDDINGS,
}
"""By the object that a response says it is."""
_LINE: Final = (
    "id",
    "custom_id",
    "response.status_code",
    "response.request_id",
    *(_BODY + name for name in dict.fromkeys(("object", *_CHAT, *_RESPONSE))),
)

ENDPOINTS: Final = {
    # "/completions" ends "/chat/completions", too: both are read alike.
    "POST /completions": _COMPLETIONS,
    "POST /responses": _RESPONSES,
    "POST /responses/compact": _RESPONSES,
    "GET /responses/{id}": _RESPONSES._replace(extract=response_lookup),
    "POST /responses/{id}/cancel": _RESPONSES._replace(extract=response_lookup),
    "POST /decisions": Endpoint(decisions, ("model", "usage")),
    "POST /embeddings": _EMBEDDINGS,
    "POST /rerank": Endpoint(rerank, ("id", "model", "usage")),
    "POST /images/generations": _IMAGES,
    "POST /images/edits": _IMAGES,
    "POST /images/variations": _IMAGES,
    "POST /audio/transcriptions": _HEARING,
    "POST /audio/translations": _HEARING,
    "POST /audio/speech": _SPEECH,
    "GET /files/{id}/content": Endpoint(
        batch_line, _LINE, markers=(b'"custom_id"',), is_json_lines=True
    ),
}
"""Free are moderations, models, files and batches: what a batch costs is known when its
output is read. What is charged and not here, docs/providers.md names."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("openai", _pattern, _endpoint)
