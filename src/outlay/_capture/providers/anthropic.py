"""Anthropic's endpoints: messages, of its own API or by way of a cloud's.

Extractors are pure, and read only what `Endpoint.fields` names: never content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._capture import event_types
from outlay._capture.answers import members, numbers
from outlay._capture.observation import Observation
from outlay._capture.providers.stainless import Dialect, library
from outlay._capture.registry import Call, Endpoint, register

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLOUDS: Final = {"Bedrock": "aws", "Vertex": "google", "Foundry": "azure"}

LIBRARY: Final = library(Dialect("anthropic", classes=_CLOUDS, provider="anthropic"))

_MEMBERS: Final = ("id", "model", "usage")


def message(answer: Mapping[str, Any], call: Call) -> Observation:
    """Read a message, and the searches that it was made with."""
    usage = answer.get("usage") or {}
    counts = numbers(usage) or {}
    return Observation(
        provider=call.provider,
        event_type=event_types.INFERENCE,
        operation_id=answer.get("id"),
        request_id=call.request_id,
        model=answer.get("model") or call.model,
        service_tier=usage.get("service_tier"),
        usage=counts,
        flavor="default" if call.provider == "anthropic" else "anthropic",
        complete=bool(counts),
    )


def _fold(answer: dict[str, Any], event: Mapping[str, Any]) -> bool:
    """Merge the usage that the start tells with what the end tells."""
    if event.get("type") == "message_start":
        answer.update(members(event.get("message"), _MEMBERS))
    if event.get("type") != "message_delta":
        return False
    final = members(event, ("usage",)).get("usage", {})
    answer["usage"] = {**answer.get("usage", {}), **final}
    return bool(final)


# Nothing else costs: tokens are counted for free, and batches when their results are
# read.
register(
    "anthropic",
    "POST /v1/messages",
    Endpoint(message, _MEMBERS, _fold, (b"message_start", b"message_delta")),
)
