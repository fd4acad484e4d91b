"""``outlay rates`` and ``outlay customers``: what margins need beside revenue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from outlay._cli.exit_codes import ExitCode
from tests.support import command_line
from tests.support.command_line import Ran, reaching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.server import BackgroundServer

EURO = ("set", "eur", "USD", "1.08320000000000000001", "--from", "2026-10")
REVENUE = (
    "customer,period,amount,currency\ncus_1,2026-10,100,EUR\ncus_1,2026-10,1,USD\n"
)


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """Return a server of one's own."""
    with command_line.serving() as server:
        yield server


def rates(server: BackgroundServer, *words: str) -> Ran:
    """Run ``outlay rates``."""
    return command_line.call("rates", *words, *reaching(server))


def customers(server: BackgroundServer, *words: str) -> Ran:
    """Run ``outlay customers``."""
    return command_line.call("customers", *words, *reaching(server))


def test_a_rate_makes_margins_of_two_currencies_possible(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """The amounts are exact, and the table names the rate and its source."""
    file = tmp_path / "october.csv"
    file.write_text(REVENUE)
    command_line.call("revenue", "import", str(file), *reaching(server))
    words = ("margins", "--month", "2026-10", *reaching(server))
    refused = command_line.call(*words)

    given = rates(server, *EURO, "--source", "ECB")
    shown = command_line.call(*words)

    text = "1 EUR = 1.08320000000000000001 USD from 2026-10-01 on, by ECB\n"
    assert refused.code == ExitCode.REFUSED
    assert "outlay rates set" in refused.err
    assert (given.code, given.out) == (ExitCode.DONE, text)
    assert "109.320000000000000001" in shown.out
    assert shown.out.endswith(text)


def test_rates_are_listed(server: BackgroundServer) -> None:
    """A rate that is given again is left as it is, and a new one replaces it."""
    assert "outlay rates set" in rates(server, "list").out
    rates(server, *EURO, "--source", "ECB")
    again = rates(server, *EURO, "--source", "ECB")
    rates(server, "set", "EUR", "USD", "1.09", "--from", "2026-11-01", "--source", "me")

    assert "the server had it already" in again.out
    assert json.loads(rates(server, "list", "--json").out) == [
        {
            "from": "EUR",
            "to": "USD",
            "rate": "1.08320000000000000001",
            "validFrom": "2026-10-01T00:00:00+00:00",
            "source": "ECB",
        },
        {
            "from": "EUR",
            "to": "USD",
            "rate": "1.09",
            "validFrom": "2026-11-01T00:00:00+00:00",
            "source": "me",
        },
    ]
    assert "2026-11-01" in rates(server, "list").out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("EUR USD 0 --from 2026-10 --source x", ExitCode.USAGE, "'0' is no rate"),
        ("EUR USD nan --from 2026-10 --source x", ExitCode.USAGE, "'nan' is no rate"),
        ("EUR USD 1 --from soon --source x", ExitCode.USAGE, "'soon' is no time"),
        ("EUR USD 1 --source x", ExitCode.USAGE, "required: --from"),
        ("EUR EUR 1 --from 2026-10 --source x", ExitCode.REFUSED, "two currencies"),
        ("EURO USD 1 --from 2026-10 --source x", ExitCode.USAGE, "such as EUR"),
    ],
)
def test_a_wrong_rate_is_refused(
    server: BackgroundServer, words: str, code: ExitCode, says: str
) -> None:
    """A wrong rate would be in every margin."""
    ran = rates(server, "set", *words.split())

    assert ran.code == code
    assert says in ran.err
    assert json.loads(rates(server, "list", "--json").out) == []


def test_a_customer_gets_a_name(server: BackgroundServer) -> None:
    """The name stands beside the id."""
    assert "outlay customers name" in customers(server, "list").out

    named = customers(server, "name", "a/b", "Größe, Inc.")
    customers(server, "name", "cus_2", "Two")

    assert named.out == "a/b is Größe, Inc.\n"
    assert json.loads(customers(server, "list", "--json").out) == [
        {"id": "a/b", "name": "Größe, Inc."},
        {"id": "cus_2", "name": "Two"},
    ]
    assert "1 more are not shown" in customers(server, "list", "--limit", "1").out
