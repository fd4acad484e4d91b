"""Read from SQLite: records from rows, and contributions from rollups and events."""

from __future__ import annotations

from contextlib import contextmanager
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server._metering.metric import CompiledMetric, Contribution
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
)
from outlay.server._storage.buckets import Grain
from outlay.server._storage.cubes import TOTAL
from outlay.server._storage.net_quantities import contributions_from_rows
from outlay.server._storage.sql.budgets import SqlBudgetReader
from outlay.server._storage.sql.catalog import SqlCatalogReader
from outlay.server._storage.sql.corrections import SqlCorrectionReader
from outlay.server._storage.sql.deleted_events import deleted_before, events_deleted
from outlay.server._storage.sql.events import READING_COLUMNS
from outlay.server._storage.sql.reconciliations import SqlReconciliationReader
from outlay.server._storage.sql.revenue import SqlRevenueReader
from outlay.server._storage.sqlite.copy_tables import SqliteCopyReader
from outlay.server._storage.sqlite.event_table import SqliteEventReader
from outlay.server._storage.sqlite.rollup_query import RollupQuery
from outlay.server._storage.sqlite.rollups import decode_dimensions

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from outlay.server._storage.sql.connection import Connection
    from outlay.server._storage.sql.gross_quantities import RollupQuestion
    from outlay.server._storage.sqlite.view_connection import ViewConnection


class _Received(NamedTuple):
    """A range of the order of receipt: after one event, up to another."""

    after: int
    upto: int


_ALL: Final = _Received(0, 2**63 - 1)


