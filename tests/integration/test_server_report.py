"""The cost report over real HTTP: what a finance lead reads off it."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from outlay.server import BackgroundServer, ServerSettings
from tests.support.stores import OPENERS

if TYPE_CHECKING:
    from collections.abc import Iterator

JANUARY = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}

_exact = msgspec.json.Decoder(float_hook=Decimal).decode
_organizations = itertools.count(1)


@dataclass
class Books:
    """An organization with nothing in it, and a client that may do everything."""

    server: BackgroundServer
    organization: str
    http: httpx.Client

    def create_cost(self, **overrides: Any) -> str:  # noqa: ANN401 - JSON
        """Create a cost that sums amounts, and return its id."""
        fields = {
            "type": "metered",
            "name": "AI",
            "unitCost": 1,
            "currency": "USD",
            "productId": "prod_p1",
            "eventType": "cost.ai",
            "aggregation": "SUM",
            "valueProperty": "$.amount",
            "groupBy": {"provider": "$.provider"},
            **overrides,
        }
        answer = self.http.post("/v0/costs", json=fields)
        assert answer.status_code == 201, answer.text
        identifier: str = answer.json()["id"]
        return identifier

    def spend(
        self,
        amount: str,
        customer: str = "cus_1",
        *,
        at: str = "2026-01-05T12:00:00Z",
        type_: str = "cost.ai",
        provider: str = "anthropic",
    ) -> None:
        """Post an event; the amount goes out as it is written."""
        body = (
            f'{{"type":"{type_}","source":"tests","subject":"{customer}",'
            f'"timestamp":"{at}",'
            f'"data":{{"amount":{amount},"provider":"{provider}"}}}}'
        )
        headers = {"content-type": "application/json"}
        answer = self.http.post("/v0/events", content=body, headers=headers)
        assert answer.status_code == 202, answer.text

    def ask(self, **query: Any) -> httpx.Response:  # noqa: ANN401 - any parameter
        """Ask for a report on January 2026 by customer."""
        params = {**JANUARY, "groupBy": "customer", **query}
        return self.http.get("/v0/costs/report", params=params)

    def report(self, **query: Any) -> dict[str, Any]:  # noqa: ANN401 - any parameter
        """Return such a report, its numbers exact."""
        answer = self.ask(**query)
        assert answer.status_code == 200, answer.text
        decoded: dict[str, Any] = _exact(answer.content)
        return decoded


@pytest.fixture(scope="module", params=OPENERS)
def server(request: pytest.FixtureRequest) -> Iterator[BackgroundServer]:
    """Return a server for all tests; each has an organization of its own."""
    with BackgroundServer(
        ServerSettings(port=0, database=":memory:", default_currency="CHF"),
        open_store=OPENERS[request.param],
    ) as server:
        yield server


@contextmanager
def opened(server: BackgroundServer) -> Iterator[Books]:
    """Open the books of a new organization."""
    organization = f"org_{next(_organizations)}"
    key = server.create_key(organization, ["*"], namespace=organization)
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
        yield Books(server, organization, http)


@pytest.fixture
def books(server: BackgroundServer) -> Iterator[Books]:
    """Return empty books."""
    with opened(server) as books:
        yield books


@pytest.fixture(scope="module")
def asked(server: BackgroundServer) -> Iterator[Books]:
    """Return books with two costs, whose tests only ask."""
    with opened(server) as books:
        books.create_cost()
        books.create_cost(name="OCR", eventType="cost.ocr", groupBy={"region": "$.r"})
        yield books


def rows(report: dict[str, Any], *fields: str) -> list[tuple[Any, ...]]:
    """Return some fields of each row."""
    return [tuple(row[field] for field in fields) for row in report["groups"]]


# -- rows and totals


def test_a_report_by_customer_covers_all_costs(books: Books) -> None:
    """What a customer costs is what all costs come to for them."""
    books.create_cost(unit="usd")
    books.create_cost(name="OCR", eventType="cost.ocr", unitCost=2, unit="usd")
    books.spend("1", "cus_1")
    books.spend("2", "cus_2")
    books.spend("3", "cus_2", type_="cost.ocr")

    report = books.report()

    assert report == {
        "object": "cost_report",
        "currency": "USD",
        "period": {
            "from": "2026-01-01T00:00:00.000Z",
            "to": "2026-02-01T00:00:00.000Z",
        },
        "groupBy": "customer",
        "totalCost": 9,
        "totalCostExact": "9",
        "totalQuantity": 6,
        "totalQuantityExact": "6",
        "groups": [
            {
                "key": "cus_2",
                "label": "cus_2",
                "totalCost": 8,
                "totalCostExact": "8",
                "totalQuantity": 5,
                "percentOfTotal": Decimal("88.89"),
                "isOther": False,
                "unit": "usd",
            },
            {
                "key": "cus_1",
                "label": "cus_1",
                "totalCost": 1,
                "totalCostExact": "1",
                "totalQuantity": 1,
                "percentOfTotal": Decimal("11.11"),
                "isOther": False,
                "unit": "usd",
            },
        ],
        "timeSeries": [],
        "availableDimensions": [],
        "pagination": {"limit": 25, "offset": 0, "total": 2},
        "groupCount": 2,
        "emptyGroupCount": 0,
    }


def test_a_report_by_cost_names_every_cost(books: Books) -> None:
    """A cost without events is a fact as well, unless it is left out."""
    spent = books.create_cost(name="AI", unit="token")
    idle = books.create_cost(name="OCR", eventType="cost.ocr", unit="page")
    books.spend("1")

    report = books.report(groupBy="cost")
    filled = books.report(groupBy="cost", excludeEmpty=True)

    assert rows(report, "key", "label", "totalCost", "unit") == [
        (spent, "AI", 1, "token"),
        (idle, "OCR", 0, "page"),
    ]
    assert rows(filled, "key") == [(spent,)]
    for one, paged in ((report, 2), (filled, 1)):
        assert (one["groupCount"], one["emptyGroupCount"]) == (2, 1)
        assert one["pagination"]["total"] == paged
        assert one["totalCost"] == 1


def test_a_report_by_dimension_drills_into_one_cost(books: Books) -> None:
    """And says which dimensions there are to go on with."""
    cost_id = books.create_cost(
        groupBy={"provider": "$.provider", "amount": "$.amount"}
    )
    books.spend("1", provider="openai")
    books.spend("2", provider="")

    report = books.report(groupBy="provider", costId=cost_id)

    assert rows(report, "key", "label", "totalCost") == [
        ("", "(none)", 2),
        ("openai", "openai", 1),
    ]
    assert report["availableDimensions"] == ["amount", "provider"]


def test_a_report_adds_up_to_the_summaries_to_the_last_digit(books: Books) -> None:
    """Two ways to ask the same question, and one truth."""
    cost_ids = [
        books.create_cost(unitCost=0.000001),
        books.create_cost(name="Again", unitCost=3),
    ]
    for amount in ("0.1", "0.2", "99999999999999999999.999999999999999999"):
        books.spend(amount)

    report = books.report(groupBy="cost")
    sums = [
        _exact(books.http.get(f"/v0/costs/{one}/summary", params=JANUARY).content)
        for one in cost_ids
    ]

    assert {row["key"]: row["totalCostExact"] for row in report["groups"]} == {
        one["id"]: one["totalCostExact"] for one in sums
    }
    assert report["totalCostExact"] == (
        "300000100000000000000.900000299999999996999999"
    )
    assert report["totalCost"] == Decimal(report["totalCostExact"])


def test_a_period_is_half_open(books: Books) -> None:
    """Two months side by side must count each event once."""
    books.create_cost()
    books.spend("1", at="2026-01-01T00:00:00Z")
    books.spend("2", at="2026-01-31T23:59:59.999999Z")
    books.spend("4", at="2026-02-01T00:00:00Z")

    assert books.report()["totalCost"] == 3


# -- the remainder, pages, series


def test_what_is_not_shown_is_one_row(books: Books) -> None:
    """The rows still come to the total."""
    books.create_cost()
    for number in range(1, 13):
        books.spend(str(number), f"cus_{number:02}")

    report = books.report(limit=9)

    assert [row["key"] for row in report["groups"]] == [
        *[f"cus_{number:02}" for number in range(12, 3, -1)],
        "__other__",
    ]
    last = report["groups"][-1]
    assert (last["isOther"], last["label"], last["totalCost"]) == (True, "Other", 6)
    assert sum(row["totalCost"] for row in report["groups"]) == report["totalCost"]
    assert report["groupCount"] == 12


def test_pages_by_their_own_limit_show_every_group_once(books: Books) -> None:
    """A client that steps by the limit of the answer misses none."""
    books.create_cost()
    for number in range(1, 8):
        books.spend(str(number), f"cus_{number}")

    seen: list[str] = []
    offset, total = 0, 1
    while offset < total:
        page = books.report(limit=3, offset=offset, sortDir="asc")
        seen += [row["key"] for row in page["groups"] if not row["isOther"]]
        total = page["pagination"]["total"]
        offset += page["pagination"]["limit"]

    assert seen == [f"cus_{number}" for number in range(1, 8)]
    assert books.report(limit=2)["pagination"]["limit"] == 2
    assert books.report(offset=7)["groups"] == []


def test_pages_of_an_sdk_show_each_of_sixty_customers(books: Books) -> None:
    """Official clients send ``topN`` and ``limit`` always, and step by ``limit``."""
    books.create_cost()
    for number in range(60):
        books.spend(str(number + 1), f"cus_{number}")

    pages = [
        books.report(topN=9, limit=25, offset=offset, windowSize="DAY")
        for offset in (0, 25, 50)
    ]

    rows = [row for page in pages for row in page["groups"]]
    assert {row["key"] for row in rows if not row["isOther"]} == {
        f"cus_{number}" for number in range(60)
    }
    assert [len(page["groups"]) for page in pages] == [26, 26, 10]
    # A chart names the first nine, and adds up the rest.
    charts = [page["timeSeries"][0]["groups"] for page in pages]
    assert [len(chart) for chart in charts] == [10, 10, 10]
    assert [sum(chart.values()) for chart in charts] == [
        sum(row["totalCost"] for row in page["groups"]) for page in pages
    ]


def test_a_series_has_the_keys_of_the_rows(books: Books) -> None:
    """A chart takes its labels from the rows."""
    books.create_cost()
    books.spend("1", "cus_1", at="2026-01-05T00:59:59Z")
    books.spend("2", "cus_2", at="2026-01-05T01:00:00Z")
    books.spend("4", "cus_3", at="2026-01-05T01:30:00Z")
    books.spend("8", "cus_3", at="2026-01-31T00:00:00Z")

    series = {
        window: [
            (point["windowStart"][5:13], point["windowEnd"][5:13], point["groups"])
            for point in books.report(windowSize=window, topN=1, limit=1)["timeSeries"]
        ]
        for window in ("HOUR", "DAY", "month")
    }

    assert series == {
        "HOUR": [
            ("01-05T00", "01-05T01", {"__other__": 1}),
            ("01-05T01", "01-05T02", {"__other__": 2, "cus_3": 4}),
            ("01-31T00", "01-31T01", {"cus_3": 8}),
        ],
        "DAY": [
            ("01-05T00", "01-06T00", {"__other__": 3, "cus_3": 4}),
            ("01-31T00", "02-01T00", {"cus_3": 8}),
        ],
        "month": [("01-01T00", "02-01T00", {"__other__": 3, "cus_3": 12})],
    }


def test_sorting_by_quantity(books: Books) -> None:
    """Who uses most need not cost most."""
    cheap = books.create_cost(eventType="cost.cheap", unitCost=0.01)
    dear = books.create_cost(eventType="cost.dear", unitCost=100)
    books.spend("5", type_="cost.cheap")
    books.spend("1", type_="cost.dear")

    by_quantity = books.report(groupBy="cost", sort="totalQuantity")
    by_cost = books.report(groupBy="cost", sort="totalCost")

    assert rows(by_quantity, "key") == [(cheap,), (dear,)]
    assert rows(by_cost, "key") == [(dear,), (cheap,)]


# -- the period before


def test_the_period_before_is_as_long_and_ends_where_this_one_starts(
    books: Books,
) -> None:
    """31 days before January: December, to the microsecond."""
    books.create_cost()
    books.spend("100", at="2025-11-30T23:59:59.999999Z")
    books.spend("1", at="2025-12-01T00:00:00Z")
    books.spend("3", at="2025-12-31T23:59:59.999999Z")
    books.spend("5", at="2026-01-01T00:00:00Z")
    books.spend("2", "cus_left", at="2025-12-15T00:00:00Z")
    books.spend("2", "cus_new")

    report = books.report(comparePriorPeriod=True)

    assert [(row["key"], row["priorPeriod"]) for row in report["groups"]] == [
        ("cus_1", {"cost": 4, "changePercent": 25, "costExact": "4"}),
        ("cus_new", {"cost": 0, "changePercent": None, "costExact": "0"}),
        ("cus_left", {"cost": 2, "changePercent": -100, "costExact": "2"}),
    ]
    assert report["emptyGroupCount"] == 1
    rest = books.report(comparePriorPeriod=True, limit=1)["groups"][-1]
    assert rest["priorPeriod"] == {"cost": 2, "changePercent": 0, "costExact": "2"}
    assert "priorPeriod" not in books.report()["groups"][0]


# -- filters


def test_filters_narrow_rows_and_totals(books: Books) -> None:
    """By customer, by dimension, by cost."""
    cost_id = books.create_cost()
    books.create_cost(name="OCR", eventType="cost.ocr")
    books.spend("1", "cus_1", provider="openai")
    books.spend("2", "cus_1", provider="anthropic")
    books.spend("4", "cus_2", provider="openai")
    books.spend("8", "cus_2", provider="openai", type_="cost.ocr")

    totals = [
        books.report(**query)["totalCost"]
        for query in (
            {"subject": "cus_1"},
            {"filterGroupBy": '{"provider":"openai"}'},
            {"filterGroupBy": '{"provider":["openai"],"subject":"cus_2"}'},
            {"costId": cost_id},
            {"costId": [cost_id, cost_id], "subject": "cus_2"},
        )
    ]

    assert totals == [3, 13, 12, 7, 4]


def test_several_costs_are_asked_for_by_repeating_the_name(books: Books) -> None:
    """As all official clients do."""
    first, second, _ = (
        books.create_cost(eventType=f"cost.{number}") for number in range(3)
    )
    for number in range(3):
        books.spend("1", type_=f"cost.{number}")

    assert books.report(costId=[first, second])["totalCost"] == 2


# -- currencies


def test_currencies_are_never_added(books: Books) -> None:
    """Who does not say which one is asked, and told which there are."""
    books.create_cost(currency="USD")
    euro = books.create_cost(name="OCR", currency="EUR", eventType="cost.ocr")
    books.spend("1")
    books.spend("2", type_="cost.ocr")

    refused = books.ask()
    dollars = books.report(currency="usd")
    euros = books.report(costId=euro)

    assert refused.status_code == 400
    [error] = refused.json()["errors"]
    assert (error["field"], error["code"]) == ("currency", "CURRENCY_NEEDED")
    assert error["message"].endswith("name one of EUR, USD")
    assert (dollars["currency"], dollars["totalCost"]) == ("USD", 1)
    assert dollars["warnings"] == [
        f"excluded, because they are not in USD: OCR ({euro})"
    ]
    assert (euros["currency"], euros["totalCost"]) == ("EUR", 2)
    assert "warnings" not in euros


def test_a_currency_without_costs_gives_an_empty_report(books: Books) -> None:
    """With a warning, because it may be a slip of the pen."""
    cost_id = books.create_cost()
    books.spend("1")

    report = books.report(currency="EUR", groupBy="cost")

    assert (report["currency"], report["totalCost"], report["groups"]) == ("EUR", 0, [])
    assert report["warnings"] == [
        f"excluded, because they are not in EUR: AI ({cost_id})"
    ]


def test_an_organization_without_costs_has_an_empty_report(books: Books) -> None:
    """In the server's own currency, for one has to be named."""
    report = books.report(windowSize="DAY", comparePriorPeriod=True)

    assert (report["currency"], report["totalCost"], report["groups"]) == ("CHF", 0, [])
    assert report["costRange"] is None


