"""Reports: against a plain model, and the rules of ranking, paging and reading."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from decimal import Decimal, localcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from outlay.server._metering.decimals import percentage
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
    Aggregation,
    ApiKey,
    CostMetric,
    Event,
)
from outlay.server._services.ranking import OTHER, Amount, Group, page_of, rank
from outlay.server._services.report import ReportService
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._wire.request_models import ReportQuery, ReportSort, SortDirection
from outlay.server._wire.response_models import decode_data, encode, format_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HOUR = MICROSECONDS_PER_HOUR
DAY = 24 * HOUR
START = 20_454 * DAY  # 2026-01-01
KEY = ApiKey(b"", "tests", "org_a", frozenset({"*"}), 0)

_numbers = itertools.count()
_exact = msgspec.json.Decoder(float_hook=Decimal).decode


def make_cost(cost_id: str = "cst_1", **overrides: Any) -> CostMetric:  # noqa: ANN401 - any field
    """Return a cost that sums the amounts of ``cost.ai``."""
    fields: dict[str, Any] = {
        "id": cost_id,
        "namespace": "org_a",
        "name": cost_id.upper(),
        "unit_cost": Decimal(1),
        "currency": "USD",
        "product_id": "prod_1",
        "event_type": "cost.ai",
        "aggregation": Aggregation.SUM,
        "value_property": "$.amount",
        "group_by": {"provider": "$.provider"},
        "unit": None,
        "created_at": START,
        "updated_at": START,
    }
    return CostMetric(**{**fields, **overrides})


def make_event(number: int, at: int, customer: str, type_: str, data: str) -> Event:
    """Return an event."""
    return Event(
        id=f"evt_{number}",
        namespace="org_a",
        key=str(number),
        type=type_,
        source="tests",
        subject=customer,
        external_subject=None,
        external_id=None,
        at=at,
        data=data,
        fields=decode_data(data),
    )


def spend(amount: str, customer: str = "cus_1", *, at: int = START) -> Event:
    """Return an event of the one cost that most tests have."""
    data = f'{{"amount":{amount}}}'
    return make_event(next(_numbers), at, customer, "cost.ai", data)


@contextmanager
def keeping(
    costs: Sequence[CostMetric], events: Sequence[Event]
) -> Iterator[SqliteStore]:
    """Open a store that holds costs and events, its rollups complete."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outlay.db"
        store = SqliteStore(path, dedupe_window=DAY, durable=False)
        try:
            for cost in costs:
                store.add_cost(cost)
            store.append(events, START)
            while store.do_background_work(START):
                pass
            yield store
        finally:
            store.close()


def query(**overrides: Any) -> ReportQuery:  # noqa: ANN401 - any parameter
    """Return a query about the first ten days of 2026, by customer."""
    fields = {
        "from": format_instant(START),
        "to": format_instant(START + 10 * DAY),
        "groupBy": "customer",
        **overrides,
    }
    return ReportQuery.model_validate(fields)


def report(store: SqliteStore, asked: ReportQuery) -> dict[str, Any]:
    """Return a report as it goes over the wire, its numbers exact."""
    decoded: dict[str, Any] = _exact(
        encode(ReportService(store, "USD").report(KEY, asked))
    )
    return decoded


# -- against a model


class Spent(NamedTuple):
    """One event of the model.

    Attributes:
        at: microseconds after the start.
        type: which costs read it.
        value: what it is worth; None: it has no countable value.
    """

    at: int
    customer: str
    type: str
    provider: str
    value: int | None

    @property
    def event_data(self) -> str:
        """The same as JSON."""
        value = "null" if self.value is None else str(self.value)
        return f'{{"amount":{value},"provider":"{self.provider}"}}'


