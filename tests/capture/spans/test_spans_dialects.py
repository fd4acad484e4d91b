"""What spans say of a call, in each dialect: names, ids, counts and nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay._capture.spans.dialects import (
    CONVENTIONS,
    convention_of,
    observation_from_span,
)

if TYPE_CHECKING:
    from outlay._capture.observation import Observation

SEMCONV: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 200,
}

EARLIER_SEMCONV: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "openai",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.usage.prompt_tokens": 1000,
    "gen_ai.usage.completion_tokens": 100,
    "gen_ai.usage.cache_read_input_tokens": 200,
}

OPENLLMETRY: dict[str, Any] = {
    "llm.request.type": "chat",
    "gen_ai.system": "OpenAI",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.usage.prompt_tokens": 1000,
    "gen_ai.usage.completion_tokens": 100,
    "gen_ai.usage.cache_read_input_tokens": 200,
    "llm.usage.total_tokens": 1100,
}

OPENINFERENCE: dict[str, Any] = {
    "openinference.span.kind": "LLM",
    "llm.provider": "openai",
    "llm.system": "openai",
    "llm.model_name": "gpt-4o-2024-08-06",
    "llm.token_count.prompt": 1000,
    "llm.token_count.completion": 100,
    "llm.token_count.prompt_details.cache_read": 200,
    "output.value": '{"id":"chatcmpl-1","choices":[{"text":"secret"}]}',
}

SAME_CALL = [
    pytest.param(SEMCONV, id="current-conventions"),
    pytest.param(EARLIER_SEMCONV, id="earlier-conventions"),
    pytest.param(OPENLLMETRY, id="openllmetry"),
    pytest.param(OPENINFERENCE, id="openinference"),
]


def read(attributes: dict[str, Any]) -> Observation | None:
    """Return what a span with these attributes says, if it is billable."""
    found = convention_of(attributes)
    return None if found is None else observation_from_span(attributes, *found)


def read_one(attributes: dict[str, Any]) -> Observation:
    """Return what a billable span says."""
    observation = read(attributes)
    assert observation is not None
    return observation


@pytest.mark.parametrize("attributes", SAME_CALL)
def test_every_dialect_tells_the_same_of_the_same_call(
    attributes: dict[str, Any],
) -> None:
    """Else the idempotency keys would differ, and the call be counted twice."""
    observation = read_one(attributes)

    assert (
        observation.provider,
        observation.event_type,
        observation.operation_id,
        observation.model,
        observation.usage,
    ) == (
        "openai",
        "cost.ai.inference",
        "chatcmpl-1",
        "gpt-4o-2024-08-06",
        {"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 200},
    )


@pytest.mark.parametrize(
    ("dialect", "name", "provider"),
    [
        ("gen_ai.provider.name", "aws.bedrock", "aws"),
        ("gen_ai.provider.name", "azure.ai.openai", "azure"),
        ("gen_ai.system", "az.ai.inference", "azure"),
        ("gen_ai.provider.name", "gcp.vertex_ai", "google"),
        ("gen_ai.provider.name", "gcp.gemini", "google"),
        ("gen_ai.provider.name", "mistral_ai", "mistral"),
        ("gen_ai.provider.name", "x_ai", "x-ai"),
        ("gen_ai.provider.name", "anthropic", "anthropic"),
        ("gen_ai.provider.name", "Some_New_One", "some_new_one"),
    ],
)
def test_a_provider_has_one_name(dialect: str, name: str, provider: str) -> None:
    """The one that wrapped clients use, for it is part of the key."""
    attributes = {**SEMCONV, dialect: name}
    if dialect != "gen_ai.provider.name":
        del attributes["gen_ai.provider.name"]

    assert provider == read_one(attributes).provider


@pytest.mark.parametrize(
    "where",
    [
        {"server.address": "openrouter.ai"},
        {"gen_ai.openai.api_base": "https://openrouter.ai/api/v1/"},
    ],
)
def test_the_host_tells_who_charges(where: dict[str, str]) -> None:
    """Services of OpenAI's shape are called through OpenAI's library."""
    assert read_one({**SEMCONV, **where}).provider == "openrouter"


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"http.request.method": "POST"}, id="another-span"),
        pytest.param({**SEMCONV, "gen_ai.operation.name": "invoke_agent"}, id="agent"),
        pytest.param({**SEMCONV, "gen_ai.operation.name": "execute_tool"}, id="tool"),
        pytest.param({**SEMCONV, "gen_ai.operation.name": 7}, id="no-text"),
        pytest.param({"openinference.span.kind": "CHAIN"}, id="chain"),
    ],
)
def test_other_spans_cost_nothing(attributes: dict[str, Any]) -> None:
    """An agent's span sums up the calls inside, which are counted by themselves."""
    assert read(attributes) is None