# -- what a reader should know


def test_values_that_do_not_count_are_reported(books: Books) -> None:
    """A total that silently lacks something is worse than none."""
    cost_id = books.create_cost()
    for amount in ("1", "null", '"n/a"'):
        books.spend(amount)

    [warning] = books.report()["warnings"]
    assert warning == (
        "excluded, because they have no numeric value: "
        f"2 of the events of AI ({cost_id})"
    )


def test_costs_that_come_to_nothing_say_why(books: Books) -> None:
    """Zero by definition is another zero than zero by count."""
    inert = books.create_cost(name="Inert", eventType="cost.inert")
    books.http.patch(f"/v0/costs/{inert}", json={"eventType": None})
    plain = books.create_cost(name="Plain", eventType="cost.plain", groupBy={"r": "$"})
    books.create_cost()
    books.spend("1", provider="openai")
    books.spend("2", type_="cost.plain")

    report = books.report(filterGroupBy='{"provider":"openai"}')

    assert report["totalCost"] == 1
    assert report["warnings"] == [
        f"excluded, because they have no event type or aggregation: Inert ({inert})",
        f"excluded, because they lack a dimension of filterGroupBy: Plain ({plain})",
    ]


def test_what_does_not_add_up_is_named(books: Books) -> None:
    """The sum of the customers' averages is not the average."""
    cost_id = books.create_cost(aggregation="AVG")
    for amount, customer in (("1", "cus_1"), ("2", "cus_2"), ("9", "cus_2")):
        books.spend(amount, customer)

    by_customer = books.report()
    by_cost = books.report(groupBy="cost")

    assert (by_customer["totalCost"], by_cost["totalCost"]) == (Decimal("6.5"), 4)
    [warning] = by_customer["warnings"]
    assert warning == (
        "neither SUM nor COUNT, so each group and window has a value of its own, "
        f"and totals add those up: AI ({cost_id})"
    )
    assert "warnings" not in by_cost
    assert "warnings" not in books.report(to="2026-01-02T00:00:00Z")


