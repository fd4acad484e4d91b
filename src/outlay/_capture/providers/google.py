"""Extract costs from Google's models, by the Gemini API or Vertex AI.

``generate_content`` may call the model several times. In between it runs the user's
functions, and it returns the last response only. So the patches are where each request
gets its response: ``request`` and its three siblings of ``BaseApiClient``. Interactions
come from a client of their own, which Speakeasy generated.
"""

from __future__ import annotations

import re
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
from outlay._capture.extraction.usage_checks import contradiction_in
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
from outlay._capture.instrumentation.uncaptured import uncaptured
from outlay._capture.instrumentation.wrappers import observe_result, replace_result
from outlay._capture.observation import Observation
from outlay._capture.providers import openai
from outlay._capture.providers.generators import speakeasy

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

Response = Mapping[str, Any]


def content(response: Response, call: Call) -> Iterator[Observation]:
    """Read generated content: its tokens, and the searches that ground it."""
    report = response.get("usageMetadata") or {}
    usage = only_numbers(report) or {}
    model = response.get("modelVersion") or _model(call)
    region = _region(call)
    yield Observation(
        provider=call.provider,
        event_type=event_types.INFERENCE,
        operation_id=response.get("responseId"),
        model=model,
        service_tier=_tier(report),
        region=region,
        endpoint=_endpoint_of(region),
        usage=usage,
        flavor="default",
        is_complete=bool(usage),
        contradiction=_contradiction(usage),
    )
    for line, unit, count, contradiction in _groundings(response, model or ""):
        yield Observation(
            provider=call.provider,
            event_type=event_types.INFERENCE,
            operation_id=response.get("responseId"),
            line=line,
            model=model,
            region=region,
            usage={unit: count},
            contradiction=contradiction,
        )


def embeddings(response: Response, call: Call) -> Observation:
    """Read embeddings."""
    usage = only_numbers(response.get("usageMetadata")) or {}
    return _embedded(usage, call)


def prediction(response: Response, call: Call) -> Extracted:
    """Read a prediction of Vertex AI: embeddings with their tokens, or images."""
    counts = response.get("predictions.embeddings.statistics.token_count") or []
    tokens = sum(to_quantity(count) or 0 for count in counts)
    if tokens:
        return _embedded({"promptTokenCount": tokens}, call)
    kinds = response.get("predictions.mimeType") or []
    # A filtered image has no type, and costs nothing.
    images = sum(isinstance(k, str) and k.startswith("image/") for k in kinds)
    if not images:
        return None
    return Observation(
        provider=call.provider,
        event_type=event_types.IMAGES,
        model=_model(call),
        region=_region(call),
        usage={"image": images},
    )


def interaction(response: Response, call: Call) -> Iterator[Observation]:
    """Read an interaction."""
    if response.get("status") in _RUNNING:
        return  # it runs in the background; code that retrieves it gets the usage
    report = response.get("usage") or {}
    usage = {
        name: _by_modality(count) if isinstance(count, list) else count
        for name, count in (
            (name, report.get(theirs)) for theirs, name in _INTERACTION_USAGE.items()
        )
        if count
    }
    model = response.get("model") or call.model or response.get("agent")
    yield Observation(
        provider=call.provider,
        event_type=event_types.INFERENCE,
        operation_id=response.get("id"),
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
                operation_id=response.get("id"),
                line=tool["type"],
                model=model,
                usage={unit: tool["count"]},
            )


def response_lookup(response: Response, call: Call) -> Extracted:
    """Read an interaction that ran in the background. Others were read when created."""
    return interaction(response, call) if response.get("background") is True else None


def _embedded(usage: dict[str, Any], call: Call) -> Observation:
    return Observation(
        provider=call.provider,
        event_type=event_types.EMBEDDINGS,
        model=_model(call),
        region=_region(call),
        usage=usage,
        flavor="default",
        is_complete=bool(usage),
    )


