"""Cohere: tokens, searches, pages, by what it says that it bills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.fields import only_numbers
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.observation import Observation
from outlay._capture.providers.generators.fern import library

Answer = Mapping[str, Any]

LIBRARY: Final = library("cohere")


def chat(answer: Answer, call: Call) -> Observation:
    """Read a chat, of either version of the API."""
    report = answer.get("usage") or answer.get("meta")
    return _billed(report, answer, call, event_types.INFERENCE, "default")


def embeddings(answer: Answer, call: Call) -> Iterator[Observation]:
    """Read embeddings: of texts by the token, of images by the image token."""
    meta = answer.get("meta") or {}
    billed = only_numbers(meta.get("billed_units")) or {}
    if "input_tokens" in billed or not billed.get("image_tokens"):
        yield _billed(meta, answer, call, event_types.EMBEDDINGS, "embeddings")
    if billed.get("image_tokens"):
        # genai-prices would take them at the price of texts, a quarter of theirs. So
        # they stand alone, in a unit for price books.
        yield Observation(
            provider=call.provider,
            event_type=event_types.EMBEDDINGS,
            operation_id=answer.get("id"),
            line="images",
            model=call.model,
            usage={"input_image_tokens": billed["image_tokens"]},
        )


def rerank(answer: Answer, call: Call) -> Observation:
    """Read a ranking: by the search unit, a query with up to a hundred documents."""
    return _units(answer, call, event_types.RERANK, "search_units", "search")


def parsed(answer: Answer, call: Call) -> Observation:
    """Read a document that was read: by the page."""
    return _units(answer, call, event_types.OCR, "pages", "page")


def classification(answer: Answer, call: Call) -> Observation:
    """Read a classification: by the text."""
    return _units(
        answer, call, event_types.INFERENCE, "classifications", "classification"
    )


def _billed(
    report: object, answer: Answer, call: Call, event_type: str, flavor: str
) -> Observation:
    usage = only_numbers(report) or {}
    billed = usage.get("billed_units") or {}
    return Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=_id(answer),
        model=answer.get("model") or call.model,
        usage=usage,
        flavor=flavor,
        is_complete=bool(billed),
    )


def _units(
    answer: Answer, call: Call, event_type: str, theirs: str, unit: str
) -> Observation:
    billed = only_numbers((answer.get("meta") or {}).get("billed_units")) or {}
    return Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=_id(answer),
        model=call.model,
        usage={unit: billed[theirs]} if theirs in billed else {},
        is_complete=theirs in billed,
    )


def _id(answer: Answer) -> str | None:
    found: str | None = answer.get("id") or answer.get("generation_id")
    return found


def _merge_event(answer: dict[str, Any], event: Answer) -> bool:
    """Keep what the first event and the last one of a stream tell."""
    ended = event.get("response") or {}  # version 1 of the API ends with the answer
    found = {**event, **(event.get("delta") or {}), **ended}
    answer |= {name: found[name] for name in _CHAT if found.get(name) is not None}
    return "usage" in answer or "meta" in answer


_CHAT: Final = ("id", "generation_id", "model", "usage", "meta")
_METERED: Final = ("id", "meta")
_CHATS: Final = Endpoint(chat, _CHAT, _merge_event, (b'"message-end"', b'"stream-end"'))

ENDPOINTS: Final = {
    "POST /v2/chat": _CHATS,
    "POST /v1/chat": _CHATS,
    "POST /v2/embed": Endpoint(embeddings, _METERED),
    "POST /v1/embed": Endpoint(embeddings, _METERED),
    "POST /v2/rerank": Endpoint(rerank, _METERED),
    "POST /v1/rerank": Endpoint(rerank, _METERED),
    "POST /v2/parse": Endpoint(parsed, _METERED),
    "POST /v1/classify": Endpoint(classification, _METERED),
}
"""Whatever is not here costs nothing, or is not captured: tokenizing, data sets, jobs
of embeddings."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("cohere", _pattern, _endpoint)
