"""Every store computes each quantity to the last digit, whatever it folded before."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlay.server._records import Aggregation
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.request_models import Window
from tests.support.questions import (
    LATER,
    Question,
    ask,
    events,
    make_event,
    make_metric,
    model,
    questions,
)
from tests.support.questions import START as FIRST
from tests.support.stores import (
    ALL_LANES,
    EMBEDDED,
    HOUR,
    START,
    compiled,
    finish_background_work,
    make_cost,
    opened,
    quantity,
)
from tests.support.stores import make_event as make_simple_event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outlay.server._records import Event
    from outlay.server._storage.store import Store


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lane", EMBEDDED)
@settings(max_examples=150, deadline=None)
@given(
    rows=events,
    early=st.integers(0, 40),
    folded=st.booleans(),
    aggregation=st.sampled_from(Aggregation),
    names=st.sampled_from([(), ("provider",), ("provider", "region")]),
    questions=st.lists(questions, min_size=1, max_size=4),
)
def test_any_question_equals_the_plain_model(
    lane: str,
    rows: list[tuple[str, int, str, str, str, str]],
    early: int,
    *,
    folded: bool,
    aggregation: Aggregation,
    names: tuple[str, ...],
    questions: Sequence[Question],
) -> None:
    """Any window and any filter, over hours, days, months, edges and unfolded tails."""
    metric = make_metric(aggregation, *names)
    made = [make_event(number, row) for number, row in enumerate(rows)]
    with opened(lane) as store:
        store.append(made[:early], FIRST)
        store.add_cost(metric)
        if folded:
            finish_background_work(store, LATER)
        store.append(made[early:], LATER)
        for question in questions:
            known = {*names, CUSTOMER_NAME}
            where = {key: some for key, some in question.where.items() if key in known}
            asked = question._replace(names=question.names & known, where=where)
            found = ask(store, metric, asked)
            assert found == model(aggregation, names, made, asked)


hours = st.integers(0, 5 * HOUR)
amounts = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=9).map(str),
    st.integers(-(10**30), 10**30).map(str),
    st.sampled_from(["null", "true", '"0.1"', '"x"', "1e-30", "1e999999", "0.10"]),
)
rows = st.lists(
    st.tuples(amounts, hours, st.sampled_from("ab"), st.sampled_from("xyz")),
    max_size=30,
)


@pytest.mark.parametrize("lane", EMBEDDED)
@settings(max_examples=60, deadline=None)
@given(
    rows=rows,
    late=st.integers(0, 30),
    aggregation=st.sampled_from(Aggregation),
    bounds=st.tuples(hours, hours).map(sorted),
)
def test_rollups_and_raw_events_agree(
    lane: str,
    rows: list[tuple[str, int, str, str]],
    late: int,
    aggregation: Aggregation,
    bounds: Sequence[int],
) -> None:
    """Whole hours, ragged edges and unfolded tails must add up to the same total."""
    made = [
        make_simple_event(
            str(number),
            at=START + at,
            subject=customer,
            data=f'{{"amount":{literal},"provider":"{provider}"}}',
        )
        for number, (literal, at, customer, provider) in enumerate(rows)
    ]
    cost = make_cost(aggregation=aggregation)
    start, end = START + bounds[0], START + bounds[1]

    with opened(lane) as store:
        store.append(made[:late], START)
        store.add_cost(cost)
        behind = quantity(store, cost, start, end)
        for event in made[late:]:
            store.append([event], START)
        unfolded = quantity(store, cost, start, end)
        finish_background_work(store)
        folded = quantity(store, cost, start, end)
        raw = quantity(store, cost, start, end, window=Window.MINUTE)

    assert behind == total_of(aggregation, made[:late], start, end)
    assert unfolded == folded == raw == total_of(aggregation, made, start, end)


def total_of(
    aggregation: Aggregation, events: Sequence[Event], start: int, end: int
) -> Decimal | None:
    """Return what a cost comes to, computed the slow and obvious way."""
    chosen = [event for event in events if start <= event.at < end]
    values: dict[int, Decimal] = {}
    for order, event in enumerate(chosen):
        given = event.fields["amount"]
        if isinstance(given, bool) or given is None or given == "x":
            continue
        number = Decimal(given)
        if abs(number.adjusted()) <= 100:
            values[order] = number
    unique = {str(event.fields["amount"]) for event in chosen}
    with localcontext(prec=500):
        total = sum(values.values(), Decimal(0))
    with localcontext(prec=34):
        average = total / len(values) if values else None
    newest = max(values, key=lambda order: (chosen[order].at, order), default=None)
    results: dict[Aggregation, Callable[[], Decimal | None]] = {
        Aggregation.SUM: lambda: total,
        Aggregation.COUNT: lambda: Decimal(len(chosen)),
        Aggregation.AVG: lambda: average,
        Aggregation.MIN: lambda: min(values.values(), default=None),
        Aggregation.MAX: lambda: max(values.values(), default=None),
        Aggregation.LATEST: lambda: None if newest is None else values[newest],
        Aggregation.UNIQUE_COUNT: lambda: Decimal(len(unique - {"None"})),
    }
    return results[aggregation]()


def test_contributions_name_customer_and_dimensions(store: Store) -> None:
    """Rollups of different customers or dimensions must never merge."""
    cost = make_cost(group_by={"b": "$.b", "a": "$.a"})
    store.add_cost(cost)
    finish_background_work(store)
    store.append(
        [
            make_simple_event("1", data='{"amount":1,"a":"x","b":true}'),
            make_simple_event("2", data='{"amount":2,"a":"x","b":true}'),
            make_simple_event("3", data='{"amount":4,"a":1.50}', subject="cus_2"),
            make_simple_event(
                "4", data='{"amount":8}', subject=None, external_subject="ext"
            ),
        ],
        START,
    )
    totals: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)

    with store.reading() as reader:
        for one in reader.contributions(
            compiled(cost),
            START,
            START + HOUR,
            names=[CUSTOMER_NAME, "a", "b"],
        ):
            assert isinstance(one.value, Decimal)
            totals[one.customer, *one.dimensions] += one.value

    assert totals == {
        ("cus_1", "x", "true"): 3,
        ("cus_2", "1.50", ""): 4,
        ("ext", "", ""): 8,
    }


@pytest.mark.parametrize("start", [10, 40])
@pytest.mark.parametrize("days", [1, 20, 40])
def test_a_group_outside_of_the_period_is_not_named(
    store: Store, start: int, days: int
) -> None:
    """Whichever larger buckets a store takes it off from, it must not be left empty."""
    minute = HOUR // 60
    store.add_cost(make_cost())
    store.append(
        [
            make_simple_event("before", at=START + 5 * minute, subject="early"),
            make_simple_event("in", at=START + 50 * minute, subject="in"),
            make_simple_event("day", at=START + 30 * HOUR, subject="in"),
            make_simple_event("after", at=START + days * 24 * HOUR, subject="late"),
        ],
        START,
    )
    finish_background_work(store)

    period = (START + start * minute, START + days * 24 * HOUR)
    with store.reading() as reader:
        names = frozenset([CUSTOMER_NAME])
        found = reader.contributions(compiled(make_cost()), *period, names=names)
        customers = {one.customer for one in found}

    assert customers == {"in"}


# PostgreSQL answers the same questions. Each takes it longer than the embedded stores,
# so that there are fewer.
_FEW = settings(max_examples=8, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lane", sorted({*ALL_LANES} - {*EMBEDDED}))
@_FEW
@given(
    rows=events,
    early=st.integers(0, 40),
    folded=st.booleans(),
    aggregation=st.sampled_from(Aggregation),
    names=st.sampled_from([(), ("provider",), ("provider", "region")]),
    questions=st.lists(questions, min_size=1, max_size=4),
)
def test_a_server_answers_any_question_like_the_plain_model(
    lane: str,
    **question: Any,  # noqa: ANN401 - the arguments of the other test
) -> None:
    """Exact sums, extremes and counts, over any literals."""
    test_any_question_equals_the_plain_model.hypothesis.inner_test(lane, **question)


def test_nothing_is_left_to_fold_after_the_deferred_work(store: Store) -> None:
    """An operator looks at the number, to see whether the work keeps up."""
    store.add_cost(make_cost())
    store.append([make_simple_event("a"), make_simple_event("b")], START)
    finish_background_work(store)

    assert store.unfolded() == 0
