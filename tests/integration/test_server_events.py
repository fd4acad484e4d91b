"""Single events over HTTP: pages, filters, one with its receipt, and its price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.reference import (
    calling,
    create_cost,
    serving,
    summary,
    tenant_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from outlay.server import BackgroundServer


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Run one server for all tests of this file."""
    with serving() as running:
        yield running


@pytest.fixture
def http(server: BackgroundServer) -> Iterator[httpx.Client]:
    """Return a client of an organization of the test's own."""
    with calling(tenant_of(server)) as client:
        yield client


def post(http: httpx.Client, key: str, **fields: object) -> dict[str, Any]:
    """Send one event, and return the response."""
    event = {
        "type": "cost.ai.inference",
        "source": "tests",
        "subject": "cus_1",
        "idempotencyKey": key,
        "timestamp": "2026-01-05T12:00:00.000Z",
        "data": {"amount": 1},
        **fields,
    }
    answer = http.post("/v0/events", json=event)
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def keys(http: httpx.Client, **query: str | int) -> list[str]:
    """Return the keys of the wanted events, from all pages."""
    found: list[str] = []
    while True:
        page = http.get("/v0/events", params=query).json()
        found += [event["idempotencyKey"] for event in page["data"]]
        if "nextCursor" not in page:
            return found
        query["cursor"] = page["nextCursor"]


def test_an_event_is_listed_as_it_was_sent(http: httpx.Client) -> None:
    """The proof of what a customer is charged for."""
    create_cost(http)
    sent = post(
        http,
        "job-1",
        externalSubject="acme",
        externalId="ex-1",
        data={"amount": 0.1, "provenance": "priced"},
    )

    page = http.get("/v0/events").json()

    [listed] = page["data"]
    assert page["object"] == "list"
    assert listed.pop("receivedAt").endswith("Z")
    assert listed == {
        **sent,
        "data": {"amount": 0.1, "provenance": "priced"},
        "provenance": "priced",
    }


def test_pages_have_every_event_once(http: httpx.Client) -> None:
    """The newest first, with a cursor between the pages."""
    create_cost(http)
    for number in range(7):
        post(http, f"job-{number}", timestamp=f"2026-01-0{1 + number % 3}T00:00:00Z")

    expected = ["job-5", "job-2", "job-4", "job-1", "job-6", "job-3", "job-0"]
    assert keys(http) == expected
    assert keys(http, limit=3) == expected
    assert keys(http, limit=7) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"type": "cost.ocr"}, ["c"]),
        ({"type": "cost.ocr,cost.ai.inference"}, ["c", "b", "a"]),
        ({"subject": "cus_2"}, ["b"]),
        ({"subject": "acme"}, ["c"]),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-03T00:00:00Z"}, ["b"]),
        ({"provenance": "priced"}, ["b"]),
        ({"provenance": "priced,reported"}, ["b", "a"]),
        ({"filterGroupBy": '{"model":"m-1"}'}, ["b", "a"]),
        ({"filterGroupBy": '{"subject":["cus_1","acme"]}'}, ["c", "a"]),
        ({"filterGroupBy": '{"ödd \'name\'":"x"}'}, ["c"]),
        ({"idempotencyKey": "b"}, ["b"]),
        ({"idempotencyKey": "b", "subject": "cus_1"}, []),
        ({"idempotencyKey": "none"}, []),
    ],
)
def test_filters_narrow_the_list(
    http: httpx.Client, query: dict[str, str], expected: list[str]
) -> None:
    """By each thing that a person knows of a cost."""
    create_cost(http)
    create_cost(http, eventType="cost.ocr")
    data = {"amount": 1, "model": "m-1", "provenance": "reported"}
    post(http, "a", timestamp="2026-01-01T00:00:00Z", data=data)
    post(
        http,
        "b",
        timestamp="2026-01-02T00:00:00Z",
        subject="cus_2",
        data={**data, "provenance": "priced"},
    )
    post(
        http,
        "c",
        timestamp="2026-01-03T00:00:00Z",
        type="cost.ocr",
        subject=None,
        externalSubject="acme",
        data={"ödd 'name'": "x"},
    )

    assert keys(http, **query) == expected


def test_the_events_behind_a_total_are_found_by_its_metric(http: httpx.Client) -> None:
    """The filter of a summary, given to the list, finds what the summary adds up."""
    cost = create_cost(http, groupBy={"model": "$.meta.model"})
    create_cost(http, eventType="cost.other")
    for number, model in enumerate(["a", "b", "a"]):
        post(http, f"job-{number}", data={"amount": 2, "meta": {"model": model}})
    post(http, "other", type="cost.other", data={"amount": 2, "model": "a"})
    wanted = {"filterGroupBy": '{"model":"a"}'}

    found = keys(http, costId=cost, **wanted)

    assert found == ["job-2", "job-0"]
    assert summary(http, cost, **wanted)["totalCost"] == 2 * len(found)
    assert keys(http, costId=cost, type="cost.other") == []


