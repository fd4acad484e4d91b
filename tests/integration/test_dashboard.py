"""The dashboard over real HTTP: sign-in, forms, addresses, and figures of the API."""

from __future__ import annotations

import re
from decimal import Decimal
from html import unescape
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from outlay.server._http.routes import ROUTES
from tests.support.clock import ManualClock
from tests.support.showcase import (
    API_KEY,
    NOW,
    send_events,
    send_revenue,
    showcase_server,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

OCTOBER: Final = {"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}
SO_FAR: Final = {"from": "2026-10-01T00:00:00Z", "to": "2026-10-29T14:00:00Z"}
IN_OCTOBER: Final = {"month": "2026-10"}
_DATA: Final = re.compile(r'<data value="([^"]+)"[^>]*>(.*?)</data>', re.DOTALL)
_TAG: Final = re.compile(r"<[^>]+>")


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """A server with two months of costs."""
    with showcase_server() as server:
        with api(server) as client:
            send_events(client, a_day=20)
            send_revenue(client)
        yield server


@pytest.fixture
def empty() -> Iterator[tuple[BackgroundServer, ManualClock]]:
    """A server without events, and its clock."""
    clock = ManualClock()
    settings = ServerSettings(port=0, database=":memory:", default_metrics=True)
    with BackgroundServer(settings, clock=clock) as server:
        yield server, clock


def api(server: BackgroundServer) -> httpx.Client:
    """Return a client of the API."""
    headers = {"authorization": f"Bearer {server.api_key}"}
    return httpx.Client(
        base_url=server.url, headers=headers, trust_env=False, timeout=30
    )


def browser(server: BackgroundServer) -> httpx.Client:
    """Return a client without a key, which keeps cookies and follows no redirect."""
    return httpx.Client(base_url=server.url, trust_env=False, timeout=30)


def sign_in(client: httpx.Client, key: str, **fields: str) -> httpx.Response:
    """Send the sign-in form."""
    return client.post("/sign-in", data={"key": key, **fields})


def form_token(page: str) -> str:
    """Return the token of the forms of a page."""
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert found is not None
    return found[1]


def figures(page: str) -> list[str]:
    """Return the exact figures of a page, each equal to its visible text."""
    found = []
    for value, text in _DATA.findall(page):
        visible = unescape(_TAG.sub("", text)).replace(",", "").replace("−", "-")
        assert Decimal(visible) == Decimal(value)
        whole, _, digits = value.partition(".")
        assert visible == f"{whole}.{digits:0<2}"  # all digits, and no other one
        found.append(value)
    return found


def flat(rows: list[list[str]]) -> list[str]:
    """Return the cells of all rows."""
    return [cell for row in rows for cell in row]


def report(client: httpx.Client, **query: str) -> dict[str, Any]:
    """Return the report of October."""
    response = client.get(
        "/v0/costs/report", params={**OCTOBER, "groupBy": "customer", **query}
    )
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json(parse_float=Decimal)
    return body


# -- Only a key that may read opens the pages


def test_without_a_session_a_page_leads_to_the_form_and_back(
    server: BackgroundServer,
) -> None:
    """Without a session a page leads to the form and back."""
    with browser(server) as client:
        response = client.get("/customers?month=2026-09")
        assert response.status_code == 303
        form = client.get(response.headers["location"])
        assert 'value="/customers?month=2026-09"' in form.text
        response = sign_in(client, API_KEY, next="/customers?month=2026-09")
        assert response.headers["location"] == "/customers?month=2026-09"
        assert client.get("/customers?month=2026-09").status_code == 200


def test_the_cookie_is_for_this_site_and_not_for_scripts(
    server: BackgroundServer,
) -> None:
    """The cookie is for this site and not for scripts."""
    with browser(server) as client:
        cookie = sign_in(client, API_KEY).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Max-Age=3600" in cookie
    assert API_KEY not in cookie


def test_a_wrong_key_is_refused_without_saying_why(server: BackgroundServer) -> None:
    """A wrong key is refused without saying why."""
    with browser(server) as client:
        response = sign_in(client, "sk_test_wrong")
        assert response.status_code == 403
        assert "This key is not valid here" in response.text
        assert "set-cookie" not in response.headers


def test_a_key_that_may_not_read_is_refused(server: BackgroundServer) -> None:
    """A key that may not read is refused."""
    key = server.create_key("writer", {"events:create"})
    with browser(server) as client:
        response = sign_in(client, key)
    assert response.status_code == 403
    assert "costs:read" in response.text


def test_a_revoked_key_ends_its_sessions(
    empty: tuple[BackgroundServer, ManualClock],
) -> None:
    """A revoked key ends its sessions."""
    server, _ = empty
    key = server.create_key("reader", {"costs:read"})
    with browser(server) as client:
        sign_in(client, key)
        assert client.get("/").status_code == 200
        server.revoke_key(key)
        assert client.get("/").status_code == 303


def test_a_session_ends_after_an_idle_hour_and_lives_on_while_it_is_used(
    empty: tuple[BackgroundServer, ManualClock],
) -> None:
    """A session ends after an idle hour and lives on while it is used."""
    server, clock = empty
    with browser(server) as client:
        sign_in(client, server.api_key or "")
        for _ in range(3):
            clock.advance(3000)
            assert client.get("/").status_code == 200
        clock.advance(3601)
        assert client.get("/").status_code == 303


def test_a_forged_cookie_is_no_session(server: BackgroundServer) -> None:
    """A forged cookie is no session."""
    with browser(server) as client:
        sign_in(client, API_KEY)
        cookie = client.cookies["outlay_session"]
        for forged in ("", "x", cookie[:-1], cookie.replace("~", "~0", 1)):
            headers = {"cookie": f"outlay_session={forged}"}
            response = httpx.get(
                server.url, headers=headers, trust_env=False, timeout=30
            )
            assert response.status_code == 303


def test_sign_out_ends_the_session_and_needs_the_forms_token(
    server: BackgroundServer,
) -> None:
    """Sign-out ends the session and needs the form's token."""
    with browser(server) as client:
        sign_in(client, API_KEY)
        cookie = client.cookies["outlay_session"]
        token = form_token(client.get("/").text)
        assert client.post("/sign-out", data={"csrf": "0"}).status_code == 403
        assert client.post("/sign-out", data={"csrf": token}).status_code == 303
        client.cookies.set("outlay_session", cookie)
        assert client.get("/").status_code == 303


def test_the_form_of_another_site_is_refused(server: BackgroundServer) -> None:
    """The form of another site is refused."""
    with browser(server) as client:
        response = client.post(
            "/sign-in",
            data={"key": API_KEY},
            headers={"origin": "https://example.org"},
        )
    assert response.status_code == 403
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    "target",
    ["https://example.org/", "//example.org", "/\\example.org", "javascript:x"],
)
def test_the_way_back_never_leads_to_another_site(
    server: BackgroundServer, target: str
) -> None:
    """The way back never leads to another site."""
    with browser(server) as client:
        assert sign_in(client, API_KEY, next=target).headers["location"] == "/"


def test_failed_attempts_are_limited_for_a_while(
    empty: tuple[BackgroundServer, ManualClock],
) -> None:
    """Failed attempts are limited for a while."""
    server, clock = empty
    key = server.api_key or ""
    with browser(server) as client:
        for _ in range(10):
            assert sign_in(client, "sk_test_guess").status_code == 403
        response = sign_in(client, key)
        assert response.status_code == 429
        clock.advance(int(response.headers["retry-after"]))
        assert sign_in(client, key).status_code == 303


# -- Each response has the headers that keep other sites out


@pytest.mark.parametrize(
    "path", ["/", "/sign-in", "/static/dashboard.css", "/static/none", "/?tz=x"]
)
def test_the_policy_allows_only_files_of_the_server(
    server: BackgroundServer, path: str
) -> None:
    """The policy allows only files of the server."""
    with api(server) as client:
        headers = client.get(path).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"


def test_pages_are_not_stored_and_files_are(server: BackgroundServer) -> None:
    """Pages are not stored and files are."""
    with api(server) as client:
        page = client.get("/")
        assert page.headers["cache-control"] == "no-store"
        found = re.search(r"/static/dashboard\.css\?\w+", page.text)
        assert found is not None
        assert "immutable" in client.get(found[0]).headers["cache-control"]


def test_names_of_customers_are_escaped(
    empty: tuple[BackgroundServer, ManualClock],
) -> None:
    """Names of customers are escaped."""
    server, _ = empty
    name = '<script>alert("1")</script>'
    event = {
        "type": "cost.messaging",
        "source": "test",
        "subject": name,
        "data": {"amount": "1", "provider": name},
    }
    with api(server) as client:
        assert client.post("/v0/events", json=event).status_code == 202
        for path in ("/", "/customers", "/customer"):
            page = client.get(path, params={"id": name})
            assert page.status_code == 200
            assert "<script>alert" not in page.text
            assert "&lt;script&gt;" in page.text


def test_a_page_cannot_be_posted_to(server: BackgroundServer) -> None:
    """A page cannot be posted to."""
    with browser(server) as client:
        sign_in(client, API_KEY)
        assert client.post("/customers").status_code == 405


# -- Every figure equals the API's text


def test_the_overview_shows_the_total_and_the_days_of_the_report(
    server: BackgroundServer,
) -> None:
    """The overview shows the total and the days of the report."""
    with api(server) as client:
        page = client.get("/", params={"month": "2026-10", "by": "customer"})
        found = report(client, windowSize="DAY", limit="9")
    shown = figures(page.text)
    assert shown[0] == found["totalCostExact"]
    groups = {group["totalCostExact"] for group in found["groups"]}
    assert len(groups) == 10
    assert groups <= set(shown)
    days = {
        format(value.normalize(), "f")
        for point in found["timeSeries"]
        for value in point["groups"].values()
    }
    assert len(days) > 100
    assert days <= set(shown)


def test_the_providers_add_up_over_all_metrics(server: BackgroundServer) -> None:
    """The providers add up over all metrics."""
    with api(server) as client:
        page = client.get("/", params={"month": "2026-10", "by": "provider"})
        costs = client.get("/v0/costs", params={"limit": 100}).json()["data"]
        sums: dict[str, Decimal] = {}
        for cost in costs:
            found = report(client, groupBy="provider", costId=cost["id"])
            for group in found["groups"]:
                value = Decimal(group["totalCostExact"])
                sums[group["key"]] = sums.get(group["key"], Decimal(0)) + value
    expected = {format(value.normalize(), "f") for value in sums.values() if value}
    assert len(expected) == 7
    assert expected <= set(figures(page.text))


def test_customers_are_ranked_as_in_the_report(server: BackgroundServer) -> None:
    """Customers are ranked as in the report."""
    with api(server) as client:
        query = {"month": "2026-10", "where.provider": "aws"}
        first = client.get("/customers", params=query)
        second = client.get("/customers", params={**query, "page": "2"})
        found = report(client, limit="100", filterGroupBy='{"provider":"aws"}')
    costs = [group["totalCostExact"] for group in found["groups"]]
    assert figures(first.text) == [*costs[:25], found["totalCostExact"]]
    assert figures(second.text) == [*costs[25:], found["totalCostExact"]]
    assert f"Top 25 of {len(costs)}" in first.text
    assert f"26–{len(costs)} of {len(costs)}" in second.text


@pytest.mark.parametrize(
    ("sort", "of_api"),
    [
        ("cost", "cost"),
        ("margin", "profit"),
        ("worst", "worst"),
        ("revenue", "revenue"),
    ],
)
def test_customers_have_the_margins_of_the_api(
    server: BackgroundServer, sort: str, of_api: str
) -> None:
    """No customer is dropped: neither cost without revenue nor revenue without cost."""
    query = {**SO_FAR, "topN": "100", "sort": of_api}
    with api(server) as client:
        pages = [
            client.get(
                "/customers",
                params={"month": "2026-10", "sort": sort, "page": str(page)},
            )
            for page in (1, 2)
        ]
        found = client.get("/v0/profitability", params=query).json()
    names = ("totalCostExact", "netRevenueExact", "profitExact")
    rows = [[row[name] for name in names] for row in found["rows"]]
    total = [found["total"][name] for name in names]
    assert len(rows) == 31
    assert figures(pages[0].text) == [*flat(rows[:25]), *total]
    assert figures(pages[1].text) == [*flat(rows[25:]), *total]
    together = pages[0].text + pages[1].text
    assert re.search(
        r"cus_lumon</a></span> <span class=.tag warn.>no revenue", together
    )
    assert re.search(r"cus_idle</a></span> <span class=.tag warn.>no cost", together)


@pytest.mark.parametrize("customer", ["", "cus_acme"])
def test_revenue_and_margin_are_those_of_the_api(
    server: BackgroundServer, customer: str
) -> None:
    """Of a running month, only the earned part of the revenue counts."""
    path = "/customer" if customer else "/"
    with api(server) as client:
        page = client.get(path, params={"id": customer, "month": "2026-10"})
        found = client.get("/v0/profitability", params={**SO_FAR, "topN": 100}).json()
    row = found["total"]
    if customer:
        [row] = [row for row in found["rows"] if row["customerId"] == customer]
    shown = figures(page.text)[:3]
    assert shown == [row["totalCostExact"], row["netRevenueExact"], row["profitExact"]]
    assert f"{row['marginPct']:.2f}".replace("-", "−") in page.text


def test_a_key_that_may_not_read_revenue_sees_costs_only(
    server: BackgroundServer,
) -> None:
    """Revenue is a secret of its own."""
    key = server.create_key("costs", {"costs:read"})
    with browser(server) as client:
        sign_in(client, key)
        for path in ("/", "/customers", "/customer?id=cus_acme"):
            page = client.get(path).text
            assert "Revenue" not in page
            assert "Cost" in page


def test_a_customers_page_shows_the_customers_report(server: BackgroundServer) -> None:
    """A customer's page shows the customer's report."""
    query = {"id": "cus_acme", "month": "2026-10", "by": "cost"}
    with api(server) as client:
        page = client.get("/customer", params=query)
        found = report(client, subject="cus_acme", groupBy="cost")
    shown = figures(page.text)
    assert shown[0] == found["totalCostExact"]
    groups = [group["totalCostExact"] for group in found["groups"]]
    assert {one for one in groups if one != "0"} <= set(shown)


def test_an_unknown_customer_is_told_from_one_without_costs(
    server: BackgroundServer,
) -> None:
    """A typing error would look like a customer that costs nothing."""
    warning = "October 2026 has no event and no revenue of cus_acmee. Check the id"
    with api(server) as client:
        pages = {
            one: client.get("/customer", params={"id": one, "month": "2026-10"}).text
            for one in ("cus_acmee", "cus_acme", "cus_idle")
        }
    assert warning in pages["cus_acmee"]
    assert "Check the id" not in pages["cus_acme"] + pages["cus_idle"]


def test_filters_narrow_the_figures(server: BackgroundServer) -> None:
    """Filters narrow the figures."""
    query = {"month": "2026-10", "by": "model", "where.provider": "openai"}
    with api(server) as client:
        page = client.get("/", params=query)
        found = report(client, filterGroupBy='{"provider":"openai"}')
    assert figures(page.text)[0] == found["totalCostExact"]
    assert "Remove the filter Provider openai" in page.text


@pytest.mark.parametrize(
    ("zone", "start", "end"),
    [
        ("Europe/Berlin", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
        ("Asia/Kolkata", "2026-09-30T18:30:00Z", "2026-10-31T18:30:00Z"),
    ],
)
def test_days_are_those_of_the_time_zone(
    server: BackgroundServer, zone: str, start: str, end: str
) -> None:
    """Days are those of the time zone."""
    query = {"month": "2026-10", "tz": zone, "by": "customer"}
    day = {"from": "2026-10-07", "to": "2026-10-07", "tz": zone}
    with api(server) as client:
        page = client.get("/", params=query)
        one_day = client.get("/", params={**day, "by": "customer"})
        found = report(client, **{"from": start, "to": end})
    shown = figures(page.text)
    assert shown[0] == found["totalCostExact"]
    assert figures(one_day.text)[0] in shown


def test_a_day_without_events_is_a_gap_and_not_a_zero(server: BackgroundServer) -> None:
    """A day without events is a gap and not a zero."""
    with api(server) as client:
        page = client.get("/", params={"month": "2026-10"}).text
    row = re.search(r"<tr><th[^>]*>(<a[^>]*>)?12 October 2026.*?</tr>", page)
    assert row is not None
    assert "<data" not in row[0]
    assert "–" in row[0]
    assert "A gap is a day without events" in page


def test_the_running_month_is_compared_with_the_same_part_of_the_last(
    server: BackgroundServer,
) -> None:
    """The running month is compared with the same part of the last."""
    part = {"from": "2026-09-01T00:00:00Z", "to": "2026-09-29T14:00:00Z"}
    with api(server) as client:
        page = client.get("/", params={"month": "2026-10"})
        now, before = report(client), report(client, **part)
    assert NOW.day == 29
    total = Decimal(now["totalCostExact"])
    prior = Decimal(before["totalCostExact"])
    change = ((total - prior) * 100 / prior).quantize(Decimal("0.01"))
    assert f"+{change}\N{NARROW NO-BREAK SPACE}% vs 1–29 Sep" in page.text


# -- The query holds the state, and a wrong one is explained


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("tz=Mars/Olympus", "no IANA time zone"),
        ("month=October", "must be a date such as 2026-10"),
        ("from=2026-10-02&to=2026-10-01", "must not be before"),
        ("from=2026-10-01", "to: must be a date"),
        ("by=color", "must be one of"),
        ("where.color=red", "no such dimension"),
        ("currency=EUR", "must be one of USD"),
        ("metric=cst_none", "no cost metric"),
    ],
)
def test_a_wrong_parameter_is_named(
    server: BackgroundServer, query: str, reason: str
) -> None:
    """A wrong parameter is named."""
    with api(server) as client:
        response = client.get(f"/?{query}")
    assert response.status_code == 400
    assert reason in unescape(response.text)


