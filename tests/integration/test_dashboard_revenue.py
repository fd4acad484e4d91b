"""The page of revenue over real HTTP: files as they are, and nothing half-done."""

from __future__ import annotations

import re
from contextlib import contextmanager
from html import unescape
from typing import TYPE_CHECKING, Any, Final, NoReturn

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from outlay.server._errors import QueryStoppedError
from tests.support.command_line import KEY
from tests.support.memory_store import MemoryReader, MemoryStore, Tables

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = "/revenue?month=2026-10"
OCTOBER: Final = {"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}
HEAD: Final = "customer,period,amount,currency\n"


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """A server without any revenue."""
    settings = ServerSettings(port=0, database=":memory:", api_key=KEY)
    with BackgroundServer(settings) as server:
        yield server


@pytest.fixture
def person(server: BackgroundServer) -> Iterator[httpx.Client]:
    """A signed-in person."""
    with _client(server) as http:
        assert http.post("/sign-in", data={"key": KEY}).status_code == 303
        yield http


def _client(server: BackgroundServer) -> httpx.Client:
    return httpx.Client(base_url=server.url, trust_env=False, timeout=30)


def upload(
    person: httpx.Client, content: str | bytes, **fields: str
) -> tuple[int, str]:
    """Send the form with a file. Return the status and the words of the page."""
    page = person.get(PAGE).text
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert found is not None
    data = {"csrf": found[1], "encoding": "utf-8-sig", "action": "import", **fields}
    raw = content.encode() if isinstance(content, str) else content
    response = person.post(PAGE, data=data, files={"file": ("r.csv", raw)})
    words = re.sub(r"<[^>]+>", " ", response.text)
    return response.status_code, " ".join(unescape(words).split())


def stored(server: BackgroundServer) -> dict[str, tuple[str, str]]:
    """Return the amount and currency of each current line, by customer."""
    headers = {"authorization": f"Bearer {KEY}"}
    with _client(server) as http:
        found = http.get("/v0/revenue", params=OCTOBER, headers=headers).json()
    return {
        one["customerId"]: (one["amount"], one["currency"])
        for one in found["data"]
        if one["isCurrent"]
    }


GOOD: Final[dict[str, tuple[str | bytes, dict[str, str]]]] = {
    "byte order mark": ("\ufeff" + HEAD + "cus_1,2026-10,1200.50,USD\n", {}),
    "semicolons and decimal commas": (
        "customer;period;amount;currency\ncus_1;2026-10;1.200,50;USD\n",
        {},
    ),
    "thousands separators": (HEAD + 'cus_1,2026-10,"1,200.50",USD\n', {}),
    "a mark that no amount proves": (
        "customer;amount\ncus_1;1.200\n",
        {"decimal": ",", "month": "2026-10", "currency": "usd"},
    ),
    "columns with other names": (
        "who,cents,status\ncus_1,120050,paid\ncus_2,1,draft\n",
        {
            "columns": "customer = who\namount = cents",
            "where": "status = paid",
            "minor": "yes",
            "month": "2026-10",
            "currency": "USD",
        },
    ),
    "UTF-16 with tabs": (
        "customer\tperiod\tamount\tcurrency\ncus_1\t2026-10\t1200.5\tUSD\n".encode(
            "utf-16"
        ),
        {"encoding": "utf-16"},
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_files_are_read_as_they_are(
    person: httpx.Client, server: BackgroundServer, name: str
) -> None:
    """As by the command line, with the form's fields as its options."""
    content, fields = GOOD[name]
    status, words = upload(person, content, **fields)
    assert status == 200, words
    assert "1 new, 0 replaced, 0 unchanged" in words
    whole = "1200" if name == "a mark that no amount proves" else "1200.5"
    assert stored(server) == {"cus_1": (whole, "USD")}


BAD: Final[dict[str, tuple[str | bytes, dict[str, str], str]]] = {
    "no amount": (
        "customer,period,currency\ncus_1,2026-10,USD\n",
        {},
        "its columns are customer, period, currency; name the column under More",
    ),
    "no currency": (
        "customer,period,amount\ncus_1,2026-10,1\n",
        {},
        "fill in Currency, or name the column under More: currency = COLUMN",
    ),
    "an ambiguous amount": (
        "customer;period;amount;currency\ncus_1;2026-10;1.200;USD\n",
        {},
        "'1.200' may mean thousands or a fraction; choose the decimal mark under More",
    ),
    "another encoding": (
        HEAD.encode() + "cus_é,2026-10,1,EUR\n".encode("cp1252"),
        {},
        "choose the encoding of the file under More, such as Windows-1252",
    ),
    "text that is no UTF-16": (
        HEAD + "cus_1,2026-10,1,USD\n",
        {"encoding": "utf-16"},
        "choose the encoding of the file under More, such as Windows-1252",
    ),
    "a wrong last line": (
        HEAD + "cus_1,2026-10,1,USD\ncus_2,2026-10,x,USD\n",
        {},
        "r.csv, line 3: 'x' is no amount",
    ),
    "the same line twice": (
        HEAD + "cus_1,2026-10,1,USD\ncus_1,2026-10,2,USD\n",
        {},
        "name a column under More (key = COLUMN) that tells them apart",
    ),
    "an empty file": ("", {}, "the first line names the columns"),
    "a wrong month": (HEAD, {"month": "October"}, "write it as 2026-10"),
    "a wrong currency": (HEAD, {"currency": "$"}, "write it as USD"),
    "an unknown field": (HEAD, {"columns": "x = y"}, "there is no field 'x'"),
    "half a condition": (HEAD, {"where": "paid"}, "is not of the form name = value"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_with_an_error_says_what_to_do_and_changes_nothing(
    person: httpx.Client, server: BackgroundServer, name: str
) -> None:
    """The fields of the form stay as they were."""
    content, fields, text = BAD[name]
    status, words = upload(person, content, source="stripe", **fields)
    assert status == 400
    assert text in words
    assert "Nothing was imported." in words
    assert stored(server) == {}


def test_two_currencies_are_two_sums(
    person: httpx.Client, server: BackgroundServer
) -> None:
    """They are never added."""
    status, words = upload(
        person, HEAD + "cus_1,2026-10,1.50,USD\ncus_2,2026-10,2,EUR\n"
    )
    assert status == 200
    assert "2 lines of revenue (2 EUR, 1.5 USD)" in words
    assert stored(server) == {"cus_1": ("1.5", "USD"), "cus_2": ("2", "EUR")}


def test_a_second_import_says_what_it_replaced_and_keeps_both(
    person: httpx.Client, server: BackgroundServer
) -> None:
    """An unknown customer is named, and its revenue counts."""
    _, words = upload(person, HEAD + "cus_1,2026-10,100,USD\ncus_2,2026-10,5,USD\n")
    assert "so check their ids; their revenue counts: cus_1, cus_2" in words
    _, words = upload(person, HEAD + "cus_1,2026-10,90,USD\ncus_2,2026-10,5,USD\n")
    assert "0 new, 1 replaced, 1 unchanged" in words
    assert "cus_1 1–31 October 2026 USD 100.00 USD 90.00" in words
    history = words.partition("Lines of October 2026")[2]
    assert "cus_1 USD 90.00 counts" in history
    assert "cus_1 USD 100.00 replaced" in history
    assert stored(server)["cus_1"] == ("90", "USD")


def test_a_check_stores_nothing(person: httpx.Client, server: BackgroundServer) -> None:
    """It has the sums of the file."""
    status, words = upload(
        person, HEAD + "cus_1,2026-10,7.25,USD\n", action="check", source="stripe"
    )
    assert status == 200
    assert "can be imported: 1 line of revenue (7.25 USD). Nothing was stored" in words
    assert stored(server) == {}


def test_lines_of_several_parts_count_together(person: httpx.Client) -> None:
    """One request to the store has 5,000 lines at most."""
    rows = "".join(f"cus_{one},2026-10,0.01,USD\n" for one in range(5001))
    status, words = upload(person, HEAD + rows)
    assert status == 200
    assert "5,001 lines of revenue (50.01 USD)" in words
    assert "5,001 new" in words


class SlowReader(MemoryReader):
    """Takes too long for the list of lines, as a huge database would."""

    def revenue_history(self, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401
        """Stop, as the limit of a query stops it."""
        raise QueryStoppedError("the query was stopped")


class SlowStore(MemoryStore):
    """Has views that are slow readers."""

    @contextmanager
    def reading(self) -> Iterator[SlowReader]:
        """Open a consistent view."""
        with super().reading():
            yield SlowReader(self._tables.snapshot())


def test_an_import_is_done_although_the_list_takes_too_long() -> None:
    """The lines are stored, so the page must not say that it failed."""
    settings = ServerSettings(port=0, database=":memory:", api_key=KEY)
    opened = SlowStore(Tables(), dedupe_window=1)
    with (
        BackgroundServer(settings, open_store=lambda _: opened) as server,
        _client(server) as person,
    ):
        assert person.post("/sign-in", data={"key": KEY}).status_code == 303
        status, words = upload(person, HEAD + "cus_1,2026-10,1,USD\n")

    assert status == 200, words
    assert "1 new, 0 replaced" in words
    assert "The list took too long to read; choose a shorter period." in words
    assert "No revenue in" not in words


def test_a_key_that_only_reads_sees_no_form_and_sends_none(
    server: BackgroundServer,
) -> None:
    """The history needs ``revenue:read``, an import ``revenue:write`` as well."""
    key = server.create_key("reader", {"costs:read", "events:read", "revenue:read"})
    with _client(server) as reader:
        assert reader.post("/sign-in", data={"key": key}).status_code == 303
        page = reader.get(PAGE)
        assert page.status_code == 200
        assert 'type="file"' not in page.text
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', page.text)
        assert found is not None
        response = reader.post(
            PAGE, data={"csrf": found[1]}, files={"file": ("r.csv", HEAD.encode())}
        )
        assert response.status_code == 403
    assert stored(server) == {}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"tz": "America/New_York"}, 200),
        ({"asOf": "9999-12-31T23:59:59Z", "tz": "Asia/Tokyo"}, 200),
        ({"asOf": "0001-01-01T00:00:00Z", "tz": "America/New_York"}, 200),
        ({"page": "9" * 5000}, 400),
    ],
)
def test_the_ends_of_all_time_and_numbers_are_no_failure(
    person: httpx.Client, query: dict[str, str], status: int
) -> None:
    """One line of all years is shown in any time zone, although it is no use."""
    years = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}
    line = {"customerId": "cus_1", "amount": "1", "currency": "USD", **years}
    response = person.put(
        "/v0/revenue",
        json={"lines": [line]},
        headers={"authorization": f"Bearer {KEY}"},
    )
    assert response.status_code == 200, response.text
    assert person.get(PAGE, params={"month": "2026-10", **query}).status_code == status