def test_embeddings_are_embeddings_in_every_dialect() -> None:
    """The event type is part of the key."""
    texts = ({**SEMCONV, "gen_ai.operation.name": "embeddings"},)
    older = {**OPENLLMETRY, "llm.request.type": "embedding"}
    other = {**OPENINFERENCE, "openinference.span.kind": "EMBEDDING"}

    types = {read_one(each).event_type for each in (*texts, older, other)}

    assert {"cost.ai.embeddings"} == types


def test_a_call_without_usage_is_of_unknown_cost() -> None:
    """The provider charged for it; how much, this span does not say."""
    attributes = {k: v for k, v in SEMCONV.items() if ".usage." not in k}

    observation = read_one(attributes)

    assert not observation.is_complete
    assert observation.usage == {}


def test_a_span_without_id_and_usage_is_no_evidence_of_a_call() -> None:
    """It failed, or another span carries its usage."""
    attributes = {k: v for k, v in SEMCONV.items() if ".usage." not in k}
    del attributes["gen_ai.response.id"]

    assert read(attributes) is None


@pytest.mark.parametrize("count", [True, -1, 0, 1.5, "1000", None, (1,), float("nan")])
def test_what_is_no_count_is_not_counted(count: object) -> None:
    """A guess would be worse than nothing."""
    observation = read_one({**SEMCONV, "gen_ai.usage.output_tokens": count})

    assert "output_tokens" not in observation.usage


def test_a_whole_float_is_a_count() -> None:
    """Some exporters know only doubles."""
    observation = read_one({**SEMCONV, "gen_ai.usage.output_tokens": 100.0})

    assert observation.usage["output_tokens"] == 100


def test_another_tools_price_is_named_as_such() -> None:
    """A float's shortest repr; `priced`, for it is not the provider who said it."""
    observation = read_one({**SEMCONV, "operation.cost": 1.6e-07})

    assert (Decimal("1.6E-7"), "priced") == (observation.amount, observation.provenance)


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1.0, "1.0", True])
def test_what_is_no_amount_is_no_price(cost: object) -> None:
    """The price lists are asked instead."""
    assert read_one({**SEMCONV, "operation.cost": cost}).amount is None


def test_no_content_is_read() -> None:
    """Spans may carry prompts and answers; events never do."""
    observation = read_one(
        {
            **SEMCONV,
            **OPENINFERENCE,
            "gen_ai.input.messages": "secret",
            "input.value": "secret",
        }
    )

    assert "secret" not in repr(observation)


_NAMES = sorted(
    {
        name
        for convention in CONVENTIONS
        for names in (
            (convention.marker,),
            convention.provider,
            convention.model,
            convention.response_id,
            convention.cost,
            convention.service_tier,
            *convention.counts.values(),
        )
        for name in names
    }
    | {"server.address", "gen_ai.openai.api_base", "output.value"}
)
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.tuples(st.text(max_size=3)),
    st.sampled_from(["chat", "LLM", "embedding", "openai", '{"id":"x"}', "://"]),
)


@given(st.dictionaries(st.sampled_from(_NAMES), _VALUES))
def test_no_span_can_break_the_reading(attributes: dict[str, Any]) -> None:
    """Code that writes spans may write anything."""
    observation = read(attributes)

    assert observation is None or all(
        type(count) is int and count > 0 for count in observation.usage.values()
    )
