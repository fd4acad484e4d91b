"""Collect the rows of a result."""

from __future__ import annotations

from outlay._reconcile.cells import FEW
from outlay._reconcile.values import Category, Row, add


class ResultRows:
    """Rows, of which those of one key are added up."""

    def __init__(self) -> None:
        self._rows: dict[tuple[object, ...], Row] = {}

    def add(self, row: Row) -> None:
        """Add a row."""
        before = self._rows.get(row.key)
        if before is None:
            self._rows[row.key] = row
            return
        self._rows[row.key] = before._replace(
            bill=add(before.bill, row.bill),
            ours=add(before.ours, row.ours),
            charges=before.charges + row.charges,
            events=before.events + row.events,
            operations=(*before.operations, *row.operations)[:FEW],
        )

    def all(self) -> tuple[Row, ...]:
        """Return the rows, by category, and the largest difference first."""
        order = {category: place for place, category in enumerate(Category)}
        return tuple(
            sorted(
                self._rows.values(),
                key=lambda row: (
                    order[row.category],
                    -row.difference.copy_abs(),
                    row.day,
                    row.model,
                    row.unit,
                    row.cause,
                ),
            )
        )
