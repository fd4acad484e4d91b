"""Read from SQLite: records from rows, and contributions from rollups and events."""

from __future__ import annotations

from contextlib import contextmanager
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, TypeVarTuple

from outlay.server._metering.metric import CompiledMetric, Contribution
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
)
from outlay.server._storage.buckets import (
    Grain,
    buckets_of,
    ranges_between,
    signed_ranges_between,
    start_of,
)
from outlay.server._storage.event_filter import contribution_matcher
from outlay.server._storage.net_quantities import contributions_from_rows, negated
from outlay.server._storage.netting import netted
from outlay.server._storage.sql.budgets import SqlBudgetReader
from outlay.server._storage.sql.catalog import SqlCatalogReader
from outlay.server._storage.sql.corrections import SqlCorrectionReader
from outlay.server._storage.sql.deleted_events import deleted_before, events_deleted
from outlay.server._storage.sql.events import READING_COLUMNS
from outlay.server._storage.sql.reconciliations import SqlReconciliationReader
from outlay.server._storage.sql.revenue import SqlRevenueReader
from outlay.server._storage.sqlite.copy_tables import SqliteCopyReader
from outlay.server._storage.sqlite.event_table import SqliteEventReader
from outlay.server._storage.sqlite.rollup_query import RollupQuery, cube_for
from outlay.server._storage.sqlite.rollups import (
    TOTAL,
    WITH_THIRDS,
    decode_dimensions,
)
from outlay.server._storage.store import NO_FILTER
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import FIRST_INSTANT, LAST_INSTANT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import (
        Callable,
        Collection,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
    )

    from outlay.server._storage.net_quantities import CountedEntry
    from outlay.server._storage.sqlite.view_connection import ViewConnection

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LONGEST_MONTH: Final = 31 * 24 * MICROSECONDS_PER_HOUR


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

    def _once(
        self, read: Callable[[sqlite3.Connection, *Ts], T], *parameters: *Ts
    ) -> T:
        """Return what ``read`` reads. It reads once in a view, which does not change.

        A page asks for many short periods, and each needs the same facts.
        """
        key = (read, parameters)
        if key not in self._remembered:
            self._remembered[key] = read(self._connection, *parameters)
        found: T = self._remembered[key]
        return found

    def _gross_contributions(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        names: Collection[str] = (),
        where: Mapping[str, frozenset[str]] = NO_FILTER,
        window: Window | None = None,
    ) -> Iterator[Contribution]:
        """Yield the contributions of the events in ``start <= at < end``, unordered.

        Rollups stand for whole hours. The events themselves stand for the rest of the
        period, and for what the rollups do not hold yet.
        """
        start = max(start, FIRST_INSTANT)  # a prior period may start before time does
        can_take_off = (
            window is None and metric.can_subtract and self._is_whole(metric, end)
        )
        # Events of a part of an hour are taken off from the whole, if they are fewer.
        slack = MICROSECONDS_PER_HOUR // 2 if can_take_off else 0
        first_hour = -((slack - start) // MICROSECONDS_PER_HOUR)
        last_hour = (end + slack) // MICROSECONDS_PER_HOUR
        is_wanted = contribution_matcher(metric, where)
        if window is Window.MINUTE or not metric.can_roll_up or first_hour >= last_hour:
            events = self._from_events(metric, start, end)
            yield from filter(is_wanted, events) if where else events
            return
        if window is None:
            end = self._end_of_month_if_quiet(metric, end)
            last_hour = (end + slack) // MICROSECONDS_PER_HOUR
        whole_start = first_hour * MICROSECONDS_PER_HOUR
        whole_end = last_hour * MICROSECONDS_PER_HOUR
        number, unfolded = self._once(_definition, metric.cost.id)
        cube = cube_for(metric, {*names, *where})
        ranges = (
            signed_ranges_between(first_hour, last_hour, has_thirds=cube in WITH_THIRDS)
            if can_take_off
            else ranges_between(first_hour, last_hour, window)
        )
        rollups = RollupQuery(
            self._connection, metric, number, cube=cube, ranges=ranges, where=where
        )
        contributions: Iterable[Contribution] = chain(
            self._from_events(metric, start, whole_start),
            self._from_events(metric, whole_end, end),
            *(
                self._from_events(metric, whole_start, whole_end, received=received)
                for received in unfolded
            ),
            self._wide_sums(number, first_hour, last_hour),
            rollups.contributions(start, window),
        )
        if whole_start < start or end < whole_end:
            taken = chain(
                self._from_events(metric, whole_start, start),
                self._from_events(metric, end, whole_end),
            )
            contributions = chain(contributions, map(negated, taken))
        if where:
            contributions = filter(is_wanted, contributions)
        if whole_start < start or end < whole_end:
            contributions = netted(metric, names, start, contributions)
        yield from contributions

    def _is_whole(self, metric: CompiledMetric, end: int) -> bool:
        """Return whether small rollups may be taken off from larger ones.

        While an id is replaced, some rollups have the old id, and some the new one. The
        last month of all time has no next month.
        """
        is_renaming = self._once(_is_renaming, metric.cost.namespace)
        return not is_renaming and end < LAST_INSTANT - _LONGEST_MONTH

    def _end_of_month_if_quiet(self, metric: CompiledMetric, end: int) -> int:
        """Return the end of the month of ``end``, if no later event of it exists.

        The result is the same, and one rollup of the month is read instead of all of
        its days and hours. This is the case for a month that is not over.
        """
        if end > LAST_INSTANT - _LONGEST_MONTH:
            return end
        last_hour = (end - 1) // MICROSECONDS_PER_HOUR
        month_end = start_of(Grain.MONTH, buckets_of(last_hour).month + 1)
        cost = metric.cost
        deleted = self._once(deleted_before, cost.namespace, cost.event_type)
        if deleted is not None and deleted[0] > end:
            return end  # Only the rollups still have the later events.
        found = self._connection.execute(
            "SELECT 1 FROM events WHERE namespace = ? AND type = ?"
            " AND at >= ? AND at < ? LIMIT 1",
            (cost.namespace, cost.event_type, end, month_end),
        ).fetchone()
        return end if found else month_end

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

    def _entries(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        gross: bool,
        as_of: int | None,
    ) -> list[CountedEntry]:
        """Return the entries that count in a period. Few types have any."""
        if not self._once(_has_entries, metric.cost.namespace, metric.cost.event_type):
            return []
        return super()._entries(metric, start, end, gross=gross, as_of=as_of)

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


def _definition(
    connection: sqlite3.Connection, cost_id: str
) -> tuple[int, list[_Received]]:
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


def _has_entries(
    connection: sqlite3.Connection, namespace: str, event_type: str | None
) -> bool:
    """Return whether a type has corrections or late events."""
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM entries WHERE namespace = ? AND type = ?)",
        (namespace, event_type),
    ).fetchone()
    return bool(found)


def _has_wide_sums(connection: sqlite3.Connection, number: int) -> bool:
    """Return whether a metric has sums that the rollups cannot hold."""
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM wide_sums WHERE metric = ?)", (number,)
    ).fetchone()
    return bool(found)


def _is_renaming(connection: sqlite3.Connection, namespace: str) -> bool:
    """Return whether a customer's id is being replaced."""
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM erasures WHERE namespace = ?)", (namespace,)
    ).fetchone()
    return bool(found)
