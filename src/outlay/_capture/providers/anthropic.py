"""Extract costs from Anthropic's messages, from its own API or a cloud's.

Extractors are pure. They read only the fields in `Endpoint.fields`, never content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from outlay._capture import event_types
from outlay._capture.extraction.fields import only_numbers, read_fields, to_amount
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.observation import Observation
from outlay._capture.pricing.price_lists import STANDARD_TIERS
from outlay._capture.providers.generators.stainless import StainlessLibrary, library

_CLOUDS: Final = {"Bedrock": "aws", "Vertex": "google", "Foundry": "azure"}

LIBRARY: Final = library(
    StainlessLibrary("anthropic", classes=_CLOUDS, provider="anthropic")
)

Response = Mapping[str, Any]

FIELDS: Final = ("id", "model", "stop_reason", "usage")


def message(response: Response, call: Call) -> Iterator[Observation]:
    """Read a message, with its attempts and searches, and what is billed apart."""
    usage = response.get("usage") or {}
    counts = only_numbers(usage) or {}
    counts.pop("iterations", None)
    whole = Observation(
        provider=call.provider,
        event_type=event_types.INFERENCE,
        operation_id=response.get("id"),
        request_id=call.request_id,
        model=_model(response, call),
        service_tier=_tier(usage),
        region=call.region,
        endpoint="us" if _is_priced_by_geo(usage) else _endpoint_of(call),
        usage=counts,
        flavor="default" if call.provider == "anthropic" else "anthropic",
        amount=_reported(counts, call),
        is_complete=bool(counts),
    )
    yield from with_iterations(whole, response)


def with_iterations(whole: Observation, response: Response) -> Iterator[Observation]:
    """Yield the observation of a message, and one for each iteration billed apart.

    * A refusal before any output is free since 2 June 2026.
    * With fallbacks, each attempt is billed at its own model. The message has only the
      usage of the last attempt. An attempt that was declined before any output is free.
    * Compaction and advisors are billed apart, and not in the usage of the message.

    Sources: https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback
    and https://platform.claude.com/docs/en/build-with-claude/compaction, November 2026.
    """
    usage = response.get("usage") or {}
    iterations = [each for each in usage.get("iterations") or () if each]
    unknown = {str(each.get("type")) for each in iterations} - _KNOWN
    if unknown:
        # It is not known yet whether the message's usage contains such an iteration.
        kinds = ", ".join(sorted(unknown))
        whole = replace(whole, contradiction=f"the billing of {kinds} is not known")
    elif _is_free_refusal(response):
        whole = replace(whole, service_tier=NOT_BILLED)
    yield whole
    if whole.amount is not None:
        return  # a reported amount includes all iterations
    seen: Counter[str] = Counter()
    for line, part in (*_earlier_attempts(iterations), *_apart(iterations)):
        seen[line] += 1
        yield replace(
            whole,
            line=line if seen[line] == 1 else f"{line} {seen[line]}",
            model=part.get("model") or whole.model,
            service_tier=_tier(usage),
            usage=only_numbers(part) or {},
        )


def _earlier_attempts(
    iterations: Sequence[Response],
) -> Iterator[tuple[str, Response]]:
    attempts = [each for each in iterations if each.get("type") in _ATTEMPTS]
    if not any(each.get("type") == _FALLBACK for each in attempts):
        return  # the usage of the message is the sum of its iterations
    serving = attempts[-1].get("model")
    for each in attempts[:-1]:
        # The serving model may take several turns, which the message's usage contains.
        is_earlier = each.get("type") != _FALLBACK or each.get("model") != serving
        if is_earlier and each.get("output_tokens"):
            yield "attempt", each


def _apart(iterations: Sequence[Response]) -> Iterator[tuple[str, Response]]:
    for each in iterations:
        if each.get("type") in _APART:
            yield each["type"], each


def _is_free_refusal(response: Response) -> bool:
    usage = response.get("usage") or {}
    return response.get("stop_reason") == "refusal" and not usage.get("output_tokens")


def _model(response: Response, call: Call) -> str | None:
    """Return the model that prices go by.

    Bedrock prices the profile that was requested, such as ``global.anthropic.…``. The
    response names the model without it. Source:
    https://docs.aws.amazon.com/bedrock/latest/userguide/global-cross-region-inference.html,
    November 2026.
    """
    named = response.get("model")
    if call.provider == "aws" and call.model and not call.model.startswith("arn:"):
        return call.model
    return named or call.model


def _endpoint_of(call: Call) -> str | None:
    """Return ``regional`` for an endpoint of Vertex AI that is not global.

    Source: https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai,
    November 2026.
    """
    is_regional = call.provider == "google" and call.region not in {None, "global"}
    return "regional" if is_regional else None


def _is_priced_by_geo(usage: Response) -> bool:
    """Return whether the tokens have the price of inference in the US only.

    Source: https://platform.claude.com/docs/en/manage-claude/data-residency, November
    2026. The factor is for tokens only. A count of searches in the same usage would get
    it, too. So such a message keeps a tier without a price.
    """
    searches = (usage.get("server_tool_use") or {}).get("web_search_requests")
    return usage.get("inference_geo") == "us" and not searches


def _reported(counts: Response, call: Call) -> Any:
    """Return the amount that a gateway reports, such as OpenRouter or LiteLLM."""
    cost = counts.get("cost")
    if cost is not None:
        return to_amount(cost)
    return to_amount(call.headers.get("x-litellm-response-cost")) or None


def _tier(usage: Response) -> str | None:
    """Return the tiers that change the price of all tokens, joined by hyphens.

    Price lists do not know all of them, and must not price them as the usual one.
    """
    usual = {"inference_geo": {"global", "not_available"}, "speed": {"standard"}}
    tier = usage.get("service_tier")
    special = [
        str(usage[name])
        for name, values in usual.items()
        if usage.get(name) is not None
        and usage[name] not in values
        and not (name == "inference_geo" and _is_priced_by_geo(usage))
    ]
    if not special:
        return tier
    return "-".join(special if tier in STANDARD_TIERS else [str(tier), *special])


NOT_BILLED: Final = "not_billed"
"""The service tier of a free refusal, whose price is in outlay's own list."""
_FALLBACK: Final = "fallback_message"
_ATTEMPTS: Final = {"message", _FALLBACK}
_APART: Final = {"advisor_message", "compaction"}
_KNOWN: Final = _ATTEMPTS | _APART


