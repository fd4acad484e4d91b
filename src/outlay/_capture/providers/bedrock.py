"""Amazon Bedrock: what its models report, whichever way they are asked.

``Converse`` has one shape of usage for all models. ``InvokeModel`` answers in the shape
of each model's maker, and Bedrock puts its own counts beside it: into headers, or into
the last event of a stream. Those know nothing of cached tokens, or not for how long
they are kept, so what the answer itself reports goes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from outlay._capture import event_types
from outlay._capture.extraction.fields import only_numbers, read_fields
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.observation import Observation

Answer = Mapping[str, Any]
Counts = dict[str, int]


def converse(answer: Answer, call: Call) -> Iterator[Observation]:
    """Read what ``Converse`` answers, or ``ConverseStream`` at its end."""
    usage = only_numbers(answer.get("usage")) or {}
    tier = _tier(answer.get("serviceTier.type"), answer.get(_LATENCY))
    # A prompt router tells which model it chose.
    model = _name(answer.get(_ROUTED) or _asked(call))
    yield from _observation(call, model, usage, "default", tier)


def invocation(answer: Answer, call: Call) -> Iterator[Observation]:
    """Read what ``InvokeModel`` answers, or its stream at its end."""
    model = _name(_asked(call))
    headers = call.headers
    tier = _tier(headers.get(_TIER_HEADER), headers.get(_LATENCY_HEADER))
    images = answer.get("images")
    if images or "rerank" in model:
        usage = {"image": len(images)} if images else {"call": 1}
        yield from _observation(call, model, usage, None, tier)
        return
    report = only_numbers(answer.get("usage")) or {}
    if "input_tokens" in report:
        yield from _observation(call, model, report, "anthropic", tier)
        return
    counts = _reported(report) or _metered(answer, call) or _counted(answer)
    yield from _observation(call, model, counts, None, tier)
    if "embed" in model and "inputImage" in _sent(call):
        for each in _observation(call, model, {"image": 1}, None, tier):
            yield msgspec.structs.replace(each, line="images")


def batch_line(answer: Answer, call: Call) -> Iterator[Observation]:
    """Read a line of a job's output: what a model answered, at the price of a batch."""
    output = {name: answer.get(_OUTPUT + name) for name in _INVOCATION}
    told = {name: value for name, value in output.items() if value is not None}
    if not told:
        return  # an error
    for seen in invocation(told, call):
        yield msgspec.structs.replace(
            seen,
            operation_id=answer.get(_OUTPUT + "id"),
            service_tier="batch",
            is_lookup=True,
        )


def _observation(
    call: Call, model: str, usage: dict[str, Any], flavor: str | None, tier: str | None
) -> Iterator[Observation]:
    if model.startswith(_BY_TIME):
        return  # charged by the hour, whether it is called or not
    kinds = (kind for part, kind in _KINDS.items() if part in model)
    event_type = event_types.IMAGES if "image" in usage else event_types.INFERENCE
    yield Observation(
        provider=call.provider,
        event_type=next(kinds, event_type),
        operation_id=call.request_id or call.headers.get("x-amzn-requestid"),
        model=model,
        service_tier=tier,
        region=call.region,
        usage=usage,
        flavor=flavor,
        is_complete=bool(usage),
    )


def _reported(report: Mapping[str, Any]) -> Counts:
    """Return the usage that an answer reports as OpenAI's or Amazon's models do."""
    if "prompt_tokens" in report:
        details = report.get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens", 0)
        output = report.get("completion_tokens", 0)
        return _units(report["prompt_tokens"] - cached, output, cached)
    return _amazons(report)


def _metered(answer: Answer, call: Call) -> Counts:
    """Return what Bedrock itself counted: at the end of a stream, or in headers."""
    given = call.headers.get(_INPUT_HEADER)
    if given is None:
        return _amazons(only_numbers(answer.get(_METRICS)) or {})
    return _units(int(given), int(call.headers.get(_OUTPUT_HEADER, 0)))


def _amazons(report: Mapping[str, Any]) -> Counts:
    """Return counts by either of Amazon's names, such as ``inputTokenCount``."""
    counts = {name.replace("TokenCount", "Tokens"): n for name, n in report.items()}
    if "inputTokens" not in counts:
        return {}
    return _units(*(counts.get(name, 0) for name in _AMAZONS))


def _counted(answer: Answer) -> Counts:
    """Return the counts in an answer that has no usage, as Llama's or Titan's have."""
    for given, made in _COUNTED:
        if given in answer:
            output = answer.get(made) or 0
            tokens = sum(output) if isinstance(output, list) else output
            return _units(answer[given], tokens)
    return {}


