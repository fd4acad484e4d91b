"""Know the metrics that count events, and how far the rollups of each are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from outlay.server._metering.metric import CompiledMetric, compile_metric
from outlay.server._storage.sql.catalog import COST_COLUMNS, cost_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


class ActiveMetric(NamedTuple):
    """A metric that is not deleted, and the number of its definition."""

    number: int
    metric: CompiledMetric


class Lag(NamedTuple):
    """The events that the rollups of a metric lack.

    They came before the metric was defined, and after the event `folded_seq`. The last
    one is `since_seq`. Later events are folded with those of the other metrics.
    """

    folded_seq: int
    since_seq: int


class ActiveMetrics:
    """The metrics that are not deleted, by type of event.

    Thread safety: the commit thread. Any thread may call `count`. Each change of a type
    is a single operation.

    Args:
        connection: The writing connection.

    Attributes:
        lagging: The lag of each metric that has one, by the number of its definition.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._by_type: dict[tuple[str, str], tuple[ActiveMetric, ...]] = {}
        self.lagging: dict[int, Lag] = {}

    def count(self, namespace: str, event_type: str) -> bool:
        """Return whether some metric counts events of this type."""
        return (namespace, event_type) in self._by_type

    def of_type(self, namespace: str, event_type: str) -> Sequence[ActiveMetric]:
        """Return the metrics that count events of this type."""
        return self._by_type.get((namespace, event_type), ())

    def definition(self, number: int) -> CompiledMetric:
        """Return the metric with this definition."""
        return next(
            active.metric
            for several in self._by_type.values()
            for active in several
            if active.number == number
        )

    def can_roll_up(self, namespace: str, event_type: str) -> bool:
        """Return whether all metrics of a type have rollups."""
        return all(
            active.metric.can_roll_up for active in self.of_type(namespace, event_type)
        )

    def load_all(self) -> None:
        """Read the metrics of all types."""
        rows = self._connection.execute(
            "SELECT DISTINCT namespace, event_type FROM costs WHERE deleted_at IS NULL"
        )
        for namespace, event_type in rows.fetchall():
            self.load(namespace, event_type)

    def load(self, namespace: str, event_type: str | None) -> None:
        """Read the metrics of one type again."""
        if event_type is None:
            return
        key = (namespace, event_type)
        for number, _ in self._by_type.get(key, ()):
            self.lagging.pop(number, None)
        rows = self._connection.execute(
            f"SELECT definition, folded_seq, since_seq, {COST_COLUMNS} FROM costs"  # noqa: S608 - a constant
            " WHERE namespace = ? AND event_type = ? AND deleted_at IS NULL"
            " ORDER BY number",
            key,
        )
        found: list[ActiveMetric] = []
        for number, folded, since, *columns in rows:
            metric = compile_metric(cost_of(columns))
            if metric is None:
                continue
            found.append(ActiveMetric(number, metric))
            if folded is not None:
                self.lagging[number] = Lag(folded, since)
        if found:
            self._by_type[key] = tuple(found)
        else:
            self._by_type.pop(key, None)