spent_events = st.lists(
    st.builds(
        Spent,
        # Few different hours, days and months, so that much falls together.
        at=st.builds(
            lambda day, hour, ragged: day * DAY + hour * HOUR + ragged,
            st.sampled_from([0, 1, 20, 40]),
            st.sampled_from([0, 5]),
            st.sampled_from([0, 1, HOUR - 1]),
        ),
        customer=st.sampled_from(["cus_a", "cus_b", "cus_c", OTHER]),
        type=st.sampled_from(["cost.ai", "cost.ocr"]),
        provider=st.sampled_from(["x", "y", ""]),
        value=st.none() | st.integers(-3, 9),
    ),
    max_size=12,
)
some_costs = st.lists(
    st.tuples(
        st.sampled_from(["cost.ai", "cost.ocr"]),
        st.sampled_from(Aggregation),
        st.sampled_from(["0", "1", "0.000000000000000000000000000003"]),
    ),
    min_size=1,
    max_size=3,
)
queries = st.fixed_dictionaries(
    {
        "from": st.sampled_from([0, DAY, 20 * DAY, 20 * DAY + 1]),
        "to": st.sampled_from([20 * DAY + 5 * HOUR + 2, 40 * DAY, 41 * DAY]),
        "groupBy": st.sampled_from(["cost", "customer", "provider"]),
        "subject": st.none() | st.just("cus_a"),
        "provider": st.none() | st.just(["x", ""]),
        "topN": st.integers(1, 4),
        "limit": st.integers(1, 4),
        "offset": st.integers(0, 3),
        "windowSize": st.sampled_from([None, "HOUR", "DAY", "MONTH"]),
        "comparePriorPeriod": st.booleans(),
        "excludeEmpty": st.booleans(),
        "sort": st.sampled_from(["totalCost", "totalQuantity"]),
        "sortDir": st.sampled_from(["asc", "desc"]),
    }
)

Pair = tuple[Decimal, Decimal]
"""Cost and quantity."""


class Model:
    """Computes a report the slow and obvious way: from every event, for every row."""

    def __init__(
        self,
        costs: Sequence[CostMetric],
        events: Sequence[Spent],
        asked: dict[str, Any],
    ) -> None:
        self.costs = costs
        self.events = events
        self.asked = asked
        self.start, self.end = asked["from"], asked["to"]

    def group_of(self, cost: CostMetric, event: Spent) -> str:
        """Return the key of the group that an event belongs to."""
        by = self.asked["groupBy"]
        given = {"cost": cost.id, "customer": event.customer}
        return given.get(by, event.provider)

    def value(self, group: str, start: int, end: int) -> Pair:
        """Return what a group comes to in a period."""
        total, quantities = Decimal(0), Decimal(0)
        for cost in self.costs:
            found = [
                (event.at, order, event)
                for order, event in enumerate(self.events)
                if event.type == cost.event_type
                and start <= event.at < end
                and self.asked["subject"] in {None, event.customer}
                and event.provider in (self.asked["provider"] or [event.provider])
                and self.group_of(cost, event) == group
            ]
            quantity = aggregated(
                cost.aggregation, [event for _, __, event in sorted(found)]
            )
            total += quantity * cost.unit_cost
            quantities += quantity
        return total, quantities

    def groups(self) -> dict[str, tuple[Pair, Pair]]:
        """Return what all groups come to, in the period and in the one before."""
        length = self.end - self.start
        compares = self.asked["comparePriorPeriod"]
        since = self.start - length if compares else self.start
        keys = {
            self.group_of(cost, event)
            for cost in self.costs
            for event in self.events
            if event.type == cost.event_type
            and since <= event.at < self.end
            and self.asked["subject"] in {None, event.customer}
            and event.provider in (self.asked["provider"] or [event.provider])
        }
        if self.asked["groupBy"] == "cost":
            keys = {cost.id for cost in self.costs}
        nothing = (Decimal(0), Decimal(0))
        return {
            key: (
                self.value(key, self.start, self.end),
                self.value(key, since, self.start) if compares else nothing,
            )
            for key in sorted(keys)
        }

    def ranking(self) -> list[str]:
        """Return the groups that are paged through, in order."""
        groups = self.groups()
        by = ["totalCost", "totalQuantity"].index(self.asked["sort"])
        sign = -1 if self.asked["sortDir"] == "desc" else 1
        keys = [
            key
            for key, (now, _) in groups.items()
            if any(now) or not self.asked["excludeEmpty"]
        ]
        return sorted(keys, key=lambda key: (key == OTHER, sign * groups[key][0][by]))

    def places(self, size: int) -> dict[str, str]:
        """Return under which key each group after the offset is shown."""
        ranking = self.ranking()
        first = self.asked["offset"]
        return {
            key: key if place < first + size else OTHER
            for place, key in enumerate(ranking)
            if place >= first
        }

    def windows(self) -> dict[str, dict[str, Decimal]]:
        """Return the cost of each key of the page in each window."""
        found: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
        places = self.places(min(self.asked["topN"], self.asked["limit"]))
        for start, end in boundaries(self.asked["windowSize"]):
            since, until = max(start, self.start), min(end, self.end)
            for group, place in places.items():
                cost, _ = self.value(group, since, until)
                window = found[format_instant(START + start)]
                window[place] = window.get(place, Decimal(0)) + cost
        return {
            window: {key: cost for key, cost in sorted(costs.items()) if cost}
            for window, costs in found.items()
            if any(costs.values())
        }


