"""Corrections over real HTTP: net, gross, and the figures of closed months."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from tests.support.clock import HOUR, ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

OCTOBER = {"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}
NOVEMBER = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
_organizations = itertools.count(1)


class Books:
    """An organization with the cost metric ``cost``."""

    def __init__(self, http: httpx.Client, clock: ManualClock) -> None:
        self.http = http
        self.clock = clock
        self.cost = self.create_cost()

    def create_cost(self, aggregation: str = "SUM") -> str:
        """Create a cost of ``cost.ai``, and return its id."""
        body = {
            "type": "metered",
            "name": aggregation,
            "unitCost": 1,
            "currency": "USD",
            "productId": "prod_1",
            "eventType": "cost.ai",
            "aggregation": aggregation,
            "valueProperty": "$.amount",
            "groupBy": {"provider": "$.provider"},
        }
        return str(self.post("/v0/costs", body, 201)["id"])

    def spend(
        self, amount: str, day: int = 3, customer: str = "cus_1", month: str = "10"
    ) -> str:
        """Post an event, and return its id."""
        body = {
            "type": "cost.ai",
            "source": "tests",
            "subject": customer,
            "timestamp": f"2026-{month}-{day:02}T12:00:00Z",
            "data": {"amount": amount, "provider": "p"},
        }
        return str(self.post("/v0/events", body, 202)["id"])

    def post(self, path: str, body: object, status: int = 200) -> dict[str, Any]:
        """Post a body at a time of its own, and return the response's."""
        self.clock.advance(1)
        response = self.http.post(path, json=body)
        assert response.status_code == status, response.text
        decoded: dict[str, Any] = response.json()
        return decoded

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Return a response's body."""
        response = self.http.get(path, params=query)
        assert response.status_code == 200, response.text
        decoded: dict[str, Any] = response.json()
        return decoded

    def void(self, event: str, **fields: str) -> dict[str, Any]:
        """Void an event."""
        body = {"reason": "counted twice", **fields}
        return self.post(f"/v0/events/{event}/void", body)

    def adjust(self, event: str, delta: str) -> dict[str, Any]:
        """Adjust an event."""
        body = {"costId": self.cost, "delta": delta, "reason": "rebate"}
        return self.post(f"/v0/events/{event}/adjust", body)

    def summary(self, **query: str) -> dict[str, Any]:
        """Return the summary of October."""
        return self.get(f"/v0/costs/{self.cost}/summary", **{**OCTOBER, **query})


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    """Return a clock in November 2026."""
    clock = ManualClock()
    clock.step(318 * 24 * HOUR)
    return clock


@pytest.fixture(scope="module")
def server(clock: ManualClock) -> Iterator[BackgroundServer]:
    """Return a server for all tests. Each test has an organization of its own."""
    settings = ServerSettings(port=0, database=":memory:")
    with BackgroundServer(settings, clock=clock) as server:
        yield server


@pytest.fixture
def books(server: BackgroundServer, clock: ManualClock) -> Iterator[Books]:
    """Return the books of an empty organization."""
    organization = f"org_{next(_organizations)}"
    key = server.create_key("finance", ["*"], namespace=organization)
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
        yield Books(http, clock)


def test_a_summary_shows_net_gross_and_corrections(books: Books) -> None:
    """And is silent about them until there is one."""
    first, second = books.spend("5"), books.spend("7.5")
    before = books.summary()
    books.void(first)
    books.adjust(second, "-0.25")
    found = books.summary(groupBy="provider", window="DAY")

    assert "grossCostExact" not in before
    assert found["totalCostExact"] == "7.25"
    assert found["grossCostExact"] == "12.5"
    assert found["correctionsExact"] == "-5.25"
    assert [one["costExact"] for one in found["groups"]] == ["7.25"]
    assert [one["costExact"] for one in found["timeSeries"]] == ["7.25"]
    assert found["events"] == 1


def test_a_report_shows_the_corrections_of_each_group(books: Books) -> None:
    """A finance lead sees whose costs were corrected."""
    books.void(books.spend("5"))
    books.spend("1", customer="cus_2")
    books.adjust(books.spend("2", customer="cus_2"), "0.5")
    found = books.get(
        "/v0/costs/report", **OCTOBER, groupBy="customer", windowSize="DAY"
    )

    rows = {row["key"]: row for row in found["groups"]}
    assert rows["cus_2"]["totalCostExact"] == "3.5"
    assert rows["cus_2"]["correctionsExact"] == "0.5"
    assert rows["cus_1"]["totalCostExact"] == "0"
    assert rows["cus_1"]["correctionsExact"] == "-5"
    assert (found["grossCostExact"], found["correctionsExact"]) == ("8", "-4.5")
    assert found["totalCostExact"] == "3.5"


def test_margins_are_net_of_corrections(books: Books) -> None:
    """The cost of a margin is the corrected one."""
    books.void(books.spend("5"))
    books.spend("1")
    found = books.get("/v0/profitability", **OCTOBER)

    assert found["total"]["totalCostExact"] == "1"
    assert (found["grossCostExact"], found["correctionsExact"]) == ("6", "-5")