def test_a_remainder_that_does_not_add_up_is_the_sum_of_its_groups(
    books: Books,
) -> None:
    """In the rows and in the series alike, or a chart would contradict its table."""
    books.create_cost(aggregation="MAX")
    for amount, customer in (("4", "cus_1"), ("3", "cus_2"), ("2", "cus_3")):
        books.spend(amount, customer)

    report = books.report(limit=1, windowSize="DAY")

    assert rows(report, "key", "totalCost") == [("cus_1", 4), ("__other__", 5)]
    assert [point["groups"] for point in report["timeSeries"]] == [
        {"cus_1": 4, "__other__": 5}
    ]


def test_different_units_are_pointed_out(books: Books) -> None:
    """Pages and tokens make a cost together, but no quantity."""
    books.create_cost(unit="token")
    books.create_cost(unit="page", eventType="cost.ocr")
    books.spend("1")
    books.spend("2", type_="cost.ocr")

    report = books.report()

    assert report["warnings"] == ["totalQuantity adds different units: page, token"]
    assert "unit" not in report["groups"][0]
    assert "warnings" not in books.report(to="2026-01-02T00:00:00Z")


def test_an_empty_report_says_where_the_data_is(books: Books) -> None:
    """Most empty reports are about the wrong month."""
    books.create_cost()
    never = books.report()
    books.spend("1", at="2025-03-01T00:00:00Z")
    books.spend("1", at="2025-05-01T12:00:00.5Z")

    empty = books.report()
    unknown = books.report(subject="cus_2")
    found = books.report(**{"from": "2025-01-01T00:00:00Z"})

    assert never["costRange"] is None
    assert empty["costRange"] == {
        "from": "2025-03-01T00:00:00.000Z",
        "to": "2025-05-01T12:00:00.500Z",
    }
    assert "costRange" not in unknown
    assert "costRange" not in found


