"""`outlay.api` against the reference server: metrics, totals and errors."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from outlay import Client
from outlay._model.money import exact_sum
from outlay.api import Api, AsyncApi
from outlay.errors import (
    AuthenticationError,
    ConfigError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from tests.support import command_line
from tests.support.command_line import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.server import BackgroundServer

NOVEMBER: Final = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER: Final = datetime(2026, 12, 1, tzinfo=UTC)
TINY: Final = "0.000000000000000000000000000000000001"


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """A server of one's own."""
    with command_line.serving() as server:
        yield server


@pytest.fixture
def api(server: BackgroundServer) -> Iterator[Api]:
    """The API of it."""
    with Api(base_url=server.url, api_key=KEY, namespace="org_local") as api:
        yield api


def track(server: BackgroundServer, folder: Path) -> None:
    """Track three costs of two customers in November."""
    with Client(base_url=server.url, api_key=KEY, journal_dir=folder) as client:
        for number, (customer, amount, model) in enumerate(
            [("cus_1", "0.10", "a"), ("cus_1", TINY, "b"), ("cus_2", "12", "a")]
        ):
            client.track_cost(
                "cost.ai",
                amount,
                customer_id=customer,
                operation_id=number,
                timestamp=datetime(2026, 11, 2 + number, tzinfo=UTC),
                data={"model": model},
            )
        assert client.flush(20).complete


def test_a_metric_lives_from_creation_to_deletion(api: Api) -> None:
    """Create, read, list, change, delete: step 1 of tracking costs."""
    price = Decimal("0.00150000000000000000000000000001")
    created = api.create_metric(
        *("pages", "cost.ocr"),
        value_property="$.quantity",
        unit="page",
        unit_cost=price,
        group_by={"provider": "$.provider"},
    )

    assert api.metric(created.id) == created
    assert [each.unit_cost for each in api.metrics()] == [price]
    assert created.created_at is not None
    assert created.created_at.tzinfo is not None

    changed = api.update_metric(created, unit=None, unit_cost=2, group_by=["model"])
    assert (changed.id, changed.name, changed.unit) == (created.id, "pages", None)
    assert (changed.unit_cost, changed.group_by) == (Decimal(2), {"model": "$.model"})

    api.delete_metric(created)
    assert api.metrics() == []
    with pytest.raises(NotFoundError, match=created.id) as caught:
        api.metric(created.id)
    assert caught.value.rule == "COST_NOT_FOUND"


def test_a_metric_is_ensured_once(api: Api) -> None:
    """Each start of a program may ask for it."""
    first = api.ensure_metric("ai", "cost.ai", group_by=["model"])
    again = api.ensure_metric("ai", "cost.ai", group_by=["model"])

    assert (first.created, again.created) == (True, False)
    assert first.metric == again.metric
    with pytest.raises(ConflictError, match="another group_by"):
        api.ensure_metric("ai", "cost.ai")
    assert len(api.metrics()) == 1


def test_totals_are_exact_and_filtered(
    server: BackgroundServer, api: Api, tmp_path: Path
) -> None:
    """Step 4: what each customer cost, to the last of 38 digits."""
    metric = api.create_metric("ai", "cost.ai", group_by=["model"])
    track(server, tmp_path)

    summary = api.summary(
        metric, NOVEMBER, DECEMBER, by=["customer", "model"], window="DAY"
    )
    assert summary.total == Decimal("12.100000000000000000000000000000000001")
    assert (summary.currency, summary.events, summary.excluded) == ("USD", 3, 0)
    assert [(group.dimensions, group.cost) for group in summary.groups] == [
        ({"customer": "cus_1", "model": "a"}, Decimal("0.1")),
        ({"customer": "cus_1", "model": "b"}, Decimal(TINY)),
        ({"customer": "cus_2", "model": "a"}, Decimal(12)),
    ]
    assert [window.window_start for window in summary.time_series] == [
        datetime(2026, 11, day, tzinfo=UTC) for day in (2, 3, 4)
    ]

    only = api.summary(
        metric.id, NOVEMBER, DECEMBER, customer_id="cus_1", where={"model": ["a", "c"]}
    )
    assert only.total == Decimal("0.1")


def test_events_are_found_page_by_page(
    server: BackgroundServer, api: Api, tmp_path: Path
) -> None:
    """From a total to its events, and from an event to its total."""
    metric = api.create_metric("ai", "cost.ai", group_by={"kind": "$.model"})
    track(server, tmp_path)

    newest, *_ = found = [*api.events(metric=metric, where={"kind": "a"})]

    assert [event.customer_id for event in found] == ["cus_2", "cus_1"]
    assert newest.data["amount"] == 12
    assert (newest.provenance, newest.timestamp.tzinfo) == ("manual", UTC)
    [by_key] = api.events(idempotency_key=newest.idempotency_key)
    assert by_key == newest
    detail = api.event(newest.id)
    assert detail.event == newest
    assert detail.receipt.received_at < detail.receipt.key_ends_at
    assert [(use.cost_id, use.cost) for use in detail.counts] == [
        (metric.id, Decimal(12))
    ]
    some = api.events(
        event_types=["cost.ai"],
        provenance=["manual", "priced"],
        start=NOVEMBER,
        end=DECEMBER,
    )
    assert len([*some]) == 3
    with pytest.raises(NotFoundError, match="event evt_0"):
        api.event("evt_0")


