"""``outlay unpriced``, ``reprice`` and ``prices``: what waits for a price gets one."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest

from outlay._cli.exit_codes import ExitCode
from outlay._journal.marked_lines import set_state
from outlay._model.events import decode_event
from tests.support import processes
from tests.support.command_line import Ran, call, reaching, serving
from tests.support.unpriced import (
    BOOK,
    client_in,
    pending,
    record,
    view_of,
    waiting,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.server import BackgroundServer


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return a file with the price that was missing."""
    path = tmp_path / "prices.toml"
    path.write_text(BOOK)
    return path


@pytest.fixture
def journal_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with three costs that wait, one of them for its usage."""
    for name in [name for name in os.environ if name.startswith("OUTLAY_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "spill"
    monkeypatch.setenv("OUTLAY_JOURNAL_DIR", str(folder))
    with client_in(folder) as client:
        record(client, 1)
        record(client, 2, model="plus")
        record(client, 3, is_complete=False)
    return folder


def ran(*words: str) -> dict[str, Any]:
    """Return the JSON that a command printed."""
    printed: dict[str, Any] = json.loads(call(*words, "--json").out)
    return printed


def amounts(journal_dir: Path) -> dict[str, Decimal]:
    """Return what is in the journal, by operation."""
    return {
        event.data["operationId"]: event.data["amount"]
        for event in pending(journal_dir)
    }


def test_what_a_provider_tells_later_can_be_looked_up_by_another_process(
    journal_dir: Path,
) -> None:
    """The list names the provider and the operation. The customer is known."""
    with client_in(journal_dir) as client:
        record(client, 7, price_pending=True)
    (row,) = ran("unpriced", "list", "--reason", "pending")["unpriced"]

    assert (row["provider"], row["operationId"]) == ("acme", "req_7")
    assert row["customer"] == "cus_1"
    call("reprice", "--id", row["id"], "--amount", "0.0079")
    assert ran("unpriced", "list", "--reason", "pending")["unpriced"] == []
    assert amounts(journal_dir) == {"req_7": Decimal("0.0079")}


def test_list_says_what_waits_and_why(journal_dir: Path) -> None:
    """A person must see what to add to the book."""
    listed = ran("unpriced", "list")["unpriced"]

    assert [(row["provider"], row["model"], row["reason"]) for row in listed] == [
        ("acme", None, "unknown_provider"),
        ("acme", "plus", "unknown_provider"),
        ("acme", None, "incomplete"),
    ]
    text = call("unpriced", "list", "--model", "plus").out
    assert "genai-prices has no 'acme'" in text
    assert listed[1]["id"] in text
    assert len(waiting(journal_dir)) == 3


@pytest.mark.usefixtures("journal_dir")
def test_status_counts_them() -> None:
    """A person who looks at the journal sees that something is missing from it."""
    assert ran("journal", "status")["destinations"][0]["unpriced"] == 3
    assert "3 captured costs without a price" in call("journal", "status").out


def test_reprice_tracks_what_has_a_price_and_leaves_the_rest(
    journal_dir: Path, book: Path
) -> None:
    """By the price of the day on which it arose, and with exit code 1 for the rest."""
    done = call("reprice", "--price-book", str(book))

    assert done.code == ExitCode.REFUSED
    assert "2 costs tracked; 1 without a price" in done.out
    assert amounts(journal_dir) == {"req_1": Decimal("0.05"), "req_2": Decimal("0.05")}
    assert [line.cost.reason for line in waiting(journal_dir)] == ["incomplete"]


def test_reprice_takes_the_prices_of_the_provider_behind_a_gateway(
    journal_dir: Path,
) -> None:
    """The event keeps the provider, and so its key. The price says whose list it is."""
    with client_in(journal_dir) as client:
        record(
            client,
            8,
            provider="unknown",
            model="openai/gpt-4o",
            usage={"input_tokens": 1000},
        )
    (row,) = ran("unpriced", "list", "--provider", "unknown")["unpriced"]
    refused = call("reprice", "--as-provider", "openai")

    ran("reprice", "--provider", "unknown", "--as-provider", "openai")

    assert refused.code == ExitCode.USAGE
    assert "add --provider" in refused.err
    (event,) = pending(journal_dir)
    assert event.idempotency_key == row["id"]
    assert event.data["provider"] == "unknown"
    assert event.data["amount"] == Decimal("0.0025")
    assert event.data["price"]["model"] == "openai/gpt-4o"


def test_reprice_twice_is_as_once(journal_dir: Path, book: Path) -> None:
    """A job may run it every hour."""
    for _ in range(2):
        call("reprice", "--price-book", str(book))

    assert len(pending(journal_dir)) == 2


def test_what_may_be_tracked_already_is_said_and_under_the_window_rule(
    journal_dir: Path, book: Path
) -> None:
    """A process was killed while it tracked the first cost by another door."""
    first, *_ = waiting(journal_dir)
    set_state(first.path, [first.line.offset], "replacing")
    listed = ran("unpriced", "list")["unpriced"]

    said = call("reprice", "--price-book", str(book)).out

    assert [row["mayBeTracked"] for row in listed] == [True, False, False]
    assert "1 cost of these may be tracked already" in said
    kept = view_of(journal_dir).events(lambda _: None)
    attempted = {
        decode_event(event.payload).data["operationId"]: event.first_attempt_at
        for event in kept
    }
    assert attempted == {"req_1": first.cost.kept_at, "req_2": None}


def test_a_dry_run_changes_nothing(journal_dir: Path, book: Path) -> None:
    """It is for looking at the amounts first."""
    shown = ran("reprice", "--price-book", str(book), "--dry-run")

    assert (shown["priced"], shown["left"]) == (2, 1)
    assert [row["amount"] for row in shown["costs"]] == ["0.05", "0.05", None]
    assert len(waiting(journal_dir)) == 3
    assert pending(journal_dir) == []


def test_filters_narrow(journal_dir: Path, book: Path) -> None:
    """One provider's prices may be known before another's."""
    call("reprice", "--price-book", str(book), "--model", "plus")

    assert [*amounts(journal_dir)] == ["req_2"]


def test_what_a_broken_stream_cost_can_be_told_by_hand(journal_dir: Path) -> None:
    """The provider's invoice may say it."""
    (row,) = ran("unpriced", "list", "--reason", "incomplete")["unpriced"]

    done = call("reprice", "--id", row["id"], "--amount", "0.0042")

    assert done.code == ExitCode.DONE
    (event,) = pending(journal_dir)
    assert event.idempotency_key == row["id"]
    assert event.data["amount"] == Decimal("0.0042")
    assert event.data["provenance"] == "manual"


