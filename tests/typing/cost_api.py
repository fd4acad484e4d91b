"""What type checkers see of `outlay.api`: checked by mypy, never run."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_type

from outlay.api import Api, AsyncApi, CostMetric, Report, StoredEvent, Summary

NOW = datetime.now(UTC)


def synchronous(api: Api) -> None:
    """Use each kind of method."""
    metric, created = api.ensure_metric("ai", "cost.ai", group_by=["model"], unit=None)
    assert_type(metric, CostMetric)
    assert_type(created, bool)
    assert_type(metric.unit_cost, Decimal)
    assert_type(api.metrics(), list[CostMetric])
    assert_type(api.update_metric(metric, unit_cost="0.1", unit=None), CostMetric)
    summary = api.summary(metric, NOW, NOW, by=["customer"], window="DAY")
    assert_type(summary, Summary)
    assert_type(summary.total, Decimal | None)
    assert_type(api.report(NOW, NOW, by="customer", window="MONTH", limit=5), Report)
    for event in api.events(metric=metric, start=NOW):
        assert_type(event, StoredEvent)
        assert_type(event.data, dict[str, Any])


async def asynchronous(api: AsyncApi) -> None:
    """Use the same, awaited."""
    metric, _ = await api.ensure_metric("ai", "cost.ai")
    assert_type(metric, CostMetric)
    assert_type(await api.summary("cst_1", NOW, NOW), Summary)
    async for event in api.events(customer_id="c"):
        assert_type(event.customer_id, str)
