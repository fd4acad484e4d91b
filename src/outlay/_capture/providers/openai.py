"""OpenAI's endpoints, and those of everybody who speaks its language.

Extractors are pure, and read only what `Endpoint.fields` names: never content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay._capture import event_types
from outlay._capture.answers import amount_of, members, numbers
from outlay._capture.observation import Observation
from outlay._capture.providers.stainless import Dialect, library
from outlay._capture.registry import (
    Call,
    Endpoint,
    Extracted,
    register,
    register_like,
)

if TYPE_CHECKING:
    from decimal import Decimal

Answer = Mapping[str, Any]

LIBRARY: Final = library(
    Dialect("openai", classes={"Azure": "azure"}, provider="unknown")
)

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
    register_like(_provider, "openai")


def chat(answer: Answer, call: Call) -> Extracted:
    """Read a chat completion, or a completion."""
    usage = answer.get("usage") or answer.get("x_groq.usage")
    return _tokens(answer, call, "chat", usage=usage)


def responses(answer: Answer, call: Call) -> Iterator[Observation]:
    """Read a response, and the tools that it used, which are charged by the call."""
    if answer.get("status") in _UNDER_WAY:
        return  # runs in the background; whoever retrieves it will see the usage
    yield from _tokens(answer, call, "responses")
    for tool, count in _tools(answer).items():
        yield Observation(
            provider=call.provider,
            event_type=event_types.INFERENCE,
            operation_id=answer.get("id"),
            request_id=call.request_id,
            line=tool,
            model=answer.get("model") or call.model,
            usage={tool: count},
        )


def retrieved(answer: Answer, call: Call) -> Extracted:
    """Read a response that ran in the background; others were read when made."""
    return responses(answer, call) if answer.get("background") is True else None


def embeddings(answer: Answer, call: Call) -> Extracted:
    """Read embeddings."""
    return _tokens(answer, call, "embeddings", event_type=event_types.EMBEDDINGS)


def images(answer: Answer, call: Call) -> Extracted:
    """Read images: by tokens, or by the image where no tokens are reported."""
    if answer.get("usage"):
        return _tokens(answer, call, "images", event_type=event_types.IMAGES)
    count = call.request.get("n")
    shape = {name: call.request.get(name) for name in ("size", "quality")}
    return Observation(
        provider=call.provider,
        event_type=event_types.IMAGES,
        request_id=call.request_id,
        model=call.model,
        usage={"image": count if isinstance(count, int) else 1},
        data={name: value for name, value in shape.items() if isinstance(value, str)},
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
    seconds = amount_of(usage.get("seconds", answer.get("duration")))
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=call.request_id,
        model=call.model,
        usage={} if seconds is None else {"second": seconds},
        complete=seconds is not None,
    )


def speech(_answer: Answer, call: Call) -> Extracted:
    """Read what was to be said: charged by its characters."""
    text = call.request.get("input")
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=call.request_id,
        model=call.model,
        usage={"character": len(text)} if isinstance(text, str) else {},
        complete=isinstance(text, str),
    )


def _tokens(
    answer: Answer,
    call: Call,
    flavor: str,
    *,
    usage: object = None,
    event_type: str = event_types.INFERENCE,
) -> Iterator[Observation]:
    """Return what tokens cost, by the provider's own amount where it tells one."""
    report = numbers(usage or answer.get("usage")) or {}
    counts = {name: count for name, count in report.items() if name not in _COSTS}
    tokens = Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=answer.get("id"),
        request_id=call.request_id,
        model=answer.get("model") or call.model,
        service_tier=answer.get("service_tier"),
        usage=counts,
        flavor=_FLAVORS.get(call.provider, flavor),
        amount=_reported(call.provider, report),
        complete=bool(counts),
    )
    yield _in_units(tokens) if call.provider in _UNREAD else tokens
    upstream = _upstream(call.provider, report, answer.get("usage"))
    if upstream:
        yield msgspec.structs.replace(
            tokens, line="upstream", usage={}, flavor=None, amount=upstream
        )


