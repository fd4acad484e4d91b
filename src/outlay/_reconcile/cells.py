"""Sum up the charges and the costs that share a day, a model and a kind of unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._reconcile.values import ZERO, add

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from outlay._reconcile.matches import CostGroup
    from outlay._reconcile.values import Charge, Cost

FEW: Final = 3
"""The number of names and ids that a result shows of many."""


class Key(NamedTuple):
    """The fields that charges and costs are joined by."""

    day: str
    model: str
    kind: str


@dataclass
class Cell:
    """The charges and costs of one key, or of one operation.

    Attributes:
        bill: The sum of the charges.
        ours: The sum of the costs.
        charges: The number of charges.
        events: The number of costs.
        credits: The sum of the charges below zero.
        duplicates: The sum of costs that repeat another one.
        bill_amounts: The sums of the charges by unit.
        bill_quantities: The billed quantities by unit.
        our_quantities: The quantities of the costs by unit.
        unmeasured_charges: The number of charges without a quantity.
        unmeasured_events: The number of costs without quantities.
        models: Some models of the costs.
        priced_by: Some origins of the amounts of the costs.
        provenances: The provenances of the costs.
        descriptions: Some descriptions of the charges.
        operations: Some operation ids.
        groups: The groups of the costs, unless the cell is an operation.
    """

    bill: Decimal = ZERO
    ours: Decimal = ZERO
    charges: int = 0
    events: int = 0
    credits: Decimal = ZERO
    duplicates: Decimal = ZERO
    bill_amounts: dict[str, Decimal] = field(default_factory=dict)
    bill_quantities: dict[str, Decimal] = field(default_factory=dict)
    our_quantities: dict[str, Decimal] = field(default_factory=dict)
    unmeasured_charges: int = 0
    unmeasured_events: int = 0
    models: set[str] = field(default_factory=set)
    priced_by: set[str] = field(default_factory=set)
    provenances: set[str] = field(default_factory=set)
    descriptions: set[str] = field(default_factory=set)
    operations: list[str] = field(default_factory=list)
    groups: set[CostGroup] = field(default_factory=set)

    def add_charge(self, charge: Charge) -> None:
        """Add a charge."""
        self.charges += 1
        self.bill = add(self.bill, charge.amount)
        if charge.amount < 0:
            self.credits = add(self.credits, charge.amount)
        _add_to(self.bill_amounts, {charge.unit: charge.amount})
        if charge.quantities:
            _add_to(self.bill_quantities, charge.quantities)
        elif charge.amount:
            self.unmeasured_charges += 1
        _note(self.descriptions, charge.description)

    def add_cost(self, cost: Cost) -> None:
        """Add a cost."""
        self.events += 1
        self.ours = add(self.ours, cost.amount)
        if cost.quantities is not None:
            _add_to(self.our_quantities, cost.quantities)
        elif cost.amount:
            self.unmeasured_events += 1
        _note(self.models, cost.model)
        _note(self.priced_by, cost.price)
        _note(self.provenances, cost.provenance)

    def add_cell(self, other: Cell) -> None:
        """Add all of another cell."""
        self.bill = add(self.bill, other.bill)
        self.ours = add(self.ours, other.ours)
        self.charges += other.charges
        self.events += other.events
        self.credits = add(self.credits, other.credits)
        self.duplicates = add(self.duplicates, other.duplicates)
        self.unmeasured_charges += other.unmeasured_charges
        self.unmeasured_events += other.unmeasured_events
        for mine, theirs in (
            (self.bill_amounts, other.bill_amounts),
            (self.bill_quantities, other.bill_quantities),
            (self.our_quantities, other.our_quantities),
        ):
            _add_to(mine, theirs)
        for names, more in (
            (self.models, other.models),
            (self.priced_by, other.priced_by),
            (self.provenances, other.provenances),
            (self.descriptions, other.descriptions),
        ):
            for one in more:
                _note(names, one)
        self.operations = [*self.operations, *other.operations][:FEW]
        self.groups |= other.groups

    def use_report(self, quantities: Mapping[str, Decimal]) -> None:
        """Take the billed quantities from a usage report instead of the charges."""
        self.bill_quantities = {**quantities}
        self.unmeasured_charges = 0

    @property
    def is_measured(self) -> bool:
        """Whether the quantities of both sides are known."""
        return (
            bool(self.bill_quantities and self.our_quantities)
            and not self.unmeasured_charges
            and not self.unmeasured_events
        )


def _add_to(sums: dict[str, Decimal], more: Mapping[str, Decimal]) -> None:
    for name, value in more.items():
        sums[name] = add(sums.get(name, ZERO), value)


def _note(names: set[str], name: str) -> None:
    if name and len(names) < FEW:
        names.add(name)