def test_another_currency_gets_another_type_and_key(journal_dir: Path) -> None:
    """As when it had been priced at once."""
    (row,) = ran("unpriced", "list", "--model", "plus")["unpriced"]

    call("reprice", "--id", row["id"], "--amount", "1", "--currency", "EUR")

    (event,) = pending(journal_dir)
    assert event.type == "cost.enrichment.eur"
    assert event.idempotency_key != row["id"]
    assert event.data["currency"] == "EUR"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--amount", "1"], "add --id", id="no-id"),
        pytest.param(["--amount", "x", "--id", "{id}"], "amount='x'", id="no-number"),
        pytest.param(["--amount", "1", "--id", "ok1_0"], "no unpriced cost", id="gone"),
        pytest.param(["--price-book", "{missing}"], "cannot be read", id="no-book"),
    ],
)
def test_reprice_refuses_what_makes_no_sense(
    journal_dir: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    """And changes nothing."""
    row = ran("unpriced", "list")["unpriced"][0]
    places = {"id": row["id"], "missing": str(tmp_path / "missing.toml")}

    done = call("reprice", *(word.format(**places) for word in words))

    assert done.code != ExitCode.DONE
    assert said in done.err
    assert len(waiting(journal_dir)) == 3


def test_dropping_needs_a_confirmation(journal_dir: Path) -> None:
    """A cost that is given up is never tracked."""
    refused = call("unpriced", "drop", "--reason", "incomplete")
    assert refused.code == ExitCode.USAGE
    assert len(waiting(journal_dir)) == 3

    done = call("unpriced", "drop", "--reason", "incomplete", "--yes")

    assert "discarded 1 cost" in done.out
    assert len(waiting(journal_dir)) == 2


def test_with_nothing_kept_there_is_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh machine has no folder yet."""
    monkeypatch.setenv("OUTLAY_JOURNAL_DIR", str(tmp_path / "none"))

    assert call("unpriced", "list").out == "no cost waits for a price\n"
    assert call("reprice").code == ExitCode.DONE
    assert call("unpriced", "drop").code == ExitCode.DONE


# From the call to the total.


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """Return a server of one's own."""
    with serving() as running:
        yield running


CAPTURE: Final = """
from tests.support.unpriced import record
client = outlay.default_client()
for number in range(50):
    record(client, number)
say(client.stats().unpriced)
die()
"""


def test_what_a_killed_process_captured_is_priced_shipped_and_counted_once(
    server: BackgroundServer, tmp_path: Path, book: Path
) -> None:
    """The whole way: no price, SIGKILL, a book, and the exact total, twice over."""
    spill = tmp_path / "spill"
    variables = processes.settings_for(
        server.url, spill, api_key="sk_test_cli", shipping="none"
    )
    assert processes.run(CAPTURE, variables, code=-9).split() == ["50"]
    to = [*reaching(server), "--journal-dir", str(spill)]
    metric = ["metrics", "create", "enrichment", "--event-type", "cost.enrichment"]
    created = call(*metric, *reaching(server))
    assert created.code == ExitCode.DONE, created.err

    for _ in range(2):
        priced = call("reprice", "--price-book", str(book), *to)
        assert priced.code == ExitCode.DONE, priced.err
        shipped: Ran = call("journal", "replay", *to)
        assert shipped.code == ExitCode.DONE, shipped.err

    may = ["--from", "2026-05-01", "--to", "2026-06-01"]  # when the costs arose
    (cost,) = json.loads(call("costs", "--json", *may, *reaching(server)).out)["costs"]
    assert (cost["total"], cost["events"]) == ("2.5", 50)


# Prices.


def test_check_says_what_is_in_a_book(book: Path) -> None:
    """Before it is deployed."""
    done = call("prices", "check", str(book))

    assert done.code == ExitCode.DONE
    assert done.out.startswith(f"{book}: 2 prices in USD, version ")


def test_check_finds_a_mistake(book: Path) -> None:
    """With its place."""
    book.write_text(BOOK.replace("call = 99", "cal = 99"))

    done = call("prices", "check", str(book))

    assert done.code == ExitCode.USAGE
    assert "price 2 (acme): cal=99" in done.err


def test_quote_asks_every_list(book: Path) -> None:
    """Which list tells what, with its source and date."""
    words = ["prices", "quote", "--price-book", str(book), "--at", "2026-05-01"]
    tokens = ["--model", "gpt-4o", "--usage", "input_tokens=1000000"]

    own, _, public = json.loads(call(*words, "--provider", "acme", "--json").out)
    none, _, listed = json.loads(
        call(*words, "--provider", "openai", *tokens, "--json").out
    )

    assert (own["amount"], own["price"]["entry"]) == ("0.05", "#1")
    assert public["reason"] == "unknown_provider"
    assert none["reason"] == "no_entry"
    assert (listed["amount"], listed["price"]["list"]) == ("2.5", "genai-prices")
    text = call(*words, "--provider", "openai", *tokens).out
    assert "2.5 USD  (list genai-prices" in text


def test_quote_of_what_nobody_knows_ends_with_1() -> None:
    """So a script can ask."""
    assert call("prices", "quote", "--provider", "nobody").code == ExitCode.REFUSED


@pytest.mark.parametrize("word", ["page", "page=x"])
def test_quote_refuses_what_is_no_count(word: str) -> None:
    """With what one looks like."""
    done = call("prices", "quote", "--provider", "acme", "--usage", word)

    assert done.code == ExitCode.USAGE
    assert "page=3" in done.err


def test_show_names_the_origin_of_each_price(book: Path) -> None:
    """The user's book, outlay's own list with source and date, and the public list."""
    words = ["prices", "show", "gpt-4o", "--at", "2026-11-01"]

    listed = json.loads(call(*words, "--price-book", str(book), "--json").out)

    fee = next(each for each in listed if each["entry"].endswith("gpt-4o"))
    assert (fee["origin"], fee["price"]) == ("outlay", "25 per 1000 web_searches")
    assert fee["since"] == "2025-06-26"
    assert fee["source"].startswith("https://")
    assert "genai-prices  openai/gpt-4o" in call(*words).out
    assert call("prices", "show", "no-such-model").code == ExitCode.REFUSED
