"""Google's models, by the Gemini API or Vertex AI.

``generate_content`` may call the model many times, between which it runs the user's
functions, and returns the last answer only: hooking it would miss what the others cost.
So the library is hooked where each request gets its answer: ``request`` and its three
siblings of ``BaseApiClient``. Interactions come from a client of their own, which
Speakeasy generated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.fields import (
    only_numbers,
    read_json_fields,
    to_quantity,
)
from outlay._capture.extraction.registry import (
    Call,
    Endpoint,
    Extracted,
    find_endpoint,
    register,
)
from outlay._capture.instrumentation.library import (
    CaptureOptions,
    InstrumentedClients,
    Library,
    Patch,
)
from outlay._capture.instrumentation.streams import (
    StreamObserver,
    observe_aiter,
    observe_iter,
)
from outlay._capture.instrumentation.wrappers import observe_result, replace_result
from outlay._capture.observation import Observation
from outlay._capture.providers import openai
from outlay._capture.providers.generators import speakeasy

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

Answer = Mapping[str, Any]


def content(answer: Answer, call: Call) -> Iterator[Observation]:
    """Read generated content: its tokens, and the searches that it is grounded in."""
    report = answer.get("usageMetadata") or {}
    usage = only_numbers(report) or {}
    model = answer.get("modelVersion") or _model(call)
    yield Observation(
        provider=call.provider,
        event_type=event_types.INFERENCE,
        operation_id=answer.get("responseId"),
        model=model,
        service_tier=_tier(report),
        region=call.region,
        usage=usage,
        flavor="default",
        is_complete=bool(usage),
    )
    searches = _searches(answer, model or "")
    if searches:
        yield Observation(
            provider=call.provider,
            event_type=event_types.INFERENCE,
            operation_id=answer.get("responseId"),
            line="web_search",
            model=model,
            region=call.region,
            usage={"web_searches": searches},
        )


def embeddings(answer: Answer, call: Call) -> Observation:
    """Read embeddings."""
    usage = only_numbers(answer.get("usageMetadata")) or {}
    return _embedded(usage, call)


def prediction(answer: Answer, call: Call) -> Extracted:
    """Read what Vertex AI predicts: embeddings with their tokens, or images."""
    counts = answer.get("predictions.embeddings.statistics.token_count") or []
    tokens = sum(to_quantity(count) or 0 for count in counts)
    if tokens:
        return _embedded({"promptTokenCount": tokens}, call)
    kinds = answer.get("predictions.mimeType") or []
    # An image that was held back for its content has no type, and costs nothing.
    images = sum(isinstance(k, str) and k.startswith("image/") for k in kinds)
    if not images:
        return None
    return Observation(
        provider=call.provider,
        event_type=event_types.IMAGES,
        model=_model(call),
        region=call.region,
        usage={"image": images},
    )


def interaction(answer: Answer, call: Call) -> Iterator[Observation]:
    """Read an interaction."""
    if answer.get("status") in _UNDER_WAY:
        return  # runs in the background; whoever retrieves it will see the usage
    report = answer.get("usage") or {}
    usage = {
        name: _by_modality(count) if isinstance(count, list) else count
        for name, count in (
            (name, report.get(theirs)) for theirs, name in _INTERACTION_USAGE.items()
        )
        if count
    }
    model = answer.get("model") or call.model or answer.get("agent")
    yield Observation(
        provider=call.provider,
        event_type=event_types.INFERENCE,
        operation_id=answer.get("id"),
        model=model,
        usage=usage,
        flavor="default",
        is_complete=bool(usage),
    )
    for tool in report.get("grounding_tool_count") or ():
        unit = _TOOLS.get(tool.get("type"))
        if unit and tool.get("count"):
            yield Observation(
                provider=call.provider,
                event_type=event_types.INFERENCE,
                operation_id=answer.get("id"),
                line=tool["type"],
                model=model,
                usage={unit: tool["count"]},
            )


def response_lookup(answer: Answer, call: Call) -> Extracted:
    """Read an interaction that ran in the background; others were read when made."""
    return interaction(answer, call) if answer.get("background") is True else None


def _embedded(usage: dict[str, Any], call: Call) -> Observation:
    return Observation(
        provider=call.provider,
        event_type=event_types.EMBEDDINGS,
        model=_model(call),
        region=call.region,
        usage=usage,
        flavor="default",
        is_complete=bool(usage),
    )


def _searches(answer: Answer, model: str) -> int:
    """Return how many searches an answer is charged for.

    Source: https://ai.google.dev/gemini-api/docs/pricing: by the query from Gemini 3
    on; before, by the prompt that any query was made for.
    """
    made = sum(len(each or ()) for each in answer.get(_QUERIES) or ())
    return min(made, 1) if model.startswith(_BY_PROMPT) else made


def _tier(report: Answer) -> str | None:
    """Return the tier that Vertex AI served a call in, by its name in price lists."""
    kind = report.get("serviceTier") or report.get("trafficType") or ""
    tier = str(kind).lower().removeprefix("on_demand").strip("_")
    return None if tier in _STANDARD else tier


def _model(call: Call) -> str | None:
    """Return the model that the path names, such as ``/models/…:predict``."""
    return call.path.rpartition("/")[2].partition(":")[0] or None


def _by_modality(counts: Iterable[Answer]) -> list[dict[str, Any]]:
    return [
        {"modality": str(each["modality"]).upper(), "tokenCount": each["tokens"]}
        for each in counts
        if each.get("modality") and each.get("tokens")
    ]


def _merge_event(answer: dict[str, Any], event: Answer) -> bool:
    for name in ("usageMetadata", "modelVersion", "responseId"):
        if event.get(name) is not None:
            answer[name] = event[name]
    candidates = event.get("candidates") or ()
    for candidate in candidates:
        found = (candidate.get("groundingMetadata") or {}).get("webSearchQueries")
        if found:
            answer[_QUERIES] = [found]  # of the whole answer so far
    ended = any(candidate.get("finishReason") for candidate in candidates)
    return ended and "usageMetadata" in event


def _fold_interaction(answer: dict[str, Any], event: Answer) -> bool:
    found = event.get("interaction")
    if isinstance(found, Mapping):
        answer.update({n: found[n] for n in _INTERACTION if found.get(n) is not None})
    return event.get("event_type") == "interaction.completed"


_QUERIES: Final = "candidates.groundingMetadata.webSearchQueries"
_BY_PROMPT: Final = ("gemini-1", "gemini-2")
_STANDARD: Final = {"", "standard", "traffic_type_unspecified", "unspecified"}
_UNDER_WAY: Final = {"in_progress", "queued", "requires_action"}
_TOOLS: Final = {"google_search": "web_searches", "google_maps": "map_search"}
_INTERACTION_USAGE: Final = {
    "total_input_tokens": "promptTokenCount",
    "total_cached_tokens": "cachedContentTokenCount",
    "total_output_tokens": "candidatesTokenCount",
    "total_thought_tokens": "thoughtsTokenCount",
    "total_tool_use_tokens": "toolUsePromptTokenCount",
    "input_tokens_by_modality": "promptTokensDetails",
    "cached_tokens_by_modality": "cacheTokensDetails",
    "output_tokens_by_modality": "candidatesTokensDetails",
    "tool_use_tokens_by_modality": "toolUsePromptTokensDetails",
}

_CONTENT: Final = Endpoint(
    content, ("usageMetadata", "modelVersion", "responseId", _QUERIES), _merge_event
)
_INTERACTION: Final = ("id", "model", "agent", "status", "background", "usage")
_INTERACTIONS: Final = Endpoint(
    interaction, _INTERACTION, _fold_interaction, (b'"interaction"',)
)
_PREDICTION: Final = (
    "predictions.mimeType",
    "predictions.embeddings.statistics.token_count",
)

ENDPOINTS: Final = {
    "POST /{model}:generateContent": _CONTENT,
    "POST /{model}:streamGenerateContent": _CONTENT,
    "POST /{model}:embedContent": Endpoint(embeddings, ("usageMetadata",)),
    "POST /{model}:batchEmbedContents": Endpoint(embeddings, ("usageMetadata",)),
    "POST /{model}:predict": Endpoint(prediction, _PREDICTION),
    "POST /interactions": _INTERACTIONS,
    "GET /interactions/{id}": _INTERACTIONS._replace(extract=response_lookup),
}
"""Whatever is not here costs nothing, or is not captured: counting tokens, files,
storage of caches, videos, batches, live sessions."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("google", _pattern, _endpoint)
# The OpenAI-compatible APIs of Gemini and of Vertex AI.
for _pattern in ("POST /chat/completions", "POST /embeddings"):
    register("google", _pattern, openai.ENDPOINTS.get(_pattern, openai.COMPLETIONS))