# -- refusals


@pytest.mark.parametrize(
    ("query", "field", "allowed"),
    [
        pytest.param({"from": "soon"}, "from", "RFC 3339", id="from"),
        pytest.param({"to": "2026-01-01T00:00:00Z"}, "to", "after", id="no-period"),
        pytest.param({"groupBy": ""}, "groupBy", "at least 1", id="no-group"),
        pytest.param(
            {"groupBy": "provider"}, "groupBy", "customer", id="several-costs"
        ),
        pytest.param({"costId": "cst_x"}, "costId", "there are cst_", id="cost"),
        pytest.param({"costId": ""}, "costId", "there are cst_", id="blank-cost"),
        pytest.param({"subject": ""}, "subject", "at least 1", id="blank-subject"),
        pytest.param({"topN": 0}, "topN", "equal to 1", id="top-of-none"),
        pytest.param({"topN": 26}, "topN", "equal to 25", id="top-of-many"),
        pytest.param({"limit": 0}, "limit", "equal to 1", id="no-limit"),
        pytest.param({"limit": 101}, "limit", "equal to 100", id="limit"),
        pytest.param({"offset": -1}, "offset", "equal to 0", id="offset"),
        pytest.param(
            {"windowSize": "MINUTE"}, "windowSize", "'HOUR', 'DAY' or", id="window"
        ),
        pytest.param({"sort": "cost"}, "sort", "'totalQuantity'", id="sort"),
        pytest.param({"sortDir": "up"}, "sortDir", "'asc' or 'desc'", id="direction"),
        pytest.param({"currency": "euro"}, "currency", "three letters", id="currency"),
        pytest.param(
            {"comparePriorPeriod": "perhaps"}, "comparePriorPeriod", "bool", id="flag"
        ),
        pytest.param({"filterGroupBy": "x"}, "filterGroupBy", "JSON", id="no-json"),
        pytest.param(
            {"filterGroupBy": '{"colour":"red"}'},
            "filterGroupBy",
            "there are subject, provider, region",
            id="unknown-filter",
        ),
        pytest.param(
            {"filterGroupBy": '{"a":"","b":"","c":"","d":"","e":"","f":""}'},
            "filterGroupBy",
            "at most 5",
            id="many-filters",
        ),
        pytest.param(
            {"filterGroupBy": 4097 * "x"}, "filterGroupBy", "4096", id="long-filter"
        ),
    ],
)
def test_a_bad_parameter_is_named_with_what_it_may_be(
    asked: Books, query: dict[str, Any], field: str, allowed: str
) -> None:
    """The reader of the error should not have to search."""
    answer = asked.ask(**query)

    assert answer.status_code == 400
    assert answer.json()["error"] == "validation_error"
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert allowed in error["message"]


