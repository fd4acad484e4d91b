"""Read from SQLite: records from rows, and contributions from rollups and events."""

from __future__ import annotations

from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay.server._metering.decimals import format_plain
from outlay.server._metering.metric import CompiledMetric, Contribution
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
    Aggregation,
    BillableFields,
    CostMetric,
    Product,
)
from outlay.server._storage.buckets import Grain, ranges_between
from outlay.server._storage.event_filter import contribution_matcher
from outlay.server._storage.sqlite import key_table
from outlay.server._storage.sqlite.budget_tables import SqliteBudgetReader
from outlay.server._storage.sqlite.correction_tables import SqliteCorrectionReader
from outlay.server._storage.sqlite.erasing import running_erasures
from outlay.server._storage.sqlite.event_table import CUSTOMER_COLUMN, SqliteEventReader
from outlay.server._storage.sqlite.retention import (
    deleted_before,
    events_deleted,
    retention_of,
)
from outlay.server._storage.sqlite.revenue_tables import SqliteRevenueReader
from outlay.server._storage.sqlite.rollup_query import RollupQuery
from outlay.server._storage.sqlite.rollups import TOTAL, decode_dimensions
from outlay.server._storage.sqlite.unmatched_events import unmatched_types
from outlay.server._storage.store import NO_FILTER
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import FIRST_INSTANT, decode_data

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import (
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from outlay.server._records import ApiKey, Erasure, Retention
    from outlay.server._storage.store import Page

READING_COLUMNS: Final = f"seq, at, {CUSTOMER_COLUMN}, data"
"""The columns of an event that a metric reads."""

COST_COLUMNS: Final = (
    "id, namespace, name, unit_cost, currency, product_id, event_type, aggregation,"
    " value_property, group_by, unit, created_at, updated_at,"
    " billable"
)
_PRODUCT_COLUMNS: Final = (
    "id, namespace, name, description, metadata, created_at, updated_at"
)

_decode_json: Final = msgspec.json.decode
_decode_billable: Final = msgspec.json.Decoder(BillableFields).decode


def contributions_from_rows(
    metric: CompiledMetric, rows: Iterable[Sequence[Any]]
) -> Iterator[Contribution]:
    """Yield the contribution of each event, from rows of `READING_COLUMNS`."""
    for seq, at, customer, data in rows:
        yield metric.contribution(seq, at, customer, decode_data(data))


def cost_of(row: Sequence[Any]) -> CostMetric:
    """Return the cost of a row of `COST_COLUMNS`."""
    (
        cost_id,
        namespace,
        name,
        unit_cost,
        currency,
        product_id,
        event_type,
        aggregation,
        value_property,
        group_by,
        unit,
        created_at,
        updated_at,
        billable,
    ) = row
    return CostMetric(
        cost_id,
        namespace,
        name,
        Decimal(unit_cost),
        currency,
        product_id,
        event_type,
        None if aggregation is None else Aggregation(aggregation),
        value_property,
        _decode_json(group_by),
        unit,
        created_at,
        updated_at,
        None if billable is None else _decode_billable(billable),
    )


def row_of_cost(cost: CostMetric) -> tuple[Any, ...]:
    """Return the row of `COST_COLUMNS` for a cost."""
    return (
        cost.id,
        cost.namespace,
        cost.name,
        format_plain(cost.unit_cost),
        cost.currency,
        cost.product_id,
        cost.event_type,
        cost.aggregation,
        cost.value_property,
        msgspec.json.encode(cost.group_by).decode(),
        cost.unit,
        cost.created_at,
        cost.updated_at,
        cost.billable and msgspec.json.encode(cost.billable).decode(),
    )


def costs_of_type(
    connection: sqlite3.Connection, namespace: str, event_type: str
) -> list[CostMetric]:
    """Return the costs that read events of this type, oldest first."""
    rows = connection.execute(
        f"SELECT {COST_COLUMNS} FROM costs"  # noqa: S608 - a constant
        " WHERE namespace = ? AND event_type = ? AND deleted_at IS NULL"
        " AND billable IS NULL ORDER BY number",
        (namespace, event_type),
    )
    return [cost_of(row) for row in rows]


class SqliteReader(
    SqliteRevenueReader, SqliteEventReader, SqliteCorrectionReader, SqliteBudgetReader
):
    """One reading connection. Thread safety: one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

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
            self._connection.execute("ROLLBACK")

    def cost(self, namespace: str, cost_id: str) -> CostMetric | None:
        """Return a cost that is not deleted."""
        row = self._connection.execute(
            f"SELECT {COST_COLUMNS} FROM costs"  # noqa: S608 - a constant
            " WHERE id = ? AND namespace = ? AND deleted_at IS NULL"
            " AND billable IS NULL",
            (cost_id, namespace),
        ).fetchone()
        return None if row is None else cost_of(row)

    def costs(
        self, namespace: str, product_id: str | None, page: Page
    ) -> tuple[list[CostMetric], int]:
        """Return a page of costs, oldest first, and the number of all."""
        return self._page_of_costs("billable IS NULL", namespace, product_id, page)

    def billable_metric(self, namespace: str, metric_id: str) -> CostMetric | None:
        """Return a billable metric."""
        row = self._connection.execute(
            f"SELECT {COST_COLUMNS} FROM costs"  # noqa: S608 - a constant
            " WHERE id = ? AND namespace = ? AND billable IS NOT NULL",
            (metric_id, namespace),
        ).fetchone()
        return None if row is None else cost_of(row)

    def billable_metrics(
        self, namespace: str, product_id: str | None, page: Page
    ) -> tuple[list[CostMetric], int]:
        """Return a page of billable metrics, oldest first, and the number of all."""
        return self._page_of_costs("billable IS NOT NULL", namespace, product_id, page)

    def _page_of_costs(
        self, kind: str, namespace: str, product_id: str | None, page: Page
    ) -> tuple[list[CostMetric], int]:
        where = (
            f" FROM costs WHERE namespace = :namespace AND {kind}"
            " AND deleted_at IS NULL"
            " AND (:product_id IS NULL OR product_id = :product_id)"
        )
        wanted = {"namespace": namespace, "product_id": product_id}
        rows = self._connection.execute(
            f"SELECT {COST_COLUMNS}{where} ORDER BY number LIMIT :limit OFFSET :offset",
            {**wanted, **page._asdict()},
        )
        return [cost_of(row) for row in rows], self._count(where, wanted)

    def costs_of_type(self, namespace: str, event_type: str) -> list[CostMetric]:
        """Return the costs that read events of this type, oldest first."""
        return costs_of_type(self._connection, namespace, event_type)

    def unmatched_types(self, namespace: str, start: int, end: int) -> dict[str, int]:
        """Return the number of events by type that no cost reads."""
        return unmatched_types(self._connection, namespace, start, end)

    def product(self, namespace: str, product_id: str) -> Product | None:
        """Return a product."""
        row = self._connection.execute(
            f"SELECT {_PRODUCT_COLUMNS} FROM products"  # noqa: S608 - a constant
            " WHERE namespace = ? AND id = ?",
            (namespace, product_id),
        ).fetchone()
        return None if row is None else _product_of(row)

    def products(self, namespace: str, page: Page) -> tuple[list[Product], int]:
        """Return a page of products, oldest first, and the number of all."""
        where = " FROM products WHERE namespace = :namespace"
        wanted = {"namespace": namespace}
        rows = self._connection.execute(
            f"SELECT {_PRODUCT_COLUMNS}{where}"
            " ORDER BY rowid LIMIT :limit OFFSET :offset",
            {**wanted, **page._asdict()},
        )
        return [_product_of(row) for row in rows], self._count(where, wanted)

    def key(self, digest: bytes) -> ApiKey | None:
        """Return the API key with this SHA-256."""
        return key_table.key_with_digest(self._connection, digest)

    def key_with_id(self, namespace: str, key_id: str) -> ApiKey | None:
        """Return the API key of an organization with this id."""
        return key_table.key_with_id(self._connection, namespace, key_id)

    def keys(self, namespace: str, page: Page) -> tuple[list[ApiKey], int]:
        """Return a page of an organization's keys, newest first, and their number."""
        return key_table.page_of_keys(self._connection, namespace, page)

    def erasures(self, namespace: str) -> list[Erasure]:
        """Return the running erasures of an organization, oldest first."""
        return running_erasures(self._connection, namespace)

    def retention(self, namespace: str) -> Retention:
        """Return how long an organization's events are kept."""
        return retention_of(self._connection, namespace)

    def namespaces(self) -> set[str]:
        """Return the organizations that have a key."""
        rows = self._connection.execute("SELECT DISTINCT namespace FROM api_keys")
        return {namespace for (namespace,) in rows}

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
        whole_start = -(-start // MICROSECONDS_PER_HOUR) * MICROSECONDS_PER_HOUR
        whole_end = end // MICROSECONDS_PER_HOUR * MICROSECONDS_PER_HOUR
        is_wanted = contribution_matcher(metric, where)
        if (
            window is Window.MINUTE
            or not metric.can_roll_up
            or whole_start >= whole_end
        ):
            yield from filter(is_wanted, self._from_events(metric, start, end))
            return
        number, folded = self._connection.execute(
            "SELECT definition, coalesce(costs.folded_seq, progress.folded_seq)"
            " FROM costs, progress WHERE id = ?",
            (metric.cost.id,),
        ).fetchone()
        yield from filter(is_wanted, self._from_events(metric, start, whole_start))
        yield from filter(is_wanted, self._from_events(metric, whole_end, end))
        rest = self._from_events(metric, whole_start, whole_end, after=folded)
        yield from filter(is_wanted, rest)
        first_hour = whole_start // MICROSECONDS_PER_HOUR
        last_hour = whole_end // MICROSECONDS_PER_HOUR
        wide = self._wide_sums(number, first_hour, last_hour)
        yield from filter(is_wanted, wide)
        ranges = ranges_between(first_hour, last_hour, window)
        rollups = RollupQuery(self._connection, metric, number, ranges, where)
        yield from filter(is_wanted, rollups.contributions(names, window))

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
        self, metric: CompiledMetric, start: int, end: int, *, after: int | None = None
    ) -> Iterator[Contribution]:
        """Yield the contribution of each event.

        Args:
            metric: The metric.
            start: The first instant that counts, in microseconds since 1970.
            end: The first instant that no longer counts, in the same unit.
            after: The order of receipt after which events count. If None, all do.
        """
        if start >= end:
            return iter(())
        cost = metric.cost
        deleted = deleted_before(self._connection, cost.namespace, cost.event_type)
        if deleted is not None and start < deleted[0] and (after or 0) < deleted[1]:
            raise events_deleted(deleted[0])
        # The few newest events are found by their order of receipt. The index by time
        # would find all of the period.
        source = "events" if after is None else "events NOT INDEXED"
        rows = self._connection.execute(
            f"SELECT {READING_COLUMNS} FROM {source}"  # noqa: S608 - constants
            " WHERE namespace = :namespace AND type = :type"
            " AND at >= :start AND at < :end AND seq > :after",
            {
                "namespace": metric.cost.namespace,
                "type": metric.cost.event_type,
                "start": start,
                "end": end,
                "after": after or 0,
            },
        )
        return contributions_from_rows(metric, rows)

    def _count(self, where: str, parameters: Mapping[str, str | None]) -> int:
        (count,) = self._connection.execute(
            f"SELECT count(*){where}", parameters
        ).fetchone()
        return int(count)


def _product_of(row: Sequence[Any]) -> Product:
    product_id, namespace, name, description, metadata, created_at, updated_at = row
    return Product(
        product_id,
        namespace,
        name,
        description,
        _decode_json(metadata),
        created_at,
        updated_at,
    )
