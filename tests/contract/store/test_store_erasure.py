"""Every store replaces a customer's id everywhere, and changes no total."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from outlay.server._records import Aggregation
from outlay.server._storage.event_store import EventFilter
from outlay.server._storage.store import CUSTOMER_NAME
from tests.support.stores import (
    HOUR,
    IDLE,
    START,
    compiled,
    finish_background_work,
    make_cost,
    make_event,
)

if TYPE_CHECKING:
    from outlay.server._records import CostMetric
    from outlay.server._storage.store import Store
    from tests.support.stores import StoreLane

OLD = "cus_\u00fc1"
NEW = "erased_1"
END = START + 100 * HOUR


def totals(
    store: Store, cost: CostMetric, *names: str
) -> dict[tuple[str, ...], Decimal]:
    """Return the sums of a cost by the customer and some dimensions."""
    metric = compiled(cost)
    found: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    # The period begins and ends within an hour, so that rollups and events add up.
    with store.reading() as reader:
        for one in reader.contributions(
            metric, START + 1, END - 1, names=(CUSTOMER_NAME, *names)
        ):
            labels = [one.dimensions[metric.names.index(name)] for name in names]
            if isinstance(one.value, Decimal):
                found[one.customer, *labels] += one.value
    return dict(found)


def renamed(before: dict[tuple[str, ...], Decimal]) -> dict[tuple[str, ...], Decimal]:
    """Return the same sums under the pseudonym."""
    return {
        tuple(NEW if label == OLD else label for label in labels): value
        for labels, value in before.items()
    }


def fill(store: Store, count: int = 300) -> None:
    """Store events of three customers over four days, some with an id in their data."""
    names = (OLD, "cus_2", f"{OLD}2")
    for number in range(count):
        customer = names[number % 3]
        spelled = "cus_\\u00fc1" if number % 2 else OLD
        store.append(
            [
                make_event(
                    f"k{number}",
                    subject=customer if number % 2 else None,
                    external_subject=None if number % 2 else customer,
                    external_id=customer if number % 5 else None,
                    at=START + 7 + number * HOUR // 4,
                    data=f'{{"amount":0.{number:03}1,"user":"{spelled}",'
                    f'"deep":[{{"id":"{OLD}"}}],"text":"of {OLD}"}}',
                )
            ],
            START + number,
        )


COST = make_cost(group_by={"user": "$.user", "provider": "$.provider"})


@pytest.mark.parametrize("folded", [True, False], ids=["folded", "pending"])
def test_no_record_has_the_id_and_each_total_stays(
    store: Store, *, folded: bool
) -> None:
    """By customer, by dimension, and by both; at each step of the work the sum is."""
    store.add_cost(COST)
    fill(store)
    if folded:
        finish_background_work(store)
    before = totals(store, COST, "user")
    whole = sum(before.values())

    assert store.begin_erasure("org_a", OLD, NEW, START) == NEW
    assert sum(totals(store, COST, "user").values()) == whole
    while store.do_background_work(START + IDLE):
        assert sum(totals(store, COST, "user").values()) == whole

    with store.reading() as reader:
        assert reader.erasures("org_a") == []
        page = reader.events("org_a", EventFilter(), 1000, None)
        events = [*page.events]
        while page.cursor is not None:
            page = reader.events("org_a", EventFilter(), 1000, page.cursor)
            events += page.events
    assert totals(store, COST, "user") == renamed(before)
    assert (OLD, OLD) in before
    assert len(events) == 300
    for one in events:
        event = one.event
        names = {event.subject, event.external_subject, event.external_id}
        assert OLD not in names
        assert f'"{OLD}"' not in event.data
        assert "u00fc1" not in event.data.replace(f"of {OLD}", "")
        assert f"of {OLD}" in event.data  # a longer text is not the id


def test_events_that_arrive_meanwhile_are_renamed_as_well(lane: StoreLane) -> None:
    """Also after a restart in the middle. The work goes on where it was."""
    store = lane.open()
    store.add_cost(COST)
    fill(store, 60)
    finish_background_work(store)
    store.begin_erasure("org_a", OLD, NEW, START)
    late = make_event("late", subject=OLD, at=START + HOUR, data='{"amount":5}')
    [result] = store.append([late], START + 1000)
    store = lane.open()
    finish_background_work(store)
    after = totals(store, COST)

    assert result.event.subject in {NEW, OLD}  # a store that defers nothing has ended
    assert sum(after.values()) == sum(totals(store, COST, "provider").values())
    if result.event.subject == NEW:
        assert (OLD,) not in after


def test_a_second_erasure_of_the_customer_joins_the_first(store: Store) -> None:
    """A command that is sent again must not leave two pseudonyms."""
    store.add_cost(COST)
    fill(store, 10)
    used = store.begin_erasure("org_a", OLD, NEW, START)
    again = store.begin_erasure("org_a", OLD, "erased_2", START)
    finish_background_work(store)

    assert used == NEW
    assert again in {NEW, "erased_2"}
    assert {name for (name,) in totals(store, COST)} <= {NEW, "cus_2", f"{OLD}2"}


def test_other_organizations_keep_their_customers(store: Store) -> None:
    """They may have one with the same id."""
    other = make_cost("cst_2", namespace="org_b")
    store.add_cost(other)
    store.append([make_event("k", namespace="org_b", subject=OLD, at=START + 5)], START)
    finish_background_work(store)
    store.begin_erasure("org_a", OLD, NEW, START)
    finish_background_work(store)

    assert totals(store, other) == {(OLD,): Decimal(1)}


@pytest.mark.parametrize(
    "aggregation",
    [Aggregation.MIN, Aggregation.MAX, Aggregation.LATEST, Aggregation.COUNT],
)
def test_an_id_that_looks_like_a_number_changes_no_value(
    store: Store, aggregation: Aggregation
) -> None:
    """A price must not become a pseudonym."""
    cost = make_cost(aggregation=aggregation, group_by={"user": "$.user"})
    store.add_cost(cost)
    data = '{"amount":123,"user":123,"name":"123"}'
    store.append([make_event("k", subject="123", at=START + 5, data=data)], START)
    finish_background_work(store)
    before = totals(store, cost, "user")
    store.begin_erasure("org_a", "123", NEW, START)
    finish_background_work(store)

    assert totals(store, cost, "user") == {
        (NEW, user): value for (_, user), value in before.items()
    }
