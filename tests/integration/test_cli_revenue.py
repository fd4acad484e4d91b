"""``outlay revenue import`` and ``outlay margins``: files as they really are."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from outlay._cli.exit_codes import ExitCode
from tests.support import command_line
from tests.support.command_line import KEY, Ran, reaching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from outlay.server import BackgroundServer

OCTOBER = ("--month", "2026-10")
PLAIN = "customer,period,amount,currency\ncus_1,2026-10,1200.50,USD\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[BackgroundServer]:
    """Return a server for the tests that change nothing on it."""
    with command_line.serving() as server:
        yield server


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """Return a server of one's own."""
    with command_line.serving() as server:
        yield server


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], str]:
    """Return a function that writes a file and returns its name."""

    def write(content: str | bytes) -> str:
        path = tmp_path / "revenue.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def revenue(server: BackgroundServer, *words: str) -> Ran:
    """Run ``outlay revenue import``."""
    return command_line.call("revenue", "import", *words, *reaching(server))


def margins(server: BackgroundServer, *words: str) -> Any:  # noqa: ANN401 - JSON
    """Return the output of ``outlay margins --json`` for October."""
    words = ("margins", *OCTOBER, "--json", *words)
    ran = command_line.call(*words, *reaching(server))
    assert ran.code == ExitCode.DONE, ran.err
    return json.loads(ran.out)


def amounts(server: BackgroundServer, **words: str) -> dict[str, str]:
    """Return the revenue of October by customer."""
    options = [part for name, value in words.items() for part in (f"--{name}", value)]
    return {
        row["customer"]: row["revenue"] for row in margins(server, *options)["rows"]
    }


def spend(server: BackgroundServer, customer: str, amount: str) -> None:
    """Post an event of October."""
    with httpx.Client(
        base_url=server.url,
        headers={"authorization": f"Bearer {KEY}"},
        timeout=30,
    ) as http:
        if not http.get("/v0/costs").json()["data"]:
            metric = {
                "name": "AI",
                "eventType": "cost.ai",
                "valueProperty": "$.amount",
                "currency": "USD",
            }
            assert http.post("/v0/costMetrics", json=metric).status_code == 201
        event = {
            "type": "cost.ai",
            "source": "tests",
            "subject": customer,
            "timestamp": "2026-10-05T00:00:00Z",
            "data": {"amount": amount},
        }
        assert http.post("/v0/events", json=event).status_code == 202


# -- files


@pytest.mark.parametrize(
    ("content", "words", "expected"),
    [
        (PLAIN, (), "1200.5"),
        ("\ufeff" + PLAIN, (), "1200.5"),
        (PLAIN.replace("\n", "\r\n"), (), "1200.5"),
        (PLAIN + "\n\n,,,\n", (), "1200.5"),
        ("customer;period;amount;currency\ncus_1;2026-10;1.200,50;USD\n", (), "1200.5"),
        ("customer\tperiod\tamount\tcurrency\ncus_1\t2026-10-31\t3\tusd\n", (), "3"),
        (
            'customer,period,amount,currency\ncus_1,2026-10,"1,200.50",USD\n',
            (),
            "1200.5",
        ),
        ("Customer ID,Amount\ncus_1,7\n", ("--currency", "usd", *OCTOBER), "7"),
        (
            "customer,amount\ncus_1,1.234\n",
            ("--decimal", ",", *OCTOBER, "--currency", "USD"),
            "1234",
        ),
        (
            "customer,amount\ncus_1,123456\n",
            ("--minor-units", *OCTOBER, "--currency", "USD"),
            "1234.56",
        ),
        (
            "wer,wieviel,wann,w\xe4hrung\ncus_1,5,2026-10-01 10:00,USD\n".encode(
                "cp1252"
            ),
            (
                *("--encoding", "cp1252", "--column", "customer=wer"),
                *("--column", "amount=wieviel", "--column", "period=wann"),
                *("--column", "currency=w\xe4hrung"),
            ),
            "5",
        ),
        (
            "customer,from,to,amount,currency\ncus_1,2026-10-01,2026-11-01,8,USD\n",
            (),
            "8",
        ),
    ],
)
def test_files_are_read_as_they_are_exported(
    server: BackgroundServer,
    write: Callable[[str | bytes], str],
    content: str | bytes,
    words: tuple[str, ...],
    expected: str,
) -> None:
    """A mark, semicolons, decimal commas, thousands, tabs, and foreign names."""
    ran = revenue(server, write(content), *words)

    assert ran.code == ExitCode.DONE, ran.err
    assert amounts(server) == {"cus_1": expected}


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("", (), ("is empty", "first line names")),
        (
            "customer,amount\n",
            OCTOBER,
            ("no column for currency", "pass --currency USD"),
        ),
        ("customer,currency\n", OCTOBER, ("no column for amount", "amount=COLUMN")),
        ("customer,amount,currency\n", (), ("no column for period", "pass --month")),
        (PLAIN, ("--column", "key=nr"), ("0 columns 'nr'", "its columns are customer")),
        (PLAIN + "cus_2,2026-10,5\n", (), ("line 3: it has 3 columns", "quote values")),
        (
            PLAIN + "cus_2,2026-10,five,USD\n",
            (),
            ("line 3: 'five' is no amount", "such as"),
        ),
        (PLAIN + ",2026-10,5,USD\n", (), ("line 3: it has no customer", "")),
        (
            PLAIN + "cus_2,2026-10,5,$\n",
            (),
            ("line 3: '$' is no currency", "such as USD"),
        ),
        (
            PLAIN + "cus_2,10/2026,5,USD\n",
            (),
            ("line 3: '10/2026' is no date", "such as"),
        ),
        (
            PLAIN + "cus_2,2026-13,5,USD\n",
            (),
            ("line 3: '2026-13' is no date", "such as"),
        ),
        (PLAIN + PLAIN.splitlines()[1], (), ("line 3", "the same customer, period")),
        (
            PLAIN + 'cus_2,2026-10,"5,5",USD\n',
            (),
            ("line 2 has '1200.50'", "line 3 has"),
        ),
        (
            PLAIN.replace("1200.50", "1.200"),
            (),
            ("line 2: '1.200' may mean", "--decimal ,"),
        ),
        (
            PLAIN.encode() + b"cus_\xff,2026-10,5,USD\n",
            (),
            ("is not UTF-8", "--encoding"),
        ),
        (PLAIN + "c" * 300 + ",2026-10,5,USD\n", (), ("more than 255 characters", "")),
        (PLAIN, ("--where", "currency=EUR"), ("has no line to import", "")),
    ],
)
def test_a_file_with_an_error_names_the_line_and_imports_nothing(
    shared: BackgroundServer,
    write: Callable[[str | bytes], str],
    content: str | bytes,
    words: tuple[str, ...],
    message: tuple[str, str],
) -> None:
    """The first lines are fine, and must not count alone."""
    ran = revenue(shared, write(content), *words)

    assert ran.code != ExitCode.DONE
    assert [part for part in message if part not in ran.err] == []
    assert amounts(shared) == {}