def test_a_correction_says_who_when_and_why(books: Books) -> None:
    """It points at the event, and can be found by it."""
    event = books.spend("5")
    made = books.void(event)
    undone = books.post(f"/v0/corrections/{made['id']}/revert", {"reason": "mistake"})

    assert (made["eventId"], made["createdBy"]) == (event, "finance")
    assert made["reason"] == "counted twice"
    assert undone["reverts"] == made["id"]
    listed = books.get("/v0/corrections", eventId=event)
    assert [one["id"] for one in listed["data"]] == [undone["id"], made["id"]]
    assert books.summary()["totalCostExact"] == "5"


def test_a_void_of_a_voided_event_is_a_conflict_that_names_the_void(
    books: Books,
) -> None:
    """With the same key it is the same void."""
    event = books.spend("5")
    first = books.void(event, idempotencyKey="v1")
    again = books.void(event, idempotencyKey="v1")
    refused = books.http.post(f"/v0/events/{event}/void", json={"reason": "r"})

    assert again == first
    assert refused.status_code == 409
    assert refused.json()["code"] == "EVENT_VOIDED"
    assert refused.json()["details"] == {"correctionId": first["id"]}


@pytest.mark.parametrize("aggregation", ["MAX", "AVG", "UNIQUE_COUNT"])
def test_only_sums_can_be_adjusted(books: Books, aggregation: str) -> None:
    """A difference of a maximum has no meaning."""
    cost = books.create_cost(aggregation)
    body = {"costId": cost, "delta": "1", "reason": "r"}
    refused = books.http.post(f"/v0/events/{books.spend('5')}/adjust", json=body)

    assert refused.status_code == 400
    assert "only a SUM can be adjusted" in refused.json()["message"]


# -- many events


def test_many_events_are_corrected_by_filter_after_a_dry_run(books: Books) -> None:
    """The dry run counts, and changes nothing."""
    for day in range(1, 8):
        books.spend("1", day)
    books.spend("10", 3, customer="cus_2")
    given = {
        "kind": "void",
        "types": ["cost.ai"],
        "customerIds": ["cus_1"],
        "from": "2026-10-03T00:00:00Z",
        "to": "2026-10-06T00:00:00Z",
        "reason": "sandbox",
        "idempotencyKey": "cleanup",
    }
    dry = books.post("/v0/corrections", {**given, "dryRun": True})
    before = books.summary()["totalCostExact"]
    done = books.post("/v0/corrections", given)
    again = books.post("/v0/corrections", given)

    assert (dry["matched"], dry["corrected"], dry["dryRun"]) == (3, 3, True)
    assert before == "17"
    assert (done["matched"], done["corrected"], done["unchanged"]) == (3, 3, 0)
    assert (again["corrected"], again["unchanged"]) == (0, 3)
    assert books.summary()["totalCostExact"] == "14"


def test_many_events_are_adjusted_by_values_in_their_data(books: Books) -> None:
    """A provider's rebate on each call."""
    for day in (1, 2):
        books.spend("1", day)
    given = {
        "kind": "adjust",
        "costId": books.cost,
        "delta": "-0.1",
        "filterBy": '{"$.provider":"p"}',
        "reason": "rebate",
        "idempotencyKey": "rebate",
    }
    done = books.post("/v0/corrections", given)

    assert done["corrected"] == 2
    assert books.summary()["totalCostExact"] == "1.8"


def test_a_filter_that_finds_every_event_is_refused(books: Books) -> None:
    """A forgotten filter must not void the whole history."""
    given = {"kind": "void", "reason": "r", "idempotencyKey": "k"}

    refused = books.http.post("/v0/corrections", json=given)
    assert refused.status_code == 400
    assert "not every event" in refused.json()["message"]


# -- closed months


def test_a_closed_month_keeps_its_figures(books: Books) -> None:
    """What comes later is an adjustment in the month in which it comes."""
    event = books.spend("5", 3, month="09")
    september = {"from": "2026-09-01T00:00:00Z", "to": "2026-10-01T00:00:00Z"}
    closed = books.post("/v0/closedPeriods", {"period": "2026-09"})
    books.void(event)
    books.spend("7", 4, month="09")

    assert books.summary(**september)["totalCostExact"] == "5"
    assert books.summary()["totalCostExact"] == "0"
    later = books.summary(**NOVEMBER)
    assert later["totalCostExact"] == "2"
    assert later["closedAdjustments"] == [
        {
            "period": {
                "from": "2026-09-01T00:00:00.000Z",
                "to": "2026-10-01T00:00:00.000Z",
            },
            "costExact": "2",
        }
    ]
    assert books.get("/v0/closedPeriods")["data"] == [closed]


def test_every_query_can_be_asked_as_of_a_moment(books: Books) -> None:
    """Late events and corrections leave the past as it was."""
    event = books.spend("5")
    made = books.adjust(event, "1")
    books.void(event)
    books.spend("9")

    asked = {"asOf": made["createdAt"]}
    assert books.summary()["totalCostExact"] == "9"
    assert books.summary(**asked)["totalCostExact"] == "6"
    report = books.get("/v0/costs/report", **OCTOBER, groupBy="cost", **asked)
    assert report["totalCostExact"] == "6"
    margins = books.get("/v0/profitability", **OCTOBER, **asked)
    assert margins["total"]["totalCostExact"] == "6"
    assert books.summary(asOf="2020-01-01T00:00:00Z")["totalCostExact"] == "0"
