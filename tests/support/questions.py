"""Questions to a store, and the slow and obvious way to their results."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from hypothesis import strategies as st

from outlay.server._metering.metric import compile_metric
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
    Aggregation,
    CostMetric,
    Event,
)
from outlay.server._services.breakdown import window_at
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import decode_data, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._metering.metric import Accumulator, Contribution
    from outlay.server._storage.store import Store

HOUR: Final = MICROSECONDS_PER_HOUR
DAY: Final = 24 * HOUR
START: Final = to_microseconds(datetime(2025, 11, 20, 7, tzinfo=UTC))
LATER: Final = START + DAY

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


def ask(
    store: Store, cost: CostMetric, asked: Question
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
