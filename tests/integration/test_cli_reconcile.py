"""``outlay reconcile``: bills beside what the server has."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from outlay._cli.exit_codes import ExitCode
from outlay.pricing import Observation, Price, PriceBook
from tests.support import command_line
from tests.support.bills import OPENAI_CSV, openai_costs
from tests.support.command_line import KEY, Ran, reaching
from tests.support.processes import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from outlay.server import BackgroundServer

DAY = "2026-10-12"
NOON = datetime(2026, 10, 12, 12, tzinfo=UTC)
MODEL = "gpt-4o-2024-08-06"


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """Return a server of one's own, with one metric."""
    with command_line.serving() as server:
        metric = {
            "name": "AI",
            "eventType": "cost.ai.inference",
            "valueProperty": "$.amount",
            "currency": "USD",
        }
        post(server, "/v0/costMetrics", metric)
        yield server


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a file and returns its name."""

    def write(content: str | bytes | object, name: str = "bill") -> str:
        if not isinstance(content, str | bytes):
            content = json.dumps(content)
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def post(server: BackgroundServer, path: str, body: Any) -> Any:  # noqa: ANN401 - JSON
    """Post to the server, and return its response."""
    response = httpx.post(
        server.url + path,
        json=body,
        headers={"authorization": f"Bearer {KEY}"},
        timeout=30,
    )
    assert response.status_code in {200, 201, 202}, response.text
    return response.json()


def spend(server: BackgroundServer, amount: str, **data: object) -> str:
    """Post an event of OpenAI, and return its id."""
    at = data.pop("at", f"{DAY}T09:00:00Z")
    body = {
        "type": "cost.ai.inference",
        "source": "tests",
        "subject": data.pop("customer", "cus_1"),
        "timestamp": at,
        "data": {
            "amount": amount,
            "currency": "USD",
            "provider": "openai",
            "model": MODEL,
            "provenance": "priced",
            **data,
        },
    }
    return str(post(server, "/v0/events", body)["id"])


def run(server: BackgroundServer, *words: str) -> Ran:
    """Run ``outlay reconcile``."""
    return command_line.call("reconcile", *words, *reaching(server))


def result_of(ran: Ran) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON that a run printed."""
    assert ran.code in {ExitCode.DONE, ExitCode.DIFFERENT}, ran.err
    return json.loads(ran.out)


def test_a_bill_that_matches_ends_with_0(
    server: BackgroundServer, write: Callable[..., str]
) -> None:
    """A nightly job reads nothing but the exit code."""
    spend(server, "2.5")
    spend(server, "1")

    ran = run(server, write(OPENAI_CSV), "--month", "2026-10")

    assert ran.code == ExitCode.DONE
    assert "The bill and the tracked costs match." in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


def test_a_difference_ends_with_4_and_every_cent_is_told(
    server: BackgroundServer, write: Callable[..., str]
) -> None:
    """JSON has exact texts, and the sums over the categories are the totals."""
    spend(server, "3.4")

    ran = run(server, write(OPENAI_CSV), "--json")

    assert ran.code == ExitCode.DIFFERENT
    result = json.loads(ran.out)
    assert (result["billTotal"], result["trackedTotal"]) == ("3.5", "3.4")
    assert result["categories"]["matched"]["bill"] == "3.4"
    assert result["categories"]["bill_only"]["difference"] == "0.1"
    for side in ("bill", "tracked"):
        sums = [Decimal(row[side]) for row in result["rows"]]
        assert sum(sums) == Decimal(result[f"{side}Total"])


def test_differences_within_the_tolerance_end_with_0(
    server: BackgroundServer, write: Callable[..., str]
) -> None:
    """Whether a difference matters is for the person to say."""
    spend(server, "3.4")
    bill = write(OPENAI_CSV)

    assert run(server, bill, "--tolerance", "0.1").code == ExitCode.DONE
    assert run(server, bill, "--tolerance", "0.09").code == ExitCode.DIFFERENT


def test_corrections_count(server: BackgroundServer, write: Callable[..., str]) -> None:
    """A void removes an event, an adjustment changes it, and a revert takes back."""
    spend(server, "2.5")
    voided, adjusted = spend(server, "9"), spend(server, "0.6")
    metric = httpx.get(
        f"{server.url}/v0/costs",
        headers={"authorization": f"Bearer {KEY}"},
        timeout=30,
    ).json()["data"][0]["id"]
    post(server, f"/v0/events/{voided}/void", {"reason": "test"})
    body = {"costId": metric, "delta": "0.4", "reason": "test"}
    post(server, f"/v0/events/{adjusted}/adjust", body)
    body = {"costId": metric, "delta": "7", "reason": "mistake"}
    mistake = post(server, f"/v0/events/{adjusted}/adjust", body)
    post(server, f"/v0/corrections/{mistake['id']}/revert", {"reason": "test"})

    result = result_of(run(server, write(OPENAI_CSV), "--json"))

    assert result["trackedTotal"] == "3.5"
    assert {row["category"] for row in result["rows"]} == {"matched"}


