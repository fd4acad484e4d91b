"""Revenue over real HTTP: imports count once, replace earlier lines, and say so."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

OCTOBER = {"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}
_organizations = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Return a server for all tests. Each test has an organization of its own."""
    with BackgroundServer(
        ServerSettings(port=0, database=":memory:", accept_unmatched=True)
    ) as server:
        yield server


@pytest.fixture
def http(server: BackgroundServer) -> Iterator[httpx.Client]:
    """Return a client of an empty organization."""
    organization = f"org_{next(_organizations)}"
    key = server.create_key("finance", ["*"], namespace=organization)
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
        yield http


def line(**overrides: object) -> dict[str, object]:
    """Return a line of revenue of October."""
    return {
        "customerId": "cus_1",
        "period": "2026-10",
        "amount": "100.00",
        "currency": "USD",
        **overrides,
    }


def put(http: httpx.Client, *lines: object, **fields: object) -> httpx.Response:
    """Import lines of revenue."""
    return http.put("/v0/revenue", json={"lines": lines, **fields})


def stored(http: httpx.Client, *lines: object, **fields: object) -> dict[str, Any]:
    """Import lines of revenue, which must be accepted."""
    response = put(http, *lines, **fields)
    assert response.status_code == 200, response.text
    decoded: dict[str, Any] = response.json()
    return decoded


def total(http: httpx.Client, **query: str) -> str:
    """Return the revenue of October."""
    response = http.get("/v0/profitability", params={**OCTOBER, **query})
    assert response.status_code == 200, response.text
    exact: str = response.json()["total"]["netRevenueExact"]
    return exact


def history(http: httpx.Client, **query: str) -> list[tuple[str, bool]]:
    """Return the amounts of October, newest first, and whether they count."""
    response = http.get("/v0/revenue", params={**OCTOBER, **query})
    assert response.status_code == 200, response.text
    return [(one["amount"], one["isCurrent"]) for one in response.json()["data"]]


def test_an_import_that_is_sent_again_counts_once(http: httpx.Client) -> None:
    """A lost response must be harmless, with an id for the import and without one."""
    first = stored(http, line())
    again = stored(http, line())
    named = [stored(http, line(amount="5"), importId="a") for _ in range(2)]

    assert (first["added"], again["unchanged"], again["added"]) == (1, 1, 0)
    assert [one["replaced"] for one in named] == [1, 1]
    assert total(http) == "5"
    assert history(http) == [("5", True), ("100", False)]


def test_a_later_line_replaces_the_one_of_its_period_and_says_so(
    http: httpx.Client,
) -> None:
    """The amount before must be on record, with who changed it."""
    stored(http, line(), source="stripe")
    result = stored(http, line(amount="99.5"), source="stripe")

    [replacement] = result["replacements"]
    assert replacement["replacedAmount"] == "100"
    assert replacement["amount"] == "99.5"
    assert total(http) == "99.5"
    [new, old] = http.get("/v0/revenue", params=OCTOBER).json()["data"]
    assert (new["isCurrent"], old["isCurrent"]) == (True, False)
    assert (new["receivedBy"], new["importId"]) == ("finance", result["importId"])


def test_lines_of_two_sources_or_keys_both_count(http: httpx.Client) -> None:
    """A customer may pay through two systems, and by several invoices."""
    stored(http, line(), source="stripe")
    stored(http, line(), source="lago")
    stored(http, line(key="in_1"), line(key="in_2", amount="0.01"))

    assert total(http) == "300.01"


def test_a_line_with_a_key_moves_to_another_period_or_customer(
    http: httpx.Client,
) -> None:
    """An invoice that was corrected must not count in both months."""
    stored(http, line(key="in_1"))
    stored(http, line(key="in_1", period="2026-09", customerId="cus_2"))

    assert total(http) == "0"
    assert history(http) == [("100", False)]


def test_an_amount_of_zero_takes_a_line_back(http: httpx.Client) -> None:
    """A voided invoice leaves no row."""
    stored(http, line())
    stored(http, line(amount=0))

    summary = http.get("/v0/profitability", params=OCTOBER).json()
    assert summary["rows"] == []


