"""The forms of the dashboard over real HTTP: metrics, keys, and the data's health."""

from __future__ import annotations

import re
from contextlib import closing
from html import unescape
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

METRIC: Final = {
    "name": "Pages read",
    "event_type": "cost.documents.pages",
    "aggregation": "SUM",
    "value_property": "$.pages",
    "unit_cost": "0.0015",
    "currency": "USD",
    "unit": "page",
    "group_by": "provider = $.provider\r\nfeature = $.labels.feature\r\n",
}


class Person:
    """A signed-in person, who looks at pages and sends their forms."""

    def __init__(self, server: BackgroundServer, key: str) -> None:
        self.http = httpx.Client(base_url=server.url, trust_env=False, timeout=30)
        response = self.http.post("/sign-in", data={"key": key})
        assert response.status_code == 303, response.text

    def look(self, path: str) -> str:
        """Return a page's text, with entities decoded."""
        response = self.http.get(path, follow_redirects=True)
        assert response.status_code == 200, response.text
        return unescape(response.text)

    def send(self, path: str, fields: Mapping[str, object]) -> httpx.Response:
        """Send a form of the page at ``path``, with its token."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.look(path))
        assert found is not None
        return self.http.post(path, data={"csrf": found[1], **fields})


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """A server without metrics and without events."""
    settings = ServerSettings(port=0, database=":memory:")
    with BackgroundServer(settings, clock=ManualClock()) as server:
        yield server


@pytest.fixture
def person(server: BackgroundServer) -> Iterator[Person]:
    """A person with all permissions."""
    person = Person(server, server.api_key or "")
    yield person
    person.http.close()


@pytest.fixture
def api(server: BackgroundServer) -> Iterator[httpx.Client]:
    """A client of the API with all permissions."""
    headers = {"authorization": f"Bearer {server.api_key}"}
    with httpx.Client(
        base_url=server.url, headers=headers, trust_env=False, timeout=30
    ) as client:
        yield client


def post_event(api: httpx.Client, event_type: str, **data: object) -> httpx.Response:
    """Send one event."""
    body = {"type": event_type, "source": "test", "subject": "cus_1", "data": data}
    return api.post("/v0/events", json=body)


def test_a_metric_is_created_changed_and_deleted(
    person: Person, api: httpx.Client
) -> None:
    """The form has each field of the API."""
    response = person.send("/cost-metrics", {"action": "create", **METRIC})
    assert response.status_code == 303
    assert "The metric was created" in person.look(response.headers["location"])
    [cost] = api.get("/v0/costs").json()["data"]
    assert cost["unitCost"] == "0.0015"
    assert cost["groupBy"] == {"provider": "$.provider", "feature": "$.labels.feature"}

    assert 'value="0.0015"' in person.look(f"/cost-metrics?edit={cost['id']}")
    changed = {**METRIC, "unit_cost": "0.002", "unit": ""}
    fields = {"action": "change", "id": cost["id"], **changed}
    assert person.send("/cost-metrics", fields).status_code == 303
    [cost] = api.get("/v0/costs").json()["data"]
    assert cost["unitCost"] == "0.002"
    assert "unit" not in cost

    assert "Delete Pages read?" in person.look(f"/cost-metrics?delete={cost['id']}")
    fields = {"action": "delete", "id": cost["id"]}
    assert person.send("/cost-metrics", fields).status_code == 303
    assert api.get("/v0/costs").json()["data"] == []
    assert "outlay metrics create --defaults" in person.look("/cost-metrics")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "", "at least 1 character"),
        ("unit_cost", "cheap", "must be a number"),
        ("currency", "dollars", "must be a currency of three letters, such as EUR"),
        ("value_property", "", "needs valueProperty"),
        ("group_by", "provider = provider", ""),
    ],
)
def test_a_wrong_field_is_marked_and_nothing_is_stored(
    person: Person, api: httpx.Client, field: str, value: str, message: str
) -> None:
    """What was typed stays in the form."""
    fields = {**METRIC, field: value}
    response = person.send("/cost-metrics", {"action": "create", **fields})
    assert response.status_code == 400
    page = unescape(response.text)
    assert f'id="{field}-error"' in page
    assert message in page
    assert "cost.documents.pages" in page
    assert api.get("/v0/costs").json()["data"] == []


def test_metrics_of_the_same_events_are_marked(person: Person) -> None:
    """Their events are in a total twice, and the pages say so."""
    for name in ("One", "Two"):
        fields = {"action": "create", **METRIC, "name": name}
        assert person.send("/cost-metrics", fields).status_code == 303
    page = person.look("/cost-metrics")
    assert page.count(">overlaps<") == 4  # in two rows, each for wide and narrow pages
    assert "are in 2 metrics (One, Two)" in person.look("/")


def test_a_form_needs_the_token_of_its_session(
    server: BackgroundServer, person: Person, api: httpx.Client
) -> None:
    """A token of another session is worth nothing, and a program has no forms."""
    other = Person(server, server.api_key or "")
    found = re.search(r'name="csrf" value="(\w+)"', other.look("/cost-metrics?new="))
    assert found is not None
    for token in ("", "0" * 64, found[1]):
        fields = {"csrf": token, "action": "create", **METRIC}
        assert person.http.post("/cost-metrics", data=fields).status_code == 403
    response = api.post("/cost-metrics", data={"action": "create", **METRIC})
    assert response.status_code == 403
    assert api.get("/v0/costs").json()["data"] == []
    other.http.close()


def test_who_may_only_read_sees_no_forms(server: BackgroundServer) -> None:
    """And cannot send one."""
    reader = Person(server, server.create_key("reader", {"costs:read"}))
    with closing(reader.http) as http:
        assert "New metric" not in reader.look("/cost-metrics")
        assert http.get("/cost-metrics?new=").status_code == 403
        fields = {"action": "create", **METRIC}
        assert reader.send("/cost-metrics", fields).status_code == 403
        assert http.get("/api-keys").status_code == 403
        assert http.get("/events").status_code == 403


def test_a_key_is_created_shown_once_rotated_and_revoked(
    server: BackgroundServer, person: Person, api: httpx.Client
) -> None:
    """The page does what the API does."""
    fields = {
        "action": "create",
        "name": "reports",
        "expires": "30",
        "permissions": ["costs:read", "events:read"],
    }
    response = person.send("/api-keys", fields)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    found = re.search(r"sk_test_[0-9a-f]{48}", response.text)
    assert found is not None
    key = found[0]
    assert key not in person.look("/api-keys")
    keys = api.get("/v0/apiKeys").json()["data"]
    [created] = [one for one in keys if one["name"] == "reports"]
    assert created["permissions"] == ["costs:read", "events:read"]
    assert created["expiresAt"].startswith("2026-01-31")

    rotated = person.send("/api-keys", {"action": "rotate", "id": created["id"]})
    assert re.search(r"sk_test_[0-9a-f]{48}", rotated.text)
    assert len(api.get("/v0/apiKeys").json()["data"]) == 3

    assert "Revoke reports?" in person.look(f"/api-keys?revoke={created['id']}")
    response = person.send("/api-keys", {"action": "revoke", "id": created["id"]})
    assert "The key was revoked" in person.look(response.headers["location"])
    headers = {"authorization": f"Bearer {key}"}
    response = httpx.get(
        f"{server.url}/v0/costs", headers=headers, trust_env=False, timeout=30
    )
    assert response.status_code == 401


def test_a_key_without_permissions_is_refused(person: Person) -> None:
    """The form says what is missing."""
    response = person.send("/api-keys", {"action": "create", "name": "nothing"})
    assert response.status_code == 400
    assert "at least 1 item" in response.text


def test_a_key_gives_no_more_than_it_has(server: BackgroundServer) -> None:
    """A person who may write keys cannot make one with more permissions."""
    clerk = Person(
        server,
        server.create_key("clerk", {"costs:read", "apiKeys:read", "apiKeys:write"}),
    )
    with closing(clerk.http):
        assert 'value="costs:write"' not in clerk.look("/api-keys")
        fields = {"action": "create", "name": "more", "permissions": "costs:write"}
        assert clerk.send("/api-keys", fields).status_code == 403


def test_the_health_of_the_data_counts_what_was_refused(
    person: Person, api: httpx.Client
) -> None:
    """By type and reason, with the way to correct it."""
    person.send("/cost-metrics", {"action": "create", **METRIC})
    for _ in range(3):
        assert post_event(api, "cost.weather", amount="1").status_code == 422
    assert api.post("/v0/events", json={"type": "x"}).status_code == 400
    event = {
        "type": METRIC["event_type"],
        "source": "test",
        "subject": "cus_1",
        "timestamp": "2025-12-30T12:00:00Z",
        "idempotencyKey": "late-1",
        "data": {"pages": 2},
    }
    for _ in range(2):
        assert api.post("/v0/events", json=event).status_code == 202
    batch = {"events": [{**event, "idempotencyKey": "b"}, {**event, "type": "no.type"}]}
    assert api.post("/v0/events/batch", json=batch).status_code == 207

    page = person.look("/data-health?month=2025-12")
    figures = re.findall(r'<div class="kpi-number">([^<]*)', page)
    assert [figure.strip() for figure in figures] == ["2", "1", "5", "2"]
    for event_type, number in (("cost.weather", 3), ("no.type", 1)):
        row = rf">{event_type}</span></th><td[^>]*>{event_type}</td>.*?>{number}</td>"
        assert re.search(f"INVALID_EVENT_TYPE<span[^>]*{row}", page)
    assert "&new=&type=cost.weather" in page
    assert "8 received in the last hour" in page


def test_the_health_of_the_data_names_what_is_excluded(
    person: Person, api: httpx.Client
) -> None:
    """By metric and reason."""
    person.send("/cost-metrics", {"action": "create", **METRIC})
    assert "Every event counts" in person.look("/data-health")
    event_type = str(METRIC["event_type"])
    assert post_event(api, event_type, pages="many").status_code == 202
    assert post_event(api, event_type, pages=1, currency="EUR").status_code == 202
    page = person.look("/data-health")
    row = re.search(r"Pages read</a>.*?</tr>", page, re.DOTALL)
    assert row is not None
    assert re.findall(r'<td class="num">(\d+)</td>', row[0]) == ["2", "1", "1"]


def test_the_overview_shows_shares_and_links_to_where_they_are_explained(
    person: Person, api: httpx.Client
) -> None:
    """Unpriced events, events in another currency, and duplicates."""
    person.send("/cost-metrics", {"action": "create", **METRIC})
    event_type = str(METRIC["event_type"])
    for data in ({"pages": 1}, {"pages": "many"}, {"pages": 1, "currency": "EUR"}):
        assert post_event(api, event_type, **data).status_code == 202
    body = {"type": event_type, "source": "test", "subject": "c", "idempotencyKey": "k"}
    for pages in (1, 1, 2):
        assert api.post(
            "/v0/events", json={**body, "data": {"pages": pages}}
        ).is_success

    page = person.look("/")
    rows = re.findall(
        r'<th scope="row"><a href="/data-health(#\w+)">([\w ]+)</a>.*?'
        r'<td class="num">(\d+)</td><td class="num">(\S+)',
        page,
    )
    assert rows == [
        ("#unpriced", "Unpriced", "1", "25.00"),
        ("#excluded", "Other currency", "1", "25.00"),
        ("#duplicates", "Duplicates", "2", "33.33"),
    ]
    # A repeat is no part of any period, so a page about the past has no number of them.
    assert "#duplicates" not in person.look("/?month=2020-01")
    health = person.look("/data-health")
    for place, *_ in rows:
        assert f'id="{place[1:]}"' in health
    assert "Stored events without an amount: 1." in health
    repeated = health.partition("The repeated event has")[2]
    assert re.findall(r'<td class="num">(\d+)</td>', repeated) == ["1", "1"]


def test_another_organizations_counts_stay_its_own(
    server: BackgroundServer, api: httpx.Client
) -> None:
    """Event types can tell what another organization does."""
    assert post_event(api, "cost.secret", amount="1").status_code == 422
    key = server.create_key("other", {"*"}, namespace="org_other")
    other = Person(server, key)
    with closing(other.http):
        assert "cost.secret" not in other.look("/data-health")


def test_an_event_is_shown_with_its_price_and_all_digits(
    person: Person, api: httpx.Client
) -> None:
    """The end of every drill-down."""
    person.send("/cost-metrics", {"action": "create", **METRIC})
    body = """{
        "type": "cost.documents.pages", "source": "test", "subject": "cus_1",
        "data": {
            "pages": 3.000000000000000000001, "provenance": "priced",
            "price": {"list": "house", "rate": 0.00150000000000000001}
        }
    }"""
    headers = {"content-type": "application/json"}
    response = api.post("/v0/events", content=body, headers=headers)
    identifier = response.json()["id"]
    listed = person.look("/events")
    assert identifier in listed
    page = person.look(f"/event?event={identifier}")
    assert "0.0045000000000000000000015" in page.replace('<span class="tail">', "")
    assert "0.00150000000000000001" in page
    assert "3.000000000000000000001" in page
    assert 'Provenance of the amount</th><td class="">priced' in page


def test_an_event_is_shown_with_its_corrections(
    person: Person, api: httpx.Client
) -> None:
    """Who corrected it, why, and by how much."""
    person.send("/cost-metrics", {"action": "create", **METRIC})
    [cost] = api.get("/v0/costs").json()["data"]
    identifier = post_event(api, str(METRIC["event_type"]), pages=10).json()["id"]
    assert "Corrections" not in person.look(f"/event?event={identifier}")
    body = {
        "costId": cost["id"],
        "delta": "-2.5",
        "reason": "two pages were blank",
        "idempotencyKey": "adjust-1",
    }
    response = api.post(f"/v0/events/{identifier}/adjust", json=body)
    assert response.status_code in {200, 201}, response.text
    page = person.look(f"/event?event={identifier}")
    assert "two pages were blank" in page
    assert '<data value="-2.5" class="neg">−2.50' in page
    assert api.get("/v0/corrections").json()["data"][0]["createdBy"] in page


def test_a_closed_month_is_marked(person: Person, api: httpx.Client) -> None:
    """Its figures no longer change."""
    response = api.post("/v0/closedPeriods", json={"period": "2025-12"})
    assert response.status_code in {200, 201}, response.text
    assert "closed by first start" in person.look("/?month=2025-12")
    assert "closed by" not in person.look("/?month=2025-11")


def test_the_margin_of_averages_is_that_of_the_api(
    person: Person, api: httpx.Client
) -> None:
    """Each customer has an average of its own, and the total adds them up."""
    average = {**METRIC, "aggregation": "AVG", "unit_cost": "1"}
    person.send("/cost-metrics", {"action": "create", **average})
    for customer, pages in (("cus_1", 2), ("cus_1", 4), ("cus_2", 10)):
        event = {"type": METRIC["event_type"], "source": "test", "subject": customer}
        body = {**event, "timestamp": "2026-01-01T10:00:00Z", "data": {"pages": pages}}
        assert api.post("/v0/events", json=body).status_code == 202
    line = {"customerId": "cus_1", "period": "2025-12", "amount": "9"}
    lines = [
        {**line, "currency": "USD"},
        {**line, "currency": "USD", "period": "2026-01"},
    ]
    revenue = {"source": "test", "lines": lines}
    assert api.put("/v0/revenue", json=revenue).status_code == 200
    query = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T13:00:00Z"}
    total = api.get("/v0/profitability", params=query).json()["total"]
    assert total["totalCostExact"] == "13"
    assert f'<data value="{total["profitExact"]}"' in person.look("/?month=2026-01")
