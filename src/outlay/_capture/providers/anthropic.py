"""Anthropic's endpoints: messages, of its own API or by way of a cloud's.

Extractors are pure, and read only what `Endpoint.fields` names: never content.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from outlay._capture import event_types
from outlay._capture.extraction.fields import only_numbers, read_fields
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.observation import Observation
from outlay._capture.pricing.price_lists import STANDARD_TIERS
from outlay._capture.providers.generators.stainless import StainlessLibrary, library

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_CLOUDS: Final = {"Bedrock": "aws", "Vertex": "google", "Foundry": "azure"}

LIBRARY: Final = library(
    StainlessLibrary("anthropic", classes=_CLOUDS, provider="anthropic")
)

_MEMBERS: Final = ("id", "model", "usage")


def message(answer: Mapping[str, Any], call: Call) -> Iterator[Observation]:
    """Read a message, the searches that it was made with, and what is billed apart."""
    usage = answer.get("usage") or {}
    counts = only_numbers(usage) or {}
    counts.pop("iterations", None)
    whole = Observation(
        provider=call.provider,
        event_type=event_types.INFERENCE,
        operation_id=answer.get("id"),
        request_id=call.request_id,
        model=answer.get("model") or call.model,
        service_tier=_tier(usage),
        usage=counts,
        flavor="default" if call.provider == "anthropic" else "anthropic",
        is_complete=bool(counts),
    )
    yield whole
    for line, part in _apart(usage.get("iterations") or ()):
        model = part.get("model") or whole.model
        yield replace(whole, line=line, model=model, usage=only_numbers(part) or {})


def _tier(usage: Mapping[str, Any]) -> str | None:
    """Return what changes the price of all tokens, joined where there is several.

    Price lists do not know every such price, and must not take it for the usual one.
    """
    usual = {"inference_geo": {"global", "not_available"}, "speed": {"standard"}}
    tier = usage.get("service_tier")
    special = [
        str(usage[name])
        for name, values in usual.items()
        if usage.get(name) is not None and usage[name] not in values
    ]
    if not special:
        return tier
    return "-".join(special if tier in STANDARD_TIERS else [str(tier), *special])


def _apart(
    iterations: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what was done on the way and is not in the whole, by its cost line."""
    seen: Counter[str] = Counter()
    for part in iterations:
        kind = part.get("type")
        if kind in _APART:
            seen[kind] += 1
            yield kind if seen[kind] == 1 else f"{kind} {seen[kind]}", part


_APART: Final = {"advisor_message", "compaction"}


def batch_line(answer: Mapping[str, Any], call: Call) -> Iterator[Observation]:
    """Read a line of a batch's results: a message, at the price of a batch."""
    body = {name: answer.get(_MESSAGE + name) for name in _MEMBERS}
    if answer.get("result.type") == "succeeded":
        for seen in message(body, call):
            yield replace(seen, service_tier="batch", is_lookup=True)


def _merge_event(answer: dict[str, Any], event: Mapping[str, Any]) -> bool:
    """Merge the usage that the start tells with what the end tells."""
    if event.get("type") == "message_start":
        answer.update(read_fields(event.get("message"), _MEMBERS))
    if event.get("type") != "message_delta":
        return False
    final = read_fields(event, ("usage",)).get("usage", {})
    answer["usage"] = {**answer.get("usage", {}), **final}
    return bool(final)


# Tokens are counted for free, and batches when their results are read. What else is
# charged, docs/providers.md names.
register(
    "anthropic",
    "POST /v1/messages",
    Endpoint(message, _MEMBERS, _merge_event, (b"message_start", b"message_delta")),
)
_MESSAGE: Final = "result.message."
register(
    "anthropic",
    "GET /v1/messages/batches/{id}/results",
    Endpoint(
        batch_line,
        ("custom_id", "result.type", *(_MESSAGE + name for name in _MEMBERS)),
        markers=(b'"custom_id"',),
        is_json_lines=True,
    ),
)