def aggregated(aggregation: Aggregation | None, events: Sequence[Spent]) -> Decimal:
    """Return the quantity of events in order of time; nothing is 0 here."""
    values = [event.value for event in events if event.value is not None]
    with localcontext(prec=34):
        average = Decimal(sum(values)) / len(values) if values else Decimal(0)
    results: dict[Aggregation | None, Callable[[], int | Decimal]] = {
        Aggregation.SUM: lambda: sum(values),
        Aggregation.COUNT: lambda: len(events),
        Aggregation.AVG: lambda: average,
        Aggregation.MIN: lambda: min(values, default=0),
        Aggregation.MAX: lambda: max(values, default=0),
        Aggregation.LATEST: lambda: values[-1] if values else 0,
        Aggregation.UNIQUE_COUNT: lambda: len(set(values)),
    }
    return Decimal(results[aggregation]())


def boundaries(window: str | None) -> list[tuple[int, int]]:
    """Return the windows of the two months that the model knows."""
    months = [(0, 31 * DAY), (31 * DAY, 59 * DAY)]
    lengths = {"HOUR": HOUR, "DAY": DAY}
    if window is None or window == "MONTH":
        return months if window else []
    length = lengths[window]
    return [(at, at + length) for at in range(0, 59 * DAY, length)]


def asked_of(model: Model, one_cost: str | None) -> ReportQuery:
    """Return the query that a model answers."""
    given = {name: value for name, value in model.asked.items() if value is not None}
    if providers := given.pop("provider", None):
        given["filterGroupBy"] = msgspec.json.encode({"provider": providers}).decode()
    for name in ("from", "to"):
        given[name] = format_instant(START + given[name])
    if one_cost is not None:
        given["costId"] = (one_cost,)
    return query(**given)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=150, deadline=None)
