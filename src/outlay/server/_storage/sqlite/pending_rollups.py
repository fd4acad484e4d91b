"""Combine the newest events of each metric in memory, until the rollups get them.

Many events of one hour, customer and set of dimensions become one row. So a fold costs
by its rows, and not by its events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._storage.combining import Combined, combine
from outlay.server._storage.sqlite.rollups import add_to_rollups

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from outlay.server._metering.metric import CompiledMetric
    from outlay.server._storage.combining import MeteredEvent

MAX_ROWS: Final = 2000
"""The most detailed rows of a fold. It takes 40 to 90 ms, for which posts wait."""

MAX_EVENTS: Final = 10_000
"""The events that a reader may have to add to the rollups. It takes some 60 ms."""


class PendingRollups:
    """Committed events that the rollups do not hold yet. Not thread-safe.

    Attributes:
        events: The number of events, also of those that no metric reads.
    """

    def __init__(self) -> None:
        self.events = 0
        self._rows = 0
        self._metrics: dict[int, tuple[CompiledMetric, Combined]] = {}

    @property
    def is_full(self) -> bool:
        """Whether the events need to be folded before more are added."""
        return self.events >= MAX_EVENTS or self._rows >= MAX_ROWS

    def add(
        self, number: int, metric: CompiledMetric, events: Iterable[MeteredEvent]
    ) -> None:
        """Add events of a metric's type.

        Args:
            number: The number of the metric's definition.
            metric: The metric.
            events: The events.
        """
        if not metric.can_roll_up:
            return
        _, combined = self._metrics.setdefault(number, (metric, {}))
        before = len(combined)
        combine(metric, combined, events)
        self._rows += len(combined) - before

    def write(self, connection: sqlite3.Connection) -> None:
        """Add all events to the rollups, in the caller's transaction."""
        for number, (metric, combined) in self._metrics.items():
            add_to_rollups(connection, number, metric, combined)
