"""Sum up tracked costs by hour, for the search of another time zone."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from outlay._reconcile.cells import Key
from outlay._reconcile.values import ZERO, add

if TYPE_CHECKING:
    from decimal import Decimal

    from outlay._reconcile.cell_table import CommonNames
    from outlay._reconcile.values import Cost


class HourlySums:
    """The sums of costs by model, kind of unit and hour since 1970."""

    def __init__(self) -> None:
        self._hours: dict[tuple[str, str], dict[int, Decimal]] = defaultdict(dict)

    def add(self, model: str, cost: Cost) -> None:
        """Add a cost."""
        hours = self._hours[model, cost.kind]
        hour = int(cost.at.timestamp()) // 3600
        hours[hour] = add(hours.get(hour, ZERO), cost.amount)

    def joined(self, names: CommonNames) -> dict[tuple[str, str], dict[int, Decimal]]:
        """Return the sums by common names."""
        joined: dict[tuple[str, str], dict[int, Decimal]] = {}
        for (model, kind), sums in self._hours.items():
            key = names.key(Key("", model, kind))
            merged = joined.setdefault((key.model, key.kind), {})
            for hour, amount in sums.items():
                merged[hour] = add(merged.get(hour, ZERO), amount)
        return joined
