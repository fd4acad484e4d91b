"""Read GenAI calls from spans, in the conventions of the common instrumentations.

Each convention is a table, with its version. The first convention wins whose marker is
on the span, and that knows the span's kind. Only names, ids and counts are read. Some
spans also contain prompts and responses, which are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

from outlay._capture import event_types
from outlay._capture.extraction.registry import provider_of
from outlay._capture.observation import Observation

Attributes: TypeAlias = Mapping[str, Any]
"""The attributes of a span, by name."""

_Names: TypeAlias = tuple[str, ...]  # names of attributes; the first one present counts


class SpanConvention(NamedTuple):
    """The names of the attributes in one convention.

    Attributes:
        name: The convention's name. The event contains it as the source of its usage.
        marker: The attribute that contains the kind of a span. It identifies the
            convention.
        kinds: Event types by the marker's value. Other kinds cost nothing themselves:
            tools, chains, and agents, whose spans sum up their calls.
        provider: The provider that was called.
        model: The model that responded, then the requested model.
        response_id: The provider's id of its response.
        counts: Units of usage, by the names of genai-prices. Totals include their
            parts.
        cost: The amount that another tool priced the call at, in USD.
        service_tier: The tier that the provider used.
    """

    name: str
    marker: str
    kinds: Mapping[str, str]
    provider: _Names
    model: _Names
    response_id: _Names
    counts: Mapping[str, _Names]
    cost: _Names
    service_tier: _Names = ()


_OPERATIONS: Final = {
    "chat": event_types.INFERENCE,
    "text_completion": event_types.INFERENCE,
    "generate_content": event_types.INFERENCE,
    "embeddings": event_types.EMBEDDINGS,
}

# https://opentelemetry.io/docs/specs/semconv/gen-ai/, version 1.37 to 0.66b of the
# Python package; also what logfire 5 and pydantic-ai 2 write, with `operation.cost`.
# The other names of each row are those of earlier versions. OpenLLMetry up to 0.40 and
# logfire up to 3 write them.
SEMCONV: Final = SpanConvention(
    name="OpenTelemetry GenAI",
    marker="gen_ai.operation.name",
    kinds=_OPERATIONS,
    provider=("gen_ai.provider.name", "gen_ai.system"),
    model=("gen_ai.response.model", "gen_ai.request.model"),
    response_id=("gen_ai.response.id",),
    counts={
        "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "output_tokens": (
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
        ),
        "cache_read_tokens": (
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_read_input_tokens",
            "gen_ai.usage.details.cache_read_tokens",
        ),
        "cache_write_tokens": (
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.details.cache_write_tokens",
        ),
    },
    cost=("operation.cost",),
    service_tier=(
        "openai.response.service_tier",
        "gen_ai.openai.response.service_tier",
    ),
)

# OpenLLMetry (opentelemetry-instrumentation-openai and its siblings) before it wrote
# `gen_ai.operation.name`: up to 0.40.
OPENLLMETRY: Final = SEMCONV._replace(
    name="OpenLLMetry",
    marker="llm.request.type",
    kinds={
        "chat": event_types.INFERENCE,
        "completion": event_types.INFERENCE,
        "embedding": event_types.EMBEDDINGS,
        "rerank": event_types.RERANK,
    },
)

# https://github.com/Arize-ai/openinference, semantic conventions 0.1.42. Its spans have
# no attribute for the id of the response.
OPENINFERENCE: Final = SpanConvention(
    name="OpenInference",
    marker="openinference.span.kind",
    kinds={
        "LLM": event_types.INFERENCE,
        "EMBEDDING": event_types.EMBEDDINGS,
        "RERANKER": event_types.RERANK,
    },
    provider=("llm.provider", "llm.system"),
    model=("llm.model_name", "embedding.model_name", "reranker.model_name"),
    response_id=(),
    counts={
        "input_tokens": ("llm.token_count.prompt",),
        "output_tokens": ("llm.token_count.completion",),
        "cache_read_tokens": ("llm.token_count.prompt_details.cache_read",),
        "cache_write_tokens": ("llm.token_count.prompt_details.cache_write",),
        "input_audio_tokens": ("llm.token_count.prompt_details.audio",),
        "output_audio_tokens": ("llm.token_count.completion_details.audio",),
    },
    cost=("llm.cost.total",),
)

CONVENTIONS: Final = (SEMCONV, OPENLLMETRY, OPENINFERENCE)
"""The conventions, in the order in which they are tried."""

# Canonical names, those of genai-prices, of the conventions' providers: the values of
# `gen_ai.provider.name` and of the earlier `gen_ai.system`, and OpenInference's
# `llm.provider` and `llm.system`.
_PROVIDERS: Final = {
    "aws.bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "google_genai": "google",
    "vertex_ai": "google",
    "vertexai": "google",
    "bedrock": "aws",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "x_ai": "x-ai",
    "xai": "x-ai",
}

_HOST: Final = "server.address"
_API_BASE: Final = "gen_ai.openai.api_base"  # OpenLLMetry's, instead of the host

# OpenInference writes the whole response as JSON. Responses in the shapes of OpenAI and
# Anthropic begin with the id, which alone is read.
_RESPONSE: Final = "output.value"
_LEADING_ID: Final = re.compile(r'\{\s*"id"\s*:\s*"([!-~]{1,255}?)"')


def convention_of(attributes: Attributes) -> tuple[SpanConvention, str] | None:
    """Return a billable span's convention and event type. None for other spans."""
    for convention in CONVENTIONS:
        kind = attributes.get(convention.marker)
        if kind is not None and kind in convention.kinds:
            return convention, convention.kinds[kind]
    return None