@given(kinds=some_costs, events=spent_events, asked=queries)
def test_a_report_is_what_its_events_come_to(
    kinds: list[tuple[str, Aggregation, str]],
    events: list[Spent],
    asked: dict[str, Any],
) -> None:
    """Whatever is asked: every row, the remainder, totals, prior period and series."""
    costs = [
        make_cost(
            f"cst_{number}",
            event_type=event_type,
            aggregation=aggregation,
            unit_cost=Decimal(price),
        )
        for number, (event_type, aggregation, price) in enumerate(kinds)
    ]
    by_dimension = asked["groupBy"] == "provider"
    with localcontext(prec=300):
        model = Model(costs[:1] if by_dimension else costs, events, asked)
        groups, places, windows = (
            model.groups(),
            model.places(model.asked["limit"]),
            model.windows(),
        )
        expected = shown(groups, places)
        total, quantity = (
            sum((now[place] for now, _ in groups.values()), Decimal(0))
            for place in (0, 1)
        )
    sent = [
        make_event(number, START + one.at, one.customer, one.type, one.event_data)
        for number, one in enumerate(events)
    ]

    with keeping(costs, sent) as store:
        answer = report(store, asked_of(model, "cst_0" if by_dimension else None))

    assert rows_of(answer) == expected
    assert Decimal(answer["totalCostExact"]) == answer["totalCost"] == total
    assert answer["totalQuantity"] == quantity
    assert answer["groupCount"] == len(groups)
    assert answer["emptyGroupCount"] == sum(not any(now) for now, _ in groups.values())
    assert answer["pagination"]["total"] == len(model.ranking())
    assert series_of(answer) == windows


def shown(
    groups: dict[str, tuple[Pair, Pair]], places: dict[str, str]
) -> list[tuple[Any, ...]]:
    """Return key, cost, quantity and cost before of each row."""
    rows: dict[str, list[Decimal]] = {}
    for key, place in places.items():
        (cost, quantity), (before, _) = groups[key]
        row = rows.setdefault(place, [Decimal(0)] * 3)
        for at, value in enumerate((cost, quantity, before)):
            row[at] += value
    return [(key, *row) for key, row in rows.items()]


