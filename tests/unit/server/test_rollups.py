"""Rollups of every grain and cube equal the raw sum, and survive migrations."""

from __future__ import annotations

import itertools
import sqlite3
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlay.server._metering.metric import compile_metric
from outlay.server._metering.parts import join, sort_key, split
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
    Aggregation,
    CostMetric,
    Event,
)
from outlay.server._services.breakdown import window_at
from outlay.server._storage.buckets import Grain, ranges_between, start_of
from outlay.server._storage.sqlite_store import SqliteStore
from outlay.server._storage.store import CUSTOMER_NAME, Page
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import decode_data, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._metering.metric import Accumulator, Contribution

HOUR: Final = MICROSECONDS_PER_HOUR
DAY: Final = 24 * HOUR
START: Final = to_microseconds(datetime(2025, 11, 20, 7, tzinfo=UTC))
LATER: Final = START + DAY
DATABASES: Final = Path(__file__).with_name("databases")

literals = st.one_of(
    st.decimals(-100, 100, allow_nan=False, places=9).map(str),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["null", "0", "1e-18", "1e-19", "-1e-90", "1e18", '"0.10"', '"x"']),
)
# Whole hours and days are likely, because they are the edges of rollups.
offsets = st.one_of(
    st.integers(0, 100 * DAY),
    st.integers(0, 100 * 24).map(lambda hours: hours * HOUR),
    st.integers(0, 100).map(lambda days: days * DAY - 7 * HOUR),
)
events = st.lists(
    st.tuples(
        literals,
        offsets,
        st.sampled_from(["ann", "bob", ""]),
        st.sampled_from(["x", "y", "a\0b", '"']),
        st.sampled_from(["eu", "us"]),
        st.sampled_from(["", "usd", "EUR"]),
    ),
    max_size=40,
)
labels = st.sampled_from(["provider", "region", CUSTOMER_NAME])


class Question(NamedTuple):
    """A question to the store, as a service asks it."""

    start: int
    end: int
    names: frozenset[str]
    where: Mapping[str, frozenset[str]]
    window: Window | None


questions = st.builds(
    lambda bounds, names, where, window: Question(
        START + min(bounds), START + max(bounds), names, where, window
    ),
    st.tuples(offsets, offsets),
    st.frozensets(labels),
    st.dictionaries(
        labels,
        st.frozensets(st.sampled_from(["ann", "", "x", "a\0b", '"', "eu"]), max_size=3),
        max_size=2,
    ),
    st.sampled_from([None, *Window]),
)


def make_metric(aggregation: Aggregation, *names: str) -> CostMetric:
    """Return a metric of the amounts of ``cost.ai`` with these dimensions."""
    return CostMetric(
        "cst_1",
        "org_a",
        "AI",
        Decimal(1),
        "USD",
        "prod_1",
        "cost.ai",
        aggregation,
        "$.amount",
        {name: f"$.{name}" for name in names},
        None,
        START,
        START,
    )


def page() -> Page:
    """Return a page that has all."""
    return Page(100, 0)