def batch_line(response: Response, call: Call) -> Iterator[Observation]:
    """Read a line of a batch's results: a message, at the price of a batch."""
    body = {name: response.get(_MESSAGE + name) for name in FIELDS}
    if response.get("result.type") == "succeeded":
        for observed in message(body, call):
            tier = (
                observed.service_tier if observed.service_tier == NOT_BILLED else None
            )
            yield replace(observed, service_tier=tier or "batch", is_lookup=True)


def merge_event(response: dict[str, Any], event: Response) -> bool:
    """Merge the usage in a stream's first event with the usage in its last."""
    if event.get("type") == "message_start":
        response.update(read_fields(event.get("message"), FIELDS))
    if event.get("type") != "message_delta":
        return False
    final = read_fields(event, ("usage", "delta.stop_reason"))
    if "delta.stop_reason" in final:
        response["stop_reason"] = final["delta.stop_reason"]
    usage = final.get("usage", {})
    response["usage"] = {**response.get("usage", {}), **usage}
    return bool(usage)


# Counting tokens is free, and so are batches until their results are read.
# docs/providers.md names what is charged and missing here.
register(
    "anthropic",
    "POST /v1/messages",
    Endpoint(message, FIELDS, merge_event, (b"message_start", b"message_delta")),
)
_MESSAGE: Final = "result.message."
register(
    "anthropic",
    "GET /v1/messages/batches/{id}/results",
    Endpoint(
        batch_line,
        ("custom_id", "result.type", *(_MESSAGE + name for name in FIELDS)),
        markers=(b'"custom_id"',),
        is_json_lines=True,
    ),
)
