"""Old events may go. Each quantity over full hours stays, in every store."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from outlay.server._records import Aggregation
from outlay.server._storage.event_store import EventFilter
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.request_models import Window
from tests.support.stores import (
    HOUR,
    IDLE,
    START,
    SqliteLane,
    make_cost,
    make_event,
    quantity,
)

if TYPE_CHECKING:
    from outlay.server._storage.store import Store
    from tests.support.stores import StoreLane

DAY: Final = 24 * HOUR
KEEP: Final = 10 * DAY
NOW: Final = START + 40 * DAY
FIRST: Final = START - DAY
COST: Final = make_cost()


def fill(store: Store) -> None:
    """Store one event for each of forty days, received when it happened."""
    for day in range(40):
        at = START + day * DAY + HOUR // 2
        event = make_event(f"k{day}", at=at, data=f'{{"amount":0.{day:03}1}}')
        store.append([event], at)


def work(store: Store, now: int = NOW) -> None:
    """Let the store do its deferred work, some of it an hour later."""
    for at in (now, now + IDLE, now + HOUR):
        while store.do_background_work(at):
            pass


def left(store: Store) -> int:
    """Return the number of events that are left."""
    with store.reading() as reader:
        page = reader.events("org_a", EventFilter(), 1000, None)
        count = len(page.events)
        while page.cursor is not None:
            page = reader.events("org_a", EventFilter(), 1000, page.cursor)
            count += len(page.events)
    return count


def test_the_rule_is_kept(lane: StoreLane) -> None:
    """Over a restart, and each organization has its own."""
    lane.open().set_retention("org_a", KEEP)
    with lane.open().reading() as reader:
        assert reader.retention("org_a").keep == KEEP
        assert reader.retention("org_b").keep is None
    lane.open().set_retention("org_a", None)
    with lane.open().reading() as reader:
        assert reader.retention("org_a").keep is None


@pytest.mark.parametrize(
    "aggregation",
    [Aggregation.SUM, Aggregation.MAX, Aggregation.AVG, Aggregation.UNIQUE_COUNT],
)
def test_each_quantity_of_full_hours_stays(
    lane: StoreLane, aggregation: Aggregation
) -> None:
    """Also after a restart, and while new events arrive, old ones among them."""
    store = lane.open()
    cost = make_cost(aggregation=aggregation)
    store.add_cost(cost)
    fill(store)
    before = quantity(store, cost, FIRST, NOW)
    by_day = quantity(store, cost, START, START + 20 * DAY, window=Window.DAY)
    store.set_retention("org_a", KEEP)
    work(store)

    assert quantity(store, cost, FIRST, NOW) == before
    store = lane.open()
    assert quantity(store, cost, FIRST, NOW) == before
    assert quantity(store, cost, START, START + 20 * DAY, window=Window.DAY) == by_day
    late = make_event("late", at=START + HOUR // 2, data='{"amount":0}')
    store.append([late, make_event("new", at=NOW, data='{"amount":0}')], NOW + HOUR)
    work(store, NOW + 3 * DAY)
    if aggregation is Aggregation.SUM:
        assert quantity(store, cost, FIRST, NOW) == before


def test_an_earlier_state_counts_no_event_that_came_later(store: Store) -> None:
    """It is refused if the times of receipt are deleted that would tell it."""
    store.add_cost(COST)
    fill(store)
    asked = (START + 2 * DAY, START + 35 * DAY, NOW)
    known = [quantity(store, COST, FIRST, NOW, as_of=at) for at in asked]
    store.set_retention("org_a", KEEP)
    work(store)

    found: list[Decimal | int | None] = []
    for at in asked:
        try:
            found.append(quantity(store, COST, FIRST, NOW, as_of=at))
        except HttpProblem as problem:
            found.append(problem.status)
    assert found in (known, [409, *known[1:]])


def test_sqlite_deletes_what_it_may() -> None:
    """What is left has no total that it could not explain."""
    lane = SqliteLane()
    try:
        store = lane.open()
        store.add_cost(COST)
        store.add_cost(
            make_cost(
                "cst_2", event_type="cost.u", aggregation=Aggregation.UNIQUE_COUNT
            )
        )
        fill(store)
        store.append(
            [make_event("u", type="cost.u", at=START, data='{"amount":7}')], START
        )
        store.set_retention("org_a", KEEP)
        work(store)
        with store.reading() as reader:
            horizon = reader.retention("org_a").deleted_before

        assert horizon is not None
        assert NOW - KEEP <= horizon <= NOW + HOUR - KEEP
        # Those after the horizon are kept, and the one that a unique count needs.
        assert left(store) == 10
        with pytest.raises(HttpProblem, match="are deleted") as refused:
            quantity(store, COST, START + 1, NOW)
        assert refused.value.status == 409
        with pytest.raises(HttpProblem):
            quantity(store, COST, START, NOW, window=Window.MINUTE)
        with pytest.raises(HttpProblem):
            store.change_cost(
                "org_a",
                COST.id,
                lambda cost: msgspec.structs.replace(cost, value_property="$.other"),
            )
        changed = store.change_cost(
            "org_a", COST.id, lambda cost: msgspec.structs.replace(cost, unit="call")
        )
        assert changed is not None
        assert quantity(store, COST, FIRST, NOW) == sum(
            (Decimal(f"0.{day:03}1") for day in range(40)), Decimal(0)
        )
    finally:
        lane.close()
