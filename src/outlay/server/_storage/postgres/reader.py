"""Read one consistent view of a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._records import MICROSECONDS_PER_HOUR
from outlay.server._storage.buckets import Grain
from outlay.server._storage.cubes import TOTAL
from outlay.server._storage.net_quantities import contributions_from_rows
from outlay.server._storage.postgres.copy_tables import PostgresCopyReader
from outlay.server._storage.postgres.event_table import PostgresEventReader
from outlay.server._storage.postgres.larger_grains import added_place
from outlay.server._storage.postgres.receipts import (
    MICROSECONDS_PER_DAY,
    first_events,
    key_hash,
)
from outlay.server._storage.postgres.rollup_query import contributions
from outlay.server._storage.sql.budgets import SqlBudgetReader
from outlay.server._storage.sql.catalog import SqlCatalogReader
from outlay.server._storage.sql.corrections import SqlCorrectionReader
from outlay.server._storage.sql.deleted_events import deleted_before, events_deleted
from outlay.server._storage.sql.events import READING_COLUMNS
from outlay.server._storage.sql.reconciliations import SqlReconciliationReader
from outlay.server._storage.sql.revenue import SqlRevenueReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._records import ReceivedEvent
    from outlay.server._storage.postgres.connecting import PostgresConnection
    from outlay.server._storage.sql.connection import Connection
    from outlay.server._storage.sql.gross_quantities import RollupQuestion

_MOST_COUNTED: Final = 1_000_000
_OF_PERIOD: Final = (
    f"SELECT {READING_COLUMNS} FROM events WHERE namespace = :namespace"
    " AND type = :type AND at >= :start AND at < :end"
)


class PostgresReader(
    SqlCatalogReader,
    SqlRevenueReader,
    SqlReconciliationReader,
    PostgresEventReader,
    SqlCorrectionReader,
    SqlBudgetReader,
    PostgresCopyReader,
):
    """Reads in one transaction. Thread safety: one thread at a time."""

    _connection: PostgresConnection
    _product_order = "number"

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection
        self._remembered = {}

    def database_bytes(self) -> int:
        """Return the size of the database on the disk of PostgreSQL."""
        (size,) = self._connection.execute(
            "SELECT pg_database_size(current_database())"
        ).fetchone()
        return int(size)

    def count_deltas(self) -> int:
        """Return the number of deltas that upkeep has not folded, a million at most."""
        (count,) = self._connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM deltas LIMIT {_MOST_COUNTED}) t"
        ).fetchone()
        return int(count)

    def event_of_key(self, namespace: str, key: str) -> ReceivedEvent | None:
        """Return the event that an idempotency key stands for within its window."""
        digest = key_hash(namespace, key)
        # The newest of them, if an earlier one is still noted.
        found = first_events(self._connection, [digest], 0).get(digest)
        return None if found is None else self.event(namespace, found.id)

    def time_range(self, metric: CompiledMetric) -> tuple[int, int] | None:
        """Return the times of the first and of the last event that a cost reads."""
        cost = metric.cost
        first, last = self._connection.execute(
            "SELECT min(at), max(at) FROM events WHERE namespace = ? AND type = ?",
            (cost.namespace, cost.event_type),
        ).fetchone()
        if deleted_before(self._connection, cost.namespace, cost.event_type):
            low, high = self._connection.execute(
                "SELECT min(bucket), max(bucket) FROM rollups WHERE definition ="
                " (SELECT definition FROM costs WHERE id = ?) AND cube = ?"
                " AND grain = ?",
                (cost.id, TOTAL, Grain.HOUR),
            ).fetchone()
            if low is not None:
                low, high = (hour * MICROSECONDS_PER_HOUR for hour in (low, high))
                first = low if first is None else min(first, low)
                last = high if last is None else max(last, high)
        return None if first is None else (first, last)

    def _not_rolled_up(
        self, metric: CompiledMetric, start: int, end: int
    ) -> Iterable[Contribution]:
        """Return the contributions of a period that no rollup or delta holds."""
        _, cutoff, day, seq = self._once(_definition, metric.cost.id)
        return self._not_folded(metric, start, end, cutoff, day, seq)

    def _from_rollups(
        self, metric: CompiledMetric, question: RollupQuestion
    ) -> Iterator[Contribution]:
        """Return what the rollups and deltas hold."""
        definition, *_ = self._once(_definition, metric.cost.id)
        added = self._once(added_place, definition, question.cube)
        return contributions(self._connection, metric, definition, added, question)

    def _is_empty(self, metric: CompiledMetric, start: int, end: int) -> bool:
        """Return whether a metric has no event in ``start <= at < end``.

        It is False while a new definition folds earlier events.
        """
        _, _, folded_day, _ = self._once(_definition, metric.cost.id)
        first_hour = -(-start // MICROSECONDS_PER_HOUR)
        if folded_day is not None or self._rolled_up(
            metric, first_hour, end // MICROSECONDS_PER_HOUR
        ):
            return False
        hour_end = first_hour * MICROSECONDS_PER_HOUR
        return next(self._from_events(metric, start, hour_end), None) is None

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
        if day is None:
            return iter(())
        self._check_stored(metric, start, folded=seq)
        rows = self._connection.stream(
            f"{_OF_PERIOD} AND seq <= :cutoff AND day >= :day"
            " AND (day, seq) > (:day, :seq)",
            {**_period(metric, start, end), "cutoff": cutoff, "day": day, "seq": seq},
        )
        return contributions_from_rows(metric, rows)

    def _from_events(
        self, metric: CompiledMetric, start: int, end: int
    ) -> Iterator[Contribution]:
        """Yield the contribution of each event."""
        if start >= end:
            return iter(())
        self._check_stored(metric, start)
        rows = self._connection.stream(_OF_PERIOD, _period(metric, start, end))
        return contributions_from_rows(metric, rows)

    def _received_later(
        self, metric: CompiledMetric, start: int, end: int, as_of: int
    ) -> Iterator[Contribution]:
        """Yield the contribution of each event that was received after ``as_of``."""
        cost = metric.cost
        if deleted_before(self._connection, cost.namespace, cost.event_type):
            # The rollups still have events that are deleted, also later ones.
            self._check_stored(metric, start, folded=self._last_seq(as_of))
        return self._received(metric, start, end, "> :as_of", as_of)

    def _received_until(
        self, metric: CompiledMetric, start: int, end: int, as_of: int
    ) -> Iterator[Contribution]:
        """Yield the contribution of each other event."""
        self._check_stored(metric, start)
        return self._received(metric, start, end, "<= :as_of", as_of)

    def _received(
        self, metric: CompiledMetric, start: int, end: int, condition: str, as_of: int
    ) -> Iterator[Contribution]:
        rows = self._connection.stream(
            f"{_OF_PERIOD} AND received_at {condition}",
            {**_period(metric, start, end), "as_of": as_of},
        )
        return contributions_from_rows(metric, rows)

    def _last_seq(self, as_of: int) -> int:
        """Return the order of receipt of the last stored event that ``as_of`` knew."""
        row = self._connection.execute(
            "SELECT seq FROM events WHERE day <= ? AND received_at <= ?"
            " ORDER BY day DESC, seq DESC LIMIT 1",
            (as_of // MICROSECONDS_PER_DAY, as_of),
        ).fetchone()
        return 0 if row is None else int(row[0])

    def _rolled_up(self, metric: CompiledMetric, first: int, last: int) -> int:
        """Return the number of events in the rollups of ``first <= hour < last``."""
        (events,) = self._connection.execute(
            "SELECT coalesce(sum(events), 0)::bigint FROM ("
            " SELECT events FROM rollups WHERE definition = :definition"
            " AND cube = :cube AND grain = :grain AND bucket >= :first"
            " AND bucket < :last UNION ALL"
            " SELECT events FROM deltas WHERE definition = :definition"
            " AND hour >= :first AND hour < :last) t",
            {
                "definition": self._once(_definition, metric.cost.id)[0],
                "cube": TOTAL,
                "grain": Grain.HOUR,
                "first": first,
                "last": last,
            },
        ).fetchone()
        return int(events)

    def _check_stored(
        self, metric: CompiledMetric, start: int, *, folded: int = 0
    ) -> None:
        """Check that no event of a period is deleted.

        Raises:
            HttpProblem: 409, because some may be.
        """
        cost = metric.cost
        deleted = deleted_before(self._connection, cost.namespace, cost.event_type)
        if deleted is not None and start < deleted[0] and folded < deleted[1]:
            raise events_deleted(deleted[0])


def _definition(
    connection: Connection, cost_id: str
) -> tuple[int, int, int | None, int]:
    """Return the number of a cost's rollups, and how far earlier events are folded."""
    definition, cutoff, day, seq = connection.execute(
        "SELECT definition, cutoff, folded_day, folded_seq FROM costs WHERE id = ?",
        (cost_id,),
    ).fetchone()
    return definition, cutoff, day, seq or 0


def _period(metric: CompiledMetric, start: int, end: int) -> dict[str, Any]:
    return {
        "namespace": metric.cost.namespace,
        "type": metric.cost.event_type,
        "start": start,
        "end": end,
    }
