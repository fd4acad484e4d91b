"""Extract costs from Amazon Bedrock's models, whichever way they are called.

``Converse`` has one shape of usage for all models. ``InvokeModel`` responds in the
shape of each model's maker. Bedrock adds its own counts: in headers, or in the last
event of a stream. Those counts do not contain cached tokens, or not their lifetime. So
the usage in the response itself goes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace

from outlay._capture import event_types
from outlay._capture.extraction.fields import only_numbers, read_fields
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.extraction.usage_checks import contradiction_in
from outlay._capture.observation import Observation
from outlay._capture.providers import anthropic

Response = Mapping[str, Any]
Counts = dict[str, int]


def converse(response: Response, call: Call) -> Iterator[Observation]:
    """Read the response of ``Converse``, or of ``ConverseStream`` at its end."""
    usage = only_numbers(response.get("usage")) or {}
    tier = _tier(response.get("serviceTier.type"), response.get(_LATENCY))
    if response.get("stopReason") == "refusal" and not usage.get("outputTokens"):
        tier = anthropic.NOT_BILLED
    # A prompt router reports the model that it chose.
    model = _name(response.get(_ROUTED) or _requested(call))
    for observed in _observation(call, model, usage, "default", tier):
        yield replace(observed, contradiction=_contradiction(usage))


def _contradiction(usage: Response) -> str | None:
    """Return why the counts do not add up, or None.

    Totals contain cached tokens with some models, and do not with others.
    """
    plain, cached = (sum(usage.get(n) or 0 for n in p) for p in _TOTALS)
    return contradiction_in(usage.get("totalTokens"), plain + cached, plain)


def invocation(response: Response, call: Call) -> Iterator[Observation]:
    """Read the response of ``InvokeModel``, or its stream at its end."""
    model = _name(_requested(call))
    headers = call.headers
    tier = _tier(headers.get(_TIER_HEADER), headers.get(_LATENCY_HEADER))
    images = response.get("images")
    if images or "rerank" in model:
        usage = {"image": len(images)} if images else {"call": 1}
        yield from _observation(call, model, usage, None, tier)
        return
    report = only_numbers(response.get("usage")) or {}
    if "input_tokens" in report:
        report.pop("iterations", None)
        for observed in _observation(call, model, report, "anthropic", tier):
            yield from anthropic.with_iterations(observed, response)
        return
    counts = _reported(report) or _metered(response, call) or _counted(response)
    yield from _observation(call, model, counts, None, tier)
    if "embed" in model and "inputImage" in _sent(call):
        for each in _observation(call, model, {"image": 1}, None, tier):
            yield replace(each, line="images")


def batch_line(response: Response, call: Call) -> Iterator[Observation]:
    """Read a line of a job's output: a model's response, at the price of a batch."""
    output = {name: response.get(_OUTPUT + name) for name in _INVOCATION}
    known = {name: value for name, value in output.items() if value is not None}
    if not known:
        return  # an error
    for observed in invocation(known, call):
        is_free = observed.service_tier == anthropic.NOT_BILLED
        yield replace(
            observed,
            operation_id=response.get(_OUTPUT + "id"),
            service_tier=anthropic.NOT_BILLED if is_free else "batch",
            is_lookup=True,
        )


def _observation(
    call: Call, model: str, usage: dict[str, Any], flavor: str | None, tier: str | None
) -> Iterator[Observation]:
    if model.startswith(_BY_TIME):
        return  # charged by the hour, called or not
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
    """Return the usage in the shape of OpenAI's or Amazon's models."""
    if "prompt_tokens" in report:
        details = report.get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens", 0)
        output = report.get("completion_tokens", 0)
        return _units(report["prompt_tokens"] - cached, output, cached)
    return _amazons(report)


def _metered(response: Response, call: Call) -> Counts:
    """Return Bedrock's own counts, from the end of a stream or from headers."""
    given = call.headers.get(_INPUT_HEADER)
    if given is None:
        return _amazons(only_numbers(response.get(_METRICS)) or {})
    return _units(int(given), int(call.headers.get(_OUTPUT_HEADER, 0)))


def _amazons(report: Mapping[str, Any]) -> Counts:
    """Return counts by either of Amazon's names, such as ``inputTokenCount``."""
    counts = {name.replace("TokenCount", "Tokens"): n for name, n in report.items()}
    if "inputTokens" not in counts:
        return {}
    return _units(*(counts.get(name, 0) for name in _AMAZONS))