def test_an_invalid_line_stores_nothing_of_its_import(http: httpx.Client) -> None:
    """Half an import would be a wrong margin without a sign."""
    response = put(http, line(), line(customerId="cus_2", currency="dollars"))

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "lines.1.currency"
    assert history(http) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"period": None},
        {"period": "2026-13"},
        {"period": "9999-12"},
        {"from": "2026-10-01T00:00:00Z"},
        {"period": None, "from": "2026-10-01T00:00:00Z"},
        {"period": None, "from": OCTOBER["to"], "to": OCTOBER["from"]},
        {"amount": "NaN"},
        {"amount": "1.000,00"},
        {"amount": None},
        {"customerId": ""},
    ],
)
def test_a_line_that_makes_no_sense_is_refused(
    http: httpx.Client, fields: dict[str, object]
) -> None:
    """A guess about money is worse than an error."""
    given = {name: value for name, value in line(**fields).items() if value is not None}

    assert put(http, given).status_code == 400
    assert history(http) == []


def test_two_equal_lines_of_one_import_are_refused(http: httpx.Client) -> None:
    """Either is a mistake of the export, or two invoices that need keys."""
    response = put(http, line(), line(amount="7"))

    [error] = response.json()["errors"]
    assert error["code"] == "DUPLICATE_LINE"
    assert error["field"] == "lines.1"
    assert "key" in error["message"]


# -- several parts


def test_no_line_of_an_import_counts_before_its_last_part(http: httpx.Client) -> None:
    """A million rows take a hundred requests, and the tenth may fail."""
    stored(http, line(amount="1"))
    stored(http, line(), importId="big", isLast=False)
    before = total(http), history(http)
    stored(http, line(customerId="cus_2"), importId="big", part=1)

    assert before == ("1", [("1", True)])
    assert total(http) == "200"
    assert history(http) == [("100", True), ("100", True), ("1", False)]


def test_a_part_that_is_sent_again_counts_once(http: httpx.Client) -> None:
    """A client cannot know whether a part arrived before the connection broke."""
    for _ in range(2):
        stored(http, line(), importId="big", isLast=False)
    results = [
        stored(http, line(customerId="cus_2"), importId="big", part=1) for _ in range(2)
    ]

    assert results[0] == {**results[1], "warnings": results[0]["warnings"]}
    assert (results[1]["added"], results[1]["isComplete"]) == (2, True)
    assert total(http) == "200"


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"part": 2}, "expects part 1"),
        ({"part": 0, "lines": [line(amount="3")]}, "expects part 1"),
    ],
)
def test_a_part_that_the_import_does_not_expect_is_refused(
    http: httpx.Client, fields: dict[str, Any], remedy: str
) -> None:
    """A gap would be lines whose absence is not seen."""
    stored(http, line(), importId="big", isLast=False)
    body = {"importId": "big", "isLast": False, "lines": [line()], **fields}
    response = http.put("/v0/revenue", json=body)

    assert response.status_code == 409
    assert remedy in response.json()["message"]


def test_a_complete_import_takes_no_other_lines(http: httpx.Client) -> None:
    """Ignoring them would be a correction that is lost."""
    stored(http, line(), importId="october")
    response = put(http, line(amount="3"), importId="october")

    assert response.status_code == 409
    assert "another importId" in response.json()["message"]
    assert total(http) == "100"


def test_two_parts_with_the_same_line_are_refused(http: httpx.Client) -> None:
    """The rule of one part holds for the whole import."""
    stored(http, line(), importId="big", isLast=False)
    response = put(http, line(amount="3"), importId="big", part=1)

    assert response.status_code == 400
    assert "an earlier part" in response.json()["message"]
    assert total(http) == "0"


def test_parts_need_an_id(http: httpx.Client) -> None:
    """Without one, the server cannot know what belongs together."""
    assert put(http, line(), isLast=False).status_code == 400


# -- the past


def test_margins_can_be_asked_as_of_a_moment_in_the_past(http: httpx.Client) -> None:
    """An auditor asks what the figures were on the day of the report."""
    stored(http, line())
    [received] = http.get("/v0/revenue", params=OCTOBER).json()["data"]
    stored(http, line(amount="7"))

    assert total(http, asOf=received["receivedAt"]) == "100"
    assert total(http, asOf="2026-01-01T00:00:00Z") == "0"
    assert total(http) == "7"


@pytest.mark.parametrize("path", ["/v0/revenue", "/v0/profitability"])
def test_a_period_that_ends_before_it_starts_is_refused(
    path: str, http: httpx.Client
) -> None:
    """It would be an empty list, as if there were no revenue."""
    backwards = {"from": OCTOBER["to"], "to": OCTOBER["from"]}
    response = http.get(path, params=backwards)

    assert response.status_code == 400
    assert "must be after 'from'" in response.text