def test_the_price_book_entry_makes_the_costs_equal_the_bill(
    server: BackgroundServer, write: Callable[..., str]
) -> None:
    """The printed entry is pasted as it is, and prices the same calls as billed."""
    usage = {
        "prompt_tokens": 1_000_000,
        "completion_tokens": 200_000,
        "prompt_tokens_details": {"cached_tokens": 400_000},
    }
    spend(server, "2", usage=usage, price={"list": "genai-prices", "version": "0.2.3"})
    bill = openai_costs(
        (DAY, f"{MODEL}, input", "1.35", 600_000),
        (DAY, f"{MODEL}, cached input", "0.45", 400_000),
        (DAY, f"{MODEL}, output", "1.80", 200_000),
    )

    result = result_of(run(server, write(bill), "--provider", "openai", "--json"))

    assert {row["category"] for row in result["rows"]} == {"price"}
    [fix] = result["prices"]
    assert fix["difference"] == "1.6"
    assert fix["pricedBy"] == "genai-prices 0.2.3"
    book = write(fix["priceBook"], "book.toml")
    checked = command_line.call("prices", "check", book)
    assert checked.code == ExitCode.DONE, checked.err
    observation = Observation(
        provider="openai",
        event_type="cost.ai.inference",
        model=MODEL,
        usage={
            "input_tokens": 1_000_000,
            "cache_read_tokens": 400_000,
            "output_tokens": 200_000,
        },
    )
    price = PriceBook.load(book).price(observation, NOON)
    assert isinstance(price, Price)
    assert price.amount == Decimal("3.6")


def test_csv_has_every_row(server: BackgroundServer, write: Callable[..., str]) -> None:
    """Sheets read it."""
    spend(server, "3.4", customer="cus_2")

    ran = run(server, write(OPENAI_CSV), "--csv")

    rows = [*csv.DictReader(io.StringIO(ran.out))]
    assert [row["category"] for row in rows] == ["matched", "bill_only"]
    assert rows[1]["difference"] == "0.1"
    assert "usage report" in rows[1]["note"]


def test_operation_ids_join_what_days_cannot(
    server: BackgroundServer, write: Callable[..., str]
) -> None:
    """Two calls of one day, of which one was tracked twice and one was refunded."""
    spend(server, "0.02", operationId="SM1", provider="twilio", model="sms")
    spend(
        server,
        "0.02",
        operationId="SM1",
        provider="twilio",
        model="sms",
        customer="cus_2",
    )
    spend(server, "0.03", operationId="SM2", provider="twilio", model="sms")
    bill = write(
        "Sid;Date Sent;Price;Unit\n"
        "SM1;10/12/2026;-0,02;usd\n"
        "SM3;10/12/2026;-0,05;usd\n",
        "messages.csv",
    )
    mapping = write(
        """
provider = "twilio"
timezone = "America/Los_Angeles"
time_format = "%m/%d/%Y"
negative = true
[columns]
operation = "Sid"
time = "Date Sent"
amount = "Price"
currency = "Unit"
""",
        "twilio.toml",
    )

    result = result_of(run(server, bill, "--mapping", mapping, "--json"))

    found = {(row["category"], row["cause"]): row for row in result["rows"]}
    assert found["matched", ""]["bill"] == "0.02"
    assert found["ours_only", "duplicate"]["tracked"] == "0.02"
    assert found["ours_only", "not_billed"]["operations"] == ["SM2"]
    assert found["bill_only", "not_captured"]["operations"] == ["SM3"]


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("", (), "is empty"),
        (
            "day,cost\n2026-10-12,1\n",
            ("--provider", "openai"),
            "OpenAI costs (CSV) needs start_time, amount_value, amount_currency; the",
        ),
        (
            OPENAI_CSV.replace(",1.00,usd", ",1.00,eur"),
            (),
            "has charges in USD and, in line 3, in EUR; they are never added: pass",
        ),
        (
            OPENAI_CSV.replace("1791763200,1791849600", "yesterday,"),
            (),
            "line 2: 'yesterday' is no date",
        ),
        (OPENAI_CSV, ("--timezone", "Mars"), "is no time zone"),
        (
            OPENAI_CSV,
            ("--month", "2026-09"),
            "has no charge that counts (outside of the period: 2)",
        ),
        ('{"data": 1', (), "is no JSON"),
        ('{"result": []}', (), "JSON without a list 'data'"),
    ],
)
def test_bad_input_is_named_with_a_remedy(
    server: BackgroundServer,
    write: Callable[..., str],
    content: str,
    words: tuple[str, ...],
    message: str,
) -> None:
    """A file that cannot be read is no difference: a job must tell them apart."""
    ran = run(server, write(content), *words)

    assert ran.code == ExitCode.REFUSED
    assert message in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tolerance", "-1"), "is no amount"),
        (("--from", "2026-10-12T10:00"), "pass whole days"),
        (("--where", "x"), "is not COLUMN=VALUE"),
    ],
)
def test_wrong_usage_is_told_from_a_bad_bill(
    server: BackgroundServer,
    write: Callable[..., str],
    words: tuple[str, ...],
    message: str,
) -> None:
    """It is the caller's mistake, as with every command."""
    ran = run(server, write(OPENAI_CSV), *words)

    assert ran.code == ExitCode.USAGE
    assert message in ran.err


