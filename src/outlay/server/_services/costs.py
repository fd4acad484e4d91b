"""Create, list, change and delete costs and products."""

from __future__ import annotations

import secrets
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec

from outlay.server._metering.decimals import format_plain
from outlay.server._records import ApiKey, CostMetric, Product
from outlay.server._services.default_metrics import is_untouched_default
from outlay.server._storage.page import Page
from outlay.server._wire.problems import (
    FieldError,
    HttpProblem,
    invalid_fields,
    not_found,
)
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
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from outlay.server._services.auth import Authenticator
    from outlay.server._settings import ServerSettings
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Reader, Store

DEFAULT_PRODUCT: Final = "prod_default"
"""The product of a cost metric in the older form, which cannot name one."""

MAX_METRICS_OF_TYPE: Final = 50
"""The most metrics that count events of one type. Each makes posts slower."""

_ID_BYTES: Final = 12


class CostService:
    """Creates, lists, changes and deletes costs and products.

    Thread safety: the event loop's thread.

    Args:
        store: The store.
        commits: The thread that writes.
        auth: The authenticator, which knows the organizations.
        settings: The server's settings.
        now: The source of the time, in microseconds since 1970.
        on_change: A function that is called with the organization of each change.
    """

    def __init__(
        self,
        store: Store,
        commits: CommitThread,
        auth: Authenticator,
        settings: ServerSettings,
        now: Callable[[], int],
        *,
        on_change: Callable[[str], None],
    ) -> None:
        self._store = store
        self._commits = commits
        self._auth = auth
        self._settings = settings
        self._now = now
        self._on_change = on_change

    async def create(self, key: ApiKey, body: CostCreate) -> CostResponse:
        """Store a new cost. Earlier events count as well."""
        self._auth.check_namespace(key, "merchantId", body.merchant_id)
        await self.ensure_product(key, body.product_id)
        now = self._now()
        cost = CostMetric(
            "cst_" + secrets.token_hex(_ID_BYTES),
            key.namespace,
            body.name,
            body.unit_cost,
            body.currency,
            body.product_id,
            body.event_type,
            body.aggregation,
            body.value_property,
            body.group_by or {},
            body.unit,
            now,
            now,
        )
        await self._commits.run(lambda: self._store.add_cost(cost, _replaced_defaults))
        return cost_response(cost)

    def overlapping(self, cost: CostResponse) -> list[str]:
        """Return the names and ids of other metrics that count the same events."""
        if cost.event_type is None:
            return []
        with self._store.reading() as reader:
            others = reader.costs_of_type(cost.merchant_id, cost.event_type)
        return [f"{other.name} ({other.id})" for other in others if other.id != cost.id]

    async def create_metric(self, key: ApiKey, body: CostMetricCreate) -> CostResponse:
        """Store a new cost that was sent in the older form."""
        return await self.create(
            key,
            CostCreate(
                type="metered",
                name=body.name,
                unit_cost=Decimal(1),
                currency=body.currency or self._settings.default_currency,
                product_id=DEFAULT_PRODUCT,
                event_type=body.event_type,
                aggregation=body.aggregation,
                value_property=body.value_property,
                group_by=body.group_by,
            ),
        )

    def get(self, key: ApiKey, cost_id: str) -> CostResponse:
        """Return a cost."""
        with self._store.reading() as reader:
            return cost_response(get_cost(reader, key, cost_id))

    def list(self, key: ApiKey, query: CostListQuery) -> CostList:
        """Return a page of the organization's costs."""
        self._auth.check_namespace(key, "merchantId", query.merchant_id)
        with self._store.reading() as reader:
            costs, total = reader.costs(
                key.namespace, query.product_id, Page(query.limit, query.offset)
            )
        return CostList(
            [cost_response(cost) for cost in costs],
            Pagination(query.limit, query.offset, total),
        )

    async def change(self, key: ApiKey, cost_id: str, patch: CostPatch) -> CostResponse:
        """Change a cost. A new price applies to earlier events as well."""

        def changed(old: CostMetric) -> CostMetric:
            if old.billable is not None:
                raise not_found("cost", cost_id)
            new = msgspec.structs.replace(
                old, **patch.changes(), updated_at=self._now()
            )
            try:
                check_value_property(new.aggregation, new.value_property)
            except ValueError as error:
                raise invalid_fields(
                    [FieldError("valueProperty", str(error))]
                ) from None
            return new

        cost = await self._commits.run(
            lambda: self._store.change_cost(
                key.namespace, cost_id, changed, _replaced_defaults
            )
        )
        if cost is None:
            raise not_found("cost", cost_id)
        self._on_change(key.namespace)
        return cost_response(cost)

    async def delete(self, key: ApiKey, cost_id: str) -> None:
        """Delete a cost. Its events stay."""
        deleted = await self._commits.run(
            lambda: self._store.delete_cost(key.namespace, cost_id, self._now())
        )
        if not deleted:
            raise not_found("cost", cost_id)
        self._on_change(key.namespace)

    async def create_product(self, key: ApiKey, body: ProductCreate) -> ProductResponse:
        """Store a new product."""
        self._auth.check_namespace(key, "merchantId", body.merchant_id)
        product_id = "prod_" + secrets.token_hex(_ID_BYTES)
        product = self._product(
            key, product_id, body.name, body.description, body.metadata
        )
        await self._commits.run(lambda: self._store.add_product(product))
        return _product_response(product)

    def get_product(self, key: ApiKey, product_id: str) -> ProductResponse:
        """Return a product."""
        with self._store.reading() as reader:
            product = reader.product(key.namespace, product_id)
        if product is None:
            raise not_found("product", product_id)
        return _product_response(product)

    def list_products(self, key: ApiKey, query: ListQuery) -> ProductList:
        """Return a page of the organization's products."""
        self._auth.check_namespace(key, "merchantId", query.merchant_id)
        with self._store.reading() as reader:
            products, total = reader.products(
                key.namespace, Page(query.limit, query.offset)
            )
        return ProductList(
            [_product_response(product) for product in products],
            Pagination(query.limit, query.offset, total),
        )

    async def ensure_product(self, key: ApiKey, product_id: str) -> None:
        """Register a product that does not exist, unless the settings forbid it.

        Raises:
            HttpProblem: 404, because the product does not exist.
        """
        with self._store.reading() as reader:
            if reader.product(key.namespace, product_id) is not None:
                return
        if self._settings.strict_products and product_id != DEFAULT_PRODUCT:
            raise not_found("product", product_id)
        product = self._product(key, product_id, product_id, "Registered by a cost.")
        await self._commits.run(lambda: self._store.add_product(product))

    def _product(
        self,
        key: ApiKey,
        product_id: str,
        name: str,
        description: str,
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> Product:
        now = self._now()
        return Product(
            product_id, key.namespace, name, description, {**metadata}, now, now
        )


def _replaced_defaults(others: Sequence[CostMetric]) -> list[str]:
    """Return the untouched default metrics, which would count the same events.

    Raises:
        HttpProblem: 409, because too many other metrics count these events.
    """
    replaced = [other.id for other in others if is_untouched_default(other)]
    check_room([other for other in others if other.id not in replaced])
    return replaced


def check_room(others: Sequence[CostMetric]) -> Iterable[str]:
    """Replace no other metric.

    Raises:
        HttpProblem: 409, because too many other metrics count these events.
    """
    if len(others) >= MAX_METRICS_OF_TYPE:
        raise HttpProblem(
            409,
            f"{MAX_METRICS_OF_TYPE} metrics count events of type "
            f"{others[0].event_type!r} already; delete or change one of them",
            code="TOO_MANY_METRICS",
        )
    return ()


def get_cost(reader: Reader, key: ApiKey, cost_id: str) -> CostMetric:
    """Return a cost of the key's organization.

    Raises:
        HttpProblem: 404, because the cost does not exist.
    """
    cost = reader.cost(key.namespace, cost_id)
    if cost is None:
        raise not_found("cost", cost_id)
    return cost


def cost_response(cost: CostMetric) -> CostResponse:
    """Return the response body of a cost."""
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


def _product_response(product: Product) -> ProductResponse:
    return ProductResponse(
        product.id,
        product.name,
        product.description,
        product.namespace,
        product.metadata,
        format_instant(product.created_at),
        format_instant(product.updated_at),
    )
