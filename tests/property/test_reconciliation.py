"""Every cent of a bill and of the costs is in exactly one category."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from datetime import UTC
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from hypothesis import given
from hypothesis import strategies as st

from outlay._reconcile.bill_formats import BillFormat, Columns
from outlay._reconcile.joining import Reconciliation
from outlay._reconcile.matches import CostMatches
from outlay._reconcile.values import BillError, Category, total
from outlay._tables.csv_table import TableError
from tests.support.bills import bill_of, cost_of, reconcile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outlay._reconcile.reading import Bill
    from outlay._reconcile.values import Cost, Result

MAPPING: Final = BillFormat(
    columns=Columns(
        time="time",
        amount="amount",
        currency="currency",
        model="model",
        unit="unit",
        quantity="quantity",
        operation="operation",
    ),
    provider="openai",
    decimal=".",
)
NAMES: Final = (
    *("start_time", "end_time", "results", "amount", "value", "currency"),
    *("line_item", "quantity", "starting_at", "ending_at", "model", "token_type"),
)
DAYS: Final = ("2026-10-12", "2026-10-13", "2026-10-14")
MODELS: Final = ("gpt-5", "GPT 5", "gpt-5-2026-01-01", "o4", "")
UNITS: Final = ("input_tokens", "output_tokens", "page", "what is this", "")

amounts = st.decimals("-50", "50", places=6) | st.decimals("0", "5", places=2)
quantities = st.none() | st.integers(1, 5)
operations = st.sampled_from(("", "", "op-1", "op-2", "op-3"))
charges = st.lists(
    st.tuples(
        st.sampled_from(DAYS),
        st.sampled_from(MODELS),
        st.sampled_from(UNITS),
        operations,
        amounts,
        quantities,
    ),
    min_size=1,
    max_size=12,
)
costs = st.lists(
    st.tuples(
        st.sampled_from(DAYS),
        st.sampled_from(MODELS),
        st.sampled_from(UNITS),
        operations,
        amounts,
        quantities,
        st.integers(0, 23),
    ),
    max_size=12,
)


def bill(
    charges: Iterable[tuple[str, str, str, str, Decimal, int | None]],
) -> Bill:
    """Return a bill with these charges."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        ["time", "model", "unit", "operation", "amount", "quantity", "currency"]
    )
    writer.writerows([*one, "USD"] for one in charges)
    return bill_of(text.getvalue(), mapping=MAPPING)


def tracked(one: tuple[str, str, str, str, Decimal, int | None, int]) -> Cost:
    """Return a tracked cost."""
    day, model, unit, operation, amount, quantity, hour = one
    return cost_of(
        f"{day}T{hour:02}:30:00",
        str(amount),
        model=model,
        operationId=operation,
        usage={} if quantity is None else {unit or "page": quantity},
    )


@given(charges=charges, costs=costs)
def test_the_sums_of_all_categories_are_the_totals(
    charges: list[tuple[str, str, str, str, Decimal, int | None]],
    costs: list[tuple[str, str, str, str, Decimal, int | None, int]],
) -> None:
    """No cent is lost, and none is counted twice, whatever was billed and tracked."""
    result = reconcile(bill(charges), [tracked(one) for one in costs])

    days = {day for day, *_ in charges}
    counted = [one for one in costs if min(days) <= one[0] <= max(days)]
    assert result.bill_total == sum((one[4] for one in charges), Decimal())
    assert result.our_total == sum((one[4] for one in counted), Decimal())
    assert sum_of(result, "bill") == result.bill_total
    assert sum_of(result, "ours") == result.our_total
    for row in result.rows:
        assert row.category is not Category.MATCHED or row.bill == row.ours
        assert row.category is not Category.OURS_ONLY or not row.bill
        assert row.category is not Category.BILL_ONLY or not row.ours
    assert len({row.key for row in result.rows}) == len(result.rows)


@given(charges=charges, costs=costs)
def test_matches_name_the_costs_that_agree_with_the_bill(
    charges: list[tuple[str, str, str, str, Decimal, int | None]],
    costs: list[tuple[str, str, str, str, Decimal, int | None, int]],
) -> None:
    """A later reader finds by them exactly what was reconciled, and none twice."""
    days = {day for day, *_ in charges}
    seen = [tracked(one) for one in costs if min(days) <= one[0] <= max(days)]
    with Reconciliation(bill(charges)) as reconciliation:
        for one in seen:
            reconciliation.add_cost(one)
        result = reconciliation.result()
        matches = {*reconciliation.matches()}

    finder = CostMatches(UTC, "day")
    named = [one for one in seen if not matches.isdisjoint(finder.of(one))]
    assert total(one.amount for one in named) == reconciliation.reconciled
    matched = [*result.of(Category.MATCHED), *result.of(Category.ROUNDING)]
    assert len(named) <= sum(row.events for row in matched)
    # Of a bill that names no operation and agrees, all costs are named.
    if not any(one[3] for one in charges) and len(matched) == len(result.rows):
        assert len(named) == sum(row.events for row in matched if row.charges)


def sum_of(result: Result, side: str) -> Decimal:
    """Return the sum over all categories."""
    return total(
        total(getattr(row, side) for row in result.of(category))
        for category in Category
    )


@given(costs=costs)
def test_a_bill_of_the_costs_themselves_matches(
    costs: list[tuple[str, str, str, str, Decimal, int | None, int]],
) -> None:
    """What was tracked and is billed the same differs in nothing."""
    text = "time,model,amount,currency\n2026-10-12,,0,USD\n2026-10-14,,0,USD\n"
    tracked = []
    for day, model, _, operation, amount, _, hour in costs:
        text += f"{day},{model},{amount},USD\n"
        tracked.append(
            cost_of(f"{day}T{hour:02}:30:00", str(amount), model=model, operationId="")
        )
        assert operation is not None
    mapping = BillFormat(
        columns=Columns(
            time="time", amount="amount", currency="currency", model="model"
        ),
        provider="openai",
        decimal=".",
    )

    result = reconcile(bill_of(text, mapping=mapping), tracked)

    assert {row.category for row in result.rows} <= {Category.MATCHED}
    assert result.unexplained == 0


cells = st.one_of(
    st.sampled_from(
        ("", "2026-10-12", "1791763200", "1.5", "1,5", "usd", "-", "1e999")
    ),
    st.text(max_size=12),
    st.decimals(allow_nan=True).map(str),
)


@given(lines=st.lists(st.lists(cells, min_size=6, max_size=6), max_size=4))
def test_any_text_is_read_or_refused_with_a_message(lines: list[list[str]]) -> None:
    """A file of another program must not end in a traceback."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["time", "model", "unit", "operation", "amount", "quantity"])
    writer.writerows(lines)
    mapping = BillFormat(
        columns=Columns(
            time="time",
            amount="amount",
            model="model",
            unit="unit",
            quantity="quantity",
            operation="operation",
        ),
        provider="openai",
        currency="USD",
    )
    with contextlib.suppress(BillError, TableError):
        reconcile(
            bill_of(text.getvalue().encode("utf-8", "replace"), mapping=mapping),
            [cost_of("2026-10-12", "1.5", model="gpt-5")],
        )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(value=values)
def test_any_json_is_read_or_refused_with_a_message(value: object) -> None:
    """So must a report of another version."""
    with contextlib.suppress(BillError, TableError):
        reconcile(bill_of(json.dumps({"data": [value]})), [])
