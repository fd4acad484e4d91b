"""Compute the price book entries that would make the costs equal the bill."""

from __future__ import annotations

import json
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from outlay._reconcile.cells import Cell
from outlay._reconcile.quantities import TOKENS
from outlay._reconcile.values import ZERO, PriceFix, add, multiply, plain, subtract

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from outlay._reconcile.cells import Key
    from outlay._reconcile.values import Row

_DIVIDING: Final = Context(prec=1000)
_MILLION: Final = 1_000_000
_MOST_PLACES: Final = 12
_FACTOR_PLACES: Final = Decimal("0.0001")
_EXACT_ENOUGH: Final = Decimal("1e-9")  # of the bill
_MANUAL: Final = (
    "The amount was passed to outlay.track_cost, so no price book changes it. Correct "
    "it in the program."
)
_UNKNOWN: Final = (
    "The bill has {factor} times the tracked amounts. Pass the provider's usage report "
    "as a second file, and the price book entry can be computed."
)
_PASTE: Final = (
    "Paste it into your price book. Add the prices of other units that the model uses, "
    "because a call without a price for all of its units is unpriced."
)


class PriceFixes:
    """Collects price differences by model and kind of unit.

    Args:
        provider: The provider, as price books name it.
        currency: The currency of the bill.
        bill: The name of the bill, as the source of the prices.
    """

    def __init__(self, provider: str, currency: str, bill: str) -> None:
        self._provider = provider
        self._currency = currency
        self._bill = bill
        self._cells: dict[tuple[str, str], Cell] = {}
        self._first_day: dict[tuple[str, str], str] = {}
        self._differences: dict[tuple[str, str], Decimal] = {}

    def add(self, key: Key, cell: Cell, row: Row) -> None:
        """Add a cell whose price differs, and its row."""
        place = key.model, key.kind
        self._cells.setdefault(place, Cell()).add_cell(cell)
        self._first_day[place] = min(self._first_day.get(place, key.day), key.day)
        before = self._differences.get(place, ZERO)
        self._differences[place] = add(before, row.difference)

    def all(self) -> Iterator[PriceFix]:
        """Yield the fixes, the largest difference first."""
        order = sorted(
            self._cells, key=lambda one: (-abs(self._differences[one]), *one)
        )
        for place in order:
            cell = self._cells[place]
            prices = self._prices(cell)
            entry, note = "", _UNKNOWN.format(factor=_factor(cell))
            if cell.provenances == {"manual"}:
                note = _MANUAL
            elif prices:
                entry, note = self._entry(place, cell, prices), _PASTE
            yield PriceFix(
                *place,
                self._differences[place],
                ", ".join(sorted(cell.priced_by)),
                entry,
                note,
            )

    def _prices(self, cell: Cell) -> dict[str, tuple[Decimal, int]]:
        """Return the price of each unit, and the number of units that it is for."""
        quantities = cell.bill_quantities
        if not quantities or cell.unmeasured_charges:
            quantities = {} if cell.unmeasured_events else cell.our_quantities
        amounts: Mapping[str, Decimal] = {
            unit: amount for unit, amount in cell.bill_amounts.items() if unit
        }
        if not amounts and len(quantities) == 1:
            amounts = dict.fromkeys(quantities, cell.bill)
        if not amounts or not {*amounts} <= {u for u, n in quantities.items() if n}:
            return {}
        return {
            unit: _price(amount, quantities[unit], unit)
            for unit, amount in sorted(amounts.items())
        }

    def _entry(
        self,
        place: tuple[str, str],
        cell: Cell,
        prices: Mapping[str, tuple[Decimal, int]],
    ) -> str:
        model, kind = place
        day = self._first_day[place]
        per = max(number for _, number in prices.values())
        units = ", ".join(
            f"{json.dumps(unit) if '/' in unit else unit} = {plain(price)}"
            for unit, (price, _) in prices.items()
        )
        lines = [
            "[[price]]",
            f"provider = {json.dumps(self._provider)}",
            f"model = {json.dumps(_pattern(model, cell))}",
            f"from = {day if len(day) > len('2026-10') else f'{day}-01'}",
            f"currency = {json.dumps(self._currency)}",
            *([f"per = {per:_}"] if per > 1 else []),
            f"units = {{ {units} }}",
            *(["override_reported = true"] if "reported" in cell.provenances else []),
            f"source = {json.dumps(f'bill {self._bill}, {kind or model}')}",
        ]
        return "\n".join(lines)


def _factor(cell: Cell) -> str:
    factor = _DIVIDING.divide(cell.bill, cell.ours) if cell.ours else ZERO
    return plain(factor.quantize(_FACTOR_PLACES, context=_DIVIDING))


def _pattern(model: str, cell: Cell) -> str:
    """Return the model of a price book entry: that of the events, if they have one."""
    models = sorted(cell.models)
    if not models:
        return model or "*"
    if len(models) == 1:
        return models[0]
    first, last = models[0], models[-1]
    same = next(
        (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        len(first),
    )
    return first[:same] + "*"


def _price(amount: Decimal, quantity: Decimal, unit: str) -> tuple[Decimal, int]:
    """Return the shortest price that gives a billed amount, and its number of units."""
    per = _MILLION if unit.endswith(f"_{TOKENS}") else 1
    exact = _DIVIDING.divide(multiply(amount, Decimal(per)), quantity)
    slack = multiply(amount.copy_abs(), _EXACT_ENOUGH)
    price = exact
    for places in range(_MOST_PLACES + 1):
        price = exact.quantize(Decimal(1).scaleb(-places), context=_DIVIDING)
        given = _DIVIDING.divide(multiply(price, quantity), Decimal(per))
        if subtract(given, amount).copy_abs() <= slack:
            break
    return price, per