class _Call:
    """One request that was answered, or is being answered."""

    def __init__(
        self,
        options: CaptureOptions,
        endpoint: Endpoint,
        client: Any,
        path: str,
        sent: Any,
    ) -> None:
        self._options = options
        self._endpoint = endpoint
        self._call = Call(
            provider=options.provider or "google",
            path=path,
            request=sent if isinstance(sent, Mapping) else {},
            region=client.location if client.vertexai else None,
        )
        self._answer: dict[str, Any] = {}
        self._complete = False

    def on_response(self, response: Any) -> None:
        """Settle the call by its whole answer."""
        body = (response.body or "{}").encode()
        answer = read_json_fields(body, self._endpoint.fields)
        self._options.finish_call(self._endpoint, self._call, answer)

    def feed(self, item: Any) -> None:
        """Put a part of a streamed answer to the others."""
        part = read_json_fields(item.body.encode(), _STREAMED)
        self._complete = _merge_event(self._answer, part) or self._complete

    def finish(self, *, exhausted: bool) -> None:
        """Settle the call by the parts that came."""
        self._options.finish_call(
            self._endpoint,
            self._call,
            self._answer,
            complete=self._complete or exhausted,
        )


_STREAMED: Final = ("usageMetadata", "modelVersion", "responseId", "candidates")