def _units(given: int, made: int, read: int = 0, written: int = 0) -> Counts:
    """Return counts by price lists' units, of which the cached ones are input, too."""
    counts = {
        "input_tokens": given + read + written,
        "output_tokens": made,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
    }
    return {unit: count for unit, count in counts.items() if count}


def _tier(tier: str | None, latency: str | None) -> str | None:
    """Return what else the price goes by; None: nothing."""
    said = (tier if tier != "default" else None, latency)
    return "-".join(each for each in said if each and each != "standard") or None


def _asked(call: Call) -> str:
    """Return the model that was asked for; an address has it before the operation."""
    return call.model or unquote(call.path.rpartition("/")[0].rpartition("/")[2])


def _name(model: str) -> str:
    """Return a model by the name that price lists have for it.

    Of an ARN that is the end. A profile or a deployment of one's own has no other name
    than its ARN; without the account, that is its kind and its id.
    """
    if not model.startswith("arn:"):
        return model
    resource = model.split(":", 5)[-1]
    kind, _, name = resource.partition("/")
    return name if kind in _NAMED else resource


def _sent(call: Call) -> Mapping[str, Any]:
    """Return the JSON that was sent to a model, as far as it can be looked at."""
    body = call.request.get("body")
    if body is None:
        return call.request
    return _members.decode(body) if isinstance(body, bytes | str) else {}


def _fold_conversation(answer: dict[str, Any], event: Answer) -> bool:
    """Keep what the last event tells."""
    answer.update(read_fields(event.get("metadata", event), _CONVERSATION))
    return "usage" in answer


def _fold_invocation(answer: dict[str, Any], event: Answer) -> bool:
    """Merge the usage that the start tells with what the end tells."""
    for part in (event, event.get("message"), event.get("metadata")):
        usage = part.get("usage") if isinstance(part, Mapping) else None
        if isinstance(usage, Mapping):
            answer["usage"] = {**answer.get("usage", {}), **usage}
    if isinstance(event.get(_METRICS), Mapping):
        answer[_METRICS] = event[_METRICS]
    return _METRICS in answer or event.get("type") == "message_delta"


_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_BY_TIME: Final = ("provisioned-model/", "imported-model/", "endpoint/")
_NAMED: Final = {"foundation-model", "inference-profile"}
_KINDS: Final = {"embed": event_types.EMBEDDINGS, "rerank": event_types.RERANK}

_LATENCY: Final = "performanceConfig.latency"
_ROUTED: Final = "trace.promptRouter.invokedModelId"
_METRICS: Final = "amazon-bedrock-invocationMetrics"
_TIER_HEADER: Final = "x-amzn-bedrock-service-tier"
_LATENCY_HEADER: Final = "x-amzn-bedrock-performanceconfig-latency"
_INPUT_HEADER: Final = "x-amzn-bedrock-input-token-count"
_OUTPUT_HEADER: Final = "x-amzn-bedrock-output-token-count"
_AMAZONS: Final = (
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheWriteInputTokens",
)
_COUNTED: Final = (
    ("prompt_token_count", "generation_token_count"),  # Meta's
    ("inputTextTokenCount", "results.tokenCount"),  # Amazon's Titan
)

_CONVERSATION: Final = ("usage", "serviceTier.type", _LATENCY, _ROUTED)
_INVOCATION: Final = (
    "usage",
    "images",
    _METRICS,
    *(name for pair in _COUNTED for name in pair),
)
_OUTPUT: Final = "modelOutput."
_USAGE: Final = (b'"usage"', _METRICS.encode())

ENDPOINTS: Final = {
    "Converse": ("converse", Endpoint(converse, _CONVERSATION)),
    "ConverseStream": (
        "converse-stream",
        Endpoint(converse, _CONVERSATION, _fold_conversation, (b'"usage"',)),
    ),
    "InvokeModel": ("invoke", Endpoint(invocation, _INVOCATION)),
    "InvokeModelWithResponseStream": (
        "invoke-with-response-stream",
        Endpoint(invocation, _INVOCATION, _fold_invocation, _USAGE),
    ),
}
"""By operation, with the end of its address. Whatever is not here costs nothing, or is
not captured: guardrails, agents, jobs, sessions of speech; counting tokens is free."""

register(
    "aws",
    "GET /files/{id}/content",  # of a job's output, wherever it was found
    Endpoint(
        batch_line,
        ("recordId", _OUTPUT + "id", *(_OUTPUT + name for name in _INVOCATION)),
    ),
)
for _operation, (_address, _endpoint) in ENDPOINTS.items():
    register("aws", f"POST /bedrock-runtime/{_operation}", _endpoint)
    register("aws", f"POST /model/{{id}}/{_address}", _endpoint)