def _counted(response: Response) -> Counts:
    """Return the counts in a response without usage, such as Llama's or Titan's."""
    for given, made in _COUNTED:
        if given in response:
            output = response.get(made) or 0
            tokens = sum(output) if isinstance(output, list) else output
            return _units(response[given], tokens)
    return {}


def _units(given: int, made: int, read: int = 0, written: int = 0) -> Counts:
    """Return counts in the units of price lists, where cached tokens are input, too."""
    counts = {
        "input_tokens": given + read + written,
        "output_tokens": made,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
    }
    return {unit: count for unit, count in counts.items() if count}


def _tier(tier: str | None, latency: str | None) -> str | None:
    """Return the tiers that change the price, joined by a hyphen, or None."""
    tiers = (tier if tier != "default" else None, latency)
    return "-".join(each for each in tiers if each and each != "standard") or None


def _requested(call: Call) -> str:
    """Return the requested model. In a path, it stands before the operation."""
    return call.model or unquote(call.path.rpartition("/")[0].rpartition("/")[2])


def _name(model: str) -> str:
    """Return the name that price lists have for a model.

    For an ARN, that is its end. The user's own profile or deployment has no name but
    its ARN. Without the account, that is its kind and its id.
    """
    if not model.startswith("arn:"):
        return model
    resource = model.split(":", 5)[-1]
    kind, _, name = resource.partition("/")
    return name if kind in _NAMED else resource


def _sent(call: Call) -> Mapping[str, Any]:
    """Return the JSON that was sent to a model, if it can be read."""
    body = call.request.get("body")
    if body is None:
        return call.request
    return _members.decode(body) if isinstance(body, bytes | str) else {}


def _merge_conversation_event(response: dict[str, Any], event: Response) -> bool:
    """Keep the stop reason, and the usage in the last event."""
    stop = event.get("messageStop", event)
    response.update(read_fields(stop, ("stopReason",)))
    response.update(read_fields(event.get("metadata", event), _CONVERSATION))
    return "usage" in response


def _merge_invocation_event(response: dict[str, Any], event: Response) -> bool:
    """Merge the usage in a stream's first event with the usage in its last."""
    for part in (event, event.get("message"), event.get("metadata")):
        usage = part.get("usage") if isinstance(part, Mapping) else None
        if isinstance(usage, Mapping):
            response["usage"] = {**response.get("usage", {}), **usage}
    response.update(
        (name.removeprefix("delta."), value)
        for name, value in read_fields(event, ("delta.stop_reason",)).items()
    )
    if isinstance(event.get(_METRICS), Mapping):
        response[_METRICS] = event[_METRICS]
    return _METRICS in response or event.get("type") == "message_delta"


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

_CONVERSATION: Final = ("usage", "stopReason", "serviceTier.type", _LATENCY, _ROUTED)
_TOTALS: Final = (
    ("inputTokens", "outputTokens"),
    ("cacheReadInputTokens", "cacheWriteInputTokens"),
)
_INVOCATION: Final = (
    "usage",
    "stop_reason",
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
        Endpoint(
            converse,
            _CONVERSATION,
            _merge_conversation_event,
            (b'"usage"', b'"stopReason"'),
        ),
    ),
    "InvokeModel": ("invoke", Endpoint(invocation, _INVOCATION)),
    "InvokeModelWithResponseStream": (
        "invoke-with-response-stream",
        Endpoint(invocation, _INVOCATION, _merge_invocation_event, _USAGE),
    ),
}
"""The endpoints by operation, with the end of the path. Other operations cost nothing,
or are not captured: guardrails, agents, jobs, sessions of speech. Counting tokens is
free."""

register(
    "aws",
    "GET /files/{id}/content",  # a job's output, whatever it was read from
    Endpoint(
        batch_line,
        ("recordId", _OUTPUT + "id", *(_OUTPUT + name for name in _INVOCATION)),
    ),
)
for _operation, (_address, _endpoint) in ENDPOINTS.items():
    register("aws", f"POST /bedrock-runtime/{_operation}", _endpoint)
    register("aws", f"POST /model/{{id}}/{_address}", _endpoint)
