"""Cost reports through the unmodified Python SDK of Paygentic, and on the wire.

The SDK reads numbers as floats and lets much pass, so each report is held to a schema
of the contract as well, as strict as the strictest official client.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from jsonschema import Draft202012Validator
from paygentic_sdk import Paygentic, errors

from tests.contract.reference import (
    EVENT_TYPE,
    JANUARY,
    Tenant,
    calling,
    create_cost,
    serving,
    tenant_of,
)
from tests.contract.report_schema import REPORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from paygentic_sdk import models

    from outlay.server import BackgroundServer

FROM: Final = datetime(2026, 1, 1, tzinfo=UTC)
TO: Final = datetime(2026, 2, 1, tzinfo=UTC)

# What the SDK fills in where the caller says nothing.
DEFAULTS: Final = {
    "topN": "9",
    "comparePriorPeriod": "false",
    "excludeEmpty": "false",
    "sort": "totalCost",
    "sortDir": "desc",
    "offset": "0",
    "limit": "25",
}


@dataclass
class Shop:
    """An organization with two costs and some spending, and the SDK.

    Attributes:
        tenant: the organization.
        sdk: set up as its README says.
        inference: id of a cost with the dimension ``provider``.
        pages: id of a cost without any.
    """

    tenant: Tenant
    sdk: Paygentic
    inference: str
    pages: str

    def report(self, **query: Any) -> models.CostReportResponse:  # noqa: ANN401
        """Return a report on January by customer, as the SDK parses it."""
        return self.sdk.costs.get_cost_report(**arguments(**query))


def arguments(**query: Any) -> dict[str, Any]:  # noqa: ANN401 - any argument
    """Return the SDK's arguments for January by customer."""
    return {"from_": FROM, "to": TO, "group_by": "customer", **query}


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Return a server for all tests of this module."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def shop(server: BackgroundServer) -> Iterator[Shop]:
    """Return a shop for all tests of this module, which only ask."""
    tenant = tenant_of(server)
    with (
        calling(tenant) as http,
        Paygentic(bearer_auth=tenant.api_key, server_url=server.url) as sdk,
    ):
        inference = create_cost(http, unit="usd")
        pages = create_cost(http, name="OCR", eventType="cost.ocr", groupBy=None)
        shop = Shop(tenant, sdk, inference, pages)
        spend(shop)
        yield shop


def spend(shop: Shop) -> None:
    """Ingest, through the SDK, what the tests ask about: 78 in January, 3 before."""
    for number in range(1, 13):
        shop.sdk.events.ingest(
            request={
                "type": EVENT_TYPE if number % 2 else "cost.ocr",
                "source": "https://api.myapp.com",
                "subject": f"cus_{number:02}",
                "timestamp": FROM + timedelta(days=number),
                "data": {"amount": number, "provider": "ab"[number % 3 == 0]},
            }
        )
    shop.sdk.events.ingest(
        request={
            "type": EVENT_TYPE,
            "source": "https://api.myapp.com",
            "subject": "cus_12",
            "timestamp": FROM - timedelta(days=1),
            "data": {"amount": 3},
        }
    )


# -- through the SDK


def test_a_report_with_the_defaults_of_the_sdk(shop: Shop) -> None:
    """A page of twenty-five customers, and the total of all."""
    report = shop.report()

    assert (report.object, report.currency, report.group_by) == (
        "cost_report",
        "USD",
        "customer",
    )
    assert (report.period.from_, report.period.to) == (FROM, TO)
    assert (report.total_cost, report.total_quantity) == (78, 78)
    assert [group.key for group in report.groups] == [
        f"cus_{number:02}" for number in range(12, 0, -1)
    ]
    assert not any(group.is_other for group in report.groups)
    assert sum(group.total_cost for group in report.groups) == 78
    assert report.pagination.total == report.group_count == 12
    assert report.time_series == []


def test_every_argument_of_the_sdk_is_understood(shop: Shop) -> None:
    """All at once, so that no two of them get in each other's way."""
    report = shop.report(
        group_by="provider",
        merchant_id=shop.tenant.organization,
        cost_id=[shop.inference],
        filter_group_by=json.dumps({"provider": "b"}),
        top_n=5,
        compare_prior_period=True,
        exclude_empty=True,
        window_size="MONTH",
        sort="totalQuantity",
        sort_dir="asc",
        offset=0,
        limit=100,
        currency="USD",
    )

    [group] = report.groups
    assert (group.key, group.total_cost, group.unit) == ("b", 12, "usd")
    assert group.percent_of_total == 100
    assert group.prior_period is not None
    [point] = report.time_series
    assert (point.window_start, point.window_end) == (FROM, TO)
    assert point.groups == {"b": 12}
    assert report.available_dimensions == ["provider"]
    assert shop.report(subject="cus_12").total_cost == 12


