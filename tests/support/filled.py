"""A store with some of everything, for tests that copy or move all of it."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final

from outlay.server._records import (
    Aggregation,
    BillableFields,
    Budget,
    BudgetPeriod,
    CorrectionKind,
    PassedThreshold,
    Product,
    Rate,
    RevenueLine,
    SavedReconciliation,
    Webhook,
    Withdrawal,
)
from outlay.server._services.corrections import Order, decide, decide_closing
from outlay.server._storage.reconciliation_store import ReconciledTotals
from outlay.server._storage.revenue_store import RevenuePart
from tests.support.stores import HOUR, START, make_cost, make_event, make_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay.server._records import Correction
    from outlay.server._storage.store import Store

DAY: Final = 24 * HOUR

AMOUNTS: Final = (
    "1e90",
    "0.000000000000000000000000000000000000001",
    "123456789.000000000000000001",
    "-7.5",
    '"0.10"',
    "null",
    '"x"',
    "1e999999",
    "99999999999999999999",
)
"""Amounts as they stand in JSON: far apart, negative, as text, and not countable."""

COSTS: Final = (
    make_cost("cst_sum", group_by={"provider": "$.provider", "user": "$.user"}),
    *(
        make_cost(f"cst_{kind.lower()}", aggregation=kind)
        for kind in Aggregation
        if kind is not Aggregation.SUM
    ),
    make_cost("cst_other", event_type="cost.other", currency="EUR"),
)


def fill(store: Store, count: int = 60, *, retention: bool = True) -> None:
    """Store events over four days of receipt, with corrections and all other records.

    Some keys are received again after their window. Two events are late.
    """
    for product in ("prod_1", "prod_2"):
        store.add_product(
            Product(product, "org_a", "Pro ü", "", {"tier": "1\0"}, START, START)
        )
    for cost in COSTS[:4]:
        store.add_cost(cost)
    for number in range(count):
        received_at = START + number * 4 * DAY // count
        literal = AMOUNTS[number % len(AMOUNTS)]
        currency = "EUR" if number % 11 == 7 else "USD"
        data = (
            f'{{"amount":0,"amount":{literal},"provider":"p{number % 3}\\u0000",'
            f'"user":"ü{number % 2}","currency":"{currency}"}}'
        )
        store.append(
            [
                make_event(
                    f"k{number % 55}_{line}",
                    id=f"evt_{number}_{line}",
                    type="cost.other" if line else "cost.ai",
                    subject=f"cus_{number % 5}" if number % 7 else None,
                    external_subject=None if number % 7 else "ext\0ernal",
                    external_id=f"job {number}" if number % 2 else None,
                    at=received_at - number * HOUR,
                    data=data,
                )
                for line in range(2)
            ],
            received_at,
        )
    for cost in COSTS[4:]:
        store.add_cost(cost)
    store.add_cost(
        make_cost(
            "bm_1", billable=BillableFields("calls", "item_1", START), currency=""
        )
    )
    store.add_cost(make_cost("cst_deleted"))
    store.delete_cost("org_a", "cst_deleted", START + 5)
    for number in (1, 2):
        store.add_key(make_key(number, expires_at=START + number))
    store.revoke_key("key_2", START + 9)
    store.note_key_uses([bytes([1]) * 32], START + 60)
    _correct(store)
    _add_money(store)
    _add_budgets(store)
    _add_reconciliations(store)
    if retention:
        store.set_retention("org_a", 10_000 * DAY)


def _correct(store: Store) -> None:
    day = START // DAY * DAY
    now = START + 4 * DAY
    store.close_period(
        "org_a", partial(decide_closing, day, day + DAY, "finance", START + 2 * DAY)
    )
    store.append([make_event("late", at=day + 5, data='{"amount":3}')], now)
    void = Order(CorrectionKind.VOID, "test", None, "finance", now)
    delta = Decimal("-0.000000000000000000000000000002")
    adjust = void._replace(kind=CorrectionKind.ADJUST, cost=COSTS[0], delta=delta)
    _order(store, "evt_3_0", void)
    _order(store, "evt_2_0", adjust)
    voided = _order(store, "evt_40_1", void)
    revert = void._replace(kind=CorrectionKind.REVERT, now=now + 1, reverts=voided.id)
    _order(store, "evt_40_1", revert)


def _order(store: Store, event_id: str, order: Order) -> Correction:
    [done] = store.correct("org_a", [event_id], partial(decide, order), order.now)
    assert done is not None
    return done


def _add_money(store: Store) -> None:
    lines = [
        RevenueLine(
            f"in_{number}",
            f"cus_{number % 2}",
            START,
            START + DAY,
            Decimal(f"{number}.000000000000000000000000000001"),
            "USD",
            "stripe",
        )
        for number in range(4)
    ]
    store.add_revenue(_part("imp_1", lines, is_last=True), START, "finance")
    changed = [
        RevenueLine("in_1", "cus_1", START, START + DAY, Decimal(9), "USD", "stripe"),
        lines[2],
    ]
    store.add_revenue(_part("imp_2", changed, is_last=True), START + 5, "finance")
    store.add_revenue(
        _part("imp_open", lines[:1], is_last=False),
        START + 6,
        "finance",
    )
    for rate in ("1.1", "1.2"):
        store.put_rates(
            "org_a",
            [Rate("EUR", "USD", Decimal(rate), START, "ECB")],
            START + 7,
            "finance",
        )
    store.put_customers("org_a", {"cus_1": "Acme ü", "cus_2": "B"}, START)


def _part(
    import_id: str, lines: Sequence[RevenueLine], *, is_last: bool
) -> RevenuePart:
    return RevenuePart("org_a", import_id, 0, is_last, b"\0digest", lines)


def _add_budgets(store: Store) -> None:
    store.put_budget(
        Budget(
            "b1", "org_a", "Acme", Decimal("100.10"), "USD", BudgetPeriod.MONTH,
            "Europe/Berlin", "cus_1", {"provider": "p1"}, (80, 100), "r1", START, START,
            START,
        )
    )  # fmt: skip
    store.add_webhook(
        Webhook("w1", "org_a", "https://example.com/hook", b"\0secret\xff", START)
    )
    store.pass_thresholds(
        [
            PassedThreshold(
                "org_a", "b1", "r1", START, 80, Decimal("80.1"), START + 1, "msg_1",
                '{"percent":80}',
            )
        ]
    )  # fmt: skip


def _add_reconciliations(store: Store) -> None:
    for number in (1, 2, 3):
        new = SavedReconciliation(
            f"rec_{number}", "org_a", f"INV-{number}", "p1", "USD", "UTC", "day",
            "2026-01-01", "2026-01-31", START, "finance",
        )  # fmt: skip
        store.begin_reconciliation(new)
        totals = ReconciledTotals(
            Decimal("3.5"), Decimal("3.4"), Decimal(number), 34, number
        )
        store.add_matches(
            "org_a",
            new.id,
            [bytes([number, digit]) * 8 for digit in range(3)],
            START + number,
            totals if number < 3 else None,
        )
    store.withdraw_reconciliation(
        "org_a", "rec_1", Withdrawal(START + 9, "finance", "the wrong month")
    )
