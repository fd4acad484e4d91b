"""Costs and products: creating, listing, changing, deleting them."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from outlay.server._metering.decimals import format_plain
from outlay.server._records import ApiKey, CostMetric, Product
from outlay.server._storage.store import Page, Reader, Store
from outlay.server._wire.problems import FieldError, invalid_fields, not_found
from outlay.server._wire.request_models import (
    CostCreate,
    CostListQuery,
    CostMetricCreate,
    CostPatch,
    ListQuery,
    ProductCreate,
    check_value_property,
)
from outlay.server._wire.response_models import (
    CostList,
    CostResponse,
    Pagination,
    ProductList,
    ProductResponse,
    format_instant,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.server._services.auth import Authenticator
    from outlay.server._settings import ServerSettings
    from outlay.server._storage.commit_thread import CommitThread

DEFAULT_PRODUCT: Final = "prod_default"
"""The product of a cost metric that names none, as the older spelling cannot."""

_ID_BYTES: Final = 12


class CostService:
    """Looks after costs and products. Thread safety: the event loop's thread."""

    def __init__(
        self,
        store: Store,
        writer: CommitThread,
        access: Authenticator,
        settings: ServerSettings,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._writer = writer
        self._access = access
        self._settings = settings
        self._now = now

    async def create(self, key: ApiKey, wanted: CostCreate) -> CostResponse:
        """Keep a new cost; events that came earlier count as well."""
        self._access.check_namespace(key, "merchantId", wanted.merchant_id)
        await self._ensure_product(key, wanted.product_id)
        now = self._now()
        cost = CostMetric(
            "cst_" + secrets.token_hex(_ID_BYTES),
            key.namespace,
            wanted.name,
            wanted.unit_cost,
            wanted.currency,
            wanted.product_id,
            wanted.event_type,
            wanted.aggregation,
            wanted.value_property,
            wanted.group_by or {},
            wanted.unit,
            now,
            now,
        )
        await self._writer.run(lambda: self._store.add_cost(cost))
        return cost_response(cost)

    async def create_metric(
        self, key: ApiKey, wanted: CostMetricCreate
    ) -> CostResponse:
        """Keep a new cost that was given in the older spelling."""
        return await self.create(
            key,
            CostCreate(
                name=wanted.name,
                unit_cost=Decimal(1),
                currency=wanted.currency or self._settings.default_currency,
                product_id=DEFAULT_PRODUCT,
                event_type=wanted.event_type,
                aggregation=wanted.aggregation,
                value_property=wanted.value_property,
                group_by=wanted.group_by,
            ),
        )

    def get(self, key: ApiKey, cost_id: str) -> CostResponse:
        """Return a cost."""
        with self._store.reading() as reader:
            return cost_response(get_cost(reader, key, cost_id))

    def list(self, key: ApiKey, query: CostListQuery) -> CostList:
        """Return a page of the organization's costs."""
        self._access.check_namespace(key, "merchantId", query.merchant_id)
        with self._store.reading() as reader:
            costs, total = reader.costs(
                key.namespace, query.product_id, Page(query.limit, query.offset)
            )
        return CostList(
            [cost_response(cost) for cost in costs],
            Pagination(query.limit, query.offset, total),
        )

    async def change(self, key: ApiKey, cost_id: str, patch: CostPatch) -> CostResponse:
        """Change a cost; a new price holds for earlier events as well."""

        def replace() -> CostMetric:
            # In the writer's thread: nobody else changes the cost in between.
            with self._store.reading() as reader:
                old = get_cost(reader, key, cost_id)
            new = msgspec.structs.replace(
                old, **patch.changes(), updated_at=self._now()
            )
            try:
                check_value_property(new.aggregation, new.value_property)
            except ValueError as error:
                raise invalid_fields(
                    [FieldError("valueProperty", str(error))]
                ) from None
            self._store.replace_cost(new)
            return new

        return cost_response(await self._writer.run(replace))

    async def delete(self, key: ApiKey, cost_id: str) -> None:
        """Hide a cost; its events stay."""

        def hide() -> None:
            with self._store.reading() as reader:
                cost = get_cost(reader, key, cost_id)
            self._store.delete_cost(cost, self._now())

        await self._writer.run(hide)

    async def create_product(
        self, key: ApiKey, wanted: ProductCreate
    ) -> ProductResponse:
        """Keep a new product."""
        self._access.check_namespace(key, "merchantId", wanted.merchant_id)
        product_id = "prod_" + secrets.token_hex(_ID_BYTES)
        product = self._product(key, product_id, wanted)
        await self._writer.run(lambda: self._store.add_product(product))
        return _product_answer(product)

    def get_product(self, key: ApiKey, product_id: str) -> ProductResponse:
        """Return a product."""
        with self._store.reading() as reader:
            product = reader.product(key.namespace, product_id)
        if product is None:
            raise not_found("product", product_id)
        return _product_answer(product)

    def list_products(self, key: ApiKey, query: ListQuery) -> ProductList:
        """Return a page of the organization's products."""
        self._access.check_namespace(key, "merchantId", query.merchant_id)
        with self._store.reading() as reader:
            products, total = reader.products(
                key.namespace, Page(query.limit, query.offset)
            )
        return ProductList(
            [_product_answer(product) for product in products],
            Pagination(query.limit, query.offset, total),
        )

    async def _ensure_product(self, key: ApiKey, product_id: str) -> None:
        with self._store.reading() as reader:
            if reader.product(key.namespace, product_id) is not None:
                return
        if self._settings.strict_products and product_id != DEFAULT_PRODUCT:
            raise not_found("product", product_id)
        wanted = ProductCreate(name=product_id, description="Registered by a cost.")
        product = self._product(key, product_id, wanted)
        await self._writer.run(lambda: self._store.add_product(product))

    def _product(self, key: ApiKey, product_id: str, wanted: ProductCreate) -> Product:
        now = self._now()
        return Product(
            product_id,
            key.namespace,
            wanted.name,
            wanted.description,
            wanted.metadata,
            now,
            now,
        )


def get_cost(reader: Reader, key: ApiKey, cost_id: str) -> CostMetric:
    """Return a cost of the key's organization.

    Raises:
        Problem: 404.
    """
    cost = reader.cost(key.namespace, cost_id)
    if cost is None:
        raise not_found("cost", cost_id)
    return cost


def cost_response(cost: CostMetric) -> CostResponse:
    """Return a cost as it is written on the wire."""
    return CostResponse(
        cost.id,
        "metered",
        cost.name,
        cost.currency,
        format_plain(cost.unit_cost),
        cost.product_id,
        cost.namespace,
        format_instant(cost.created_at),
        format_instant(cost.updated_at),
        cost.unit,
        cost.aggregation,
        cost.event_type,
        cost.value_property,
        cost.group_by or None,
    )


def _product_answer(product: Product) -> ProductResponse:
    return ProductResponse(
        product.id,
        product.name,
        product.description,
        product.namespace,
        product.metadata,
        format_instant(product.created_at),
        format_instant(product.updated_at),
    )