def test_the_api_is_served_as_before(server: BackgroundServer) -> None:
    """The API is served as before."""
    with api(server) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/v0/costs").json()["object"] == "list"
        assert client.get("/nowhere").json()["code"] == "ROUTE_NOT_FOUND"


HTML: Final = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_browser_at_an_unknown_address_gets_a_page(server: BackgroundServer) -> None:
    """It leads to the overview, has the policy of all pages, and runs no markup."""
    with browser(server) as client:
        page = client.get("/kunden/<b>", headers=HTML)
        known = client.get("/sign-in", headers=HTML)
        posted = client.post("/kunden", headers=HTML)
        head = client.head("/kunden", headers=HTML)

    assert page.status_code == head.status_code == 404
    assert "There is no page /kunden/&lt;b&gt;." in page.text
    assert '<a class="button" href="/">Overview</a>' in page.text
    for name in ("content-security-policy", "content-type", "cache-control"):
        assert page.headers[name] == known.headers[name]
    assert posted.json()["code"] == "ROUTE_NOT_FOUND"


def test_a_browser_gets_the_responses_of_the_api(server: BackgroundServer) -> None:
    """A person may open them in a browser. No route is taken for a page."""
    roots = {route.path.split("/")[1] for route in ROUTES}
    with browser(server) as client:
        for path in [f"/{root}" for root in sorted(roots)] + ["/v0/nothing", "/docs"]:
            response = client.get(path, headers=HTML, follow_redirects=True)
            assert "This page does not exist" not in response.text, path