def rows_of(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return key, cost, quantity and cost before of each row."""
    for row in answer["groups"]:
        assert Decimal(row["totalCostExact"]) == row["totalCost"]
    return [
        (
            row["key"],
            row["totalCost"],
            row["totalQuantity"],
            row.get("priorPeriod", {}).get("cost", 0),
        )
        for row in answer["groups"]
    ]


def series_of(answer: dict[str, Any]) -> dict[str, dict[str, Decimal]]:
    """Return the series without zeros, which a model cannot tell from absence."""
    found = {
        point["windowStart"]: {
            key: cost for key, cost in point["groups"].items() if cost
        }
        for point in answer["timeSeries"]
    }
    return {window: costs for window, costs in found.items() if costs}


# -- reading


def test_a_report_over_whole_hours_reads_no_events() -> None:
    """A year of a busy organization is quick, because only its rollups are read."""
    spent = [spend("1", at=START + day * DAY) for day in range(3)]
    asked = query(windowSize="DAY", comparePriorPeriod=True)
    with keeping([make_cost()], spent) as store:
        while store.do_background_work(START + DAY):
            pass
        before = report(store, asked)
        connection = sqlite3.connect(store._path)
        connection.execute("DELETE FROM events")
        connection.commit()
        connection.close()

        assert report(store, asked) == before

    assert before["totalCost"] == 3


def test_the_first_period_of_all_has_none_before_it() -> None:
    """Times before the year 1 cannot be written, yet asking for them is no fault."""
    asked = query(**{"from": "0001-01-01T00:00:00Z"}, comparePriorPeriod=True)
    with keeping([make_cost()], [spend("1")]) as store:
        [row] = report(store, asked)["groups"]

    assert row["priorPeriod"] == {"cost": 0, "changePercent": None, "costExact": "0"}


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        pytest.param("8", "9", "12.5", id="rise"),
        pytest.param("9", "8", "-11.11", id="fall"),
        pytest.param("-4", "-2", "50", id="smaller-credit"),
        pytest.param("2", "0", "-100", id="nothing-now"),
        pytest.param("0", "2", None, id="nothing-before"),
        pytest.param("1e-90", "1e90", str(10**182 - 100), id="from-dust-to-galaxies"),
    ],
)
def test_change_since_the_period_before(
    before: str, now: str, change: str | None
) -> None:
    """In percent of what it was, and never a failure, however large."""
    spent = [spend(before, at=START - 1), spend(now)]
    with keeping([make_cost()], spent) as store:
        [row] = report(store, query(comparePriorPeriod=True))["groups"]

    given = row["priorPeriod"]["changePercent"]
    assert given == (None if change is None else Decimal(change))


# -- ranking and paging


def make_group(key: str, cost: int, quantity: int = 1) -> Group:
    """Return a group that came to nothing before."""
    nothing = Amount(Decimal(0), Decimal(0))
    return Group(key, key, None, Amount(Decimal(cost), Decimal(quantity)), nothing)


groups_of_any_size = st.lists(
    st.builds(
        make_group,
        key=st.sampled_from([OTHER, *"abcdefghij"]),
        cost=st.integers(-2, 3),
        quantity=st.integers(0, 3),
    ),
    unique_by=lambda group: group.key,
)
sorts = st.tuples(st.sampled_from(ReportSort), st.sampled_from(SortDirection))


@given(groups=groups_of_any_size, sort=sorts, size=st.integers(1, 4))
def test_pages_show_each_group_once_and_pass_on_the_rest(
    groups: list[Group], sort: tuple[ReportSort, SortDirection], size: int
) -> None:
    """Who adds up a page and its remainder gets what the page before passed on."""
    ranking = rank(groups, *sort)
    passed_on = sum(group.current.cost for group in groups)
    seen: list[str] = []

    for offset in range(0, len(ranking) + 1, size):
        page = page_of(ranking, offset, size)
        seen += [group.key for group in page.groups]
        rest = page.other_group(None).current.cost
        assert sum(group.current.cost for group in page.groups) + rest == passed_on
        assert len(set(page.chart_keys(size).values())) == len(page.groups) + bool(
            page.rest
        )
        passed_on = rest

    assert seen == [group.key for group in ranking]
    assert sorted(seen) == sorted(group.key for group in groups)
    assert passed_on == 0


@pytest.mark.parametrize(
    ("sort", "direction", "order"),
    [
        (ReportSort.TOTAL_COST, SortDirection.DESC, ["c", "a", "b", OTHER]),
        (ReportSort.TOTAL_COST, SortDirection.ASC, ["a", "b", "c", OTHER]),
        (ReportSort.TOTAL_QUANTITY, SortDirection.DESC, ["b", "a", "c", OTHER]),
        (ReportSort.TOTAL_QUANTITY, SortDirection.ASC, ["a", "c", "b", OTHER]),
    ],
)
def test_equal_groups_keep_the_order_of_their_keys(
    sort: ReportSort, direction: SortDirection, order: list[str]
) -> None:
    """Otherwise a group may be on two pages, and another on none."""
    groups = [
        make_group("b", 1, 5),
        make_group(OTHER, 2, 3),
        make_group("a", 1, 1),
        make_group("c", 3, 1),
    ]

    assert [group.key for group in rank(groups, sort, direction)] == order


# -- percentages


@pytest.mark.parametrize(
    ("part", "whole", "percent"),
    [
        ("1", "3", "33.33"),
        ("2", "3", "66.67"),
        ("1", "20000", "0.01"),
        ("0.99", "20000", "0"),
        ("-1", "4", "-25"),
        ("1e219", "1e-200", "1e421"),
    ],
)
def test_percentages_are_rounded_half_up(part: str, whole: str, percent: str) -> None:
    """As people do it, and for the largest and smallest amounts there can be."""
    assert percentage(Decimal(part), Decimal(whole)) == Decimal(percent)


# -- queries


@pytest.mark.parametrize("size", [4096, 4097])
def test_a_filter_has_a_limit(size: int) -> None:
    """The contract's, to the character."""
    text = '{"provider":"' + (size - 15) * "x" + '"}'
    assert len(text) == size

    if size == 4096:
        assert query(filterGroupBy=text).filter_group_by
    else:
        with pytest.raises(ValidationError, match="at most 4096 characters"):
            query(filterGroupBy=text)