def test_the_prior_period_starts_no_sooner_than_time_does(http: httpx.Client) -> None:
    """A client that wants everything asks from the first year on."""
    stored(http, line())
    ever = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}
    assert total(http, **ever) == "100"


# -- customers and rates


def test_a_customer_nobody_knows_is_named_and_still_counts(http: httpx.Client) -> None:
    """A typo in an export must be seen, and a free customer is no error."""
    http.put("/v0/customers/cus_2", json={"name": "Globex"})
    event = {"type": "cost.x", "source": "tests", "subject": "cus_3", "data": {}}
    cost = {
        "type": "metered",
        "name": "X",
        "unitCost": 1,
        "currency": "USD",
        "productId": "prod_1",
        "eventType": "cost.x",
        "aggregation": "COUNT",
    }
    assert http.post("/v0/costs", json=cost).status_code == 201
    assert http.post("/v0/events", json=event).status_code == 202
    lines = [line(customerId=f"cus_{number}") for number in (1, 2, 3)]

    [warning] = stored(http, *lines)["warnings"]

    assert warning.endswith("their revenue counts: cus_1")
    assert total(http) == "300"


def test_a_display_name_is_beside_the_customer(http: httpx.Client) -> None:
    """Ids may hold any text."""
    names = [{"id": "a/b c", "name": "Acme"}, {"id": "cus_1", "name": "Old"}]
    http.put("/v0/customers", json={"customers": names})
    http.put("/v0/customers/cus_1", json={"name": "Globex, Inc."})
    stored(http, line(), line(customerId="a/b c"), line(customerId="cus_3"))

    summary = http.get("/v0/profitability", params=OCTOBER).json()
    named = {row["customerId"]: row["customerName"] for row in summary["rows"]}
    assert named == {"a/b c": "Acme", "cus_1": "Globex, Inc.", "cus_3": ""}
    listed = http.get("/v0/customers").json()
    assert [one["id"] for one in listed["data"]] == ["a/b c", "cus_1"]


@pytest.mark.parametrize("name", ["a/b", "/", "a/", "//x", "100%2F", "a/b?c#d", "ü/ ."])
def test_a_path_names_each_customer_that_events_can_have(
    http: httpx.Client, name: str
) -> None:
    """An encoded slash belongs to the id, and separates nothing."""
    path = f"/v0/customers/{quote(name, safe='')}"
    named = http.put(path, json={"name": "Acme"})
    assert named.status_code == 200, named.text
    assert named.json()["id"] == name
    assert http.get(path).json()["name"] == "Acme"
    assert [one["id"] for one in http.get("/v0/customers").json()["data"]] == [name]


def test_a_path_with_an_id_that_no_event_can_have_is_refused(
    http: httpx.Client,
) -> None:
    """Such a name would never be shown."""
    for name in ("%00", "a%0Ab", "x" * 256):
        refused = http.put(f"/v0/customers/{name}", json={"name": "Acme"})
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["field"] == "id"


def test_a_used_rate_is_in_the_response_with_its_date_and_source(
    http: httpx.Client,
) -> None:
    """A converted amount is worth as much as its rate."""
    given = {
        "from": "EUR",
        "to": "USD",
        "rate": "1.0832",
        "validFrom": "2026-10-01",
        "source": "ECB",
    }
    unused = {**given, "from": "GBP"}
    http.put("/v0/rates", json={"rates": [given, unused]})
    response = http.put("/v0/rates", json={"rates": [given, unused]})
    stored(http, line(currency="EUR"))

    summary = http.get("/v0/profitability", params={**OCTOBER, "currency": "USD"})
    assert response.json() == {"object": "rateUpdate", "stored": 0, "unchanged": 2}
    assert summary.json()["total"]["netRevenueExact"] == "108.32"
    assert summary.json()["rates"] == [
        {"object": "rate", **given, "validFrom": "2026-10-01T00:00:00.000Z"}
    ]


def test_a_key_without_the_permission_sees_no_margin(
    server: BackgroundServer, http: httpx.Client
) -> None:
    """Who may see costs need not see what customers pay."""
    del http
    key = server.create_key("costs", ["costs:read", "events:create"])
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as other:
        refused = [
            other.get("/v0/profitability", params=OCTOBER),
            other.get("/v0/revenue", params=OCTOBER),
            put(other, line()),
        ]

    assert [one.status_code for one in refused] == [403, 403, 403]
