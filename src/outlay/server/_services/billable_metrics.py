"""Create, list and change billable metrics: what is used, without what it costs."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay.server._records import ApiKey, BillableFields, CostMetric
from outlay.server._services.costs import DEFAULT_PRODUCT, CostService, check_room
from outlay.server._storage.page import ALL, Page
from outlay.server._wire.billable_models import (
    BillableMetricList,
    BillableMetricResponse,
)
from outlay.server._wire.problems import FieldError, invalid_fields, not_found
from outlay.server._wire.request_models import check_value_property
from outlay.server._wire.response_models import Pagination, format_instant

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.server._services.auth import Authenticator
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Reader, Store
    from outlay.server._wire.billable_models import (
        BillableMetricCreate,
        BillableMetricListQuery,
        BillableMetricPatch,
    )

_ID_BYTES: Final = 12
_OF_BILLABLE: Final = ("description", "item_id", "event_from")


class BillableMetricService:
    """Creates, lists and changes billable metrics.

    Thread safety: the event loop's thread.
    """

    def __init__(
        self,
        store: Store,
        commits: CommitThread,
        auth: Authenticator,
        costs: CostService,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._commits = commits
        self._auth = auth
        self._costs = costs
        self._now = now

    async def create(
        self, key: ApiKey, body: BillableMetricCreate
    ) -> BillableMetricResponse:
        """Store a new billable metric. Earlier events count as well."""
        self._auth.check_namespace(key, "merchantId", body.merchant_id)
        product_id = body.product_id or DEFAULT_PRODUCT
        await self._costs.ensure_product(key, product_id)
        now = self._now()
        metric = CostMetric(
            "bm_" + secrets.token_hex(_ID_BYTES),
            key.namespace,
            body.name,
            Decimal(1),
            "",
            product_id,
            body.event_type,
            body.aggregation,
            body.value_property,
            body.group_by or {},
            body.unit,
            now,
            now,
            BillableFields(body.description, body.item_id, body.event_from),
        )
        await self._commits.run(lambda: self._store.add_cost(metric, check_room))
        return _response(metric)

    async def change(
        self, key: ApiKey, metric_id: str, patch: BillableMetricPatch
    ) -> BillableMetricResponse:
        """Change a billable metric. The change counts for earlier events, too."""

        def changed(old: CostMetric) -> CostMetric:
            return _changed(old, patch.changes(), self._now())

        metric = await self._commits.run(
            lambda: self._store.change_cost(
                key.namespace, metric_id, changed, check_room
            )
        )
        if metric is None:
            raise _missing(metric_id)
        return _response(metric)

    def get(self, key: ApiKey, metric_id: str) -> BillableMetricResponse:
        """Return a billable metric."""
        with self._store.reading() as reader:
            return _response(get_billable_metric(reader, key, metric_id))

    def list(self, key: ApiKey, query: BillableMetricListQuery) -> BillableMetricList:
        """Return a page of the organization's billable metrics."""
        self._auth.check_namespace(key, "merchantId", query.merchant_id)
        page = Page(query.limit, query.offset)
        with self._store.reading() as reader:
            if query.item_id is None:
                metrics, total = reader.billable_metrics(
                    key.namespace, query.product_id, page
                )
            else:
                every, _ = reader.billable_metrics(key.namespace, query.product_id, ALL)
                found = [one for one in every if _item_id(one) == query.item_id]
                metrics = found[page.offset : page.offset + page.limit]
                total = len(found)
        return BillableMetricList(
            [_response(metric) for metric in metrics],
            Pagination(query.limit, query.offset, total),
        )


def get_billable_metric(reader: Reader, key: ApiKey, metric_id: str) -> CostMetric:
    """Return a billable metric of the key's organization.

    Raises:
        HttpProblem: 404, because it does not exist.
    """
    metric = reader.billable_metric(key.namespace, metric_id)
    if metric is None:
        raise _missing(metric_id)
    return metric


def _missing(metric_id: str) -> Exception:
    return not_found("billable metric", metric_id)


def _changed(old: CostMetric, changes: dict[str, Any], now: int) -> CostMetric:
    if old.billable is None:
        raise _missing(old.id)
    billable = {name: changes.pop(name) for name in _OF_BILLABLE if name in changes}
    new = msgspec.structs.replace(
        old,
        **changes,
        updated_at=now,
        billable=msgspec.structs.replace(old.billable, **billable),
    )
    try:
        check_value_property(new.aggregation, new.value_property)
    except ValueError as error:
        raise invalid_fields([FieldError("valueProperty", str(error))]) from None
    return new


def _item_id(metric: CostMetric) -> str | None:
    return metric.billable.item_id if metric.billable else None


def _response(metric: CostMetric) -> BillableMetricResponse:
    billable = metric.billable or BillableFields("")
    return BillableMetricResponse(
        metric.id,
        metric.name,
        billable.description,
        metric.unit or "",
        metric.namespace,
        str(metric.aggregation),
        metric.product_id,
        billable.item_id,
        format_instant(metric.created_at),
        format_instant(metric.updated_at),
        metric.event_type,
        metric.value_property,
        dict(metric.group_by) or None,
        None if billable.event_from is None else format_instant(billable.event_from),
    )