def test_one_currency_is_compared_at_a_time(
    server: BackgroundServer, write: Callable[..., str]
) -> None:
    """What is left out is counted, too."""
    spend(server, "2.5")
    bill = write(OPENAI_CSV.replace(",1.00,usd", ",1.00,eur"))

    ran = run(server, bill, "--currency", "usd")

    assert ran.code == ExitCode.DONE, ran.out + ran.err
    assert "in EUR: 1 charge, 1" in ran.out


def test_a_usage_report_proves_missing_calls(
    server: BackgroundServer, write: Callable[..., str]
) -> None:
    """With quantities, the price is known to be right, and the calls to be missing."""
    spend(server, "2.5", usage={"prompt_tokens": 1_000_000, "completion_tokens": 0})
    bill = OPENAI_CSV.replace('2.5000000000000000,usd,"gpt', '3.75,usd,"gpt').replace(
        '1.00,usd,"gpt-4o-2024-08-06, output"', '0,usd,"gpt-4o-2024-08-06, output"'
    )
    usage = (
        "start_time,end_time,model,input_tokens,input_cached_tokens,output_tokens\n"
        f"1791763200,1791849600,{MODEL},1500000,0,0\n"
    )

    result = result_of(run(server, write(bill), write(usage, "usage.csv"), "--json"))

    assert [(row["category"], row["cause"], row["bill"]) for row in result["rows"]] == [
        ("matched", "", "2.5"),
        ("bill_only", "not_captured", "1.25"),
    ]
    assert "outlay.instrument('openai')" in result["rows"][1]["note"]


def test_outlays_own_focus_export_matches(
    server: BackgroundServer, write: Callable[..., str]
) -> None:
    """Two independent ways to the same totals: the rollups, and the events."""
    for amount in ("0.1", "0.0000000000000000000000000000000000001", "2"):
        spend(server, amount)
    spend(server, "7", at="2026-10-14T00:00:00Z")
    export = write("", "focus.csv")
    words = ("export", "focus", "--month", "2026-10", "--output", export)
    assert command_line.call(*words, *reaching(server)).code == ExitCode.DONE

    ran = run(server, export, "--provider", "openai", "--json")

    assert ran.code == ExitCode.DONE, ran.out + ran.err
    assert json.loads(ran.out)["billTotal"] == "9.1000000000000000000000000000000000001"


def test_the_table_fits_a_terminal(
    server: BackgroundServer, write: Callable[..., str]
) -> None:
    """80 columns, with long names and amounts of many digits."""
    spend(server, "12345.678901234", model="gpt-5")
    bill = OPENAI_CSV.replace("gpt-4o-2024-08-06", "computer-use-preview-2025-03-11")

    shown = on_a_terminal("reconcile", write(bill), *reaching(server))

    assert max(map(len, shown.splitlines())) <= 80
    assert "12345.678901234" in shown
    assert "computer-use-preview-2025-03-11" in shown


def on_a_terminal(*words: str) -> str:
    """Return what ``outlay`` writes to a terminal of 80 columns, without the bar."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "outlay", *words],
        env=environment({"COLUMNS": "80", "NO_COLOR": "1", "PYTHONUTF8": "1"}),
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ):
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # Linux ends a terminal whose program is gone so
            while part := os.read(ours, 65_536):
                shown += part
        os.close(ours)
    return shown.decode()
