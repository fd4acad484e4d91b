"""The page of budgets over real HTTP: forms, states, and lines on other pages."""

from __future__ import annotations

import time
from html import unescape
from typing import TYPE_CHECKING, Final

import pytest

from outlay.server import BackgroundServer, ServerSettings
from tests.integration.test_dashboard_forms import Person
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE: Final = 20
BUDGET: Final = {
    "name": "Acme & Sons",
    "limit": "10.50",
    "currency": "USD",
    "period": "month",
    "time_zone": "Europe/Berlin",
    "customer_id": "cus_1",
    "dimensions": "provider = a",
    "thresholds": "80, 100",
}


@pytest.fixture
def person() -> Iterator[Person]:
    """A person with all permissions, on a server with default metrics."""
    settings = ServerSettings(port=0, database=":memory:", default_metrics=True)
    with BackgroundServer(settings) as server:
        person = Person(server, server.api_key or "")
        person.http.headers["authorization"] = f"Bearer {server.api_key}"
        yield person
        person.http.close()


def test_a_budget_is_created_changed_and_deleted(person: Person) -> None:
    """The states are words. A passed threshold is named on two other pages."""
    assert "outlay budgets set acme" in person.look("/budgets")
    response = person.send("/budgets?new=", {"action": "create", **BUDGET})
    assert response.status_code == 303, response.text
    assert "The budget was created" in person.look(response.headers["location"])
    [budget] = person.http.get("/v0/budgets").json()["data"]
    assert (budget["limit"], budget["dimensions"]) == ("10.5", {"provider": "a"})
    body = {
        "type": "cost.ai.inference",
        "source": "test",
        "subject": "cus_1",
        "data": {"amount": 9.25, "provider": "a"},
    }
    assert person.http.post("/v0/events", json=body).status_code == 202
    ends = time.monotonic() + DEADLINE
    while "passed 80 %<" not in (page := person.look("/budgets")):
        assert time.monotonic() < ends
    assert 'value="9.25"' in page
    line = "Acme & Sons passed 80 % of its budget of 10.5 USD"
    assert line in person.look("/")
    assert line in person.look("/customer?id=cus_1")
    assert line not in person.look("/customer?id=cus_2")

    assert "provider = a" in person.look(f"/budgets?edit={budget['id']}")
    fields = {"action": "change", "id": budget["id"], **BUDGET, "limit": "9"}
    assert person.send("/budgets?new=", fields).status_code == 303
    assert "over the limit" in person.look("/budgets")
    assert "Delete Acme & Sons?" in person.look(f"/budgets?delete={budget['id']}")
    fields = {"action": "delete", "id": budget["id"]}
    assert person.send("/budgets?new=", fields).status_code == 303
    assert person.http.get("/v0/budgets").json()["data"] == []


def test_a_page_about_the_past_names_the_budgets_of_its_own_month() -> None:
    """The warning of this month would be wrong about another one."""
    clock = ManualClock()
    settings = ServerSettings(port=0, database=":memory:", default_metrics=True)
    with BackgroundServer(settings, clock=clock) as server:
        person = Person(server, server.api_key or "")
        person.http.headers["authorization"] = f"Bearer {server.api_key}"
        budget = {"name": "Acme", "limit": "10", "currency": "USD"}
        assert person.http.put("/v0/budgets/acme", json=budget).is_success
        body = {
            "type": "cost.ai.inference",
            "source": "test",
            "subject": "cus_1",
            "timestamp": "2026-01-01T11:00:00Z",
            "data": {"amount": 10},
        }
        assert person.http.post("/v0/events", json=body).status_code == 202
        line = "Acme passed 100 % of its budget of 10 USD on 1 January."
        ends = time.monotonic() + DEADLINE
        while line not in person.look("/"):
            assert time.monotonic() < ends
        assert line not in person.look("/?month=2025-12")

        clock.advance(40 * 24 * 3600)
        assert line not in person.look("/")
        assert line in person.look("/?month=2026-01")
        assert line not in person.look("/?from=2026-01-01&to=2026-01-02")
        person.http.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [("limit", "much"), ("time_zone", "Mars"), ("thresholds", "x"), ("name", "")],
)
def test_a_wrong_field_is_marked(person: Person, field: str, value: str) -> None:
    """What was typed stays, and nothing is stored."""
    fields = {"action": "create", **BUDGET, field: value}
    response = person.send("/budgets?new=", fields)

    assert response.status_code == 400
    assert f'id="{field}-error"' in response.text
    assert "provider = a" in unescape(response.text)
    assert person.http.get("/v0/budgets").json()["data"] == []


def test_a_webhook_is_added_tested_and_removed(person: Person) -> None:
    """Its secret is on one page, once."""
    wrong = person.send("/budgets?new=", {"action": "add", "url": "ftp://a"})
    assert (wrong.status_code, 'id="url-error"' in wrong.text) == (400, True)
    added = person.send("/budgets?new=", {"action": "add", "url": "http://127.0.0.1/"})
    assert "whsec_" in added.text
    assert "whsec_" not in person.look("/budgets")
    [webhook] = person.http.get("/v0/webhooks").json()["data"]
    tested = person.send("/budgets?new=", {"action": "test", "id": webhook["id"]})
    assert "The test failed: its address 127.0.0.1 is not public" in tested.text
    removed = person.send("/budgets?new=", {"action": "remove", "id": webhook["id"]})
    assert removed.status_code == 303
    assert person.http.get("/v0/webhooks").json()["data"] == []


def test_a_form_without_its_token_is_refused(person: Person) -> None:
    """Another site cannot create budgets."""
    fields = {"action": "create", **BUDGET}
    assert person.http.post("/budgets", data=fields).status_code == 403
