"""Extract costs from Mistral: tokens, pages, audio, and tools of conversations.

The library is patched at ``do_request``. Every call of every part of it goes through
there once, after its own retries, and gets the HTTP response.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.fields import only_numbers
from outlay._capture.extraction.registry import (
    Call,
    Endpoint,
    register,
)
from outlay._capture.extraction.usage_checks import contradiction_in
from outlay._capture.observation import Observation
from outlay._capture.providers.generators.speakeasy import library

Response = Mapping[str, Any]

LIBRARY: Final = library("mistralai", module="mistralai.client", provider="mistral")


def chat(response: Response, call: Call) -> Observation:
    """Read a chat completion, a fill-in-the-middle, or an agent's completion."""
    return _tokens(response, call, event_types.INFERENCE)


def embeddings(response: Response, call: Call) -> Observation:
    """Read embeddings."""
    return _tokens(response, call, event_types.EMBEDDINGS)


def ocr(response: Response, call: Call) -> Observation:
    """Read the pages of a document. Annotated ones cost more."""
    usage = only_numbers(response.get("usage_info")) or {}
    annotated = any(call.request.get(name) for name in _ANNOTATIONS)
    return Observation(
        provider=call.provider,
        event_type=event_types.OCR,
        request_id=_request_id(call),
        model=response.get("model") or call.model,
        usage=usage,
        flavor="ocr_annotated" if annotated else "ocr",
        is_complete=bool(usage),
    )


def converse(response: Response, call: Call) -> Iterator[Observation]:
    """Read a turn of a conversation, and its tools. The turn has an id of its own.

    Source: https://mistral.ai/pricing, November 2026: connectors cost by the call.
    """
    ids, models = response.get("outputs.id") or [], response.get("outputs.model") or []
    usage = response.get("usage") or {}
    turn = {
        "id": next((each for each in reversed(ids) if each), None),
        "model": next((each for each in reversed(models) if each), None),
        "usage": usage,
    }
    tokens = _tokens(turn, call, event_types.INFERENCE)
    yield tokens
    for name, count in (usage.get("connectors") or {}).items():
        line, unit = _CONNECTORS.get(name, (name, name))
        if count:
            yield Observation(
                provider=call.provider,
                event_type=event_types.INFERENCE,
                operation_id=tokens.operation_id,
                request_id=tokens.request_id,
                line=line,
                model=tokens.model,
                usage={unit: count},
            )


def transcription(response: Response, call: Call) -> Observation:
    """Read a transcription: by the second of audio."""
    usage = only_numbers(response.get("usage")) or {}
    seconds = usage.get("prompt_audio_seconds")
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=_request_id(call),
        model=response.get("model") or call.model,
        # Price lists need the whole beside its part.
        usage={}
        if seconds is None
        else {"audio_seconds": seconds, "input_audio_seconds": seconds},
        is_complete=seconds is not None,
    )


def speech(_response: Response, call: Call) -> Observation:
    """Read speech, which costs by the character sent."""
    text = call.request.get("input")
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=_request_id(call),
        model=call.model,
        usage={"character": len(text)} if isinstance(text, str) else {},
        is_complete=isinstance(text, str),
    )


def _tokens(response: Response, call: Call, event_type: str) -> Observation:
    report = response.get("usage") or {}
    usage, tier = only_numbers(report) or {}, report.get("service_tier")
    tokens = sum(
        usage.get(name) or 0 for name in ("prompt_tokens", "completion_tokens")
    )
    return Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=response.get("id"),
        request_id=_request_id(call),
        model=response.get("model") or call.model,
        service_tier=None if tier == "standard" else tier,
        usage=usage,
        flavor="default",
        is_complete=bool(usage),
        contradiction=contradiction_in(usage.get("total_tokens"), tokens),
    )


def _request_id(call: Call) -> str | None:
    return call.headers.get("mistral-correlation-id")


def _merge_event(response: dict[str, Any], event: Response) -> bool:
    for name in _CHAT:
        if event.get(name) is not None:
            response[name] = event[name]
    return bool(event.get("usage"))


def _merge_conversation_event(response: dict[str, Any], event: Response) -> bool:
    if event.get("type") == "message.output.delta":
        response["outputs.id"] = [event.get("id")]
        response["outputs.model"] = [event.get("model")]
    return _merge_event(response, event)


_CHAT: Final = ("id", "model", "usage")
_CONVERSATION: Final = ("outputs.id", "outputs.model", "usage")
_ANNOTATIONS: Final = ("bbox_annotation_format", "document_annotation_format")
_USAGE: Final = (b'"usage"',)
_CONNECTORS: Final = {
    "web_search": ("web_search", "web_searches"),
    "code_interpreter": ("code_interpreter", "code_executions"),
    "image_generation": ("image_generation", "image"),
}
"""The cost line and the unit of each connector with a known price."""

_COMPLETIONS: Final = Endpoint(chat, _CHAT, _merge_event, _USAGE)
_CONVERSATIONS: Final = Endpoint(
    converse,
    _CONVERSATION,
    _merge_conversation_event,
    (*_USAGE, b"message.output.delta"),
)

ENDPOINTS: Final = {
    "POST /v1/chat/completions": _COMPLETIONS,
    "POST /v1/fim/completions": _COMPLETIONS,
    "POST /v1/agents/completions": _COMPLETIONS,
    "POST /v1/conversations": _CONVERSATIONS,
    "POST /v1/conversations/{id}": _CONVERSATIONS,
    "POST /v1/conversations/{id}/restart": _CONVERSATIONS,
    "POST /v1/embeddings": Endpoint(embeddings, _CHAT),
    "POST /v1/ocr": Endpoint(ocr, ("model", "usage_info")),
    "POST /v1/audio/transcriptions": Endpoint(
        transcription, ("model", "usage"), _merge_event, _USAGE
    ),
    "POST /v1/audio/speech": Endpoint(speech, ()),
}
"""Other operations cost nothing, or are not captured: moderation, files, batches,
realtime."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("mistral", _pattern, _endpoint)