def test_an_event_tells_its_receipt_its_price_and_what_it_counts_for(
    http: httpx.Client,
) -> None:
    """An auditor asks all of it about one line of a bill."""
    price = {"list": "genai-prices", "version": "0.2.3"}
    summing = create_cost(http, name="Sum", unitCost=2)
    other = create_cost(http, name="Euro", currency="EUR")
    average = create_cost(http, name="Average", aggregation="AVG")
    empty = create_cost(http, name="Pages", valueProperty="$.pages")
    data = {"amount": "0.10", "currency": "USD", "provenance": "priced", "price": price}
    sent = post(http, "job-1", data=data)

    found = http.get(f"/v0/events/{sent['id']}").json()

    assert found["object"] == "eventDetail"
    assert found["event"]["data"] == data
    assert (found["provenance"], found["price"]) == ("priced", price)
    receipt = found["receipt"]
    assert receipt["idempotencyKey"] == "job-1"
    assert receipt["receivedAt"] < receipt["keyEndsAt"]
    assert found["counts"] == [
        {
            "costId": summing,
            "name": "Sum",
            "currency": "USD",
            "quantity": 0.1,
            "cost": 0.2,
            "costExact": "0.2",
        },
        {
            "costId": other,
            "name": "Euro",
            "currency": "EUR",
            "excluded": "other_currency",
        },
        {"costId": average, "name": "Average", "currency": "USD"},
        {
            "costId": empty,
            "name": "Pages",
            "currency": "USD",
            "excluded": "no_value",
        },
    ]
    assert found["corrections"] == []


def test_an_event_tells_its_corrections_the_newest_first(http: httpx.Client) -> None:
    """Without them, a void event would seem to count."""
    create_cost(http)
    path = f"/v0/events/{post(http, 'job-1')['id']}"
    void = http.post(f"{path}/void", json={"reason": "ran twice"}).json()
    revert = http.post(
        f"/v0/corrections/{void['id']}/revert", json={"reason": "it did not"}
    ).json()

    found = http.get(path).json()

    assert found["corrections"] == [revert, void]
    assert [one["reason"] for one in found["corrections"]] == [
        "it did not",
        "ran twice",
    ]


def test_events_of_other_organizations_do_not_exist(
    server: BackgroundServer, http: httpx.Client
) -> None:
    """Neither in the list nor by id."""
    create_cost(http)
    sent = post(http, "job-1")

    with calling(tenant_of(server)) as stranger:
        assert keys(stranger) == []
        assert keys(stranger, idempotencyKey="job-1") == []
        answer = stranger.get(f"/v0/events/{sent['id']}")

    assert (answer.status_code, answer.json()["code"]) == (404, "EVENT_NOT_FOUND")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"grupBy": "x"}, "grupBy"),
        ({"limit": "201"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"from": "soon"}, "from"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"}, "to"),
        ({"filterGroupBy": "[]"}, "filterGroupBy"),
    ],
)
def test_a_bad_question_is_a_400_that_names_the_parameter(
    http: httpx.Client, query: dict[str, str], field: str
) -> None:
    """A parameter that is ignored in silence shows the wrong events."""
    answer = http.get("/v0/events", params=query)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_a_bad_dimension_of_a_metric_is_named(http: httpx.Client) -> None:
    """Together with those that there are."""
    cost = create_cost(http)

    answer = http.get(
        "/v0/events", params={"costId": cost, "filterGroupBy": '{"colour":"red"}'}
    )

    assert answer.status_code == 400
    assert "no dimension 'colour'; there are subject, provider" in answer.text
    missing = http.get("/v0/events", params={"costId": "cst_none"})
    assert missing.status_code == 404


def test_reading_events_needs_its_permission(server: BackgroundServer) -> None:
    """Raw events hold more than totals do."""
    tenant = tenant_of(server)
    key = server.create_key("totals", ["costs:read"], namespace=tenant.organization)

    with calling(tenant._replace(api_key=key)) as http:
        answer = http.get("/v0/events")

    assert answer.status_code == 403
    assert answer.json()["requiredPermissions"] == ["events:read"]


def test_the_older_name_of_a_cost_changes_and_sums_up_too(http: httpx.Client) -> None:
    """Everything that `/v0/costs` does, `/v0/costMetrics` does."""
    body = {
        "name": "All",
        "eventType": "cost.ai.inference",
        "valueProperty": "$.amount",
    }
    cost = http.post("/v0/costMetrics", json=body).json()["id"]
    post(http, "job-1", data={"amount": 3})

    changed = http.patch(f"/v0/costMetrics/{cost}", json={"unitCost": 2}).json()
    query = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
    total = http.get(f"/v0/costMetrics/{cost}/summary", params=query).json()

    assert (changed["unitCost"], total["totalCost"]) == ("2", 6)