def _groundings(
    response: Response, model: str
) -> Iterator[tuple[str, str, int, str | None]]:
    """Yield the searches that are charged: line, unit, count and contradiction.

    * Up to Gemini 2.5, a fee for each prompt that any search or any map grounds.
    * From Gemini 3 on, a fee for each distinct query that is not empty.

    Source: https://ai.google.dev/gemini-api/docs/pricing, November 2026.
    """
    lists = response.get(_QUERIES) or ()
    queries = {query for each in lists for query in each or () if query}
    by_prompt = model.startswith(_BY_PROMPT)
    if _has_maps(response):
        # Responses of Gemini 3 do not tell queries of maps from those of the web.
        unclear = None if by_prompt else "the number of queries of maps is not known"
        yield "google_maps", "map_search", 1, unclear
    if queries:
        yield "web_search", "web_searches", 1 if by_prompt else len(queries), None


def _has_maps(response: Response) -> bool:
    return any(place for chunks in response.get(_MAPS) or () for place in chunks or ())


def _contradiction(usage: Response) -> str | None:
    """Return why the counts do not add up, or None.

    The total contains thoughts, and with some models the tokens of tools.
    Source: https://ai.google.dev/api/generate-content#UsageMetadata, November 2026.
    """
    tokens = sum(usage.get(name) or 0 for name in _PARTS)
    tools = usage.get("toolUsePromptTokenCount") or 0
    return contradiction_in(usage.get("totalTokenCount"), tokens + tools, tokens)


def _region(call: Call) -> str | None:
    """Return the location of a call of Vertex AI, which its path contains."""
    found = _LOCATION.search(call.path)
    return call.region or (found[1] if found else None)


def _endpoint_of(region: str | None) -> str | None:
    """Return ``regional`` for an endpoint of Vertex AI that is not global.

    Source: https://cloud.google.com/vertex-ai/generative-ai/pricing, November 2026.
    """
    return None if region in {None, "global"} else "regional"


def _tier(report: Response) -> str | None:
    """Return the tier that Vertex AI served a call in, by its name in price lists."""
    kind = report.get("serviceTier") or report.get("trafficType") or ""
    tier = str(kind).lower().removeprefix("on_demand").strip("_")
    return None if tier in _STANDARD else tier


def _model(call: Call) -> str | None:
    """Return the model in the path, such as ``/models/…:predict``."""
    return call.path.rpartition("/")[2].partition(":")[0] or None


def _by_modality(counts: Iterable[Response]) -> list[dict[str, Any]]:
    return [
        {"modality": str(each["modality"]).upper(), "tokenCount": each["tokens"]}
        for each in counts
        if each.get("modality") and each.get("tokens")
    ]


def _merge_event(response: dict[str, Any], event: Response) -> bool:
    for name in ("usageMetadata", "modelVersion", "responseId"):
        if event.get(name) is not None:
            response[name] = event[name]
    candidates = event.get("candidates") or ()
    for candidate in candidates:
        grounding = candidate.get("groundingMetadata") or {}
        if grounding.get("webSearchQueries"):  # of the whole response so far
            response[_QUERIES] = [grounding["webSearchQueries"]]
        chunks = grounding.get("groundingChunks") or ()
        if any(chunk.get("maps") for chunk in chunks):
            response[_MAPS] = [[True]]
    ended = any(candidate.get("finishReason") for candidate in candidates)
    return ended and "usageMetadata" in event


def _merge_interaction_event(response: dict[str, Any], event: Response) -> bool:
    found = event.get("interaction")
    if isinstance(found, Mapping):
        response.update({n: found[n] for n in _INTERACTION if found.get(n) is not None})
    return event.get("event_type") == "interaction.completed"


