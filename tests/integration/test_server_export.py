"""Exports over real HTTP: every row once, every digit, and the columns of FOCUS."""

from __future__ import annotations

import csv
import io
import itertools
import json
from decimal import Decimal
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from outlay._model.money import exact_sum
from outlay.server import BackgroundServer, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

OCTOBER = {"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}
TINY = "0.000000000000000000000000000000000001"
_organizations = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Return a server for all tests. Each test has an organization of its own."""
    with BackgroundServer(ServerSettings(port=0, database=":memory:")) as server:
        yield server


@pytest.fixture
def http(server: BackgroundServer) -> Iterator[httpx.Client]:
    """Return a client of an organization with two metrics and four events."""
    organization = f"org_{next(_organizations)}"
    key = server.create_key("finance", ["*"], namespace=organization)
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
        for name, event_type in (("AI", "cost.ai.inference"), ("OCR", "cost.ocr")):
            cost = {
                "type": "metered",
                "name": name,
                "unitCost": 1,
                "currency": "USD",
                "productId": "prod_1",
                "eventType": event_type,
                "aggregation": "SUM",
                "valueProperty": "$.amount",
                "groupBy": {"provider": "$.provider"},
            }
            assert http.post("/v0/costs", json=cost).status_code == 201
        spend(http, "1.5", 3, provenance="priced")
        spend(http, TINY, 3, provenance="priced")
        spend(http, "2", 3, provenance="manual")
        spend(http, "4", 31, event_type="cost.ocr", customer='a,"b')
        yield http


def spend(
    http: httpx.Client,
    amount: str,
    day: int,
    *,
    event_type: str = "cost.ai.inference",
    customer: str = "cus_1",
    **data: str,
) -> str:
    """Post an event of October, and return its id."""
    body = {
        "type": event_type,
        "source": "tests",
        "subject": customer,
        "timestamp": f"2026-10-{day:02}T12:00:00Z",
        "data": {"amount": amount, "provider": "openai", **data},
    }
    response = http.post("/v0/events", json=body)
    assert response.status_code == 202, response.text
    identifier: str = response.json()["id"]
    return identifier


def pages(http: httpx.Client, **query: Any) -> Iterator[httpx.Response]:  # noqa: ANN401
    """Yield all pages of an export."""
    while True:
        response = http.get("/v0/export", params={**OCTOBER, **query})
        assert response.status_code == 200, response.text
        yield response
        if "outlay-next-cursor" not in response.headers:
            return
        query["cursor"] = response.headers["outlay-next-cursor"]


def rows(http: httpx.Client, **query: Any) -> list[dict[str, str]]:  # noqa: ANN401
    """Return all rows of a CSV export."""
    text = "".join(page.text for page in pages(http, **query))
    return [*csv.DictReader(io.StringIO(text))]


@pytest.mark.parametrize("dataset", ["events", "totals", "focus"])
@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_pages_have_each_row_once_and_one_header(
    http: httpx.Client, dataset: str, limit: int
) -> None:
    """An export that was cut short continues after its last page."""
    paged = rows(http, dataset=dataset, limit=limit)
    whole = rows(http, dataset=dataset)
    lines = [
        json.loads(line)
        for page in pages(http, dataset=dataset, limit=limit, format="jsonl")
        for line in page.text.splitlines()
    ]

    assert paged == whole
    assert [{k: v or "" for k, v in line.items()} for line in lines] == whole
    assert len(whole) == {"events": 4, "totals": 2, "focus": 3}[dataset]


def test_events_are_exported_with_their_data_as_it_was_sent(
    http: httpx.Client,
) -> None:
    """Quotes, commas, and every digit."""
    found = rows(http)

    assert found[0]["customerId"] == 'a,"b'
    assert json.loads(found[0]["data"])["amount"] == "4"
    assert found[-1]["timestamp"] == "2026-10-03T12:00:00.000Z"
    assert {TINY} < {json.loads(row["data"])["amount"] for row in found}
    only = rows(http, subject="cus_1")
    assert len(only) == 3


def test_totals_are_exported_net_gross_and_corrected(http: httpx.Client) -> None:
    """They equal the report's own."""
    event = spend(http, "8", 5)
    http.post(f"/v0/events/{event}/void", json={"reason": "test"})
    found = rows(http, dataset="totals")
    report = http.get("/v0/costs/report", params={**OCTOBER, "groupBy": "cost"}).json()

    by_day = {(row["costName"], row["day"]): row for row in found}
    row = by_day["AI", "2026-10-03"]
    assert row["cost"] == row["grossCost"] == "3.500000000000000000000000000000000001"
    assert json.loads(row["dimensions"]) == {"provider": "openai"}
    voided = by_day["AI", "2026-10-05"]
    amounts = [voided[name] for name in ("cost", "grossCost", "corrections", "events")]
    assert amounts == ["0", "8", "-8", "0"]
    assert exact_sum(Decimal(row["cost"]) for row in found) == Decimal(
        report["totalCostExact"]
    )


def test_focus_rows_have_quantities_customers_and_the_status_of_amounts(
    http: httpx.Client,
) -> None:
    """Other exports hard-code a quantity of 1, and do not know the customer."""
    voided = spend(http, "8", 5)
    http.post(f"/v0/events/{voided}/void", json={"reason": "test"})
    found = rows(http, dataset="focus")

    usage = [row for row in found if row["ChargeCategory"] == "Usage"]
    statuses = {
        row["x_AmountStatus"]: row
        for row in usage
        if "-03T" in row["ChargePeriodStart"]
    }
    priced = statuses["priced"]
    assert priced["BilledCost"] == "1.500000000000000000000000000000000001"
    assert (priced["ConsumedQuantity"], priced["ConsumedUnit"]) == ("2.0", "Requests")
    assert json.loads(priced["Tags"]) == {"provider": "openai", "customer": "cus_1"}
    assert priced["BillingPeriodStart"] == "2026-10-01T00:00:00Z"
    assert priced["BillingPeriodEnd"] == "2026-11-01T00:00:00Z"
    assert priced["ServiceCategory"] == "AI and Machine Learning"
    assert statuses["manual"]["BilledCost"] == "2"
    [correction] = [row for row in found if row["ChargeCategory"] == "Adjustment"]
    assert correction["BilledCost"] == "-8"
    assert correction["ConsumedQuantity"] == ""
    assert {row["InvoiceId"] for row in found} == {""}


def test_focus_rows_of_a_metric_that_has_the_origin_of_amounts_are_the_same(
    http: httpx.Client,
) -> None:
    """Its totals by the day have the origin, so that no event is read again."""
    voided = spend(http, "8", 5, provenance="priced")
    http.post(f"/v0/events/{voided}/void", json={"reason": "test"})
    before = rows(http, dataset="focus")
    for cost in http.get("/v0/costs").json()["data"]:
        dimensions = {"a": "$.provenance", "provider": "$.provider"}
        changed = http.patch(f"/v0/costs/{cost['id']}", json={"groupBy": dimensions})
        assert changed.status_code == 200, changed.text
    after = rows(http, dataset="focus")

    tags = [json.loads(row.pop("Tags")) for row in after]
    for row in before:
        del row["Tags"]
    by_charge = itemgetter("ChargePeriodStart", "ChargeCategory", "x_AmountStatus")
    assert sorted(after, key=by_charge) == sorted(before, key=by_charge)
    assert sorted(one.get("a", "") for one in tags) == [
        "",
        "manual",
        "priced",
        "priced",
        "priced",
    ]


@pytest.mark.parametrize(
    "query",
    [{"cursor": "x"}, {"format": "xml"}, {"dataset": "all"}, {"to": OCTOBER["from"]}],
)
@pytest.mark.parametrize("dataset", ["events", "totals"])
def test_a_question_that_makes_no_sense_is_refused(
    http: httpx.Client, dataset: str, query: dict[str, str]
) -> None:
    """Instead of an empty file."""
    response = http.get("/v0/export", params={**OCTOBER, "dataset": dataset, **query})

    assert response.status_code == 400
    assert response.json()["errors"]