def test_an_unknown_dimension_is_told_which_there_are(books: Books) -> None:
    """Built-in groupings first."""
    cost_id = books.create_cost()

    answer = books.ask(groupBy="colour", costId=cost_id)

    [error] = answer.json()["errors"]
    assert (error["field"], error["code"]) == ("groupBy", "UNKNOWN_DIMENSION")
    assert "there are subject, cost, customer, provider" in error["message"]


def test_a_refusal_does_not_grow_with_the_organization(books: Books) -> None:
    """Twenty names are a hint; hundreds would be a wall of text."""
    cost_ids = [books.create_cost(eventType=f"cost.{one}") for one in range(22)]

    message = books.ask(costId="cst_x").json()["errors"][0]["message"]

    assert message.endswith(f"there are {', '.join(cost_ids[:20])} and 2 more")


def test_a_dimension_of_several_costs_is_refused(books: Books) -> None:
    """They may call different things by one name."""
    cost_ids = [books.create_cost(), books.create_cost(name="OCR")]

    answer = books.ask(groupBy="provider", costId=cost_ids)

    assert answer.status_code == 400
    assert "exactly one costId" in answer.json()["message"]


# -- access


def test_a_report_needs_the_permission_to_read_costs(books: Books) -> None:
    """The same as a summary, which says no less."""
    key = books.server.create_key(
        "writer", ["events:create", "costs:write"], namespace=books.organization
    )

    answer = httpx.get(
        f"{books.server.url}/v0/costs/report",
        params={**JANUARY, "groupBy": "cost"},
        headers={"authorization": f"Bearer {key}"},
        timeout=30,
    )

    assert answer.status_code == 403
    assert answer.json()["requiredPermissions"] == ["costs:read"]


def test_organizations_see_their_own_costs_only(books: Books) -> None:
    """By any way to name another's."""
    cost_id = books.create_cost()
    books.spend("1")

    with opened(books.server) as others:
        assert others.report()["groups"] == []
        assert others.ask(costId=cost_id).status_code == 400
        assert others.ask(merchantId=books.organization).status_code == 403
        assert others.ask(merchantId=others.organization).status_code == 200
        assert others.ask(merchantId="org_none").status_code == 404


def test_a_report_is_served_with_a_slash_and_not_taken_for_a_cost(
    books: Books,
) -> None:
    """The path of a cost would match it as well."""
    params = {**JANUARY, "groupBy": "cost"}

    answer = books.http.get("/v0/costs/report/", params=params)

    assert answer.status_code == 200
    assert answer.json()["object"] == "cost_report"
    assert books.http.get("/v0/costs/report").status_code == 400