def observation_from_span(
    attributes: Attributes, convention: SpanConvention, event_type: str
) -> Observation | None:
    """Return the cost of a span's call, or None if the span does not contain it.

    A span with a response id and without usage is a real call of unknown cost. The call
    of a span without either may have failed, or another span contains its usage.
    """
    response_id = _text(attributes, convention.response_id) or _id_in_response(
        attributes
    )
    usage = {
        unit: count
        for unit, names in convention.counts.items()
        if (count := _count(attributes, names))
    }
    cost = _cost(attributes, convention.cost)
    if not usage and response_id is None and cost is None:
        return None
    return Observation(
        provider=_provider(attributes, convention),
        event_type=event_type,
        operation_id=response_id,
        model=_text(attributes, convention.model),
        service_tier=_text(attributes, convention.service_tier),
        usage=usage,
        amount=cost,
        provenance="priced",
        is_complete=bool(usage) or cost is not None,
        data={"usageSource": convention.name},
    )


def _provider(attributes: Attributes, convention: SpanConvention) -> str:
    # OpenAI-compatible services are called through OpenAI's library. The host shows
    # which provider charges.
    name = (_text(attributes, convention.provider) or "").lower()
    host = _text(attributes, (_HOST,))
    base = _text(attributes, (_API_BASE,))
    if host is None and base is not None:
        host = base.partition("://")[2].partition("/")[0].partition(":")[0]
    known = provider_of(host) if host is not None else None
    return known or _PROVIDERS.get(name, name) or "unknown"


def _first(attributes: Attributes, names: _Names) -> object:
    for name in names:
        value = attributes.get(name)
        if value is not None:
            return value
    return None


def _text(attributes: Attributes, names: _Names) -> str | None:
    value = _first(attributes, names)
    return value if isinstance(value, str) and value else None


def _count(attributes: Attributes, names: _Names) -> int | None:
    value = _first(attributes, names)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value > 0 else None


def _cost(attributes: Attributes, names: _Names) -> Decimal | None:
    value = _first(attributes, names)
    if type(value) is not int and type(value) is not float:
        return None
    amount = Decimal(repr(value))
    return amount if amount.is_finite() and amount >= 0 else None


def _id_in_response(attributes: Attributes) -> str | None:
    response = attributes.get(_RESPONSE)
    found = _LEADING_ID.match(response) if isinstance(response, str) else None
    return found[1] if found else None