def test_a_file_that_does_not_exist_is_an_error(shared: BackgroundServer) -> None:
    """The message names it."""
    ran = revenue(shared, "no-such.csv")

    assert ran.code == ExitCode.REFUSED
    assert "cannot read no-such.csv" in ran.err


def test_two_currencies_are_never_added(
    server: BackgroundServer, write: Callable[[str | bytes], str]
) -> None:
    """The import takes both. A margin needs a rate, and the message says how."""
    ran = revenue(server, write(PLAIN + "cus_2,2026-10,9,EUR\n"))
    refused = command_line.call("margins", *OCTOBER, *reaching(server))

    assert "(9 EUR, 1200.5 USD)" in ran.out
    assert refused.code == ExitCode.REFUSED
    assert "no rate from EUR to USD" in refused.err
    assert "'outlay rates set'" in refused.err


def test_a_second_import_replaces_changed_lines_and_says_so(
    server: BackgroundServer, write: Callable[[str | bytes], str]
) -> None:
    """Which customer, what it was, and what it is now."""
    other = "cus_2,2026-10,9,USD\n"
    revenue(server, write(PLAIN + other))
    again = revenue(server, write(PLAIN.replace("1200.50", "1000") + other))

    assert "0 new, 1 replaced, 1 unchanged" in again.out
    assert "cus_1" in again.out
    assert "1200.5" in again.out
    assert amounts(server) == {"cus_1": "1000", "cus_2": "9"}


def test_a_customer_that_is_not_known_is_named(
    server: BackgroundServer, write: Callable[[str | bytes], str]
) -> None:
    """Its revenue counts, and a typo is seen."""
    spend(server, "cus_2", "1")
    ran = revenue(server, write(PLAIN + "cus_2,2026-10,9,USD\n"))

    assert ran.code == ExitCode.DONE
    assert ran.err.rstrip().endswith("their revenue counts: cus_1")


def test_a_large_file_is_sent_in_parts_that_count_together(
    server: BackgroundServer, write: Callable[[str | bytes], str]
) -> None:
    """5,200 lines are three requests."""
    lines = "".join(f"cus_{number % 40},in_{number},1.01\n" for number in range(5_200))
    words = (*OCTOBER, "--currency", "USD", "--json")
    ran = revenue(server, write("customer,invoice,amount\n" + lines), *words)
    shown = amounts(server)

    result = json.loads(ran.out)
    assert (result["lines"], result["added"]) == (5_200, 5_200)
    assert result["totals"] == {"USD": "5252"}
    assert set(shown.values()) == {"131.3"}
    assert len(shown) == 40


