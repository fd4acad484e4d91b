"""Every store changes costs and products in one step each."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest

from outlay.server._records import Aggregation, BillableFields, CostMetric, Product
from outlay.server._storage.page import ALL, Page
from tests.support.stores import (
    START,
    compiled,
    finish_background_work,
    make_cost,
    make_event,
    quantity,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay.server._storage.store import Store
    from tests.support.stores import StoreLane


class RefusedError(Exception):
    """A decision of the caller against a cost."""


def costs_in(store: Store, namespace: str = "org_a") -> list[str]:
    """Return the ids of all costs of an organization."""
    with store.reading() as reader:
        costs, count = reader.costs(namespace, None, ALL)
    assert count == len(costs)
    return [cost.id for cost in costs]


def test_a_cost_is_read_as_it_was_stored(lane: StoreLane) -> None:
    """Prices keep every digit, also over a restart."""
    cost = make_cost(
        unit_cost=Decimal("0.1000000000000000000000000000001"),
        group_by={"b": "$.b", "a": "$['a']"},
        unit="page",
    )
    lane.open().add_cost(cost)

    with lane.open().reading() as reader:
        assert reader.cost("org_a", cost.id) == cost
        assert reader.cost("org_b", cost.id) is None


def test_costs_are_listed_oldest_first_in_pages(store: Store) -> None:
    """A client that pages through a list sees each cost once."""
    for number in range(5):
        store.add_cost(make_cost(f"cst_{number}", product_id=f"prod_{number % 2}"))
    store.add_cost(make_cost("cst_other", namespace="org_b"))

    with store.reading() as reader:
        pages = [reader.costs("org_a", None, Page(2, first)) for first in (0, 2, 4)]
        of_product, count = reader.costs("org_a", "prod_0", ALL)

    assert [[cost.id for cost in costs] for costs, _ in pages] == [
        ["cst_0", "cst_1"],
        ["cst_2", "cst_3"],
        ["cst_4"],
    ]
    assert [total for _, total in pages] == [5, 5, 5]
    assert [cost.id for cost in of_product] == ["cst_0", "cst_2", "cst_4"]
    assert count == 3


def test_a_new_cost_is_reviewed_with_the_others_of_its_type(store: Store) -> None:
    """The decision and its effect are one step, so that no other cost slips between."""
    for cost in (
        make_cost("cst_1"),
        make_cost("cst_2"),
        make_cost("cst_type", event_type="cost.other"),
        make_cost("cst_org", namespace="org_b"),
    ):
        store.add_cost(cost)
    seen: list[str] = []

    def review(others: Sequence[CostMetric]) -> list[str]:
        seen.extend(other.id for other in others)
        return ["cst_1"]

    store.add_cost(make_cost("cst_3"), review)

    assert seen == ["cst_1", "cst_2"]
    assert costs_in(store) == ["cst_2", "cst_type", "cst_3"]


def test_a_refused_cost_leaves_no_trace(store: Store) -> None:
    """A limit is checked inside of the step."""

    def refuse(_: object) -> list[str]:
        raise RefusedError

    store.add_cost(make_cost("cst_1"))
    with pytest.raises(RefusedError):
        store.add_cost(make_cost("cst_2", event_type="cost.other"), refuse)

    assert costs_in(store) == ["cst_1"]
    assert not store.has_metric_for("org_a", "cost.other")


def test_first_costs_are_for_a_store_that_never_had_any(lane: StoreLane) -> None:
    """Defaults that a person deleted must not come back."""
    store = lane.open()
    first = [make_cost("cst_1"), make_cost("cst_2", event_type="cost.other")]

    assert store.add_first_costs(first)
    assert costs_in(store) == ["cst_1", "cst_2"]
    assert store.has_metric_for("org_a", "cost.other")
    for cost in first:
        assert store.delete_cost("org_a", cost.id, START)
    assert not store.add_first_costs(first)
    assert not lane.open().add_first_costs(first)


def test_first_costs_are_not_for_a_store_with_events(store: Store) -> None:
    """Its events were accepted without any cost."""
    store.append([make_event("k")], START)

    assert not store.add_first_costs([make_cost()])
    assert costs_in(store) == []


def test_a_later_cost_reads_earlier_events(store: Store) -> None:
    """Metrics are often thought of after the money was spent."""
    cost = make_cost()
    store.append([make_event(f"a{n}") for n in range(7)], START)
    store.add_cost(cost)
    lagging = quantity(store, cost)
    store.append([make_event("b")], START)
    still_lagging = quantity(store, cost)
    finish_background_work(store)
    store.append([make_event("c")], START)

    assert [lagging, still_lagging, quantity(store, cost)] == [7, 8, 9]


def test_a_long_history_is_read_over_restarts(lane: StoreLane) -> None:
    """A server may stop in the middle of deferred work."""
    cost = make_cost()
    store = lane.open()
    store.append([make_event(f"k{n}") for n in range(6000)], START)
    store.add_cost(cost)
    store.do_background_work(START)

    store = lane.open()
    before = quantity(store, cost)
    finish_background_work(store)

    assert [before, quantity(store, cost)] == [6000, 6000]


@pytest.mark.parametrize("folded", [True, False], ids=["folded", "lagging"])
def test_a_changed_cost_reads_earlier_events_anew(
    store: Store, *, folded: bool
) -> None:
    """Quantities of the old definition must not leak into the new one."""
    store.add_cost(make_cost())
    store.append([make_event("k", data='{"amount":1,"tokens":50}')], START)
    if folded:
        finish_background_work(store)

    changed = store.change_cost("org_a", "cst_1", by_tokens)

    assert changed == by_tokens(make_cost())
    before = quantity(store, changed)
    store.append([make_event("k2", data='{"amount":1,"tokens":7}')], START)
    finish_background_work(store)
    assert [before, quantity(store, changed)] == [50, 57]
    with store.reading() as reader:
        assert reader.cost("org_a", "cst_1") == changed


def by_tokens(cost: CostMetric) -> CostMetric:
    """Return a cost that sums tokens instead."""
    return msgspec.structs.replace(cost, value_property="$.tokens")


def test_a_cost_that_moves_to_another_type_reads_that_type(store: Store) -> None:
    """Both types have costs of their own, which stay."""
    for cost in (
        make_cost("cst_1"),
        make_cost("cst_2"),
        make_cost("cst_3", event_type="cost.other"),
    ):
        store.add_cost(cost)
    store.append([make_event("a"), make_event("b", type="cost.other")], START)
    finish_background_work(store)

    changed = store.change_cost(
        "org_a",
        "cst_1",
        lambda cost: msgspec.structs.replace(cost, event_type="cost.other"),
    )
    assert changed is not None
    store.append([make_event("c", type="cost.other")], START)
    finish_background_work(store)

    assert quantity(store, changed) == 2
    assert quantity(store, make_cost("cst_2")) == 1
    assert quantity(store, make_cost("cst_3", event_type="cost.other")) == 2


def test_a_cost_that_moves_to_another_type_is_reviewed_there(store: Store) -> None:
    """It may replace costs of that type, as a new cost may. Others are not asked."""
    for cost in (make_cost("cst_1"), make_cost("cst_2", event_type="cost.other")):
        store.add_cost(cost)
    seen: list[list[str]] = []

    def replace_all(others: Sequence[CostMetric]) -> list[str]:
        seen.append([one.id for one in others])
        return seen[-1]

    def move(old: CostMetric) -> CostMetric:
        return msgspec.structs.replace(old, event_type="cost.other")

    store.change_cost("org_a", "cst_1", move, replace_all)
    store.change_cost("org_a", "cst_1", move, replace_all)

    assert seen == [["cst_2"]]
    with store.reading() as reader:
        assert reader.cost("org_a", "cst_2") is None


def test_a_refused_change_changes_nothing(store: Store) -> None:
    """The check of the new definition is a part of the step."""
    store.add_cost(make_cost())

    def refuse(_: CostMetric) -> CostMetric:
        raise RefusedError

    with pytest.raises(RefusedError):
        store.change_cost("org_a", "cst_1", refuse)

    with store.reading() as reader:
        assert reader.cost("org_a", "cst_1") == make_cost()


@pytest.mark.parametrize(
    ("namespace", "cost_id"), [("org_a", "cst_2"), ("org_b", "cst_1")]
)
def test_a_cost_that_does_not_exist_is_not_changed(
    store: Store, namespace: str, cost_id: str
) -> None:
    """The cost of another organization does not exist either."""
    store.add_cost(make_cost())

    assert store.change_cost(namespace, cost_id, by_tokens) is None
    assert not store.delete_cost(namespace, cost_id, START)
    assert costs_in(store) == ["cst_1"]


def test_a_deleted_cost_reads_no_events(store: Store) -> None:
    """Its event type is unknown again, which clients need to hear."""
    store.add_cost(make_cost())

    assert store.delete_cost("org_a", "cst_1", START)

    assert not store.has_metric_for("org_a", "cost.ai")
    assert not store.delete_cost("org_a", "cst_1", START)
    with store.reading() as reader:
        assert reader.cost("org_a", "cst_1") is None
        assert reader.costs_of_type("org_a", "cost.ai") == []


def test_a_type_is_known_while_a_cost_reads_it(lane: StoreLane) -> None:
    """A cost without an aggregation reads nothing."""
    store = lane.open()
    store.add_cost(make_cost("cst_1"))
    store.add_cost(make_cost("cst_2"))
    store.add_cost(make_cost("cst_3", event_type="cost.inert", aggregation=None))

    assert store.has_metric_for("org_a", "cost.ai")
    assert not store.has_metric_for("org_b", "cost.ai")
    assert not store.has_metric_for("org_a", "cost.inert")
    assert lane.open().has_metric_for("org_a", "cost.ai")
    store = lane.open()
    store.delete_cost("org_a", "cst_1", START)
    assert store.has_metric_for("org_a", "cost.ai")


def test_the_types_that_no_cost_reads_are_those_of_the_period(store: Store) -> None:
    """Their events are in no total, which a person needs to hear."""
    store.add_cost(make_cost("cst_1"))
    store.add_cost(make_cost("cst_2", event_type="cost.inert", aggregation=None))
    store.append(
        [
            make_event("a", at=START),
            make_event("b", at=START, type="cost.z"),
            make_event("c", at=START + 9, type="cost.z"),
            make_event("d", at=START + 10, type="cost.z"),
            make_event("e", at=START - 1, type="cost.old"),
            make_event("f", at=START, type="cost.inert"),
            make_event("g", at=START, type="cost.x", namespace="org_b"),
        ],
        START,
    )

    def unmatched() -> dict[str, int]:
        with store.reading() as reader:
            return reader.unmatched_types("org_a", START, START + 10)

    with store.reading() as reader:
        earlier = reader.unmatched_types("org_a", START, START + 10, as_of=START - 1)
    assert earlier == {}
    assert [*unmatched().items()] == [("cost.inert", 1), ("cost.z", 2)]
    store.add_cost(make_cost("cst_3", event_type="cost.z"))
    assert unmatched() == {"cost.inert": 1}
    assert store.delete_cost("org_a", "cst_1", START)
    assert unmatched() == {"cost.ai": 1, "cost.inert": 1}


def test_the_latest_of_equal_instants_is_the_one_received_last(store: Store) -> None:
    """Clients that stamp whole seconds send many events of one instant."""
    cost = make_cost(aggregation=Aggregation.LATEST)
    store.add_cost(cost)
    finish_background_work(store)
    for number in (3, 1, 2):
        store.append([make_event(f"k{number}", data=f'{{"amount":{number}}}')], START)
    unfolded = quantity(store, cost)
    finish_background_work(store)

    assert [unfolded, quantity(store, cost)] == [2, 2]


def test_the_extent_of_a_cost_is_that_of_its_events(store: Store) -> None:
    """An empty report says where the events are instead."""
    cost = make_cost()
    store.add_cost(cost)
    with store.reading() as reader:
        assert reader.time_range(compiled(cost)) is None
    store.append([make_event(f"k{at}", at=START + at) for at in (5, 3, 9)], START)
    store.append([make_event("other", type="cost.other", at=START)], START)

    with store.reading() as reader:
        assert reader.time_range(compiled(cost)) == (START + 3, START + 9)


def test_a_product_is_stored_once(store: Store) -> None:
    """Two costs that name a new product at a time must not replace it."""
    first = Product("prod_1", "org_a", "Search", "", {"team": "a"}, START, START)
    store.add_product(first)
    store.add_product(Product("prod_1", "org_a", "Other", "", {}, START, START))
    store.add_product(Product("prod_1", "org_b", "Theirs", "", {}, START, START))

    with store.reading() as reader:
        assert reader.product("org_a", "prod_1") == first
        assert reader.products("org_a", Page(10, 0)) == ([first], 1)
        assert reader.products("org_a", Page(10, 1)) == ([], 1)
        assert reader.product("org_a", "prod_2") is None


def test_a_billable_metric_is_stored_beside_the_costs(lane: StoreLane) -> None:
    """It reads events as a cost does, and is in no list of costs."""
    metric = make_cost("bm_1", currency="", billable=BillableFields("d", "itm_1", 5))
    store = lane.open()
    store.add_cost(metric)
    store.add_cost(make_cost("cst_1"))
    store.append([make_event("k", data='{"amount":2,"currency":"EUR"}')], START)

    assert quantity(store, metric) == 2
    store = lane.open()
    assert store.has_metric_for("org_a", "cost.ai")
    with store.reading() as reader:
        assert reader.billable_metric("org_a", "bm_1") == metric
        assert reader.billable_metrics("org_a", None, ALL) == ([metric], 1)
        assert reader.billable_metrics("org_a", "prod_none", ALL) == ([], 0)
        assert reader.billable_metric("org_a", "cst_1") is None
        assert reader.cost("org_a", "bm_1") is None
        costs, count = reader.costs("org_a", None, ALL)
        assert ([cost.id for cost in costs], count) == (["cst_1"], 1)
        [cost] = reader.costs_of_type("org_a", "cost.ai")
        assert cost.id == "cst_1"
    assert not store.delete_cost("org_a", "bm_1", START)
