"""Write a result as JSON, as rows of CSV, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._reconcile.values import (
    ZERO,
    Category,
    Cause,
    add,
    plain,
    subtract,
    total,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from decimal import Decimal

    from outlay._reconcile.values import Result, Row

CATEGORY_WORDS: Final[Mapping[Category, str]] = {
    Category.MATCHED: "matched",
    Category.ROUNDING: "rounding of the bill",
    Category.PRICE: "price differs",
    Category.OURS_ONLY: "only tracked",
    Category.BILL_ONLY: "only on the bill",
}
CAUSE_WORDS: Final[Mapping[Cause, str]] = {
    Cause.NONE: "",
    Cause.DUPLICATE: "tracked twice",
    Cause.REFUND: "refunded",
    Cause.CREDIT: "credit",
    Cause.WRONG_DAY: "another day",
    Cause.NOT_BILLED: "only tracked",
    Cause.NOT_CAPTURED: "not captured",
    Cause.UNCLEAR: "unclear",
}
_AGREEING: Final = frozenset({Category.MATCHED, Category.ROUNDING})


class Sums(NamedTuple):
    """The part of the bill and of the costs that is in one category."""

    category: Category
    bill: Decimal
    ours: Decimal

    @property
    def difference(self) -> Decimal:
        """The bill minus the tracked costs."""
        return subtract(self.bill, self.ours)


class Difference(NamedTuple):
    """The rows of one category, cause, model and unit, over all days.

    Attributes:
        category: The category.
        cause: The probable cause.
        model: The model or service.
        unit: The kind of unit.
        days: The days, in order.
        bill: The part of the bill.
        ours: The part of the tracked costs.
        notes: The probable reasons, as sentences.
        operations: Some operation ids.
    """

    category: Category
    cause: Cause
    model: str
    unit: str
    days: tuple[str, ...]
    bill: Decimal
    ours: Decimal
    notes: tuple[str, ...]
    operations: tuple[str, ...]

    @property
    def difference(self) -> Decimal:
        """The bill minus the tracked costs."""
        return subtract(self.bill, self.ours)

    @property
    def words(self) -> str:
        """The cause in words, or else the category."""
        return CAUSE_WORDS[self.cause] or CATEGORY_WORDS[self.category]


def sums_by_category(result: Result) -> list[Sums]:
    """Return the sums of every category. They add up to the totals of the result."""
    return [
        Sums(
            category,
            total(row.bill for row in result.of(category)),
            total(row.ours for row in result.of(category)),
        )
        for category in Category
    ]


def differences(result: Result) -> list[Difference]:
    """Return the differences over all days, the largest first."""
    found: dict[tuple[object, ...], Difference] = {}
    for row in result.rows:
        if row.category in _AGREEING:
            continue
        key = row.category, row.cause, row.model, row.unit
        before = found.get(key)
        found[key] = (
            _of_row(row)
            if before is None
            else before._replace(
                days=_joined(before.days, [row.day]),
                bill=add(before.bill, row.bill),
                ours=add(before.ours, row.ours),
                notes=_joined(before.notes, filter(None, [row.note])),
                operations=(*before.operations, *row.operations)[:3],
            )
        )
    return sorted(
        found.values(),
        key=lambda one: (-one.difference.copy_abs(), one.model, one.unit, one.cause),
    )


def document(result: Result) -> dict[str, Any]:
    """Return the result as JSON. Amounts are texts with all of their digits."""
    return {
        "provider": result.provider,
        "format": result.bill_format,
        "currency": result.currency,
        "timezone": result.timezone,
        "from": result.first,
        "to": result.last,
        "billTotal": plain(result.bill_total),
        "trackedTotal": plain(result.our_total),
        "difference": plain(subtract(result.bill_total, result.our_total)),
        "unexplained": plain(result.unexplained),
        "charges": result.charges,
        "events": result.events,
        "leftOut": {
            reason: {"charges": one.charges, "amount": plain(one.amount)}
            for reason, one in result.left_out.items()
        },
        "categories": {
            one.category.value: {
                "bill": plain(one.bill),
                "tracked": plain(one.ours),
                "difference": plain(one.difference),
            }
            for one in sums_by_category(result)
        },
        "rows": rows(result.rows),
        "prices": [
            {
                "model": fix.model,
                "unit": fix.unit,
                "difference": plain(fix.difference),
                "pricedBy": fix.priced_by,
                "priceBook": fix.entry or None,
                "note": fix.note,
            }
            for fix in result.fixes
        ],
        "hints": list(result.hints),
    }


def rows(found: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as JSON or CSV."""
    return [
        {
            "category": row.category.value,
            "cause": row.cause.value,
            "day": row.day,
            "model": row.model,
            "unit": row.unit,
            "bill": plain(row.bill),
            "tracked": plain(row.ours),
            "difference": plain(row.difference),
            "charges": row.charges,
            "events": row.events,
            "operations": list(row.operations),
            "note": row.note,
        }
        for row in found
    ]


def _of_row(row: Row) -> Difference:
    return Difference(
        row.category,
        row.cause,
        row.model,
        row.unit,
        (row.day,),
        row.bill or ZERO,
        row.ours or ZERO,
        (row.note,) if row.note else (),
        row.operations,
    )


def _joined(before: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*before, *more]))
