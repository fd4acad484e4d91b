"""LangChain's callback handler, alone and beside other sources."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.caches import InMemoryCache
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from opentelemetry.sdk.trace import TracerProvider

import outlay
from outlay.integrations.langchain import OutlayCallbackHandler
from outlay.otel import CostSpanProcessor
from outlay.testing import recording
from tests.frameworks.concurrently import CUSTOMERS, assert_each_paid, overlapping
from tests.frameworks.fake_providers import claude_haiku, gpt_4o

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders

MODELS = [
    pytest.param(lambda: ChatOpenAI(model="gpt-4o"), gpt_4o, id="openai chat"),
    pytest.param(
        lambda: ChatOpenAI(model="gpt-4o", use_responses_api=True),
        gpt_4o,
        id="openai responses",
    ),
    pytest.param(
        lambda: ChatAnthropic(model_name="claude-haiku-4-5"),
        claude_haiku,
        id="anthropic",
    ),
]


@pytest.fixture(params=[False, True], ids=["alone", "beside captured clients"])
def costs(request: pytest.FixtureRequest) -> Iterator[Costs]:
    """Return what is tracked, with and without captured clients below."""
    with recording() as recorded:
        if request.param:
            outlay.instrument()
        yield recorded
        outlay.uninstrument()
    assert not recorded.unpriced


def _config(number: int) -> Any:
    return {
        "callbacks": [OutlayCallbackHandler()],
        "metadata": {"outlay_customer_id": f"cus_{number}"},
    }


@pytest.mark.parametrize(("model", "price"), MODELS)
def test_calls_belong_to_the_customer_in_the_metadata(
    model: Any, price: Any, providers: FakeProviders, costs: Costs
) -> None:
    """Plain and streamed, at the same time, each counted once."""

    async def ask(number: int) -> None:
        chat = model()
        await chat.ainvoke(f"cus_{number}", _config(number))
        async for _ in chat.astream(f"cus_{number}", _config(number)):
            pass

    overlapping(providers, ask)
    for number in CUSTOMERS:
        model().invoke(f"cus_{number}", _config(number))
        assert list(model().stream(f"cus_{number}", _config(number)))

    assert_each_paid(costs, price, calls=4)


class _State(TypedDict):
    question: str


@pytest.mark.usefixtures("providers")
def test_a_graph_belongs_to_the_customer_in_its_metadata(costs: Costs) -> None:
    """Its models, and the tools that track costs of their own."""

    @tool
    def look_up(name: str) -> str:
        """Look a name up."""
        outlay.track_cost("cost.enrichment", "0.05", operation_id=name)
        return name

    def node(state: _State) -> _State:
        ChatOpenAI(model="gpt-4o").invoke(state["question"])
        look_up.invoke({"name": state["question"]})
        return state

    graph: Any = StateGraph(_State)
    graph.add_node("ask", node)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    compiled = graph.compile()

    for number in CUSTOMERS:
        compiled.invoke({"question": f"cus_{number}"}, _config(number))

    for number in CUSTOMERS:
        expected = gpt_4o(number) + Decimal("0.05")
        assert costs.total(customer=f"cus_{number}") == expected
    assert len(costs.events) == 2 * len(CUSTOMERS)


@pytest.mark.usefixtures("providers")
def test_a_stream_that_is_left_changes_nothing_for_the_code_after_it(
    costs: Costs,
) -> None:
    """The customer of the metadata ends with the stream."""
    stream = ChatOpenAI(model="gpt-4o").stream("cus_1", _config(1))
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    outlay.track_cost("cost.a", "1", operation_id="after")

    [event] = costs.events_where(type="cost.a")
    assert event.subject == "unattributed"
    costs.clear()


@pytest.mark.usefixtures("providers")
def test_a_response_of_langchains_cache_costs_nothing(costs: Costs) -> None:
    """The provider was not asked."""
    chat = ChatOpenAI(model="gpt-4o", cache=InMemoryCache())
    for _ in range(2):
        chat.invoke("cus_1", _config(1))

    costs.assert_total(gpt_4o(1), customer="cus_1")
    assert len(costs.events) == 1


@pytest.mark.usefixtures("providers")
def test_metadata_of_strangers_can_be_left_unread(costs: Costs) -> None:
    """A program that passes metadata on says so."""
    config = {**_config(1), "callbacks": [OutlayCallbackHandler(customer_key=None)]}
    with outlay.attribute(customer_id="cus_2"):
        ChatOpenAI(model="gpt-4o").invoke("cus_2", config)

    costs.assert_total(gpt_4o(2), customer="cus_2")
    assert len(costs.events) == 1


@pytest.mark.usefixtures("providers")
def test_spans_of_the_call_are_not_counted_beside_it(costs: Costs) -> None:
    """A traced call, whose span another instrumentation has opened inside."""
    provider = TracerProvider()
    provider.add_span_processor(CostSpanProcessor())
    tracer = provider.get_tracer("test")

    class Traced(ChatOpenAI):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            with tracer.start_as_current_span("chat gpt-4o") as span:
                result = super()._generate(*args, **kwargs)
                said: Any = result.llm_output
                span.set_attribute("gen_ai.operation.name", "chat")
                span.set_attribute("gen_ai.provider.name", "openai")
                span.set_attribute("gen_ai.response.model", "gpt-4o")
                span.set_attribute("gen_ai.response.id", said["id"])
                span.set_attribute("gen_ai.usage.input_tokens", 1000)
                span.set_attribute("gen_ai.usage.output_tokens", 100)
            return result

    Traced(model="gpt-4o").invoke("cus_1", _config(1))

    costs.assert_total(gpt_4o(1), customer="cus_1")
    assert len(costs.events) == 1
    provider.shutdown()
