"""Every query of a period can be asked as of a moment, and responds as it did then."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from outlay.server._http.routes import ROUTES
from tests.support import command_line
from tests.support.clock import HOUR, ManualClock
from tests.support.command_line import KEY, reaching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OCTOBER: Final = {"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}
MONTH: Final = "month=2026-10"

ENDPOINTS: Final[dict[str, dict[str, str]]] = {
    "/v0/costs/{cost}/summary": {"groupBy": "provider", "window": "DAY"},
    "/v0/costMetrics/{cost}/summary": {},
    "/v0/costs/report": {"groupBy": "cost"},
    "/v0/profitability": {},
    "/v0/revenue": {},
    "/v0/events": {},
    "/v0/export": {"dataset": "events"},
    "/v0/export?": {"dataset": "totals"},
    "/v0/export??": {"dataset": "focus"},
    "/v0/unmatchedEvents": {},
    "/v0/billableMetrics/{meter}/meter": {"groupBy": "provider"},
    "/v0/billableMetrics/{meter}/events": {},
}
"""The queries of a period. A question mark tells two of one endpoint apart."""

PAGES: Final = (
    f"/?{MONTH}",
    f"/customers?{MONTH}",
    f"/customers?{MONTH}&where.provider=p",
    f"/customer?{MONTH}&id=cus_1",
    f"/events?{MONTH}",
    f"/revenue?{MONTH}",
    f"/cost-metrics?{MONTH}",
    f"/data-health?{MONTH}",
)
COMMANDS: Final = (
    ("costs", "--by", "customer", "--json"),
    ("margins", "--json"),
    ("export", "events"),
    ("export", "totals"),
    ("export", "focus"),
    ("events", "list", "--from", "2026-10-01", "--to", "2026-11-01", "--json"),
)


class Books(NamedTuple):
    """A server with a past, and its responses of then."""

    server: BackgroundServer
    http: httpx.Client
    person: httpx.Client
    folder: Path
    ids: dict[str, str]
    then: str
    before: dict[object, Any]


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    """Ask everything, change everything, and keep the first responses."""
    clock = ManualClock()
    clock.step(318 * 24 * HOUR)  # to November 2026
    settings = ServerSettings(
        port=0, database=":memory:", api_key=KEY, accept_unmatched=True
    )
    headers = {"authorization": f"Bearer {KEY}"}
    with (
        BackgroundServer(settings, clock=clock) as server,
        httpx.Client(
            base_url=server.url, headers=headers, trust_env=False, timeout=30
        ) as http,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as person,
    ):
        assert person.post("/sign-in", data={"key": KEY}).status_code == 303
        ids = _metrics(http)
        first = _spend(http, "5")
        _spend(http, "3", event_type="cost.unknown")
        _earn(http, "100")
        clock.advance(1)
        then = http.get("/v0/events", params=OCTOBER).json()["data"][0]["receivedAt"]
        found = Books(
            server, http, person, tmp_path_factory.mktemp("as_of"), ids, then, {}
        )
        found.before.update({one: _answer(found, one) for one in ENDPOINTS})
        found.before.update({one: _figures(found, one) for one in PAGES})
        found.before.update({one: _output(found, one) for one in COMMANDS})

        clock.advance(1)
        _spend(http, "9")
        _spend(http, "1", event_type="cost.unknown")
        adjusted = {"costId": ids["cost"], "delta": "1", "reason": "rebate"}
        response = http.post(f"/v0/events/{first}/adjust", json=adjusted)
        assert response.status_code == 200, response.text
        _earn(http, "70")
        clock.advance(1)
        yield found


def _metrics(http: httpx.Client) -> dict[str, str]:
    common = {
        "eventType": "cost.ai",
        "aggregation": "SUM",
        "valueProperty": "$.amount",
        "groupBy": {"provider": "$.provider"},
        "productId": "prod_1",
    }
    cost = {"type": "metered", "name": "AI", "unitCost": 1, "currency": "USD"}
    made = http.post("/v0/costs", json={**common, **cost})
    assert made.status_code == 201, made.text
    meter = {"name": "AI", "description": "", "unit": "USD"}
    meter["merchantId"] = "org_local"
    metered = http.post("/v0/billableMetrics", json={**common, **meter})
    assert metered.status_code == 201, metered.text
    return {"cost": made.json()["id"], "meter": metered.json()["id"]}


def _spend(http: httpx.Client, amount: str, event_type: str = "cost.ai") -> str:
    body = {
        "type": event_type,
        "source": "tests",
        "subject": "cus_1",
        "timestamp": "2026-10-03T12:00:00Z",
        "data": {"amount": amount, "provider": "p"},
    }
    response = http.post("/v0/events", json=body)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def _earn(http: httpx.Client, amount: str) -> None:
    line = {"customerId": "cus_1", "amount": amount, "currency": "USD"}
    body = {"lines": [{**line, "period": "2026-10"}]}
    assert http.put("/v0/revenue", json=body).status_code == 200


def _answer(books: Books, endpoint: str, **query: str) -> str:
    path = endpoint.rstrip("?").format(**books.ids)
    wanted = {**OCTOBER, **ENDPOINTS[endpoint], **query}
    response = books.http.get(path, params=wanted)
    assert response.status_code == 200, response.text
    return response.text


def _figures(books: Books, page: str, query: str = "") -> list[str]:
    """Return the figures of a page: amounts and counts of its period."""
    response = books.person.get(page + query)
    assert response.status_code == 200, response.text
    # The counts since the start of the server are those of now.
    text = re.sub(r"Duplicates</a>.*?</tr>", "", response.text, flags=re.DOTALL)
    parts = text.split('class="panel"')
    if page.startswith("/data-health"):
        parts = [
            part for part in parts if 'id="excluded"' in part or "unmatched" in part
        ]
    return re.findall(r'<data value="[^"]*"|<td class="num">[^<]+', "".join(parts))


def _output(books: Books, words: tuple[str, ...], *more: str) -> str:
    month = () if words[0] == "events" else ("--month", "2026-10")
    file = books.folder / "export.csv"
    output = ("--output", str(file)) if words[0] == "export" else ()
    every = (*words, *month, *output, *more, *reaching(books.server))
    ran = command_line.call(*every)
    assert ran.code == 0, ran.err
    return file.read_text() if output else ran.out


def test_every_query_with_a_period_takes_a_moment() -> None:
    """The table of routes says which they are."""
    periods = {
        route.path: route.query.model_fields.keys()
        for route in ROUTES
        if route.method == "GET" and route.query is not None
        if {"start", "end"} <= route.query.model_fields.keys()
    }
    assert [path for path, names in periods.items() if "as_of" not in names] == []
    tested = {re.sub(r"{\w+}", "{id}", one.rstrip("?")) for one in ENDPOINTS}
    assert tested == periods.keys()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_endpoint_responds_as_it_did(books: Books, endpoint: str) -> None:
    """Without the events, corrections and revenue that came later."""
    assert _answer(books, endpoint, asOf=books.then) == books.before[endpoint]
    assert _answer(books, endpoint) != books.before[endpoint]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_it_showed(books: Books, page: str) -> None:
    """And its links keep the moment."""
    assert _figures(books, page, f"&asOf={books.then}") == books.before[page]
    assert _figures(books, page) != books.before[page]
    shown = books.person.get(f"{page}&asOf={books.then}").text
    assert "As of" in shown
    assert re.search(r'href="/customers\?[^"]*asOf=', shown)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_prints_what_it_printed(books: Books, words: tuple[str, ...]) -> None:
    """With ``--as-of``."""
    assert _output(books, words, "--as-of", books.then) == books.before[words]
    assert _output(books, words) != books.before[words]


def test_a_moment_that_is_none_says_what_to_write(books: Books) -> None:
    """On a page, a date will do."""
    page = books.person.get(f"/?{MONTH}&asOf=yesterday")
    assert page.status_code == 400
    assert "must be a time such as 2026-11-03" in page.text
    assert books.person.get(f"/?{MONTH}&asOf=2026-11-03").status_code == 200
