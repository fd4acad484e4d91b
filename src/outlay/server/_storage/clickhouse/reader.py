"""Read one view of a ledger in PostgreSQL whose old days are in ClickHouse.

The ledger keeps all rollups, so that totals over whole hours need no ClickHouse. What
needs single events reads both.
"""

from __future__ import annotations

import heapq
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Final

from outlay.server._records import ReceivedEvent
from outlay.server._storage.clickhouse.connection import Connection
from outlay.server._storage.clickhouse.event_rows import MovedEvents
from outlay.server._storage.clickhouse.moved_ranges import MovedRanges
from outlay.server._storage.postgres.event_table import EventRow
from outlay.server._storage.postgres.reader import PostgresReader
from outlay.server._storage.postgres.receipts import MICROSECONDS_PER_DAY
from outlay.server._storage.postgres.views import PostgresViews
from outlay.server._storage.sql.catalog import metrics_of_type
from outlay.server._storage.sql.event_table import EventPlace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._storage.clickhouse.days import MovedEvent
    from outlay.server._storage.event_store import EventFilter
    from outlay.server._storage.postgres.connecting import PostgresConnection
    from outlay.server._storage.postgres.history import HistoryState

_SILENT_SECONDS: Final = 30  # for what has no limit of its own


class HistoryReader(PostgresReader):
    """Reads one view of both. It asks ClickHouse only if old events may count.

    Args:
        connection: The connection to the ledger, in a transaction.
        clickhouse: The connection to ClickHouse.
        state: How far days are moved.

    Raises:
        HistoryUnavailableError: ClickHouse does not respond. Each method that reads
            single events may raise it.
    """

    def __init__(
        self,
        connection: PostgresConnection,
        clickhouse: Connection,
        state: HistoryState,
    ) -> None:
        super().__init__(connection)
        self._clickhouse = clickhouse
        self._state = state
        self._ranges: dict[str, MovedRanges] = {}

    def event(self, namespace: str, event_id: str) -> ReceivedEvent | None:
        """Return the event with this id."""
        found = super().event(namespace, event_id)
        if found is not None or not self._ranges_of(namespace).types():
            return found
        moved = self._moved.events(namespace, [event_id])
        return ReceivedEvent(moved[0].event, moved[0].received_at) if moved else None

    def count_events(self, namespace: str, where: EventFilter) -> int:
        """Return the number of wanted events."""
        count = super().count_events(namespace, where)
        if not self._moved_types(namespace, where):
            return count
        return count + self._moved.count(namespace, where)

    def unmatched_types(
        self, namespace: str, start: int, end: int, *, as_of: int | None = None
    ) -> dict[str, int]:
        """Return the number of events by type that no cost reads."""
        found = super().unmatched_types(namespace, start, end, as_of=as_of)
        types = [
            one
            for one in self._ranges_of(namespace).types(None, start, end)
            if all(
                metric.aggregation is None
                for metric in metrics_of_type(self._connection, namespace, one)
            )
        ]
        if not types:
            return found
        moved = self._moved.types(namespace, types, start, end, as_of=as_of)
        for event_type, count in moved.items():
            found[event_type] = found.get(event_type, 0) + count
        return dict(sorted(found.items()))

    def time_range(self, metric: CompiledMetric) -> tuple[int, int] | None:
        """Return the times of the first and of the last event that a cost reads."""
        found = super().time_range(metric)
        moved = self._ranges_of(metric.cost.namespace).of(metric.cost.event_type)
        if moved is None or found is None:
            return found or moved
        return min(moved.first_at, found[0]), max(moved.last_at, found[1])

    def missing_events(
        self, namespace: str, event_ids: Collection[str]
    ) -> tuple[int, dict[str, MovedEvent | None]]:
        """Return the events that the ledger does not have, by id, None for no event.

        The number before them grows when an erasure begins or ends.
        """
        (registry,) = self._connection.execute(
            "SELECT registry FROM outlay_state"
        ).fetchone()
        marks = ",".join(["NULL", *"?" * len(event_ids)])
        stored = self._connection.execute(
            f"SELECT id FROM events WHERE namespace = ? AND id IN ({marks})",
            [namespace, *event_ids],
        )
        missing = {*event_ids} - {row[0] for row in stored}
        found: dict[str, MovedEvent | None] = dict.fromkeys(missing)
        if missing and self._ranges_of(namespace).types():
            moved = self._moved.events(namespace, missing)
            found.update((one.event.id, one) for one in moved)
        return int(registry), found

    @cached_property
    def _moved(self) -> MovedEvents:
        """The moved events, of a ClickHouse that has those of this ledger."""
        limit = self._connection.limit
        self._clickhouse.check_ledger(self._state.ledger, limit)
        return MovedEvents(self._clickhouse, self._state.place, limit)

    def _ranges_of(self, namespace: str) -> MovedRanges:
        found = self._ranges.get(namespace)
        if found is None:
            found = MovedRanges(self._connection, namespace)
            self._ranges[namespace] = found
        return found

    def _moved_types(self, namespace: str, where: EventFilter) -> list[str]:
        """Return the types of which a wanted event may be in ClickHouse."""
        return self._ranges_of(namespace).types(where.types, where.start, where.end)

    def _rows(
        self, namespace: str, where: EventFilter, before: EventPlace
    ) -> Iterator[EventRow]:
        """Yield the rows before a place, the newest first, of all wanted types."""
        rows = super()._rows(namespace, where, before)
        types = self._moved_types(namespace, where)
        if not types:
            yield from rows
            return
        last_at = self._ranges_of(namespace).last_at(types)
        for row in rows:
            # The newest events are in the ledger, and come first.
            if row.place.at <= last_at:
                rows = chain([row], rows)
                break
            yield row
        older = (
            EventRow(
                EventPlace(one.event.at, one.seq),
                ReceivedEvent(one.event, one.received_at),
            )
            for one in self._moved.before(namespace, where, before)
        )
        yield from heapq.merge(rows, older, key=lambda row: row.place, reverse=True)

    def _from_events(
        self, metric: CompiledMetric, start: int, end: int
    ) -> Iterator[Contribution]:
        """Yield the contribution of each event."""
        return chain(
            super()._from_events(metric, start, end),
            self._from_moved(metric, start, end),
        )

    def _not_folded(  # noqa: PLR0917 - the columns of a cost
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        cutoff: int,
        day: int | None,
        seq: int,
    ) -> Iterator[Contribution]:
        """Yield the earlier events that a new definition has not folded yet."""
        rest = super()._not_folded(metric, start, end, cutoff, day, seq)
        if day is None or (day, seq) >= self._state.place:
            return rest
        condition = (
            f"seq <= {cutoff:d} AND (day > {day:d} OR day = {day:d} AND seq > {seq:d})"
        )
        return chain(rest, self._from_moved(metric, start, end, condition))

    def _received(
        self, metric: CompiledMetric, start: int, end: int, condition: str, as_of: int
    ) -> Iterator[Contribution]:
        rest = super()._received(metric, start, end, condition, as_of)
        is_later = condition.startswith(">")
        if is_later and as_of >= (self._state.place.day + 1) * MICROSECONDS_PER_DAY:
            return rest
        sign = ">" if is_later else "<="
        moved = self._from_moved(metric, start, end, f"received_at {sign} {as_of:d}")
        return chain(rest, moved)

    def _last_seq(self, as_of: int) -> int:
        """Return the order of receipt of the last stored event that ``as_of`` knew."""
        return super()._last_seq(as_of) or self._moved.last_seq(as_of)

    def _from_moved(
        self, metric: CompiledMetric, start: int, end: int, condition: str = "true"
    ) -> Iterable[Contribution]:
        """Return the contribution of each moved event."""
        cost = metric.cost
        types = [cost.event_type or ""]
        ranges = self._ranges_of(cost.namespace)
        if start >= end or not ranges.types(types, start, end):
            return ()
        return self._moved.contributions(metric, start, end, condition)

    def _stored_events(self, metric: CompiledMetric, start: int, end: int) -> int:
        """Return the number of events of a metric's type in a period."""
        count = super()._stored_events(metric, start, end)
        types = [metric.cost.event_type or ""]
        if not self._ranges_of(metric.cost.namespace).types(types, start, end):
            return count
        return count + self._moved.count_of(metric, start, end)


class HistoryViews(PostgresViews):
    """Opens views of both. Thread safety: any thread.

    Args:
        url: The URL of the ledger.
        clickhouse_url: The URL of ClickHouse.
    """

    def __init__(self, url: str, clickhouse_url: str) -> None:
        super().__init__(url)
        self._clickhouse = Connection(clickhouse_url, response_seconds=_SILENT_SECONDS)

    def close(self) -> None:
        """Close all connections. No thread may be reading."""
        super().close()
        self._clickhouse.close()

    def _reader(
        self, connection: PostgresConnection, moved: HistoryState | None
    ) -> PostgresReader:
        """Return a reader of a transaction."""
        if moved is None:
            return PostgresReader(connection)
        return HistoryReader(connection, self._clickhouse, moved)
