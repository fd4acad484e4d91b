"""Put every cent of a cell into one category.

The parts of a cell add up to its bill and to its costs, whatever is decided. So the sum
over all rows equals both totals to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._reconcile.values import (
    ZERO,
    Category,
    Cause,
    Row,
    add,
    multiply,
    subtract,
    total,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outlay._reconcile.cells import Cell, Key

_DIVIDING: Final = Context(prec=1000)
_PLACES: Final = Decimal("1e-12")
_NOISE: Final = Decimal("1e-10")
PROOF: Final = 2
"""The number of days that prove a factor, or that a price is right."""
_NOTES: Final = {
    Cause.DUPLICATE: "Several events have the same operation id, such as for two "
    "customers. Void all but one with outlay void.",
    Cause.REFUND: "The bill has a credit of this amount. Void or adjust the events.",
    Cause.WRONG_DAY: "The other side has it on another day.",
    Cause.NOT_BILLED: "No charge is for it. Look at calls with other keys or accounts, "
    "and at costs that were tracked by hand.",
    Cause.UNCLEAR: "The quantities are not known, so a wrong price looks like missing "
    "calls. Pass the provider's usage report as a second file.",
}
"""The probable reason behind each cause. `advice` says more of charges without
events."""


class Evidence(NamedTuple):
    """The facts of the whole bill about a cell.

    Attributes:
        step: The smallest unit of the bill's amounts.
        is_price: Whether the same factor lies between bill and costs on all days.
        is_right_price: Whether the same model matches on other days.
        is_other_day: Whether the cell matches with the days of another time zone.
    """

    step: Decimal
    is_price: bool = False
    is_right_price: bool = False
    is_other_day: bool = False


def decide(key: Key, cell: Cell, evidence: Evidence) -> list[Row]:
    """Return the rows of a cell. Their sums are those of the cell."""
    return _Splitter(key, cell, evidence).split()


def is_within_rounding(cell: Cell, step: Decimal) -> bool:
    """Return whether rounding of the bill explains the difference of a cell.

    A charge is rounded by less than one unit of its last digit, up or down.
    """
    if not cell.charges or not cell.events:
        return False
    return subtract(cell.bill, cell.ours).copy_abs() <= multiply(
        step, Decimal(cell.charges)
    )


def has_one_factor(cells: Sequence[Cell], step: Decimal) -> bool:
    """Return whether bill and costs differ by one factor in all cells.

    A price that differs does so every day. Missing calls differ from day to day.
    """
    if len(cells) < PROOF:
        return False
    units = set(cells[0].bill_amounts) - {""}
    if units and all(
        set(cell.bill_amounts) - {""} == units == set(cell.our_quantities)
        and not cell.unmeasured_events
        for cell in cells
    ):
        return all(
            _is_proportional(
                [(c.bill_amounts[unit], c.our_quantities[unit]) for c in cells], step
            )
            for unit in units
        )
    slack = multiply(step, Decimal(max(cell.charges for cell in cells)))
    return _is_proportional([(cell.bill, cell.ours) for cell in cells], slack)


def _is_proportional(pairs: Sequence[tuple[Decimal, Decimal]], slack: Decimal) -> bool:
    """Return whether all quotients are equal, with an error of each dividend."""
    first, by = max(pairs, key=lambda pair: pair[1].copy_abs())
    return all(
        subtract(multiply(one, by), multiply(first, other)).copy_abs()
        <= multiply(slack, add(by.copy_abs(), other.copy_abs()))
        for one, other in pairs
    )


@dataclass
class _Splitter:
    """Takes one part after the other from a cell."""

    key: Key
    cell: Cell
    evidence: Evidence
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bill = self.cell.bill
        self.ours = self.cell.ours

    def split(self) -> list[Row]:
        cell = self.cell
        if self._is_settled():
            return self.rows
        if self.ours > self.bill:
            self._take_ours(Cause.DUPLICATE, cell.duplicates)
            self._take_ours(Cause.REFUND, cell.credits.copy_negate())
            if self._is_settled():
                return self.rows
        if not cell.charges:
            self._take_ours(Cause.NOT_BILLED, self.ours)
        elif not cell.events:
            is_credit = self.bill < 0
            self._take_bill(
                Cause.CREDIT if is_credit else Cause.NOT_CAPTURED, self.bill
            )
        elif self.bill <= 0 or self.ours <= 0:
            self._take_bill(Cause.CREDIT if self.bill < 0 else Cause.UNCLEAR, self.bill)
            self._take_ours(Cause.NOT_BILLED, self.ours)
        elif self.evidence.is_other_day:
            self._take_excess(Cause.WRONG_DAY)
        else:
            self._compare()
        self._is_settled()
        return self.rows

    def _compare(self) -> None:
        """Tell a price that differs from quantities that differ."""
        missing = _value_of_missing(self.cell) if self.cell.is_measured else None
        if missing is not None:
            bill_part, our_part = self._without_noise(*missing)
            self._take_bill(Cause.NOT_CAPTURED, min(bill_part, self.bill))
            self._take_ours(Cause.NOT_BILLED, min(our_part, self.ours))
            if self._is_settled():
                return
            self._add_price("The quantities agree, so the price differs.")
        elif self.evidence.is_price:
            self._add_price("The factor is the same on all days, so the price differs.")
        elif self.evidence.is_right_price:
            is_more = self.bill > self.ours
            self._take_excess(Cause.NOT_CAPTURED if is_more else Cause.NOT_BILLED)
        else:
            self._take_excess(Cause.UNCLEAR)

    def _add_price(self, note: str) -> None:
        self._add(Category.PRICE, Cause.NONE, self.bill, self.ours, note)

    def _without_noise(
        self, bill_part: Decimal, our_part: Decimal
    ) -> tuple[Decimal, Decimal]:
        """Correct the parts by the error of the division that valued them."""
        rest = subtract(subtract(self.bill, bill_part), subtract(self.ours, our_part))
        if rest.copy_abs() > _NOISE:
            return bill_part, our_part
        if bill_part:
            return add(bill_part, rest), our_part
        return bill_part, subtract(our_part, rest) if our_part else our_part

    def _is_settled(self) -> bool:
        """Add the rest if it is equal on both sides, and return whether it was."""
        if self.bill == self.ours:
            # A cell without any cent must show as well: it has charges and events.
            if self.bill or not self.rows:
                self._add(Category.MATCHED, Cause.NONE, self.bill, self.ours)
            return True
        slack = multiply(self.evidence.step, Decimal(self.cell.charges))
        if (
            self.cell.charges
            and self.cell.events
            and subtract(self.bill, self.ours).copy_abs() <= slack
        ):
            self._add(Category.ROUNDING, Cause.NONE, self.bill, self.ours)
            return True
        return False

    def _take_excess(self, cause: Cause) -> None:
        """Take what one side has more than the other."""
        if self.bill > self.ours:
            self._take_bill(cause, subtract(self.bill, self.ours))
        else:
            self._take_ours(cause, subtract(self.ours, self.bill))

    def _take_bill(self, cause: Cause, amount: Decimal) -> None:
        if amount:
            self._add(Category.BILL_ONLY, cause, amount, ZERO)

    def _take_ours(self, cause: Cause, most: Decimal) -> None:
        amount = most
        if cause in {Cause.DUPLICATE, Cause.REFUND}:
            amount = min(most, self.ours, subtract(self.ours, self.bill))
            if amount <= 0:
                return
        if amount:
            self._add(Category.OURS_ONLY, cause, ZERO, amount)

    def _add(
        self,
        category: Category,
        cause: Cause,
        bill: Decimal,
        ours: Decimal,
        note: str = "",
    ) -> None:
        self.bill = subtract(self.bill, bill)
        self.ours = subtract(self.ours, ours)
        note = note or _NOTES.get(cause, "")
        self.rows.append(
            Row(
                category,
                cause,
                *self.key,
                bill,
                ours,
                0 if category is Category.OURS_ONLY else self.cell.charges,
                0 if category is Category.BILL_ONLY else self.cell.events,
                note,
                tuple(self.cell.operations),
            )
        )


def _value_of_missing(cell: Cell) -> tuple[Decimal, Decimal] | None:
    """Return what the quantities are worth that one side has more than the other.

    They are valued at the bill's own rates.

    Returns:
        The worth of the quantities that only the bill has, and of those that only the
        costs have. None, if the bill's rates are not known.
    """
    billed, ours = cell.bill_quantities, cell.our_quantities
    differences = {
        unit: subtract(billed.get(unit, ZERO), ours.get(unit, ZERO))
        for unit in sorted({*billed, *ours})
    }
    if not any(differences.values()):
        return ZERO, ZERO
    worth: list[Decimal] = []
    for unit, difference in differences.items():
        if not difference:
            continue
        amount, quantity = _rate(cell, unit)
        if not quantity:
            return None
        worth.append(_share(amount, difference, quantity))
    return _sum_above_zero(worth), _sum_above_zero(-one for one in worth)


def _rate(cell: Cell, unit: str) -> tuple[Decimal, Decimal]:
    """Return a billed amount and the quantity that it was for."""
    quantity = cell.bill_quantities.get(unit, ZERO)
    if unit in cell.bill_amounts:
        return cell.bill_amounts[unit], quantity
    if {*cell.bill_quantities} == {unit}:
        return cell.bill, quantity
    return ZERO, ZERO


def _share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """Return ``amount * part / whole``, with at most twelve decimals."""
    exact = multiply(amount, part)
    return _DIVIDING.divide(exact, whole).quantize(_PLACES, context=_DIVIDING)


def _sum_above_zero(amounts: Iterable[Decimal]) -> Decimal:
    return total(amount for amount in amounts if amount > 0)