def test_a_report_by_cost_has_names_for_labels(shop: Shop) -> None:
    """People do not know costs by their ids."""
    report = shop.report(group_by="cost", cost_id=[shop.pages, shop.inference])

    assert {group.key: (group.label, group.total_cost) for group in report.groups} == {
        shop.inference: ("AI", 36),
        shop.pages: ("OCR", 42),
    }


def test_the_period_before_is_parsed_with_and_without_a_change(shop: Shop) -> None:
    """Null where there was nothing to change from."""
    report = shop.report(compare_prior_period=True, limit=2)

    priors = [group.prior_period for group in report.groups]
    assert [(one.cost, one.change_percent) for one in priors if one] == [
        (3, 300),
        (0, None),
        (0, None),
    ]


def test_an_empty_report_is_parsed_with_the_range_of_the_data(shop: Shop) -> None:
    """Bounds, null and absence are three answers, and the SDK tells them apart."""
    later = {"from_": TO, "to": TO + timedelta(days=1)}

    report = shop.report(**later)

    assert report.groups == []
    assert report.cost_range
    assert report.cost_range.from_ == FROM - timedelta(days=1)
    assert report.cost_range.to == FROM + timedelta(days=12)


def test_series_have_the_keys_of_the_groups(shop: Shop) -> None:
    """Applications look labels up by them."""
    report = shop.report(window_size="DAY", limit=3, top_n=3)

    keys = {key for point in report.time_series for key in point.groups}
    assert keys == {group.key for group in report.groups}
    assert len(report.time_series) == 12


def test_a_bad_request_is_the_typed_error_with_its_fields(shop: Shop) -> None:
    """Applications show them beside the inputs."""
    with pytest.raises(errors.BadRequest) as caught:
        shop.report(group_by="provider")

    data: Any = caught.value.data
    assert caught.value.status_code == 400
    assert [one.field for one in data.errors] == ["groupBy"]


def test_a_key_without_the_permission_is_the_typed_error(shop: Shop) -> None:
    """And names the permission."""
    server, organization, _ = shop.tenant
    key = server.create_key("weak", ["events:create"], namespace=organization)

    with (
        Paygentic(bearer_auth=key, server_url=server.url) as sdk,
        pytest.raises(errors.Error) as caught,
    ):
        sdk.costs.get_cost_report(**arguments())

    assert caught.value.status_code == 403
    assert caught.value.data.required_permissions == ["costs:read"]


def test_the_asynchronous_twin_reports_the_same(shop: Shop) -> None:
    """Several at once, as a dashboard asks."""

    async def reports() -> list[models.CostReportResponse]:
        async with Paygentic(
            bearer_auth=shop.tenant.api_key, server_url=shop.tenant.server.url
        ) as sdk:
            asked = [sdk.costs.get_cost_report_async(**arguments()) for _ in range(10)]
            found: list[models.CostReportResponse] = await asyncio.gather(*asked)
            return found

    assert asyncio.run(reports()) == [shop.report()] * 10


# -- on the wire


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"groupBy": "cost"}, id="by-cost"),
        pytest.param(
            {"comparePriorPeriod": "true", "windowSize": "HOUR"}, id="everything"
        ),
        pytest.param({"to": "2026-01-01T00:00:01Z"}, id="empty"),
        pytest.param({"currency": "EUR"}, id="never-any"),
    ],
)
def test_a_report_has_the_fields_and_types_of_the_contract(
    shop: Shop, query: Mapping[str, str]
) -> None:
    """As strict as the strictest client: no null but where the contract has one."""
    params = {**JANUARY, **DEFAULTS, "groupBy": "customer", **query}
    with calling(shop.tenant) as http:
        answer = http.get("/v0/costs/report", params=params)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    faults = Draft202012Validator(REPORT).iter_errors(answer.json())
    assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []


def test_a_report_is_as_the_server_describes_it(shop: Shop) -> None:
    """Clients are generated from the description, so it must hold."""
    params = {**JANUARY, "groupBy": "customer", "comparePriorPeriod": "true"}
    with calling(shop.tenant) as http:
        described = http.get("/openapi.json").json()
        answer = http.get("/v0/costs/report", params=params).json()

    operation = described["paths"]["/v0/costs/report"]["get"]
    content = operation["responses"]["200"]["content"]["application/json"]
    schema = {**content["schema"], "components": described["components"]}
    assert list(Draft202012Validator(schema).iter_errors(answer)) == []
    names = {one["name"] for one in operation["parameters"]}
    assert names == {
        *JANUARY,
        *DEFAULTS,
        "groupBy",
        "asOf",
        "merchantId",
        "costId",
        "subject",
        "filterGroupBy",
        "windowSize",
        "currency",
    }
