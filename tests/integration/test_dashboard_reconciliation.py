"""The page of reconciliation over real HTTP: files, and who may send them."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from tests.support import command_line
from tests.support.bills import OPENAI_CSV
from tests.support.command_line import KEY, reaching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE: Final = "/reconciliation"
DATA: Final = {"amount": "1", "provider": "openai", "model": "gpt-4o-2024-08-06"}
BILL: Final = {"bill": ("costs.csv", OPENAI_CSV.encode(), "text/csv")}


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """A server with a voided event and three that count."""
    settings = ServerSettings(port=0, database=":memory:", api_key=KEY)
    with BackgroundServer(settings) as server, client(server) as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        metric = {
            "name": "AI",
            "eventType": "cost.ai.inference",
            "valueProperty": "$.amount",
            "currency": "USD",
            "groupBy": {"provider": "$.provider", "model": "$.model"},
        }
        assert http.post("/v0/costMetrics", json=metric).status_code == 201
        ids = [
            http.post("/v0/events", json=event(number, amount)).json()["id"]
            for number, amount in enumerate(("2.5", "0.4000000001", "9", "0.5"))
        ]
        void = http.post(f"/v0/events/{ids[2]}/void", json={"reason": "test"})
        assert void.status_code == 200, void.text
        yield server


def event(number: int, amount: str) -> dict[str, object]:
    """Return an event of OpenAI."""
    return {
        "type": "cost.ai.inference",
        "source": "tests",
        "subject": "cus_1",
        "timestamp": f"2026-10-12T0{number}:00:00Z",
        "data": {**DATA, "amount": amount},
    }


def client(server: BackgroundServer) -> httpx.Client:
    """Return a client of the server."""
    return httpx.Client(base_url=server.url, trust_env=False, timeout=30)


@pytest.fixture
def person(server: BackgroundServer) -> Iterator[httpx.Client]:
    """A signed-in person."""
    with client(server) as http:
        assert http.post("/sign-in", data={"key": KEY}).status_code == 303
        yield http


def token(person: httpx.Client) -> str:
    """Return the token of the form."""
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', person.get(PAGE).text)
    assert found is not None
    return found[1]


def test_the_page_has_the_figures_of_the_command_line(
    person: httpx.Client, server: BackgroundServer, tmp_path: Path
) -> None:
    """Both share one core: every figure has the same digits."""
    path = tmp_path / "costs.csv"
    path.write_text(OPENAI_CSV, encoding="utf-8")
    ran = command_line.call("reconcile", str(path), "--json", *reaching(server))
    printed = json.loads(ran.out)

    page = person.post(PAGE, data={"csrf": token(person)}, files=BILL)

    assert page.status_code == 200, page.text
    shown = set(re.findall(r'<data value="([^"]+)"', page.text))
    assert {
        printed["billTotal"],
        printed["trackedTotal"],
        printed["unexplained"],
    } <= shown
    assert printed["unexplained"] == "0.0999999999"
    for one in printed["categories"].values():
        assert {*one.values()} <= shown


@pytest.mark.parametrize(
    ("fields", "files", "status", "text"),
    [
        ({"csrf": "0" * 64}, BILL, 403, "this form is too old"),
        ({}, {}, 400, "no file was chosen"),
        ({"month": "October"}, BILL, 400, "is no month; write it as 2026-10"),
        ({"timezone": "Mars"}, BILL, 400, "is no time zone"),
        (
            {},
            {"bill": ("x.csv", b"a" * (17 << 20), "text/csv")},
            413,
            "have more than 16 MB; use &#39;outlay revenue import",
        ),
        (
            {},
            {**BILL, "usage": ("costs.csv", OPENAI_CSV.encode(), "text/csv")},
            400,
            "costs.csv is a bill",
        ),
        (
            {},
            {**BILL, "mapping": ("m.toml", b"[columns]\ntime = 1", "text/plain")},
            400,
            "m.toml: ",
        ),
    ],
)
def test_a_form_that_cannot_be_carried_out_says_why(
    person: httpx.Client,
    fields: dict[str, str],
    files: dict[str, tuple[str, bytes, str]],
    status: int,
    text: str,
) -> None:
    """And what to do instead."""
    posted = {"csrf": token(person), **fields}
    # A browser sends the files that were not chosen, too.
    page = person.post(PAGE, data=posted, files=files or {"bill": ("", b"")})

    assert page.status_code == status
    assert text in page.text
    if status != 400:  # then it is the form itself
        assert f'href="{PAGE}">Back to the form</a>' in page.text


def test_other_sites_and_strangers_are_refused(
    person: httpx.Client, server: BackgroundServer
) -> None:
    """A page elsewhere must not make a browser upload anything."""
    data = {"csrf": token(person)}
    foreign = person.post(
        PAGE, data=data, files=BILL, headers={"origin": "https://evil.example"}
    )
    assert foreign.status_code == 403
    assert person.post(PAGE, data=data).status_code == 415
    with client(server) as stranger:
        assert stranger.post(PAGE, data=data, files=BILL).status_code == 303


def test_a_usage_report_gives_the_entry_of_a_price_book(
    person: httpx.Client, server: BackgroundServer
) -> None:
    """It can be copied from the page as it is."""
    # On a day of its own, because other tests compare the twelfth.
    spent = {**event(4, "1"), "timestamp": "2026-10-20T00:00:00Z"}
    spent["data"] = {**DATA, "model": "o4", "usage": {"input_tokens": 1_000_000}}
    with client(server) as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        assert http.post("/v0/events", json=spent).status_code == 202
    head = "start_time,end_time,"
    bill = head + "amount_value,amount_currency,line_item\n"
    bill += '1792454400,1792540800,0.75,usd,"o4, input"\n'
    usage = head + "model,input_tokens,input_cached_tokens,output_tokens\n"
    usage += "1792454400,1792540800,o4,1000000,0,0\n"
    files = {"bill": ("b.csv", bill.encode()), "usage": ("u.csv", usage.encode())}

    page = person.post(PAGE, data={"csrf": token(person)}, files=files)

    assert page.status_code == 200
    assert "units = { input_tokens = 0.75 }" in page.text


def test_a_bill_with_an_invoice_is_saved(
    person: httpx.Client, server: BackgroundServer
) -> None:
    """The list has its figures, links to its events, and exports name the invoice."""
    # On a day of its own, because other tests compare the twelfth.
    spent = {**event(4, "0.7000000001"), "timestamp": "2026-10-25T00:00:00Z"}
    spent["data"] = {**DATA, "amount": "0.7000000001", "model": "o5"}
    bill = "start_time,end_time,amount_value,amount_currency,line_item\n"
    bill += '1792886400,1792972800,0.70,usd,"o5, input"\n'
    files = {"bill": ("b.csv", bill.encode())}
    with client(server) as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        assert http.post("/v0/events", json=spent).status_code == 202
        first, second = (
            person.post(
                PAGE, data={"csrf": token(person), "invoice": invoice}, files=files
            )
            for invoice in (" INV-<1> ", "INV-2")
        )
        for page in (first, second):
            assert page.status_code == 200, page.text
            assert "of 0.7000000001 USD tracked, 0.7000000001 is recon" in page.text
        assert "(invoice INV-2, 2026-10-25 to 2026-10-25): of" in second.text
        assert "(invoice INV-&lt;1&gt;, 2026-10-25 to 2026-10-25)." in second.text
        query = {
            "dataset": "focus",
            "format": "jsonl",
            "from": "2026-10-25T00:00:00Z",
            "to": "2026-10-26T00:00:00Z",
        }
        [row] = http.get("/v0/export", params=query).text.splitlines()
    assert json.loads(row)["InvoiceId"] == "INV-2"

    form = person.get(PAGE).text
    assert form.index("INV-2") < form.index("INV-&lt;1&gt;")
    assert '<data value="0.7000000001"' in form
    assert form.index("counts</span>") < form.index("has a later one</span>")


def save_twice(person: httpx.Client, server: BackgroundServer, *invoices: str) -> None:
    """Save a bill of which one charge of two matches, on a day that no test has."""
    spent = {**event(4, "0.7"), "timestamp": "2026-10-27T00:00:00Z"}
    spent["data"] = {**DATA, "amount": "0.7000000001", "model": "o6"}
    bill = "start_time,end_time,amount_value,amount_currency,line_item\n"
    bill += '1793059200,1793145600,0.70,usd,"o6, input"\n'
    bill += '1793059200,1793145600,5,usd,"o7, input"\n'
    with client(server) as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        assert http.post("/v0/events", json=spent).status_code == 202
    for invoice in invoices:
        data = {"csrf": token(person), "invoice": invoice}
        files = {"bill": ("b.csv", bill.encode())}
        assert person.post(PAGE, data=data, files=files).status_code == 200


def saved_page(person: httpx.Client, invoice: str) -> str:
    """Return the address of the page of a saved reconciliation."""
    found = re.search(f'href="([^"]+)">{invoice}</a>', person.get(PAGE).text)
    assert found is not None
    return unescape(found[1])


def test_a_saved_one_is_shown_and_withdrawn(
    person: httpx.Client, server: BackgroundServer
) -> None:
    """The page says what counts again. A reason is needed, and stays on record."""
    save_twice(person, server, "INV-3", "INV-4")
    path = saved_page(person, "INV-4")
    identifier = path.partition("id=")[2]

    shown = person.get(path).text
    for text in ("INV-4", "1 of 2 match", "openai", "it counts instead of", "INV-3"):
        assert text in shown, text
    href = "/events?from=2026-10-27&amp;to=2026-10-27&amp;where.provider=openai"
    assert href in shown
    assert '<data value="0.7000000001"' in shown

    data = {"csrf": token(person), "id": identifier, "reason": " "}
    assert person.post(path, data={**data, "csrf": "0" * 64}).status_code == 403
    refused = person.post(path, data=data)
    assert refused.status_code == 400
    assert 'id="reason-error"' in refused.text
    gone = person.post(path, data={**data, "reason": "the <wrong> month"})
    assert gone.status_code == 303
    after = person.get(gone.headers["location"]).text
    assert "the &lt;wrong&gt; month" in after
    assert "Exports do not name its invoice any more" in after
    assert 'name="reason"' not in after
    assert "withdrawn</span>" in person.get(PAGE).text
    assert "has a later one" not in person.get(saved_page(person, "INV-3")).text
    assert person.get("/saved-reconciliation?id=rec_0").status_code == 404


def test_only_a_key_that_may_correct_withdraws(
    person: httpx.Client, server: BackgroundServer
) -> None:
    """A reader sees the page without the form."""
    data = {"csrf": token(person), "invoice": "INV-5"}
    assert person.post(PAGE, data=data, files=BILL).status_code == 200
    path = saved_page(person, "INV-5")
    key = server.create_key("reader", ["costs:read", "events:read"])
    with client(server) as http:
        assert http.post("/sign-in", data={"key": key}).status_code == 303
        shown = http.get(path)
        assert shown.status_code == 200
        assert 'name="reason"' not in shown.text
        data = {"csrf": token(http), "id": path.partition("id=")[2], "reason": "x"}
        assert http.post(path, data=data).status_code == 403


def test_saving_needs_a_permission_of_its_own(server: BackgroundServer) -> None:
    """Who may read a comparison may not decide what an invoice covers."""
    key = server.create_key("reader", ["costs:read", "events:read"])
    with client(server) as http:
        assert http.post("/sign-in", data={"key": key}).status_code == 303
        data = {"csrf": token(http), "invoice": "INV-1"}
        assert http.post(PAGE, data=data, files=BILL).status_code == 403
        data["invoice"] = ""
        assert http.post(PAGE, data=data, files=BILL).status_code == 200
