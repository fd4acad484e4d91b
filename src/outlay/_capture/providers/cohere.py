"""Extract costs from Cohere: tokens, searches and pages, by its own billed units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.fields import only_numbers
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.observation import Observation
from outlay._capture.providers.generators.fern import library

Response = Mapping[str, Any]

LIBRARY: Final = library("cohere")


def chat(response: Response, call: Call) -> Observation:
    """Read a chat, of either version of the API."""
    report = response.get("usage") or response.get("meta")
    return _billed(report, response, call, event_types.INFERENCE, "default")


def embeddings(response: Response, call: Call) -> Iterator[Observation]:
    """Read embeddings: of texts by the token, of images by the image token."""
    meta = response.get("meta") or {}
    billed = only_numbers(meta.get("billed_units")) or {}
    if "input_tokens" in billed or not billed.get("image_tokens"):
        yield _billed(meta, response, call, event_types.EMBEDDINGS, "embeddings")
    if billed.get("image_tokens"):
        # genai-prices would use the price of texts, which is a quarter of theirs. So
        # they are a line of their own, in a unit for price books.
        yield Observation(
            provider=call.provider,
            event_type=event_types.EMBEDDINGS,
            operation_id=response.get("id"),
            line="images",
            model=call.model,
            usage={"input_image_tokens": billed["image_tokens"]},
        )


def rerank(response: Response, call: Call) -> Observation:
    """Read a ranking: by the search, a query with up to a hundred documents."""
    return _units(response, call, event_types.RERANK, "search_units", "search")


def parsed(response: Response, call: Call) -> Observation:
    """Read a parsed document: by the page."""
    return _units(response, call, event_types.OCR, "pages", "page")


def classification(response: Response, call: Call) -> Observation:
    """Read a classification: by the text."""
    return _units(
        response, call, event_types.INFERENCE, "classifications", "classification"
    )


def _billed(
    report: object, response: Response, call: Call, event_type: str, flavor: str
) -> Observation:
    usage = only_numbers(report) or {}
    billed = usage.get("billed_units") or {}
    return Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=_id(response),
        model=response.get("model") or call.model,
        usage=usage,
        flavor=flavor,
        is_complete=bool(billed),
    )


def _units(
    response: Response, call: Call, event_type: str, theirs: str, unit: str
) -> Observation:
    billed = only_numbers((response.get("meta") or {}).get("billed_units")) or {}
    return Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=_id(response),
        model=call.model,
        usage={unit: billed[theirs]} if theirs in billed else {},
        is_complete=theirs in billed,
    )


def _id(response: Response) -> str | None:
    found: str | None = response.get("id") or response.get("generation_id")
    return found


def _merge_event(response: dict[str, Any], event: Response) -> bool:
    """Keep the fields in the first and the last event of a stream."""
    ended = event.get("response") or {}  # version 1 ends with the response
    found = {**event, **(event.get("delta") or {}), **ended}
    response |= {name: found[name] for name in _CHAT if found.get(name) is not None}
    return "usage" in response or "meta" in response


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
"""Other operations cost nothing, or are not captured: tokenizing, data sets, jobs of
embeddings."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("cohere", _pattern, _endpoint)