def test_each_error_page_says_what_to_do(server: BackgroundServer) -> None:
    """And has a link that leads on."""
    wrong = "/customers?month=October"
    with api(server) as client:
        bad = client.get(wrong)
        method = client.put("/customers")
        asset = client.get("/static/nothing.css")
    assert (bad.status_code, method.status_code, asset.status_code) == (400, 405, 404)
    for page in (bad, method, asset):
        assert page.headers["content-type"].startswith("text/html")
        assert '<a class="button" href="/">Overview</a>' in page.text
    assert 'href="/customers">Show the page without these settings</a>' in bad.text


def test_an_empty_server_shows_the_next_command(
    empty: tuple[BackgroundServer, ManualClock],
) -> None:
    """An empty server shows the next command."""
    server, _ = empty
    with api(server) as client:
        page = client.get("/").text
    assert f"export OUTLAY_BASE_URL={server.url}" in page
    assert "outlay track cost.ai.inference" in page


def test_a_page_that_takes_too_long_says_so() -> None:
    """The deadline of queries is that of pages."""
    settings = ServerSettings(
        port=0, database=":memory:", default_metrics=True, query_timeout=1e-9
    )
    with BackgroundServer(settings) as server, api(server) as client:
        response = client.get("/?month=2026-10")
    assert response.status_code == 503
    assert "Choose a shorter period" in response.text
    assert '<a class="button" href="/?month=2026-10">Try again</a>' in response.text
