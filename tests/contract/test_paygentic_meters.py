"""The official SDK reads billable metrics, their meters and their raw events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from paygentic_sdk import Paygentic, errors

from tests.contract.reference import EVENT_TYPE, Tenant, serving, tenant_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paygentic_sdk import models

    from outlay.server import BackgroundServer

FROM: Final = datetime(2026, 1, 1, tzinfo=UTC)
TO: Final = datetime(2026, 2, 1, tzinfo=UTC)


class Shop(NamedTuple):
    """An organization, the SDK with its key, and a billable metric of tokens."""

    tenant: Tenant
    sdk: Paygentic
    metric: models.BillableMetric


def create(sdk: Paygentic, merchant_id: str, **overrides: Any) -> Any:  # noqa: ANN401 - the SDK's arguments
    """Create a billable metric through the SDK."""
    fields: dict[str, Any] = {
        "name": "Tokens",
        "description": "Of all models",
        "unit": "token",
        "aggregation": "SUM",
        "event_type": EVENT_TYPE,
        "value_property": "$.tokens",
        "group_by": {"model": "$.model"},
        "merchant_id": merchant_id,
        "product_id": "prod_p1",
        **overrides,
    }
    return sdk.billable_metrics.create(**fields)


def use(shop: Shop, day: int, customer: str, tokens: object, model: str = "m") -> None:
    """Ingest one event."""
    shop.sdk.events.ingest(
        request={
            "type": EVENT_TYPE,
            "source": "tests",
            "subject": customer,
            "timestamp": datetime(2026, 1, day, 12, tzinfo=UTC),
            "data": {"tokens": tokens, "model": model, "currency": "EUR"},
        }
    )


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Return a server for all tests of this module."""
    with serving() as server:
        yield server


@pytest.fixture
def shop(server: BackgroundServer) -> Iterator[Shop]:
    """Return a shop of the test's own."""
    tenant = tenant_of(server)
    with Paygentic(bearer_auth=tenant.api_key, server_url=server.url) as sdk:
        yield Shop(tenant, sdk, create(sdk, tenant.organization))


def test_a_billable_metric_is_created_read_listed_and_changed(shop: Shop) -> None:
    """With an item that may be null, but never absent."""
    sdk, metric = shop.sdk, shop.metric
    item = create(
        sdk, shop.tenant.organization, product_id=None, item_id="itm_1", name="Calls"
    )

    assert metric.id.startswith("bm_")
    assert (metric.unit, metric.item_id, metric.product_id) == (
        "token",
        None,
        "prod_p1",
    )
    assert item.item_id == "itm_1"
    assert sdk.billable_metrics.get(id=metric.id) == metric
    mine = {"merchant_id": shop.tenant.organization}
    for query, ids in (
        (mine, [metric.id, item.id]),
        ({**mine, "limit": 1, "offset": 1}, [item.id]),
        ({**mine, "product_id": "prod_p1"}, [metric.id]),
        ({**mine, "item_id": "itm_1"}, [item.id]),
    ):
        page = sdk.billable_metrics.list(**query)
        assert [one.id for one in page.data] == ids
    changed = sdk.billable_metrics.update(
        id=metric.id,
        name="All tokens",
        group_by=None,
        item_id="itm_2",
    )
    assert (changed.name, changed.item_id) == ("All tokens", "itm_2")
    assert changed.value_property == "$.tokens"
    costs = sdk.costs.list_costs(request={})
    assert costs.data == []


def test_a_type_that_only_a_billable_metric_reads_is_accepted(shop: Shop) -> None:
    """Usage can be metered before anything has a price."""
    use(shop, 1, "cus_1", 10)

    meter = shop.sdk.billable_metrics.meter(id=shop.metric.id, from_=FROM, to=TO)

    assert (meter.billable_metric_id, meter.total_value) == (shop.metric.id, 10)
    assert not meter.windowed_values
    assert not meter.grouped_values


def test_a_meter_is_broken_down_by_window_and_group(shop: Shop) -> None:
    """Both lists have the same order, so that a reader can join them."""
    use(shop, 1, "cus_1", 10, "a")
    use(shop, 1, "cus_2", 5, "b")
    use(shop, 2, "cus_1", 2.5, "b")
    use(shop, 2, "cus_1", "no number", "b")

    meter = shop.sdk.billable_metrics.meter(
        id=shop.metric.id,
        from_=FROM,
        to=TO,
        window_size="DAY",
        group_by="subject,model",
    )

    assert meter.total_value == 17.5
    assert [
        (window.window_start.day, group.group_by, window.value, group.event_count)
        for window, group in zip(
            meter.windowed_values or (), meter.grouped_values or (), strict=True
        )
    ] == [
        (1, {"subject": "cus_1", "model": "a"}, 10, 1),
        (2, {"subject": "cus_1", "model": "b"}, 2.5, 2),
        (1, {"subject": "cus_2", "model": "b"}, 5, 1),
    ]
    assert meter.group_count == 3