def test_a_dry_run_sends_nothing(
    shared: BackgroundServer, write: Callable[[str | bytes], str]
) -> None:
    """It shows the totals, so that they can be compared with the export's own."""
    ran = revenue(shared, write(PLAIN), "--dry-run")

    assert "can be imported: 1 line of revenue (1200.5 USD)" in ran.out
    assert amounts(shared) == {}


def test_the_recipe_for_lago_works(
    server: BackgroundServer, write: Callable[[str | bytes], str]
) -> None:
    """The columns are those of Lago's invoice export, in cents."""
    names = (
        "lago_id,issuing_date,customer_lago_id,customer_external_id,customer_name,"
        "invoice_number,status,currency,taxes_amount_cents,total_amount_cents"
    )
    rows = (
        "1,2026-10-03,x,cus_1,Acme,ACM-1,finalized,EUR,20,120\n"
        "2,2026-10-31,x,cus_1,Acme,ACM-2,finalized,EUR,0,5\n"
        "3,2026-10-31,x,cus_1,Acme,ACM-3,voided,EUR,0,999\n"
    )
    ran = revenue(
        server,
        write(f"{names}\n{rows}"),
        *("--source", "lago", "--minor-units", "--where", "status=finalized"),
        *("--column", "amount=total_amount_cents", "--column", "period=issuing_date"),
    )

    assert "2 lines of revenue (1.25 EUR, 1 left out) from lago" in ran.out
    assert amounts(server) == {"cus_1": "1.25"}


# -- margins


def test_margins_show_each_customer_with_all_digits(
    server: BackgroundServer, write: Callable[[str | bytes], str]
) -> None:
    """As a table, as CSV and as JSON, and the three agree."""
    spend(server, "cus_1", "0.000000000000000000000000000000000001")
    spend(server, "cus_3", "7.25")
    revenue(server, write(PLAIN))
    table = command_line.call("margins", *OCTOBER, *reaching(server))
    text = command_line.call("margins", *OCTOBER, "--csv", *reaching(server))
    found = margins(server)

    rows = [*csv.DictReader(io.StringIO(text.out))]
    assert [row["customer"] for row in rows] == ["cus_1", "cus_3"]
    assert rows[0]["profit"] == "1200.499999999999999999999999999999999999"
    assert rows[0]["marginPercent"] == "100"
    assert rows[1] == {
        "customer": "cus_3",
        "name": "",
        "revenue": "0",
        "cost": "7.25",
        "profit": "-7.25",
        "marginPercent": "",
        "currency": "USD",
    }
    assert [row["profit"] for row in found["rows"]] == [row["profit"] for row in rows]
    assert found["total"]["cost"] == "7.250000000000000000000000000000000001"
    assert "1200.499999999999999999999999999999999999" in table.out
    assert "2026-10, UTC; amounts in USD" in table.out


def test_the_customers_after_the_top_are_one_row(
    server: BackgroundServer, write: Callable[[str | bytes], str]
) -> None:
    """And the worst come first if they are asked for."""
    lines = "".join(f"cus_{number},2026-10,{number},USD\n" for number in range(2, 9))
    revenue(server, write(PLAIN + lines))

    top = [
        (row["customer"], row["revenue"])
        for row in margins(server, "--top", "2")["rows"]
    ]
    worst = margins(server, "--sort", "worst", "--top", "1")["rows"]
    assert top == [("cus_1", "1200.5"), ("cus_8", "8"), ("(other)", "27")]
    assert worst[0]["customer"] == "cus_2"


def test_margins_of_nothing_name_the_next_command(shared: BackgroundServer) -> None:
    """A table without rows says less."""
    ran = command_line.call("margins", *OCTOBER, *reaching(shared))

    assert ran.code == ExitCode.DONE
    assert "outlay revenue import" in ran.out


def test_the_lines_of_a_period_are_listed_with_those_that_were_replaced(
    server: BackgroundServer, write: Callable[[str | bytes], str]
) -> None:
    """An auditor sees what a margin was before the correction of its revenue."""
    revenue(server, write(PLAIN + "cus_2,2026-10,7,USD\ncus_2,2026-11,8,USD\n"))
    revenue(server, write(PLAIN.replace("1200.50", "1199.90")))
    words = ("revenue", "list", *OCTOBER, *reaching(server))

    rows = json.loads(command_line.call(*words, "--json").out)
    table = command_line.call(*words, "--customer", "cus_1")
    first = command_line.call(*words, "--limit", "1")

    assert [(row["customer"], row["amount"], row["current"]) for row in rows] == [
        ("cus_1", "1199.9", True),
        ("cus_2", "7", True),
        ("cus_1", "1200.5", False),
    ]
    assert "cus_2" not in table.out
    assert table.out.count("replaced") == 1
    assert "2 older ones are not shown" in first.out


def test_a_list_without_revenue_names_the_next_command(
    shared: BackgroundServer,
) -> None:
    """A table without rows says less."""
    ran = command_line.call("revenue", "list", "--month", "2020-01", *reaching(shared))

    assert ran.out == "no revenue in this period; type: outlay revenue import FILE\n"