def _in_units(tokens: Observation) -> Observation:
    """Return usage in price lists' own units, for a provider whose they cannot read."""
    units = {
        _UNITS[name]: tokens.usage[name] for name in _UNITS if name in tokens.usage
    }
    return msgspec.structs.replace(tokens, usage=units, flavor=None)


def _upstream(provider: str, report: Answer, usage: object) -> Decimal | None:
    """Return what the provider behind OpenRouter charges on the user's own key.

    Then OpenRouter charges its fee, and the one behind it the tokens: two bills.
    """
    if provider != "openrouter" or not isinstance(usage, Mapping):
        return None
    details = report.get("cost_details")
    if usage.get("is_byok") is not True or not isinstance(details, Mapping):
        return None
    return amount_of(details.get("upstream_inference_cost"))


_COSTS: Final = {"cost", "cost_details"}
# How genai-prices calls what most call "chat", and whose answers it does not read.
_FLAVORS: Final = {"groq": "default", "mistral": "default", "perplexity": "default"}
_UNREAD: Final = {"together"}
_UNITS: Final = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}


def _reported(provider: str, usage: Mapping[str, Any]) -> Decimal | None:
    """Return what the provider says it charged, in USD, or None: it does not say."""
    if provider == "openrouter":
        return amount_of(usage.get("cost"))
    if provider == "perplexity":
        cost = usage.get("cost")
        return amount_of(cost.get("total_cost")) if isinstance(cost, dict) else None
    return None


def _tools(answer: Answer) -> dict[str, int]:
    """Return how often each tool was used that is charged by the call."""
    kinds = answer.get("output.type") or []
    actions = answer.get("output.action.type") or [None] * len(kinds)
    used = [
        _TOOLS[kind]
        for kind, action in zip(kinds, actions, strict=False)
        # A web search may open pages, too, which is free.
        if kind in _TOOLS and action in {None, "search"}
    ]
    return {tool: used.count(tool) for tool in dict.fromkeys(used)}


_TOOLS: Final = {"web_search_call": "web_search", "file_search_call": "file_search"}
_UNDER_WAY: Final = {"queued", "in_progress"}


def _fold_chat(answer: dict[str, Any], event: Answer) -> bool:
    answer.update(members(event, _CHAT))
    choices = event.get("choices")
    # Some report the usage so far with every chunk: it is final with the last only.
    last = not choices or any(choice.get("finish_reason") for choice in choices)
    return "usage" in answer and last


def _fold_responses(answer: dict[str, Any], event: Answer) -> bool:
    response = event.get("response")
    if isinstance(response, Mapping):
        answer.update(members(response, _RESPONSE))
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
)
_RESPONSE_ENDS: Final = {
    "response.completed",
    "response.incomplete",
    "response.failed",
}
_USAGE: Final = (b'"usage"',)

_COMPLETIONS: Final = Endpoint(chat, _CHAT, _fold_chat, _USAGE, _asking)
_RESPONSES: Final = Endpoint(responses, _RESPONSE, _fold_responses, (b'"response"',))
_IMAGES: Final = Endpoint(images, ("model", "usage"), _fold_usage, _USAGE)
_HEARING: Final = Endpoint(transcription, ("usage", "duration"), _fold_usage, _USAGE)

ENDPOINTS: Final = {
    # "/completions" ends "/chat/completions", too: both are read alike.
    "POST /completions": _COMPLETIONS,
    "POST /responses": _RESPONSES,
    "POST /responses/compact": _RESPONSES,
    "GET /responses/{id}": _RESPONSES._replace(extract=retrieved),
    "POST /embeddings": Endpoint(embeddings, ("id", "model", "usage")),
    "POST /images/generations": _IMAGES,
    "POST /images/edits": _IMAGES,
    "POST /images/variations": _IMAGES,
    "POST /audio/transcriptions": _HEARING,
    "POST /audio/translations": _HEARING,
    "POST /audio/speech": Endpoint(speech, ()),
}
"""Whatever is not here costs nothing: moderations, files, models, batches (whose
costs arise when they have run: see `outlay.observe_batch`)."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("openai", _pattern, _endpoint)
