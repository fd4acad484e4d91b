"""LangGraph's graphs and agents."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph

import outlay
from tests.frameworks.concurrently import assert_each_paid, in_tasks, in_threads
from tests.frameworks.fake_providers import gpt_4o

if TYPE_CHECKING:
    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders


class State(TypedDict):
    """The state of the graph."""

    who: str
    said: Annotated[list[str], operator.add]


def graph() -> Any:
    """Return a graph of two nodes that run side by side, each with one call."""
    model = ChatOpenAI(model="gpt-4o")

    def ask(state: State) -> dict[str, list[str]]:
        return {"said": [str(model.invoke(state["who"]).content)]}

    builder = StateGraph(State)
    for name in ("left", "right"):
        builder.add_node(name, ask)
        builder.add_edge(START, name)
        builder.add_edge(name, END)
    return builder.compile()


def test_nodes_side_by_side(providers: FakeProviders, costs: Costs) -> None:
    """LangGraph's threads have the customer of the code that runs the graph."""
    with providers.meeting(2), outlay.attribute(customer_id="cus_3"):
        state = graph().invoke({"who": "cus_3", "said": []})

    assert len(state["said"]) == 2
    assert costs.total() == costs.total(customer="cus_3") == 2 * gpt_4o(3)


def test_graphs_in_threads(providers: FakeProviders, costs: Costs) -> None:
    """One compiled graph for all customers."""
    compiled = graph()

    in_threads(
        providers,
        lambda number: compiled.invoke({"who": f"cus_{number}", "said": []}),
    )

    assert_each_paid(costs, gpt_4o, calls=2)


@tool
def look_up(name: str) -> str:
    """Look a name up."""
    return f"{name} is known"


def test_an_agent_with_a_tool(providers: FakeProviders, costs: Costs) -> None:
    """A call that asks for the tool, and one with its result."""
    providers.tool = ("look_up", {"name": "Ada"})
    agent = create_agent(ChatOpenAI(model="gpt-4o"), [look_up])

    async def ask(number: int) -> None:
        asked = {"messages": [{"role": "user", "content": f"cus_{number}"}]}
        answered = await agent.ainvoke(asked)
        assert len(answered["messages"]) == 4

    in_tasks(providers, ask)

    assert_each_paid(costs, gpt_4o, calls=2)
