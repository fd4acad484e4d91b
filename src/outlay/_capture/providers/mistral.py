"""Mistral: tokens, and pages that were read.

The library is hooked at ``do_request``, which every call of every part of it goes
through once, after its own retries; what comes back is the HTTP response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.fields import only_numbers
from outlay._capture.extraction.registry import (
    Call,
    Endpoint,
    register,
)
from outlay._capture.observation import Observation
from outlay._capture.providers.generators.speakeasy import library

Answer = Mapping[str, Any]

LIBRARY: Final = library("mistralai", module="mistralai.client", provider="mistral")


def chat(answer: Answer, call: Call) -> Observation:
    """Read a chat completion, a fill-in-the-middle, or an agent's completion."""
    return _tokens(answer, call, event_types.INFERENCE)


def embeddings(answer: Answer, call: Call) -> Observation:
    """Read embeddings."""
    return _tokens(answer, call, event_types.EMBEDDINGS)


def ocr(answer: Answer, call: Call) -> Observation:
    """Read a document that was read: its pages; annotated ones cost more."""
    usage = only_numbers(answer.get("usage_info")) or {}
    annotated = any(call.request.get(name) for name in _ANNOTATIONS)
    return Observation(
        provider=call.provider,
        event_type=event_types.OCR,
        request_id=_request_id(call),
        model=answer.get("model") or call.model,
        usage=usage,
        flavor="ocr_annotated" if annotated else "ocr",
        is_complete=bool(usage),
    )


def converse(answer: Answer, call: Call) -> Observation:
    """Read what was added to a conversation, whose own id is not the answer's."""
    ids, models = answer.get("outputs.id") or [], answer.get("outputs.model") or []
    answer = {
        "id": next((each for each in reversed(ids) if each), None),
        "model": next((each for each in reversed(models) if each), None),
        "usage": answer.get("usage"),
    }
    return _tokens(answer, call, event_types.INFERENCE)


def transcription(answer: Answer, call: Call) -> Observation:
    """Read a transcription: by the second of audio."""
    usage = only_numbers(answer.get("usage")) or {}
    seconds = usage.get("prompt_audio_seconds")
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=_request_id(call),
        model=answer.get("model") or call.model,
        # Of a part, price lists want the whole, too.
        usage={}
        if seconds is None
        else {"audio_seconds": seconds, "input_audio_seconds": seconds},
        is_complete=seconds is not None,
    )


def speech(_answer: Answer, call: Call) -> Observation:
    """Read what was to be said: charged by its characters."""
    text = call.request.get("input")
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=_request_id(call),
        model=call.model,
        usage={"character": len(text)} if isinstance(text, str) else {},
        is_complete=isinstance(text, str),
    )


def _tokens(answer: Answer, call: Call, event_type: str) -> Observation:
    report = answer.get("usage") or {}
    usage, tier = only_numbers(report) or {}, report.get("service_tier")
    return Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=answer.get("id"),
        request_id=_request_id(call),
        model=answer.get("model") or call.model,
        service_tier=None if tier == "standard" else tier,
        usage=usage,
        flavor="default",
        is_complete=bool(usage),
    )


def _request_id(call: Call) -> str | None:
    return call.headers.get("mistral-correlation-id")


def _merge_event(answer: dict[str, Any], event: Answer) -> bool:
    for name in _CHAT:
        if event.get(name) is not None:
            answer[name] = event[name]
    return bool(event.get("usage"))


def _fold_conversation(answer: dict[str, Any], event: Answer) -> bool:
    if event.get("type") == "message.output.delta":
        answer["outputs.id"] = [event.get("id")]
        answer["outputs.model"] = [event.get("model")]
    return _merge_event(answer, event)


_CHAT: Final = ("id", "model", "usage")
_CONVERSATION: Final = ("outputs.id", "outputs.model", "usage")
_ANNOTATIONS: Final = ("bbox_annotation_format", "document_annotation_format")
_USAGE: Final = (b'"usage"',)

_COMPLETIONS: Final = Endpoint(chat, _CHAT, _merge_event, _USAGE)
_CONVERSATIONS: Final = Endpoint(
    converse, _CONVERSATION, _fold_conversation, (*_USAGE, b"message.output.delta")
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
"""Whatever is not here costs nothing, or is not captured: moderation, files, batches,
realtime."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("mistral", _pattern, _endpoint)