def make_event(number: int, row: tuple[str, int, str, str, str, str]) -> Event:
    """Return an event of a generated row."""
    literal, at, customer, provider, region, currency = row
    texts = {"provider": provider, "region": region, "currency": currency}
    rest = msgspec.json.encode(texts).decode()
    data = f'{{"amount":{literal},{rest[1:]}'
    return Event(
        f"evt_{number}",
        "org_a",
        str(number),
        "cost.ai",
        "tests",
        customer or None,
        None,
        None,
        START + at,
        data,
        decode_data(data),
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=events,
    early=st.integers(0, 40),
    folded=st.booleans(),
    aggregation=st.sampled_from(Aggregation),
    names=st.sampled_from([(), ("provider",), ("provider", "region")]),
    questions=st.lists(questions, min_size=1, max_size=4),
)
def test_any_question_equals_the_plain_model(
    tmp_path_factory: pytest.TempPathFactory,
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
    path = tmp_path_factory.mktemp("store") / "outlay.db"
    store = SqliteStore(path, dedupe_window=DAY, durable=False)
    try:
        store.append(made[:early], START)
        store.add_cost(metric)
        while folded and store.do_background_work(LATER):
            pass
        store.append(made[early:], LATER)
        for question in questions:
            known = {*names, CUSTOMER_NAME}
            where = {key: some for key, some in question.where.items() if key in known}
            asked = question._replace(names=question.names & known, where=where)
            found = ask(store, metric, asked)
            assert found == model(aggregation, names, made, asked)
    finally:
        store.close()


def ask(
    store: SqliteStore, cost: CostMetric, asked: Question
) -> dict[tuple[object, ...], Decimal | None]:
    """Return the quantity of each group and window."""
    metric = compile_metric(cost)
    assert metric is not None
    groups: dict[tuple[object, ...], Accumulator] = {}
    with store.reading() as reader:
        for one in reader.contributions(
            metric,
            asked.start,
            asked.end,
            names=asked.names,
            where=asked.where,
            window=asked.window,
        ):
            key = _group_of(one, metric.names, asked)
            groups.setdefault(key, metric.new_accumulator()).add(one)
    return {key: group.result() for key, group in groups.items()}


def _group_of(
    one: Contribution, names: Sequence[str], asked: Question
) -> tuple[object, ...]:
    values = {
        **dict(zip(names, one.dimensions, strict=True)),
        CUSTOMER_NAME: one.customer,
    }
    at = None if asked.window is None else window_at(asked.window, one.bucket_at)
    return (at, *(values[name] for name in sorted(asked.names)))


def model(
    aggregation: Aggregation,
    names: Sequence[str],
    events: Sequence[Event],
    asked: Question,
) -> dict[tuple[object, ...], Decimal | None]:
    """Return the same, computed the slow and obvious way."""
    groups: defaultdict[tuple[object, ...], list[Event]] = defaultdict(list)
    for event in events:
        values = {name: event.fields[name] for name in names}
        values[CUSTOMER_NAME] = event.customer
        if not asked.start <= event.at < asked.end:
            continue
        if any(values[name] not in some for name, some in asked.where.items()):
            continue
        at = None if asked.window is None else window_at(asked.window, event.at)
        groups[at, *(values[name] for name in sorted(asked.names))].append(event)
    return {key: _quantity(aggregation, group) for key, group in groups.items()}


def _quantity(aggregation: Aggregation, events: Sequence[Event]) -> Decimal | None:
    given = [event.fields["amount"] for event in events]
    numbers = [
        (event.at, order, Decimal(value))
        for order, (event, value) in enumerate(zip(events, given, strict=True))
        if value not in {None, "x"} and event.fields["currency"] != "EUR"
    ]
    values = [value for *_, value in numbers]
    with localcontext(prec=500):
        total = sum(values, Decimal(0))
    with localcontext(prec=34):
        average = total / len(values) if values else None
    return {
        Aggregation.SUM: total,
        Aggregation.COUNT: Decimal(len(given)),
        Aggregation.AVG: average,
        Aggregation.MIN: min(values, default=None),
        Aggregation.MAX: max(values, default=None),
        Aggregation.LATEST: max(numbers)[2] if numbers else None,
        Aggregation.UNIQUE_COUNT: Decimal(
            len({str(value) for value in given if value is not None})
        ),
    }[aggregation]


@given(
    st.decimals(
        allow_nan=False,
        allow_infinity=False,
        min_value=-(10**18) + 1,
        max_value=10**18 - 1,
        places=18,
    )
)
def test_parts_hold_a_number_exactly(number: Decimal) -> None:
    """The parts are what the database adds up."""
    parts = split(number)

    assert parts is not None
    assert join(*parts) == number


@pytest.mark.parametrize("text", ["1e18", "-1.1e18", "1e-19", "0.1000000000000000001"])
def test_numbers_beyond_the_parts_have_none(text: str) -> None:
    """A number that is cut to fit would be a wrong sum."""
    assert split(Decimal(text)) is None


@given(*[st.decimals(-(10**30), 10**30, allow_nan=False)] * 2)
def test_sort_keys_compare_as_numbers(left: Decimal, right: Decimal) -> None:
    """The database compares bytes to find the least and the greatest value."""
    if min(left.adjusted(), right.adjusted()) < -100:
        return  # no countable number

    assert (sort_key(left) < sort_key(right)) == (left < right)
    assert (sort_key(left) == sort_key(right)) == (left == right)


@given(
    st.integers(-20_000_000, 50_000_000),
    st.integers(0, 100_000),
    st.sampled_from([None, Window.HOUR, Window.DAY, Window.MONTH]),
)
def test_ranges_cover_a_period_without_gap_or_overlap(
    first: int, length: int, window: Window | None
) -> None:
    """A bucket too many or too few is money too much or too little."""
    first = max(first, -17_259_888)  # the first hour of the year 1
    last = min(first + length, 70_389_527)
    if first >= last:
        return

    spans = sorted(
        (start_of(grain, start), start_of(grain, end))
        for grain, start, end in ranges_between(first, last, window)
    )

    assert spans[0][0] == start_of(Grain.HOUR, first)
    assert spans[-1][1] == start_of(Grain.HOUR, last)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(spans))


@pytest.mark.parametrize("version", [1, 2])
def test_a_database_of_an_earlier_version_is_migrated(
    tmp_path: Path, version: int
) -> None:
    """Frozen examples of every version open, give the same totals, and go on."""
    path = tmp_path / "outlay.db"
    connection = sqlite3.connect(path)
    connection.executescript((DATABASES / f"v{version}.sql").read_text())
    connection.close()
    year = Question(
        to_microseconds(datetime(2025, 1, 1, tzinfo=UTC)),
        START + 900 * DAY,
        frozenset([CUSTOMER_NAME]),
        {},
        None,
    )
    expected = {
        (None, "cus_1"): Decimal("0.0042") + Decimal("1e-30"),
        (None, "cus_2"): Decimal("12.5"),
        (None, "cus_3"): Decimal(-3),
    }

    store = SqliteStore(path, dedupe_window=DAY)
    with store.reading() as reader:
        metrics, count = reader.costs("org_a", None, page())
    with localcontext(prec=60):
        assert count == 2
        before = ask(store, metrics[0], year)
        while store.do_background_work(490_000 * HOUR):
            pass
        duplicate = make_event(1, ("1", 0, "ann", "x", "eu", ""))
        duplicate.key = "key-1"
        [result] = store.append([duplicate], 490_000 * HOUR + 1)
        after = ask(store, metrics[0], year)
    store.close()

    assert result.duplicate
    assert before == after == expected
