"""Margins: against a plain model, and the rules of currencies, pages and trends."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlay.server._metering.decimals import format_money
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
    Aggregation,
    CostMetric,
    Event,
    Rate,
    RevenueLine,
)
from outlay.server._services.breakdown import TimeWindow
from outlay.server._services.margin_responses import profitability_response
from outlay.server._services.profitability import (
    Margin,
    MarginQuery,
    Margins,
    ProfitabilityService,
)
from outlay.server._storage.revenue_store import RevenuePart
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.response_models import decode_data
from outlay.server._wire.revenue_models import BucketWidth, MarginSort

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOUR = MICROSECONDS_PER_HOUR
DAY = 24 * HOUR
START = 20_454 * DAY  # 2026-01-01, a Thursday
TINY = "0.000000000000000000000000000000000001"


class Spent(NamedTuple):
    """An event: ``amount`` in the metric's currency, ``at`` hours after the start."""

    customer: str
    amount: str
    at: int = 0
    currency: str = "USD"


class Earned(NamedTuple):
    """A line of revenue, from ``start`` to ``end`` hours after the start."""

    customer: str
    amount: str
    start: int = 0
    end: int = 24
    currency: str = "USD"


def _metric(currency: str, **overrides: Any) -> CostMetric:  # noqa: ANN401 - any field
    fields: dict[str, Any] = {
        "id": f"cst_{currency}",
        "namespace": "org_a",
        "name": currency,
        "unit_cost": Decimal(1),
        "currency": currency,
        "product_id": "prod_1",
        "event_type": f"cost.{currency}",
        "aggregation": Aggregation.SUM,
        "value_property": "$.amount",
        "group_by": {},
        "unit": None,
        "created_at": START,
        "updated_at": START,
    }
    return CostMetric(**{**fields, **overrides})


def _event(number: int, spent: Spent) -> Event:
    data = f'{{"amount":"{spent.amount}"}}'
    return Event(
        f"evt_{number}",
        "org_a",
        str(number),
        f"cost.{spent.currency}",
        "tests",
        spent.customer,
        None,
        None,
        START + spent.at * HOUR,
        data,
        decode_data(data),
    )


def _line(number: int, earned: Earned) -> RevenueLine:
    return RevenueLine(
        f"in_{number}",
        earned.customer,
        START + earned.start * HOUR,
        START + earned.end * HOUR,
        Decimal(earned.amount),
        earned.currency,
        "tests",
    )