_QUERIES: Final = "candidates.groundingMetadata.webSearchQueries"
_MAPS: Final = "candidates.groundingMetadata.groundingChunks.maps.placeId"
_LOCATION: Final = re.compile(r"/locations/([\w-]+)/")
_BY_PROMPT: Final = ("gemini-1", "gemini-2")
_PARTS: Final = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
_STANDARD: Final = {"", "standard", "traffic_type_unspecified", "unspecified"}
_RUNNING: Final = {"in_progress", "queued", "requires_action"}
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
    content,
    ("usageMetadata", "modelVersion", "responseId", _QUERIES, _MAPS),
    _merge_event,
)
_INTERACTION: Final = ("id", "model", "agent", "status", "background", "usage")
_INTERACTIONS: Final = Endpoint(
    interaction, _INTERACTION, _merge_interaction_event, (b'"interaction"',)
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
    # The OpenAI-compatible APIs of Gemini and of Vertex AI.
    "POST /chat/completions": openai.COMPLETIONS,
    "POST /embeddings": openai.EMBEDDINGS,
}
"""Other operations cost nothing, or are not captured: counting tokens, files, storage
of caches, videos, batches, live sessions."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("google", _pattern, _endpoint)


class _Call:
    """A request whose response has come, or is coming in parts."""

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
        self._response: dict[str, Any] = {}
        self._complete = False

    def on_response(self, response: Any) -> None:
        """Finish the call with its whole response."""
        body = (response.body or "{}").encode()
        fields = read_json_fields(body, self._endpoint.fields)
        self._options.finish_call(self._endpoint, self._call, fields)

    def feed(self, item: Any) -> None:
        """Merge a part of a streamed response with the earlier parts."""
        part = read_json_fields(item.body.encode(), _STREAMED)
        self._complete = _merge_event(self._response, part) or self._complete

    def finish(self, *, exhausted: bool) -> None:
        """Finish the call with the parts that came."""
        self._options.finish_call(
            self._endpoint,
            self._call,
            self._response,
            complete=self._complete or exhausted,
        )


_STREAMED: Final = ("usageMetadata", "modelVersion", "responseId", "candidates")


def _patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    def start(client: Any, method: str, path: str, sent: object) -> _Call | None:
        options = scope.options_for(client)
        path = "/" + path.partition("?")[0]
        if options is None:
            return None
        endpoint = find_endpoint(options.provider or "google", method, path)
        return endpoint and _Call(options, endpoint, client, path, sent)

    def on_response(response: Any, *args: Any, **_options: Any) -> None:
        call = start(*args[:4])
        if call is not None:
            call.on_response(response)

    def streamed(parts: Any, *args: Any, **_options: Any) -> Any:
        call = start(*args[:4])
        return call and observe_iter(parts, StreamObserver("google", call))

    def streamed_async(parts: Any, *args: Any, **_options: Any) -> Any:
        call = start(*args[:4])
        return call and observe_aiter(parts, StreamObserver("google", call))

    client = module._api_client.BaseApiClient  # noqa: SLF001 - see the module's docstring
    yield Patch(client, "request", observe_result("google", on_response))
    yield Patch(client, "async_request", observe_result("google", on_response))
    yield Patch(client, "request_streamed", replace_result("google", streamed))
    yield Patch(
        client, "async_request_streamed", replace_result("google", streamed_async)
    )


def _interaction_patches(
    module: ModuleType, scope: InstrumentedClients
) -> Iterable[Patch]:
    return speakeasy.patches(module, scope, "google", _shared_client)


def _shared_client(client: Any) -> object:
    """Return the object that a client and its parts share, and the patches get."""
    return client._api_client  # noqa: SLF001 - see the module's docstring


LIBRARY: Final = Library(
    "google-genai",
    _patches,
    module="google.genai",
    patched_objects=lambda client: (_shared_client(client),),
    extra_modules={
        "google.genai._gaos.basesdk": _interaction_patches,
        "google.genai.live": uncaptured(
            "google-genai's live sessions", "connect", _shared_client
        ),
    },
)