class SqliteReader(
    SqlCatalogReader,
    SqlRevenueReader,
    SqlReconciliationReader,
    SqliteEventReader,
    SqlCorrectionReader,
    SqlBudgetReader,
    SqliteCopyReader,
):
    """One reading connection. Thread safety: one thread at a time."""

    _connection: ViewConnection
    _product_order = "rowid"

    def __init__(self, connection: ViewConnection) -> None:
        self._connection = connection
        self._remembered: dict[Hashable, Any] = {}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def stop_when(self, is_over: Callable[[], bool] | None, steps: int) -> None:
        """Interrupt each query once ``is_over`` returns True. None ends that.

        Args:
            is_over: A fast function.
            steps: The instructions of SQLite's machine between two calls of it.
        """
        self._connection.set_progress_handler(is_over, steps)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Keep the view of the first read until the end of the block."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._remembered.clear()
            # A statement in use would hold its snapshot, also after ROLLBACK.
            self._connection.end_statements()
            self._connection.execute("ROLLBACK")

    def _not_rolled_up(
        self, metric: CompiledMetric, start: int, end: int
    ) -> Iterable[Contribution]:
        """Return the contributions of a period that no rollup holds."""
        number, unfolded = self._once(_definition, metric.cost.id)
        return chain(
            *(
                self._from_events(metric, start, end, received=received)
                for received in unfolded
            ),
            self._wide_sums(
                number, start // MICROSECONDS_PER_HOUR, end // MICROSECONDS_PER_HOUR
            ),
        )

    def _from_rollups(
        self, metric: CompiledMetric, question: RollupQuestion
    ) -> Iterator[Contribution]:
        """Return the response of the rollups. Others than wanted may be among it."""
        number, _ = self._once(_definition, metric.cost.id)
        rollups = RollupQuery(
            self._connection,
            metric,
            number,
            cube=question.cube,
            ranges=question.ranges,
            where=question.where,
        )
        return rollups.contributions(question.start, question.window)

    def _is_empty(self, metric: CompiledMetric, start: int, end: int) -> bool:
        """Return whether a metric has no event in ``start <= at < end``."""
        found = self._connection.execute(
            "SELECT 1 FROM events WHERE namespace = ? AND type = ?"
            " AND at >= ? AND at < ? LIMIT 1",
            (metric.cost.namespace, metric.cost.event_type, start, end),
        ).fetchone()
        return found is None

    def time_range(self, metric: CompiledMetric) -> tuple[int, int] | None:
        """Return the times of the first and of the last event that a cost reads."""
        where = "FROM events WHERE namespace = :namespace AND type = :type"
        # Two queries, because SQLite looks up only a single min or max in an index.
        first, last = self._connection.execute(
            f"SELECT (SELECT min(at) {where}), (SELECT max(at) {where})",
            {"namespace": metric.cost.namespace, "type": metric.cost.event_type},
        ).fetchone()
        if deleted_before(
            self._connection, metric.cost.namespace, metric.cost.event_type
        ):
            (hour,) = self._connection.execute(
                "SELECT min(bucket) FROM rollups WHERE metric ="
                " (SELECT definition FROM costs WHERE id = ?) AND cube = ?"
                " AND grain = ?",
                (metric.cost.id, TOTAL, Grain.HOUR),
            ).fetchone()
            if hour is not None:
                at = hour * MICROSECONDS_PER_HOUR
                first, last = min(first or at, at), max(last or at, at)
        return None if first is None else (first, last)

    def _wide_sums(
        self, number: int, first_hour: int, last_hour: int
    ) -> Iterator[Contribution]:
        """Yield the sums that the rollups cannot hold. Rollups count their events."""
        if not self._once(_has_wide_sums, number):
            return
        rows = self._connection.execute(
            "SELECT hour, customer, dimensions, value FROM wide_sums"
            " WHERE metric = ? AND hour >= ? AND hour < ?",
            (number, first_hour, last_hour),
        )
        for hour, customer, dimensions, value in rows:
            at = hour * MICROSECONDS_PER_HOUR
            yield Contribution(
                at,
                customer,
                decode_dimensions(dimensions),
                0,
                0,
                Decimal(value),
                (at, 0),
            )

    def _from_events(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        received: _Received | None = None,
    ) -> Iterator[Contribution]:
        """Yield the contribution of each event.

        Args:
            metric: The metric.
            start: The first instant that counts, in microseconds since 1970.
            end: The first instant that no longer counts, in the same unit.
            received: The order of receipt of the events that count. If None, all do.
        """
        if start >= end:
            return iter(())
        cost = metric.cost
        after, upto = received or _ALL
        deleted = self._once(deleted_before, cost.namespace, cost.event_type)
        if deleted is not None and start < deleted[0] and after < deleted[1]:
            raise events_deleted(deleted[0])
        # The few newest events are found by their order of receipt. The index by time
        # would find all of the period.
        source = "events" if received is None else "events NOT INDEXED"
        rows = self._connection.execute(
            f"SELECT {READING_COLUMNS} FROM {source}"  # noqa: S608 - constants
            " WHERE namespace = :namespace AND type = :type"
            " AND at >= :start AND at < :end AND seq > :after AND seq <= :upto",
            {
                "namespace": metric.cost.namespace,
                "type": metric.cost.event_type,
                "start": start,
                "end": end,
                "after": after,
                "upto": upto,
            },
        )
        return contributions_from_rows(metric, rows)

    def _received_later(
        self, metric: CompiledMetric, start: int, end: int, as_of: int
    ) -> Iterator[Contribution]:
        """Yield the contribution of each event that was received after ``as_of``."""
        received = _Received(self._last_seq(as_of), _ALL.upto)
        return self._from_events(metric, start, end, received=received)

    def _received_until(
        self, metric: CompiledMetric, start: int, end: int, as_of: int
    ) -> Iterator[Contribution]:
        """Yield the contribution of each other event."""
        last = self._last_seq(as_of)
        events = self._from_events(metric, start, end)
        return (one for one in events if one.at[1] <= last)

    def _rolled_up(self, metric: CompiledMetric, first: int, last: int) -> int:
        """Return the number of events in the rollups of ``first <= hour < last``."""
        (events,) = self._connection.execute(
            "SELECT coalesce(sum(events), 0) FROM rollups"
            " JOIN costs ON costs.definition = rollups.metric"
            " WHERE costs.id = ? AND cube = ? AND grain = 0"
            " AND bucket >= ? AND bucket < ?",
            (metric.cost.id, TOTAL, first, last),
        ).fetchone()
        return int(events)

    def _last_seq(self, as_of: int) -> int:
        """Return the order of receipt of the last event that ``as_of`` knew.

        It is one of the events that are stored, or 0. No time of receipt is left of
        those that are deleted.
        """
        low = 0
        (high,) = self._connection.execute(
            "SELECT coalesce(max(seq), 0) FROM events"
        ).fetchone()
        # Times of receipt grow with the order of receipt.
        while low < high:
            middle = (low + high + 1) // 2
            row = self._connection.execute(
                "SELECT seq, received_at FROM events WHERE seq <= ?"
                " ORDER BY seq DESC LIMIT 1",
                (middle,),
            ).fetchone()
            if row is None or row[1] <= as_of:
                low = middle
            else:
                high = row[0] - 1
        (last,) = self._connection.execute(
            "SELECT coalesce(max(seq), 0) FROM events WHERE seq <= ?", (low,)
        ).fetchone()
        return int(last)


def _definition(connection: Connection, cost_id: str) -> tuple[int, list[_Received]]:
    """Return the number of a cost's rollups, and the events that they do not hold."""
    number, folded, since, all_folded = connection.execute(
        "SELECT definition, costs.folded_seq, since_seq, progress.folded_seq"
        " FROM costs, progress WHERE id = ?",
        (cost_id,),
    ).fetchone()
    unfolded = [_Received(all_folded, _ALL.upto)]
    if folded is not None:
        unfolded.append(_Received(folded, since))
    return number, unfolded


def _has_wide_sums(connection: Connection, number: int) -> bool:
    """Return whether a metric has sums that the rollups cannot hold."""
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM wide_sums WHERE metric = ?)", (number,)
    ).fetchone()
    return bool(found)