@contextmanager
def books(
    spent: Sequence[Spent] = (),
    earned: Sequence[Earned] = (),
    rates: Sequence[Rate] = (),
    metrics: Sequence[CostMetric] = (_metric("USD"), _metric("EUR")),
) -> Iterator[SqliteStore]:
    """Open a store of costs and revenue, its rollups complete."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outlay.db"
        store = SqliteStore(path, dedupe_window=DAY, durable=False)
        try:
            for metric in metrics:
                store.add_cost(metric)
            store.append([_event(*one) for one in enumerate(spent)], START)
            lines = [_line(*one) for one in enumerate(earned)]
            part = RevenuePart("org_a", "imp_1", 0, True, b"", lines)  # noqa: FBT003 - a field
            store.add_revenue(part, START, "tests")
            store.put_rates("org_a", rates, START, "tests")
            while store.do_background_work(START):
                pass
            yield store
        finally:
            store.close()


def ask(
    store: SqliteStore,
    start: int = 0,
    end: int = 24,
    **overrides: Any,  # noqa: ANN401 - any field
) -> Margins:
    """Return the margins from ``start`` to ``end`` hours after the start."""
    query = MarginQuery(START + start * HOUR, START + end * HOUR, **overrides)
    return ProfitabilityService(store, "USD").margins("org_a", query)


def rate(value: str, valid_from: int = 0) -> Rate:
    """Return a rate from EUR to USD, valid from hours after the start."""
    return Rate("EUR", "USD", Decimal(value), START + valid_from * HOUR, "ECB")


# -- against a model

_customers = st.sampled_from(["cus_1", "cus_2", "", "other"])
_amounts = st.decimals(-1000, 1000, places=9).map(str)
_hours = st.integers(0, 100)
_spent = st.builds(Spent, _customers, _amounts, _hours, st.just("USD"))
_earned = st.builds(
    lambda customer, amount, start, length: Earned(
        customer, amount, start, start + length
    ),
    _customers,
    _amounts,
    _hours,
    st.integers(1, 50),
)


@settings(max_examples=30, deadline=None)
@given(
    spent=st.lists(_spent, max_size=8),
    earned=st.lists(_earned, max_size=5),
    cuts=st.sets(_hours, max_size=4),
)
def test_margins_of_adjacent_periods_add_up_to_the_model_to_the_last_digit(
    spent: list[Spent], earned: list[Earned], cuts: set[int]
) -> None:
    """Wherever a period is cut, no digit of cost or revenue is lost or doubled."""
    bounds = [0, *sorted(cuts - {0}), 151]
    expected: dict[str, Margin] = {}
    for customer in {s.customer for s in spent} | {e.customer for e in earned}:
        expected[customer] = Margin(
            sum(
                (Decimal(s.amount) for s in spent if s.customer == customer), Decimal()
            ),
            sum(
                (Decimal(e.amount) for e in earned if e.customer == customer), Decimal()
            ),
        )

    found: dict[str, Margin] = {}
    with books(spent, earned) as store:
        for start, end in itertools.pairwise(bounds):
            for row in ask(store, start, end, limit=100).rows:
                before = found.get(row.customer, Margin(Decimal(), Decimal()))
                found[row.customer] = before + row.current

    # A line of amount 0 has been taken back, and is no row.
    rows = {one.customer for one in spent} | {
        one.customer for one in earned if Decimal(one.amount)
    }
    assert found == {customer: expected[customer] for customer in rows}


@settings(max_examples=30, deadline=None)
@given(earned=_earned, start=_hours, length=st.integers(1, 50))
def test_a_share_of_revenue_is_as_long_as_its_part_of_the_time(
    earned: Earned, start: int, length: int
) -> None:
    """Rounding moves less than a trillionth at each end of the period."""
    overlap = max(0, min(earned.end, start + length) - max(earned.start, start))
    share = Fraction(earned.amount) * overlap / (earned.end - earned.start)

    with books(earned=[earned]) as store:
        total = ask(store, start, start + length).total

    assert abs(Fraction(total.revenue) - share) <= Fraction(1, 10**12)


# -- rows


def test_cost_without_revenue_and_revenue_without_cost_are_rows() -> None:
    """An inner join would hide the customers that lose the most money."""
    with books([Spent("cus_1", TINY)], [Earned("cus_2", "5")]) as store:
        found = ask(store)

    assert [(row.customer, row.current) for row in found.rows] == [
        ("cus_2", Margin(Decimal(0), Decimal(5))),
        ("cus_1", Margin(Decimal(TINY), Decimal(0))),
    ]
    assert [row.current.percent for row in found.rows] == [Decimal(100), None]


def test_margins_of_an_organization_without_anything_are_empty() -> None:
    """A new server must not fail."""
    with books(metrics=()) as store:
        found = ask(store)

    assert (found.rows, found.rest, found.customers) == ([], None, 0)
    assert found.currency == "USD"
    assert found.total == Margin(Decimal(0), Decimal(0))


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (MarginSort.PROFIT, "cab"),
        (MarginSort.WORST, "bac"),
        (MarginSort.COST, "bac"),
        (MarginSort.REVENUE, "acb"),
    ],
)
def test_customers_are_ranked_by_the_wanted_value(sort: MarginSort, order: str) -> None:
    """The worst margin is what a finance lead looks for on Monday."""
    spent = [Spent("a", "9"), Spent("b", "10"), Spent("c", "1")]
    earned = [Earned("a", "10"), Earned("c", "8")]
    with books(spent, earned) as store:
        found = ask(store, sort=sort)

    assert "".join(row.customer for row in found.rows) == order


def test_pages_and_the_rest_add_up_to_the_total() -> None:
    """Customers after the page are one row, and customers before it are none."""
    spent = [Spent(f"cus_{number}", str(number)) for number in range(7)]
    with books(spent) as store:
        pages = [ask(store, limit=3, offset=offset) for offset in (0, 3, 6)]

    costs = [[row.current.cost for row in page.rows] for page in pages]
    rests = [page.rest and page.rest.current.cost for page in pages]
    assert costs == [[0, 1, 2], [3, 4, 5], [6]]
    assert rests == [18, 6, None]
    assert {page.customers for page in pages} == {7}
    assert {page.total.cost for page in pages} == {21}


def test_the_prior_period_is_beside_the_period() -> None:
    """It has the same length, unless the caller names another one."""
    spent = [Spent("a", "1", -24), Spent("b", "2", -30), Spent("a", "4", 3)]
    with books(spent, [Earned("a", "10", -24, 0)]) as store:
        found = ask(store)
        longer = ask(store, prior=TimeWindow(START - 48 * HOUR, START))

    assert found.prior == Margin(Decimal(1), Decimal(10))
    [row] = found.rows
    assert row.prior == Margin(Decimal(1), Decimal(10))
    assert row.change == Decimal("-144.44")
    assert longer.prior == Margin(Decimal(3), Decimal(10))


# -- currencies


def test_a_currency_without_a_rate_is_refused_and_never_a_zero() -> None:
    """A zero would be a lie, and a sum of two currencies another one."""
    with (
        books([Spent("a", "1")], [Earned("a", "5", currency="EUR")]) as store,
        pytest.raises(HttpProblem) as refusal,
    ):
        ask(store)

    [error] = refusal.value.body.errors or ()
    assert error.code == "RATE_NEEDED"
    assert "from EUR to USD" in error.message
    assert "PUT /v0/rates" in error.message


def test_a_rate_before_its_first_day_is_no_rate() -> None:
    """A price of February says nothing about January."""
    earned = [Earned("a", "5", 0, 24, currency="EUR")]
    with (
        books([Spent("a", "1")], earned, [rate("1.1", 12)]) as store,
        pytest.raises(HttpProblem),
    ):
        ask(store)


def test_amounts_are_converted_at_the_rate_of_their_own_time() -> None:
    """A quarter must be the sum of its months, and each used rate is shown."""
    rates = [rate("1.1", -99), rate("2", 12), rate("7", 24)]
    spent = [Spent("a", "1", 0, "EUR"), Spent("a", "1", 12, "EUR"), Spent("a", "3")]
    earned = [Earned("a", "100", 0, 24, "EUR")]
    with books(spent, earned, rates) as store:
        found = ask(store)
        halves = [ask(store, 0, 12), ask(store, 12, 24)]

    assert found.currency == "USD"
    assert found.total == Margin(Decimal("6.1"), Decimal("155"))
    assert halves[0].total + halves[1].total == found.total
    assert found.rates == rates[:2]
    assert rates[2] not in halves[1].rates


def test_one_currency_needs_no_rate_and_is_the_currency_of_the_result() -> None:
    """A company that has only euros must not have to ask for euros."""
    with books([Spent("a", "1", currency="EUR")]) as store:
        found = ask(store)

    assert (found.currency, found.rates) == ("EUR", [])
    assert found.total.cost == 1


def test_a_rate_is_never_turned_around() -> None:
    """1 ÷ 1.1 has no last digit, so its user would not recognize it."""
    with (
        books([Spent("a", "1")], rates=[rate("1.1", -99)]) as store,
        pytest.raises(HttpProblem, match="from USD to EUR"),
    ):
        ask(store, currency="EUR")


def test_a_prior_period_without_a_rate_does_not_hide_the_period() -> None:
    """There are no rates for the months before the first import."""
    spent = [Spent("a", "1"), Spent("a", "9", -1, "EUR")]
    with books(spent) as store:
        found = ask(store)

    assert (found.currency, found.prior) == ("USD", None)
    assert found.total.cost == 1
    assert found.rows[0].change is None
    assert any("prior period is left out" in warning for warning in found.warnings)


def test_a_metric_that_does_not_add_up_has_one_rate() -> None:
    """The maxima of two halves are no maximum of the whole."""
    biggest = _metric("EUR", aggregation=Aggregation.MAX)
    spent = [Spent("a", "5", 0, "EUR"), Spent("a", "4", 13, "EUR")]
    rates = [rate("1", -99), rate("2", 12)]
    with books(spent, rates=rates, metrics=[biggest]) as store:
        found = ask(store, currency="USD")

    assert found.total.cost == 10


# -- trends


def trend_of(found: Margins) -> list[Any]:
    """Return the trend of the first row."""
    return [*(found.rows[0].trend or ())]


def test_a_trend_has_the_profit_of_each_bucket() -> None:
    """Empty buckets are there as well, because the values have no dates."""
    spent = [Spent("a", "1", 0), Spent("a", "2", 47), Spent("b", "5", 0)]
    with books(spent, [Earned("a", "72", 0, 72)]) as store:
        found = ask(store, 0, 96, trend=BucketWidth.DAY, limit=1)
        hours = ask(store, 23, 48, trend=BucketWidth.HOUR, limit=1)

    assert trend_of(found) == [23, 22, 24, 0]
    assert sum(trend_of(found)) == found.rows[0].current.profit
    assert trend_of(hours) == [1] * 24 + [-1]


def test_a_week_of_a_trend_starts_on_monday() -> None:
    """2026-01-01 is a Thursday, so four days are left of its week."""
    spent = [Spent("a", "1", 95), Spent("a", "2", 96)]
    with books(spent) as store:
        found = ask(store, 0, 240, trend=BucketWidth.WEEK)

    assert trend_of(found) == [-1, -2]


def test_a_trend_of_too_many_buckets_is_left_out_with_a_reason() -> None:
    """A year by hours would be a response of megabytes."""
    with books([Spent("a", "1")]) as store:
        found = ask(store, 0, 24 * 365, trend=BucketWidth.HOUR)

    assert found.rows[0].trend is None
    assert any("8760 buckets" in warning for warning in found.warnings)


# -- warnings


def test_two_metrics_of_one_event_type_are_named() -> None:
    """Each counts the same events, so the cost is double."""
    twin = _metric("USD", id="cst_twin", name="Twin")
    with books([Spent("a", "1")], metrics=[_metric("USD"), twin]) as store:
        found = ask(store)

    assert found.total.cost == 2
    [warning] = found.warnings
    assert "cost.USD" in warning
    assert "cst_twin" in warning


def test_events_without_a_value_are_counted_in_a_warning() -> None:
    """They are in no cost, and must not vanish."""
    with books([Spent("a", "many"), Spent("a", "1")]) as store:
        found = ask(store)

    assert found.warnings == [
        "excluded, because they have no numeric value: 1 of the events of USD (cst_USD)"
    ]


# -- the wire


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0.005", "0.01"),
        ("-0.005", "-0.01"),
        ("-0.004", "0.00"),
        ("1e30", "1" + "0" * 30 + ".00"),
        (TINY, "0.00"),
    ],
)
def test_money_is_rounded_half_up_to_two_decimals(amount: str, text: str) -> None:
    """The contract has two decimals, and finance knows this rule."""
    assert format_money(Decimal(amount)) == text


def test_the_response_repeats_each_amount_with_all_digits() -> None:
    """Two decimals are for the eye."""
    with books([Spent("a", TINY)], [Earned("a", "1.005")]) as store:
        query = MarginQuery(START, START + DAY)
        found = ProfitabilityService(store, "USD").margins("org_a", query)

    [row] = profitability_response(query, found).rows
    assert (row.net_revenue, row.total_cost, row.profit) == ("1.01", "0.00", "1.00")
    assert row.total_cost_exact == TINY
    assert row.profit_exact == "1.004999999999999999999999999999999999"
