"""Reading from SQLite: rows to records, and contributions from rollups and events."""

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
    ApiKey,
    CostMetric,
    Product,
)
from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from outlay.server._storage.store import Page

EVENT_COLUMNS: Final = (
    "id, namespace, key, type, source, subject, external_subject, external_id, at, data"
)
_CUSTOMER: Final = "coalesce(subject, external_subject, '')"  # as Event.customer
READING_COLUMNS: Final = f"seq, at, {_CUSTOMER}, data"
"""What a meter needs of an event."""

COST_COLUMNS: Final = (
    "id, namespace, name, unit_cost, currency, product_id, event_type, aggregation,"
    " value_property, group_by, unit, created_at, updated_at"
)
_PRODUCT_COLUMNS: Final = (
    "id, namespace, name, description, metadata, created_at, updated_at"
)

_decode_json: Final = msgspec.json.decode
_decode_texts: Final = msgspec.json.Decoder(tuple[str, ...]).decode


def contributions_from_rows(
    meter: CompiledMetric, rows: Iterable[Sequence[Any]]
) -> Iterator[Contribution]:
    """Yield what each event of some rows of `READING_COLUMNS` adds to a cost."""
    for seq, at, customer, data in rows:
        yield meter.contribution(seq, at, customer, decode_data(data))


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
    )


class SqliteReader:
    """One reading connection. Thread safety: one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See the database as it was at the first read, until the block is left."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def cost(self, namespace: str, cost_id: str) -> CostMetric | None:
        """Return a cost that is not deleted."""
        row = self._connection.execute(
            f"SELECT {COST_COLUMNS} FROM costs"  # noqa: S608 - a constant
            " WHERE id = ? AND namespace = ? AND deleted_at IS NULL",
            (cost_id, namespace),
        ).fetchone()
        return None if row is None else cost_of(row)

    def costs(
        self, namespace: str, product_id: str | None, page: Page
    ) -> tuple[list[CostMetric], int]:
        """Return a page of costs, oldest first, and how many there are in all."""
        where = (
            " FROM costs WHERE namespace = :namespace AND deleted_at IS NULL"
            " AND (:product_id IS NULL OR product_id = :product_id)"
        )
        wanted = {"namespace": namespace, "product_id": product_id}
        rows = self._connection.execute(
            f"SELECT {COST_COLUMNS}{where} ORDER BY number LIMIT :limit OFFSET :offset",
            {**wanted, **page._asdict()},
        )
        return [cost_of(row) for row in rows], self._count(where, wanted)

    def product(self, namespace: str, product_id: str) -> Product | None:
        """Return a product."""
        row = self._connection.execute(
            f"SELECT {_PRODUCT_COLUMNS} FROM products"  # noqa: S608 - a constant
            " WHERE namespace = ? AND id = ?",
            (namespace, product_id),
        ).fetchone()
        return None if row is None else _product_of(row)

    def products(self, namespace: str, page: Page) -> tuple[list[Product], int]:
        """Return a page of products, oldest first, and how many there are in all."""
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
        row = self._connection.execute(
            "SELECT name, namespace, permissions, created_at FROM api_keys"
            " WHERE digest = ?",
            (digest,),
        ).fetchone()
        if row is None:
            return None
        name, namespace, permissions, created_at = row
        return ApiKey(
            digest, name, namespace, frozenset(_decode_texts(permissions)), created_at
        )

    def namespaces(self) -> set[str]:
        """Return the organizations that have a key."""
        rows = self._connection.execute("SELECT DISTINCT namespace FROM api_keys")
        return {namespace for (namespace,) in rows}

    def contributions(
        self,
        meter: CompiledMetric,
        start: int,
        end: int,
        *,
        hourly: bool,
        customer: str | None = None,
    ) -> Iterator[Contribution]:
        """Yield what a cost's events in ``start <= at < end`` add to it, unordered.

        Whole hours come from rollups; the ragged edges, and what the rollups do not
        hold yet, come from the events.
        """
        first_hour = -(-start // MICROSECONDS_PER_HOUR)
        last_hour = end // MICROSECONDS_PER_HOUR
        if not (hourly and meter.can_roll_up and first_hour < last_hour):
            yield from self._from_events(meter, start, end, 0, customer)
            return
        number, folded = self._connection.execute(
            "SELECT number, folded_seq FROM costs WHERE id = ?", (meter.cost.id,)
        ).fetchone()
        whole_start = first_hour * MICROSECONDS_PER_HOUR
        whole_end = last_hour * MICROSECONDS_PER_HOUR
        yield from self._from_events(meter, start, whole_start, 0, customer)
        yield from self._from_rollups(number, first_hour, last_hour, customer)
        if folded is not None:
            yield from self._from_events(
                meter, whole_start, whole_end, folded, customer
            )
        yield from self._from_events(meter, whole_end, end, 0, customer)

    def time_range(self, meter: CompiledMetric) -> tuple[int, int] | None:
        """Return when the first and the last event happened that a cost reads."""
        where = "FROM events WHERE namespace = :namespace AND type = :type"
        # Two queries, because SQLite looks only a single min or max up in the index.
        first, last = self._connection.execute(
            f"SELECT (SELECT min(at) {where}), (SELECT max(at) {where})",
            {"namespace": meter.cost.namespace, "type": meter.cost.event_type},
        ).fetchone()
        return None if first is None else (first, last)

    def _from_rollups(
        self, number: int, first_hour: int, last_hour: int, customer: str | None
    ) -> Iterator[Contribution]:
        rows = self._connection.execute(
            "SELECT hour, customer, dimensions, events, skipped, value, value_at,"
            " value_seq FROM rollups"
            " WHERE cost = :cost AND hour >= :first AND hour < :last"
            " AND (:customer IS NULL OR customer = :customer)",
            {
                "cost": number,
                "first": first_hour,
                "last": last_hour,
                "customer": customer,
            },
        )
        for hour, who, dimensions, events, skipped, value, value_at, value_seq in rows:
            yield Contribution(
                hour * MICROSECONDS_PER_HOUR,
                who,
                _decode_texts(dimensions),
                events,
                skipped,
                None if value is None else Decimal(value),
                (value_at, value_seq),
            )

    def _from_events(
        self,
        meter: CompiledMetric,
        start: int,
        end: int,
        after_seq: int,
        customer: str | None,
    ) -> Iterator[Contribution]:
        cost = meter.cost
        rows = self._connection.execute(
            f"SELECT {READING_COLUMNS} FROM events"  # noqa: S608 - a constant
            " WHERE namespace = :namespace AND type = :type"
            " AND at >= :start AND at < :end AND seq > :after_seq"
            f" AND (:customer IS NULL OR {_CUSTOMER} = :customer)",
            {
                "namespace": cost.namespace,
                "type": cost.event_type,
                "start": start,
                "end": end,
                "after_seq": after_seq,
                "customer": customer,
            },
        )
        return contributions_from_rows(meter, rows)

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