@pytest.mark.parametrize(
    ("query", "total", "groups"),
    [
        ({"subject": "cus_1"}, 12, 2),
        ({"filter_group_by": '{"model":"b"}'}, 7, 2),
        ({"group_limit": 1}, 17, 1),
        ({"group_limit": 5, "group_offset": 2}, 17, 1),
    ],
)
def test_a_meter_is_filtered_and_paged(
    shop: Shop, query: dict[str, Any], total: int, groups: int
) -> None:
    """The total is of all groups that pass the filter."""
    use(shop, 1, "cus_1", 10, "a")
    use(shop, 1, "cus_2", 5, "b")
    use(shop, 2, "cus_1", 2, "b")

    meter = shop.sdk.billable_metrics.meter(
        id=shop.metric.id, from_=FROM, to=TO, group_by="subject,model", **query
    )

    assert (meter.total_value, len(meter.grouped_values or ())) == (total, groups)


def test_only_events_from_a_time_on_count(shop: Shop) -> None:
    """A new version of a meter starts at zero."""
    use(shop, 1, "cus_1", 10)
    use(shop, 3, "cus_1", 1)
    ranged: Any = {"id": shop.metric.id, "from_": FROM, "to": TO}

    shop.sdk.billable_metrics.update(
        id=shop.metric.id, event_from=datetime(2026, 1, 2, tzinfo=UTC)
    )

    assert shop.sdk.billable_metrics.meter(**ranged).total_value == 1
    events = shop.sdk.billable_metrics.list_events(**ranged)
    assert [event.data["tokens"] for event in events.events] == [1]


def test_raw_events_come_back_the_newest_first(shop: Shop) -> None:
    """The only way of the contract to read an event back."""
    for day in (1, 2, 3):
        use(shop, day, f"cus_{day % 2}", day)
    shop.sdk.events.ingest(
        request={
            "type": EVENT_TYPE,
            "source": "tests",
            "data": {"tokens": 4},
            "external_subject": "acme",
            "external_id": "ex-1",
            "timestamp": datetime(2026, 1, 4, tzinfo=UTC),
        }
    )
    ranged: Any = {"id": shop.metric.id, "from_": FROM, "to": TO}

    def tokens(**query: Any) -> list[int]:  # noqa: ANN401 - any argument
        listed = shop.sdk.billable_metrics.list_events(**ranged, **query)
        return [event.data["tokens"] for event in listed.events]

    assert tokens() == [4, 3, 2, 1]
    assert tokens(limit=2, offset=1) == [3, 2]
    assert tokens(subject="cus_1") == [3, 1]
    assert tokens(external_subject="acme") == tokens(external_id="ex-1") == [4]
    listed = shop.sdk.billable_metrics.list_events(**ranged, limit=1)
    assert listed.pagination.total == 4
    [newest] = listed.events
    assert (newest.subject, newest.external_subject) == ("", "acme")
    assert newest.idempotency_key


def test_a_billable_metric_is_no_cost(shop: Shop) -> None:
    """Neither can be read, changed or deleted as the other."""
    cost = shop.sdk.costs.create_cost(
        type_="metered",
        name="AI",
        unit_cost=1,
        currency="USD",
        product_id="prod_p1",
        aggregation="COUNT",
        event_type=EVENT_TYPE,
    )

    for refused in (
        lambda: shop.sdk.costs.get_cost(id=shop.metric.id),
        lambda: shop.sdk.costs.update_cost(id=shop.metric.id, name="x"),
        lambda: shop.sdk.costs.delete_cost(id=shop.metric.id),
        lambda: shop.sdk.billable_metrics.get(id=cost.id),
        lambda: shop.sdk.billable_metrics.update(id=cost.id, name="x"),
    ):
        with pytest.raises(errors.Error, match="does not exist"):
            refused()
    assert [one.id for one in shop.sdk.costs.list_costs(request={}).data] == [cost.id]


def test_a_list_needs_the_organization(shop: Shop) -> None:
    """The contract demands it here, and so does the server."""
    with pytest.raises(errors.PaygenticError) as caught:
        shop.sdk.billable_metrics.list(merchant_id="org_nowhere")

    assert caught.value.status_code == 404
