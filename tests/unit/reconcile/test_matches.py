"""A match names all costs that agree with the bill, and no other."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

import pytest

from outlay._reconcile.bill_formats import BillFormat, Columns
from outlay._reconcile.joining import Reconciliation
from outlay._reconcile.matches import CostMatches
from tests.support.bills import AWS_CSV, bill_of, cost_of

if TYPE_CHECKING:
    from outlay._reconcile.reading import Bill
    from outlay._reconcile.values import Cost


def named(bill: Bill, *costs: Cost) -> list[Decimal]:
    """Return the amounts of the costs that the matches of a bill name."""
    with Reconciliation(bill) as reconciliation:
        for one in costs:
            reconciliation.add_cost(one)
        reconciliation.result()
        matches = {*reconciliation.matches()}
        reconciled = reconciliation.reconciled
        zone, period = ZoneInfo(reconciliation.timezone), reconciliation.period
    finder = CostMatches(zone, period)
    found = [one.amount for one in costs if not matches.isdisjoint(finder.of(one))]
    assert sum(found, Decimal()) == reconciled
    return found


def test_services_are_found_by_the_types_of_their_events() -> None:
    """The export knows no services, and a bill of them knows no models."""
    bill = bill_of(AWS_CSV)
    pages = cost_of(
        "2026-10-12", "1.5", provider="aws", event_type="cost.documents.ocr", model="x"
    )
    more = cost_of("2026-10-12", "9", provider="aws", model="nova-lite")

    assert named(bill, pages, more) == [Decimal("1.5")]


def test_of_a_bill_with_operations_only_operations_are_matches() -> None:
    """A day's match would name the cost of an operation that differs as well."""
    mapping = BillFormat(
        columns=Columns(
            time="time", amount="amount", model="model", operation="operation"
        ),
        provider="openai",
        currency="USD",
    )
    lines = "time,amount,model,operation\n"
    lines += "2026-10-12,1,m,op-1\n2026-10-12,5,m,op-2\n2026-10-12,2,m,\n"
    costs = [
        cost_of("2026-10-12", amount, model="m", operationId=operation)
        for amount, operation in (("1", "op-1"), ("7", "op-2"), ("2", ""))
    ]

    assert named(bill_of(lines, mapping=mapping), *costs) == [Decimal(1)]


@pytest.mark.parametrize("period", ["day", "month"])
def test_days_and_months_are_those_of_the_bill(
    period: Literal["day", "month"],
) -> None:
    """A cost after midnight in UTC may belong to the day before."""
    costs = [
        cost_of("2026-11-01T05:00:00", "1"),
        cost_of("2026-11-01T08:00:00", "2"),
    ]
    mapping = BillFormat(
        columns=Columns(time="time", amount="amount"),
        provider="openai",
        currency="USD",
        timezone="America/Los_Angeles",
        period=period,
    )
    bill = bill_of("time,amount\n2026-10-31,1\n", mapping=mapping)

    assert named(bill, *costs) == [Decimal(1)]
