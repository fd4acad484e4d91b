"""Keep cells by day, model and kind of unit, and bring their names together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._reconcile.cells import Cell, Key
from outlay._reconcile.matching import join_unknown_kinds
from outlay._reconcile.values import ZERO, BillError, add

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

MOST_CELLS: Final = 200_000
"""The most cells of a reconciliation. More are a column that is mapped wrongly."""


class CellTable:
    """Cells by key, of a bounded number."""

    def __init__(self) -> None:
        self._cells: dict[Key, Cell] = {}

    def cell(self, key: Key) -> Cell:
        """Return the cell of a key, a new one if there is none.

        Raises:
            BillError: There are too many cells.
        """
        cell = self._cells.get(key)
        if cell is None:
            if len(self._cells) >= MOST_CELLS:
                raise too_many(key)
            cell = self._cells[key] = Cell()
        return cell

    def billed_models(self) -> set[str]:
        """Return the models or services of charges."""
        return {key.model for key, cell in self._cells.items() if cell.charges}

    def tracked_models(self) -> set[str]:
        """Return the models or services of costs."""
        return {key.model for key, cell in self._cells.items() if cell.events}

    def joined(
        self, usage: Mapping[Key, Mapping[str, Decimal]], names: CommonNames
    ) -> dict[Key, Cell]:
        """Return the cells by common keys, in their order, with reported quantities."""
        joined: dict[Key, Cell] = {}
        for key, cell in self._cells.items():
            joined.setdefault(names.key(key), Cell()).add_cell(cell)
        join_unknown_kinds(joined)
        for key, quantities in _joined_usage(usage.items(), names).items():
            if key in joined:
                joined[key].use_report(quantities)
        return dict(sorted(joined.items()))


class CommonNames(NamedTuple):
    """The names that both sides have in common.

    Attributes:
        models: The common name of a model or service, where it has another one.
        has_models: Whether the bill names models. If not, all are one.
        has_kinds: Whether the bill names units. If not, all are one.
    """

    models: Mapping[str, str]
    has_models: bool
    has_kinds: bool

    def key(self, key: Key) -> Key:
        """Return the common key of a key of one side."""
        model = self.models.get(key.model, key.model) if self.has_models else ""
        return Key(key.day, model, key.kind if self.has_kinds else "")


def too_many(key: Key) -> BillError:
    """Return the error of a bill with more keys than any has."""
    return BillError(
        f"there are more than {MOST_CELLS:,} days, models and units; a column is "
        f"probably an id, such as {key.model!r}: map it as operation"
    )


def _joined_usage(
    usage: Iterable[tuple[Key, Mapping[str, Decimal]]], names: CommonNames
) -> dict[Key, dict[str, Decimal]]:
    joined: dict[Key, dict[str, Decimal]] = {}
    for key, quantities in usage:
        sums = joined.setdefault(names.key(key), {})
        for unit, quantity in quantities.items():
            sums[unit] = add(sums.get(unit, ZERO), quantity)
    return joined