def test_a_report_ranks_customers(
    server: BackgroundServer, api: Api, tmp_path: Path
) -> None:
    """The dearest customer first, a page at a time."""
    metric = api.create_metric("ai", "cost.ai", group_by=["model"])
    track(server, tmp_path)

    report = api.report(
        *(NOVEMBER, DECEMBER),
        by="customer",
        metrics=[metric],
        window="MONTH",
        prior_period=True,
        limit=1,
    )

    first, rest = report.groups
    assert (first.key, first.total) == ("cus_2", Decimal(12))
    assert (rest.is_other, report.pagination.total) == (True, 2)
    assert first.prior_period is not None
    assert first.prior_period.cost == 0
    [point] = report.time_series
    assert exact_sum(point.groups.values()) == report.total
    assert report.available_dimensions == ("model",)


def test_profitability_compares_revenue_and_cost(
    server: BackgroundServer, api: Api, tmp_path: Path
) -> None:
    """The margin of each customer, and none is left out."""
    api.create_metric("ai", "cost.ai")
    track(server, tmp_path)
    line = {
        "key": "inv-1",
        "customerId": "cus_1",
        "amount": "49",
        "currency": "USD",
        "period": "2026-11",
    }
    answer = httpx.put(
        f"{server.url}/v0/revenue",
        json={"source": "billing", "lines": [line]},
        headers={"authorization": f"Bearer {KEY}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text

    result = api.profitability(NOVEMBER, DECEMBER, bucket_width="week")

    first, second = result.rows
    assert (first.customer_id, first.revenue) == ("cus_1", Decimal(49))
    assert first.cost == Decimal(f"0.1{TINY[3:]}")
    assert exact_sum([first.profit, first.cost]) == first.revenue
    assert first.trend is not None
    assert (second.customer_id, second.profit) == ("cus_2", Decimal(-12))
    assert (second.margin_percent, second.is_other) == (None, False)
    [only, others] = api.profitability(NOVEMBER, DECEMBER, top=1).rows
    assert (only.customer_id, others.is_other) == ("cus_1", True)


def test_products_can_be_created_for_metrics(api: Api) -> None:
    """The live service has no default product."""
    product = api.create_product("Product", description="d")
    metric = api.create_metric("ai", "cost.ai", product_id=product.id)

    assert metric.product_id == product.id
    assert product in api.products()


def test_a_product_without_an_organization_is_refused(
    server: BackgroundServer,
) -> None:
    """The contract requires it, and says no way to ask for it."""
    with (
        Api(base_url=server.url, api_key=KEY) as api,
        pytest.raises(ConfigError, match="OUTLAY_NAMESPACE"),
    ):
        api.create_product("Product")


def test_a_wrong_key_and_a_wrong_field_are_told_apart(
    server: BackgroundServer, api: Api
) -> None:
    """A program can react to each."""
    with (
        Api(base_url=server.url, api_key="sk_wrong") as other,
        pytest.raises(AuthenticationError, match="OUTLAY_API_KEY"),
    ):
        other.metrics()
    with pytest.raises(InvalidRequestError) as caught:
        api.create_metric("ai", "cost.ai", unit_cost=-1, currency="dollars")

    assert set(caught.value.fields) == {"unitCost", "currency"}


def test_asyncio_does_the_same(server: BackgroundServer, tmp_path: Path) -> None:
    """Only the waiting differs."""

    async def main() -> Decimal | None:
        async with AsyncApi(
            base_url=server.url, api_key=KEY, namespace="org_local"
        ) as api:
            metric, _ = await api.ensure_metric("ai", "cost.ai")
            assert not (await api.ensure_metric("ai", "cost.ai")).created
            await asyncio.to_thread(track, server, tmp_path)
            await api.update_metric(metric, unit_cost=2)
            assert await api.metric(metric.id) in await api.metrics()
            product = await api.create_product("Product")
            assert product in await api.products()
            report = await api.report(NOVEMBER, DECEMBER)
            summary = await api.summary(metric, NOVEMBER, DECEMBER)
            found = [event async for event in api.events(customer_id="cus_2")]
            assert (await api.event(found[0].id)).event == found[0]
            assert report.total == summary.total
            await api.delete_metric(metric)
            return summary.total

    assert asyncio.run(main()) == Decimal("24.200000000000000000000000000000000002")