def _patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    def begin(client: Any, method: str, path: str, sent: object) -> _Call | None:
        options = scope.options_for(client)
        path = "/" + path.partition("?")[0]
        if options is None:
            return None
        endpoint = find_endpoint(options.provider or "google", method, path)
        return endpoint and _Call(options, endpoint, client, path, sent)

    def on_response(response: Any, *args: Any, **_options: Any) -> None:
        call = begin(*args[:4])
        if call is not None:
            call.on_response(response)

    def streamed(parts: Any, *args: Any, **_options: Any) -> Any:
        call = begin(*args[:4])
        return call and observe_iter(parts, StreamObserver("google", call))

    def streamed_async(parts: Any, *args: Any, **_options: Any) -> Any:
        call = begin(*args[:4])
        return call and observe_aiter(parts, StreamObserver("google", call))

    client = module._api_client.BaseApiClient  # noqa: SLF001 - see the module's words
    yield Patch(client, "request", observe_result("google", on_response))
    yield Patch(client, "async_request", observe_result("google", on_response))
    yield Patch(client, "request_streamed", replace_result("google", streamed))
    yield Patch(
        client, "async_request_streamed", replace_result("google", streamed_async)
    )


def _interaction_seams(
    module: ModuleType, scope: InstrumentedClients
) -> Iterable[Patch]:
    return speakeasy.seams(module, scope, "google", _client_inside)


def _client_inside(client: Any) -> object:
    """Return what a client and its parts have in common, and the seams see."""
    return client._api_client  # noqa: SLF001 - see the module's words


LIBRARY: Final = Library(
    "google-genai",
    _patches,
    module="google.genai",
    patched_objects=lambda client: (_client_inside(client),),
    extra_modules={"google.genai._gaos.basesdk": _interaction_seams},
)
