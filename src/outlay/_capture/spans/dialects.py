"""Dialects: how the instrumentations of this world write a GenAI call on a span.

A table for each dialect, with the version it was read off. The first dialect whose
marker a span carries, and that knows the span's kind, wins. Only names, ids and counts
are read; prompts and answers, which some spans carry too, are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

from outlay._capture import event_types
from outlay._capture.extraction.registry import provider_of
from outlay._capture.observation import Observation
from outlay._capture.providers import libraries

Attributes: TypeAlias = Mapping[str, Any]
"""What a span carries, by name."""

_Names: TypeAlias = tuple[str, ...]  # of attributes; the first that is there counts


class SpanConvention(NamedTuple):
    """Where one dialect writes what.

    Attributes:
        name: goes into the event as the source of its usage.
        marker: the attribute that tells the kind of a span, and the dialect.
        kinds: event types by the marker's value. Kinds that are not here cost nothing
            of their own: tools, chains, and agents, whose spans add up their calls'.
        provider: who was called.
        model: what answered; then what was asked for.
        response_id: the provider's id of its answer.
        counts: units of usage, by the names of genai-prices; totals include their
            parts, as there.
        cost: what another tool priced the call at, in USD.
        service_tier: that the provider says it used.
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
# The names after the first of each row are those of earlier versions, which
# OpenLLMetry up to 0.40 and logfire up to 3 write.
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
# no attribute for the response's id.
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

DIALECTS: Final = (SEMCONV, OPENLLMETRY, OPENINFERENCE)
"""In the order in which they are tried."""

# Canonical names (those of genai-prices) of what the dialects call a provider: the
# values that the conventions list for `gen_ai.provider.name` and, before it,
# `gen_ai.system`; OpenInference's `llm.provider` and `llm.system`.
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

# Each library's module says whose hosts it knows when it is imported.
_LIBRARIES: Final = tuple(libraries())

_HOST: Final = "server.address"
_API_BASE: Final = "gen_ai.openai.api_base"  # OpenLLMetry's, instead of the host

# OpenInference writes the whole answer as JSON; where that begins with the id, as the
# answers of OpenAI's and Anthropic's shape do, the id alone is taken from it.
_ANSWER: Final = "output.value"
_LEADING_ID: Final = re.compile(r'\{\s*"id"\s*:\s*"([!-~]{1,255}?)"')


def convention_of(attributes: Attributes) -> tuple[SpanConvention, str] | None:
    """Return a billable span's dialect and event type, or None: it is none of ours."""
    for dialect in DIALECTS:
        kind = attributes.get(dialect.marker)
        if kind is not None and kind in dialect.kinds:
            return dialect, dialect.kinds[kind]
    return None


def observation_from_span(
    attributes: Attributes, dialect: SpanConvention, event_type: str
) -> Observation | None:
    """Return what a span says its call cost, or None: it does not say.

    A span with a response id, but without usage, is of a real call of unknown cost. One
    without either may be of a call that failed, or whose usage another span carries.
    """
    response_id = _text(attributes, dialect.response_id) or _id_in_answer(attributes)
    usage = {
        unit: count
        for unit, names in dialect.counts.items()
        if (count := _count(attributes, names))
    }
    cost = _cost(attributes, dialect.cost)
    if not usage and response_id is None and cost is None:
        return None
    return Observation(
        provider=_provider(attributes, dialect),
        event_type=event_type,
        operation_id=response_id,
        model=_text(attributes, dialect.model),
        service_tier=_text(attributes, dialect.service_tier),
        usage=usage,
        amount=cost,
        provenance="priced",
        is_complete=bool(usage) or cost is not None,
        data={"usageSource": dialect.name},
    )


def _provider(attributes: Attributes, dialect: SpanConvention) -> str:
    # An OpenAI-compatible service is called through OpenAI's library: its host tells
    # who charges.
    name = (_text(attributes, dialect.provider) or "").lower()
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


def _id_in_answer(attributes: Attributes) -> str | None:
    answer = attributes.get(_ANSWER)
    found = _LEADING_ID.match(answer) if isinstance(answer, str) else None
    return found[1] if found else None
