"""Read and write costs, products and keys: the records beside the events."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from outlay.server._metering.decimals import format_plain
from outlay.server._records import (
    Aggregation,
    BillableFields,
    CostMetric,
    Erasure,
    Product,
)
from outlay.server._storage.sql import ended_tokens, keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._records import ApiKey
    from outlay.server._storage.page import Page
    from outlay.server._storage.sql.connection import Connection

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


def metrics_of_type(
    connection: Connection, namespace: str, event_type: str | None
) -> list[CostMetric]:
    """Return the costs and billable metrics of this type of event, oldest first."""
    rows = connection.execute(
        f"SELECT {COST_COLUMNS} FROM costs"  # noqa: S608 - a constant
        " WHERE namespace = ? AND event_type = ? AND deleted_at IS NULL"
        " ORDER BY number",
        (namespace, event_type),
    )
    return [cost_of(row) for row in rows]


class SqlCatalogReader:
    """Reads from one view."""

    _connection: Connection
    _product_order: ClassVar[str]
    """The column that orders products by their creation."""

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

    def erasures(self, namespace: str) -> list[Erasure]:
        """Return the running erasures of an organization, oldest first."""
        rows = self._connection.execute(
            "SELECT pseudonym, started_at FROM erasures WHERE namespace = ?"
            " ORDER BY number",
            (namespace,),
        )
        return [Erasure(*row) for row in rows]

    def costs_of_type(self, namespace: str, event_type: str) -> list[CostMetric]:
        """Return the costs that read events of this type, oldest first."""
        metrics = metrics_of_type(self._connection, namespace, event_type)
        return [metric for metric in metrics if metric.billable is None]

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
            f" ORDER BY {self._product_order} LIMIT :limit OFFSET :offset",
            {**wanted, **page._asdict()},
        )
        return [_product_of(row) for row in rows], self._count(where, wanted)

    def key(self, digest: bytes) -> ApiKey | None:
        """Return the API key with this SHA-256."""
        return keys.key_with_digest(self._connection, digest)

    def key_with_id(self, namespace: str, key_id: str) -> ApiKey | None:
        """Return the API key of an organization with this id."""
        return keys.key_with_id(self._connection, namespace, key_id)

    def keys(self, namespace: str, page: Page) -> tuple[list[ApiKey], int]:
        """Return a page of an organization's keys, newest first, and their number."""
        return keys.page_of_keys(self._connection, namespace, page)

    def ended_tokens(self) -> frozenset[bytes]:
        """Return the digests of tokens that are not valid any more."""
        return ended_tokens.all_tokens(self._connection)

    def namespaces(self) -> set[str]:
        """Return the organizations that have a key."""
        rows = self._connection.execute("SELECT DISTINCT namespace FROM api_keys")
        return {namespace for (namespace,) in rows}

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


def insert_product(connection: Connection, product: Product) -> None:
    """Store a product, unless its id exists."""
    connection.execute(
        f"INSERT INTO products ({_PRODUCT_COLUMNS}) VALUES (?,?,?,?,?,?,?)"  # noqa: S608 - a constant
        " ON CONFLICT DO NOTHING",
        (
            product.id,
            product.namespace,
            product.name,
            product.description,
            msgspec.json.encode(product.metadata).decode(),
            product.created_at,
            product.updated_at,
        ),
    )
