"""Read a bill and usage reports: which charges count, and what they show."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from outlay._reconcile.cell_table import MOST_CELLS, too_many
from outlay._reconcile.cells import Key
from outlay._reconcile.quantities import kind_of
from outlay._reconcile.spans import Span
from outlay._reconcile.values import ZERO, BillError, LeftOut, add

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay._reconcile.reading import Bill
    from outlay._reconcile.values import Charge

_LEAST_PLACES: Final = 2
_MOST_PLACES: Final = 10


class BilledCharges:
    """The charges of a bill, and the facts that they show while they are read.

    Args:
        bill: The bill.
        span: The days that count. If None, all do.

    Attributes:
        total: The sum of the charges that count.
        count: The number of them.
        left_out: The others, by reason.
        has_models: Whether any charge names a model.
        has_kinds: Whether any charge has a known kind of unit.
        has_operations: Whether any charge names its operation.
    """

    def __init__(self, bill: Bill, span: Span | None) -> None:
        self._bill = bill
        self._span = span
        self._currency = bill.currency
        self._days: set[str] = set()
        self._places = 0
        self.total = ZERO
        self.count = 0
        self.left_out: dict[str, LeftOut] = {}
        self.has_models = self.has_kinds = self.has_operations = False

    @property
    def currency(self) -> str:
        """The currency of the bill."""
        return self._currency or "USD"

    @property
    def span(self) -> Span:
        """The days that count."""
        return self._span or Span(min(self._days), max(self._days))

    @property
    def step(self) -> Decimal:
        """The smallest unit of the bill's amounts."""
        places = min(max(self._places, _LEAST_PLACES), _MOST_PLACES)
        return Decimal(1).scaleb(-places)

    def read(self) -> Iterator[Charge]:
        """Yield the charges that count. Call it once.

        Raises:
            BillError: The bill is a usage report, has no charge that counts, or mixes
                currencies.
        """
        bill = self._bill
        if bill.format.is_usage:
            raise BillError(
                f"{bill.name} is a usage report, which has no amounts; pass the bill "
                "or the cost report, and this file after it"
            )
        for charge, currency, is_left_out in bill.charges():
            reason = self._exclusion(charge, currency, is_left_out=is_left_out)
            if reason:
                before = self.left_out.get(reason, LeftOut(0, ZERO))
                self.left_out[reason] = LeftOut(
                    before.charges + 1, add(before.amount, charge.amount)
                )
                continue
            self._note(charge)
            yield charge
        if not self.count:
            raise BillError(self._nothing_to_compare())

    def read_usage(self, report: Bill, usage: dict[Key, dict[str, Decimal]]) -> None:
        """Add the quantities of a usage report to ``usage``, by key and unit."""
        for charge, _, is_left_out in report.charges():
            if is_left_out or not self._is_in_span(charge.day):
                continue
            for unit, quantity in charge.quantities.items():
                key = Key(charge.day, charge.model, kind_of(unit))
                if len(usage) >= MOST_CELLS:
                    raise too_many(key)
                sums = usage.setdefault(key, {})
                sums[unit] = add(sums.get(unit, ZERO), quantity)

    def _note(self, charge: Charge) -> None:
        self.count += 1
        self.total = add(self.total, charge.amount)
        places = -int(charge.amount.as_tuple().exponent)
        self._places = max(self._places, places)
        self._days.add(charge.day)
        self.has_models = self.has_models or bool(charge.model)
        self.has_kinds = self.has_kinds or bool(kind_of(charge.unit))
        self.has_operations = self.has_operations or bool(charge.operation_id)

    def _exclusion(self, charge: Charge, currency: str, *, is_left_out: bool) -> str:
        if is_left_out:
            return "left out by a condition"
        if self._currency is None:
            self._currency = currency
        elif currency != self._currency:
            if self._bill.currency is None:
                raise BillError(
                    f"{self._bill.name} has charges in {self._currency} and, in line "
                    f"{charge.line}, in {currency}; they are never added: pass "
                    f"--currency {self._currency}, then --currency {currency}"
                )
            return f"in {currency}"
        return "" if self._is_in_span(charge.day) else "outside of the period"

    def _is_in_span(self, day: str) -> bool:
        return self._span is None or self._span.contains(day)

    def _nothing_to_compare(self) -> str:
        if not self.left_out:
            return f"{self._bill.name} has no charge"
        reasons = "; ".join(
            f"{reason}: {one.charges}" for reason, one in self.left_out.items()
        )
        return (
            f"{self._bill.name} has no charge that counts ({reasons}); widen the "
            "conditions"
        )
