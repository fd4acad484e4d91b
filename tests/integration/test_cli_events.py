"""``outlay events``: from a total to the events behind it."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from outlay import Client
from outlay._cli.exit_codes import ExitCode
from outlay.api import Api
from tests.support import command_line
from tests.support.command_line import KEY, Ran, reaching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.server import BackgroundServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackgroundServer]:
    """A server with four events of two customers."""
    folder = tmp_path_factory.mktemp("journal")
    with command_line.serving() as server:
        with Api(base_url=server.url, api_key=KEY) as api:
            api.create_metric("ai", "cost.ai", group_by={"kind": "$.model"})
            api.create_metric("euro", "cost.ai", currency="EUR")
            api.create_metric("dearest", "cost.ai", aggregation="MAX")
            api.create_metric("ocr", "cost.ocr")
        with Client(base_url=server.url, api_key=KEY, journal_dir=folder) as client:
            for number, (event_type, customer, model) in enumerate(
                [
                    ("cost.ai", "cus_1", "m-1"),
                    ("cost.ai", "cus_1", "m-2"),
                    ("cost.ai", "cus_2", "m-1"),
                    ("cost.ocr", "cus_2", "m-1"),
                ]
            ):
                client.track_cost(
                    event_type,
                    f"0.{number + 1}0",
                    customer_id=customer,
                    operation_id=f"job-{number}",
                    provider="openai",
                    timestamp=datetime(2026, 11, 1 + number, tzinfo=UTC),
                    data={"model": model, "currency": "USD"},
                )
            assert client.flush(20).complete
        yield server


def events(server: BackgroundServer, *words: str) -> Ran:
    """Run ``outlay events``."""
    return command_line.call("events", *words, *reaching(server))


def listed(server: BackgroundServer, *words: str) -> dict[str, Any]:
    """Return the JSON of ``outlay events list``."""
    ran = events(server, "list", *words, "--json")
    assert (ran.code, ran.err) == (ExitCode.DONE, "")
    document: dict[str, Any] = json.loads(ran.out)
    return document


def test_a_table_shows_the_newest_first(server: BackgroundServer) -> None:
    """Who caused which cost, when."""
    ran = events(server, "list", "--limit", "2")

    rows = [" ".join(line.split()) for line in ran.out.splitlines() if "cus_" in line]
    assert [row.rpartition(" ")[0] for row in rows] == [
        "2026-11-04 00:00:00 cus_2 cost.ocr openai 0.4 USD",
        "2026-11-03 00:00:00 cus_2 cost.ai openai 0.3 USD",
    ]
    assert "there are more than 2; pass --limit, or a filter" in ran.out


@pytest.mark.parametrize(
    ("words", "operations"),
    [
        ("--customer cus_1", "10"),
        ("--type cost.ocr", "3"),
        ("--type cost.ocr --type cost.ai --limit 1", "3"),
        ("--cost ai", "210"),
        ("--cost ai --where kind=m-1", "20"),
        ("--where model=m-1 --where model=m-2 --customer cus_1", "10"),
        ("--from 2026-11-02 --to 2026-11-04", "21"),
        ("--provenance reported", ""),
        ("--provenance manual --customer cus_1", "10"),
    ],
)
def test_filters_narrow_the_list(
    server: BackgroundServer, words: str, operations: str
) -> None:
    """The same filters lead from a total to its events."""
    found = listed(server, *words.split())

    names = [event["data"]["operationId"] for event in found["events"]]
    assert names == [f"job-{number}" for number in operations]
    assert found["more"] is ("--limit" in words)


def test_csv_has_a_row_for_each_event(server: BackgroundServer) -> None:
    """A spreadsheet reads it, with all digits."""
    ran = events(server, "list", "--customer", "cus_1", "--csv")

    rows = [*csv.DictReader(io.StringIO(ran.out))]
    assert [(row["customer"], row["amount"]) for row in rows] == [
        ("cus_1", "0.2"),
        ("cus_1", "0.1"),
    ]


def test_no_event_is_said_in_words(server: BackgroundServer) -> None:
    """An empty table would look like an error."""
    assert events(server, "list", "--customer", "none").out == "no event\n"


def test_an_event_is_shown_with_what_it_counts_for(server: BackgroundServer) -> None:
    """By id, or by key."""
    [event] = listed(server, "--customer", "cus_1", "--to", "2026-11-02")["events"]

    by_id = events(server, "show", event["id"])
    by_key = events(server, "show", "--key", event["idempotencyKey"])

    assert by_id == by_key
    lines = [" ".join(line.split()) for line in by_id.out.splitlines()]
    assert "customer cus_1" in lines
    assert "amount 0.1" in lines
    assert any(line.startswith("received 20") for line in lines)
    counts = [line for line in lines if line.startswith("counts for")]
    assert [line.partition("(")[0] + line.partition(":")[2] for line in counts] == [
        "counts for ai  0.1 USD",
        "counts for euro  excluded, other currency",
        "counts for dearest  with others, because the metric does not add up",
    ]
    shown = json.loads(events(server, "show", event["id"], "--json").out)
    assert shown["event"] == event
    assert shown["counts"][0]["cost"] == "0.1"
    assert shown["corrections"] == []


def test_an_event_is_shown_with_its_corrections(server: BackgroundServer) -> None:
    """A void event must not seem to count."""
    # No other test shows this event.
    [event] = listed(server, "--type", "cost.ocr")["events"]
    call, there = command_line.call, reaching(server)
    voided = call("void", event["id"], "--reason", "ran twice", *there)
    [correction] = re.findall(r"cor_\w+", voided.out.splitlines()[0])

    shown = events(server, "show", event["id"])
    call("corrections", "revert", correction, "--reason", "it did not", *there)

    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert any(line.endswith("0.4 USD, before corrections") for line in lines)
    [line] = [line for line in lines if line.startswith("void ")]
    assert line.endswith(f": ran twice ({correction})")
    reverted = json.loads(events(server, "show", event["id"], "--json").out)
    assert [one["kind"] for one in reverted["corrections"]] == ["revert", "void"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["show"], ExitCode.USAGE, "pass the event's ID, or --key"),
        (["show", "evt_0", "--key", "k"], ExitCode.USAGE, "the event's ID, or --key"),
        (["show", "evt_0"], ExitCode.REFUSED, "event evt_0 does not exist"),
        (["show", "--key", "k"], ExitCode.REFUSED, "no event has the key k"),
        (["list", "--cost", "none"], ExitCode.USAGE, "0 cost metrics are named 'none'"),
        (["list", "--where", "x"], ExitCode.USAGE, "'x' is not DIMENSION=VALUE"),
        (["list", "--limit", "0"], ExitCode.USAGE, "'0' is no count"),
        (
            ["list", "--cost", "ai", "--where", "colour=red"],
            ExitCode.REFUSED,
            "no dimension 'colour'; there are subject, kind",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_question_is_explained(
    server: BackgroundServer, words: list[str], code: ExitCode, says: str
) -> None:
    """And shows no events that were not asked for."""
    ran = events(server, *words)

    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
