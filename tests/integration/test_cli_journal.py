"""``outlay journal``: what waits is shown, shipped, and decided about."""

from __future__ import annotations

import json
import logging
import os
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from outlay import Client
from outlay._cli.exit_codes import ExitCode
from outlay._journal.journal import Destination
from outlay._shipping.agent import Agent
from tests.support import command_line, processes
from tests.support.answers import refused
from tests.support.clock import ManualClock
from tests.support.command_line import KEY, Ran, create_metric, reaching
from tests.support.events import amount_of, payload, total_of, track
from tests.support.journals import (
    KIB,
    close_journals,
    dead_letters,
    make_journal,
    segment_files,
    take_all,
)
from tests.support.servers import ScriptedServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay._journal.dead_letters import Kind
    from outlay.server import BackgroundServer

NOWHERE: Final = "http://127.0.0.1:9"
"""The discard port, on which nothing listens."""

ACTIONS: Final = (
    "status",
    "list",
    "show",
    "replay",
    "resend",
    "export",
    "purge",
    "move",
)


@pytest.fixture(autouse=True)
def journal_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep each test's events to itself, and the library's logger as it was."""
    for name in [name for name in os.environ if name.startswith("OUTLAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OUTLAY_JOURNAL_DIR", str(tmp_path))
    monkeypatch.setenv("OUTLAY_SEGMENT_BYTES", str(64 * KIB))
    logger = logging.getLogger("outlay")
    handlers = list(logger.handlers)
    yield tmp_path
    close_journals()
    logger.handlers = handlers


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """A server that counts events of the type that `track` makes."""
    with command_line.serving() as server:
        create_metric(server, "cost.ai.inference")
        yield server


def total(server: BackgroundServer) -> Decimal:
    """Return what everything on ``server`` comes to."""
    words = ["costs", "--json", "--from", "2000-01-01", "--to", "2100-01-01"]
    document = json.loads(command_line.call(*words, *reaching(server)).out)
    return Decimal(document["totals"].get("USD", 0))


def journal(*words: str) -> Ran:
    """Run ``outlay journal``."""
    return command_line.call("journal", *words)


def to(url: str, key: str = KEY) -> list[str]:
    """Return the arguments that make a destination."""
    return ["--base-url", url, *command_line.with_key(key)]


def read(*words: str) -> Any:  # noqa: ANN401 - JSON
    """Run ``outlay journal`` for scripts and return what it printed."""
    ran = journal(*words, "--json")
    assert ran.err == ""
    return json.loads(ran.out)


def leave(url: str, *numbers: int, key: str = KEY, event_type: str = "") -> None:
    """Track events, and end without shipping them."""
    with Client(base_url=url, api_key=key, shipping="none") as client:
        for number in numbers:
            track(client, number, event_type=event_type or "cost.ai.inference")


def bury(
    journal_dir: Path, url: str, *numbers: int, kind: Kind, key: str = KEY
) -> None:
    """Leave dead letters; quarantined ones were attempted, at noon of a past day."""
    clock = ManualClock()
    writer = make_journal(
        journal_dir, destination=Destination(url, None, key), clock=clock
    )
    for number in numbers:
        writer.append(payload(number))
    for event in take_all(writer):
        if kind == "quarantined":
            writer.reader.stamp([event], clock.now_ms())
        writer.move_to_dead_letters(
            event, kind, _REASONS[kind], "HTTP 400: no such field"
        )
    writer.close()


_REASONS: Final = {"dead": "rejected", "quarantined": "dedupe_window"}


def states(*words: str) -> dict[str, int]:
    """Return how many events there are in each state."""
    counts: dict[str, int] = {}
    for view in read("status", *words)["destinations"]:
        for row in view["events"]:
            counts[row["state"]] = counts.get(row["state"], 0) + row["events"]
    return counts


@pytest.mark.parametrize("action", ACTIONS)
def test_help_of_every_action_has_an_example_and_fits(action: str) -> None:
    """On a bad day a person reads no more than the example."""
    ran = journal(action, "--help")

    assert ran.code == ExitCode.DONE
    assert re.search(rf"\nexamples?:\n  outlay journal {action}", ran.out)
    assert [line for line in ran.out.splitlines() if len(line) > 88] == []


# status


def test_status_shows_counts_and_exact_amounts_of_each_kind(journal_dir: Path) -> None:
    """A finance lead adds these up: to the last digit, and each event once."""
    leave(NOWHERE, 1, 2, 3)
    leave(NOWHERE, 4, event_type="cost.ocr")
    bury(journal_dir, NOWHERE, 5, 6, kind="dead")

    ran = journal("status", *to(NOWHERE))
    (found,) = read("status", *to(NOWHERE))["destinations"] if ran else ()

    rows = [
        [row[name] for name in ("state", "reason", "type", "events", "amount")]
        for row in found["events"]
    ]
    amount = total_of([1, 2, 3])
    assert (ran.code, ran.err) == (ExitCode.DONE, "")
    assert rows == [
        ["pending", "new", "cost.ai.inference", 3, f"{amount:f}"],
        ["pending", "new", "cost.ocr", 1, f"{amount_of(4):f}"],
        ["dead", "rejected", "cost.ai.inference", 2, "0.02"],
    ]
    assert f"{amount:f}" in ran.out
    assert "2026-01-01T12:00:00.000Z" in ran.out, "the oldest"
    assert (found["relation"], found["baseUrl"]) == ("current", NOWHERE)


def test_status_adds_up_to_the_last_digit() -> None:
    """The largest amount and the smallest are both still in the sum."""
    with Client(base_url=NOWHERE, api_key=KEY, shipping="none") as client:
        for amount in ("1e40", "1e-40"):
            client.track_cost(
                "cost.any", amount, customer_id="cus_1", operation_id=amount
            )

    (row,) = read("status")["destinations"][0]["events"]

    assert row["amount"] == f"1{'0' * 40}.{'0' * 39}1"


def test_status_shows_the_oldest_timestamp_of_each_kind() -> None:
    """How long something is wrong is the first question."""
    with Client(base_url=NOWHERE, api_key=KEY, shipping="none") as client:
        for day in (2, 1, 3):
            client.track_cost(
                "cost.any",
                1,
                customer_id="cus_1",
                operation_id=day,
                timestamp=datetime(2026, 1, day, tzinfo=UTC),
            )

    (row,) = read("status")["destinations"][0]["events"]

    assert row["oldest"] == "2026-01-01T00:00:00.000Z"
    assert re.search(r"2026-01-01T00:00:00.000Z +[\d,]+ d ", journal("status").out)


def test_status_tells_living_writers_from_dead_ones(journal_dir: Path) -> None:
    """Events of the dead wait for an adopter; those of the living are being shipped."""
    leave(NOWHERE, 1)
    settings = processes.settings_for(NOWHERE, journal_dir, shipping="none")
    program = "track(outlay.default_client(), 2); say('ready'); sys.stdin.read()"
    with processes.start(program, settings) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        document = read("status")
        shown = journal("status").out

    held = [
        [each["process"] for each in view["writers"]]
        for view in document["destinations"]
    ]
    assert sorted(held, key=str) == [[writer.pid], [None]]
    assert "1 living writer, 0 dead" in shown
    assert "0 living writers, 1 dead" in shown


def test_status_tells_who_ships_for_a_living_writer(journal_dir: Path) -> None:
    """With shipping=agent that is another process, or none yet."""
    writer = Client(base_url=NOWHERE, shipping="agent")
    track(writer, 1)
    alone, shown = read("status"), journal("status").out
    with Agent(writer.settings):
        writer.flush(0.5)
        together = read("status")
    writer.close()

    def of(document: dict[str, Any]) -> tuple[int | None, int | None]:
        ((row,),) = [view["writers"] for view in document["destinations"]]
        return row["process"], row["shippedBy"]

    assert of(alone) == (os.getpid(), None)
    assert of(together) == (os.getpid(), os.getpid())
    assert "1 living writer, 0 dead" in shown
    assert "1 writer without an agent: run 'outlay agent'" in shown
    assert "damage" not in shown
    assert journal_dir.exists()


def test_status_says_whom_each_destination_belongs_to(journal_dir: Path) -> None:
    """After a change of key or address, old events are in plain sight."""
    leave(NOWHERE, 1)
    leave(NOWHERE, 2, key="sk_test_old")
    leave("http://127.0.0.1:10", 3)
    leave("http://127.0.0.1:11", 4)
    (lost,) = [
        path for path in journal_dir.glob("*/meta.json") if "0.1:11" in path.read_text()
    ]
    lost.write_text("{")

    found = read("status", *to(NOWHERE))["destinations"]

    assert found[0]["relation"] == "current"
    assert sorted(each["relation"] for each in found[1:]) == [
        "other_address",
        "other_credential",
        "unknown",
    ]
    shown = journal("status", *to(NOWHERE)).out
    assert "the same server, another credential" in shown
    assert "its meta.json cannot be read" in shown
    assert "sk_test" not in shown


def test_status_reports_what_it_cannot_read_and_goes_on() -> None:
    """One bad file must not hide the rest, nor look like success without a word."""
    leave(NOWHERE, 1)
    leave(NOWHERE, 2)
    first, _ = segment_files(Path(os.environ["OUTLAY_JOURNAL_DIR"]))
    content = bytearray(first.read_bytes())
    content[8] = 99
    first.write_bytes(content)

    ran = journal("status", *to(NOWHERE))

    assert ran.code == ExitCode.DONE
    assert "upgrade outlay" in ran.out
    assert states() == {"pending": 1}


def test_status_of_nothing_says_so(journal_dir: Path) -> None:
    """No news must not look like an error, nor like a bug."""
    missing = str(journal_dir / "never made")

    for folder in (str(journal_dir), missing):
        ran = journal("status", "--journal-dir", folder)
        assert (ran.code, ran.err) == (ExitCode.DONE, "")
        assert "the journal is empty" in ran.out
    assert not Path(missing).exists()


def test_a_folder_that_cannot_be_read_is_one_and_no_traceback(
    journal_dir: Path,
) -> None:
    """A file in the folder's place is the user's to fix."""
    (journal_dir / "file").write_text("I was here first")

    ran = journal("status", "--journal-dir", str(journal_dir / "file"))

    assert (ran.code, ran.out) == (ExitCode.REFUSED, "")
    assert ran.err.startswith("outlay: cannot read")


def test_one_destination_can_be_asked_for_by_the_start_of_its_name() -> None:
    """A person does not type 32 digits."""
    leave(NOWHERE, 1)
    leave(NOWHERE, 2, key="sk_test_old")
    names = [each["destination"] for each in read("status")["destinations"]]

    found = read("status", "--destination", names[1][:8])["destinations"]
    ran = journal("status", "--destination", "zz")

    assert [each["destination"] for each in found] == [names[1]]
    assert ran.code == ExitCode.USAGE
    assert all(name in ran.err for name in names)


def test_status_of_a_destination_that_shipped_everything(
    server: BackgroundServer,
) -> None:
    """The good case must look like one."""
    leave(server.url, 1)
    journal("replay", *reaching(server))

    assert "  no undelivered event\n" in journal("status", *reaching(server)).out


# list, show, export


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ([], [1, 2, 3, 4, 5]),
        (["--state", "dead"], [4]),
        (["--state", "dead", "--state", "quarantined"], [5, 4]),
        (["--type", "cost.ocr"], [3]),
        (["--customer", "cus_1"], [1, 2, 3, 4, 5]),
        (["--customer", "cus_2"], []),
        (["--older-than", "7d"], [4, 5]),
        (["--older-than", "2026-02"], [4, 5]),
        (["--older-than", "2026-01-01"], []),
        (["--older-than", "7d", "--state", "pending"], []),
        (["--type", "cost.ai.inference", "--state", "pending"], [1, 2]),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value[0], str) else None,
)
def test_list_shows_what_is_selected(
    words: list[str], numbers: list[int], journal_dir: Path
) -> None:
    """Of a million events, the few that matter."""
    leave(NOWHERE, 1, 2)
    leave(NOWHERE, 3, event_type="cost.ocr")
    bury(journal_dir, NOWHERE, 4, kind="dead")
    bury(journal_dir, NOWHERE, 5, kind="quarantined")

    events = read("list", *words)["events"]

    assert sorted(map(number_of, events)) == sorted(numbers)


def number_of(event: dict[str, Any]) -> int:
    """Return the number of an event that `leave` or `bury` made."""
    data = json.loads(event["payload"])["data"]
    operation = data.get("operationId") or event["idempotencyKey"]
    return int(operation.split("-")[1])


def test_list_says_when_there_is_more() -> None:
    """A cut that is not shown is a wrong number."""
    leave(NOWHERE, 1, 2, 3)

    assert read("list", "--limit", "2")["more"] is True
    assert read("list", "--limit", "3")["more"] is False
    assert len(read("list", "--limit", "0")["events"]) == 3
    cut = journal("list", "--limit", "2").out
    assert "the first 2; pass --limit to see more" in cut
    assert journal("list", "--limit", "-1").code == ExitCode.USAGE


def test_list_shows_key_customer_and_amount() -> None:
    """What one needs to find the event elsewhere."""
    leave(NOWHERE, 1)
    (event,) = read("list")["events"]

    ran = journal("list")

    assert event["amount"] == f"{amount_of(1):f}"
    for text in (event["idempotencyKey"], "cus_1", f"{amount_of(1):f}", "pending"):
        assert text in ran.out
    assert journal("list", "--state", "dead").out == "no undelivered event matches\n"


def test_list_names_on_the_side_what_it_cannot_read(journal_dir: Path) -> None:
    """On standard error: scripts read the rest."""
    bury(journal_dir, NOWHERE, 1, kind="dead")
    (letters,) = journal_dir.glob("*/dead/*.jsonl")
    letters.write_bytes(b"# mine\n" + letters.read_bytes())

    ran = journal("list", "--json")

    assert len(json.loads(ran.out)["events"]) == 1
    assert ran.err == f"outlay: dead/{letters.name}@0: is no dead letter of outlay\n"


@pytest.mark.parametrize("text", ["7", "d", "-1d", "1.5h", "100000d", "7 d"])
def test_an_age_that_is_none_is_two(text: str) -> None:
    """The message shows what one looks like."""
    ran = journal("list", f"--older-than={text}")

    assert ran.code == ExitCode.USAGE
    assert "90min or 7d" in ran.err


def test_show_tells_the_whole_history_of_one_event(journal_dir: Path) -> None:
    """Which attempt, which answer, which file: the end of a long search."""
    bury(journal_dir, NOWHERE, 5, kind="quarantined")

    ran = journal("show", "key-5")
    traces = read("show", "key-5")

    assert ran.code == ExitCode.DONE
    assert "quarantined, dedupe window; 1 attempt" in ran.out
    assert "HTTP 400: no such field" in ran.out
    assert payload(5).decode() in ran.out
    assert [trace["location"].partition("/")[0] == "dead" for trace in traces] == [
        False,
        True,
    ]
    assert {trace["firstAttemptAt"] for trace in traces} == {"2026-01-01T12:00:00.000Z"}


def test_show_of_a_fresh_event_says_that_it_was_never_sent() -> None:
    """The other end of the search: the server cannot have it."""
    leave(NOWHERE, 1)
    (event,) = read("list")["events"]

    ran = journal("show", event["idempotencyKey"])

    assert "  pending, new; 0 attempts\n" in ran.out


def test_show_of_an_unknown_key_is_one_and_says_why() -> None:
    """Delivered is the good reason for not being there."""
    ran = journal("show", "key-none")

    assert (ran.code, ran.out) == (ExitCode.REFUSED, "")
    assert "a delivered event is deleted" in ran.err


def test_export_writes_the_exact_bytes(journal_dir: Path) -> None:
    """Whatever reads them next must see what the server would have."""
    bury(journal_dir, NOWHERE, 1, 2, kind="dead")
    leave(NOWHERE, 3)
    exact = b"".join(payload(number) + b"\n" for number in (1, 2)).decode()

    ran = command_line.run(
        "journal", "export", "--state", "dead", OUTLAY_JOURNAL_DIR=journal_dir
    )

    assert (ran.code, ran.out, ran.err) == (ExitCode.DONE, exact, "")


def test_export_to_a_file_is_private_and_overwrites_nothing(journal_dir: Path) -> None:
    """Cost events name customers, and an earlier export may be the only copy."""
    leave(NOWHERE, 3)
    output = journal_dir / "events.jsonl"

    ran = journal("export", "--output", str(output))
    again = journal("export", "--output", str(output))
    nowhere = journal("export", "--output", str(journal_dir / "no" / "such"))

    assert (ran.code, ran.out) == (ExitCode.DONE, f"1 event in {output}\n")
    assert json.loads(output.read_text())["data"]["operationId"] == "op-3"
    assert output.stat().st_mode & 0o777 == 0o600
    assert (again.code, nowhere.code) == (ExitCode.USAGE, ExitCode.REFUSED)


# replay


def test_replay_delivers_what_a_killed_process_left(
    server: BackgroundServer, journal_dir: Path
) -> None:
    """The whole point: the totals are what was tracked."""
    settings = processes.settings_for(server.url, journal_dir, shipping="none")
    variables = {**settings, "OUTLAY_API_KEY": KEY}
    program = "[track(outlay.default_client(), n) for n in range(300)]; die()"
    processes.run(program, variables, code=-9)

    ran = journal("replay", *reaching(server))

    assert (ran.code, ran.err) == (ExitCode.DONE, "")
    assert ran.out == "300 events delivered\n"
    assert total(server) == total_of(range(300))
    assert states() == {}


def test_replay_ships_whatever_the_application_s_settings_say(
    server: BackgroundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who tracks with shipping=none ships with this command."""
    leave(server.url, 1)
    monkeypatch.setenv("OUTLAY_SHIPPING", "none")
    monkeypatch.setenv("OUTLAY_DURABILITY", "memory")

    assert journal("replay", *reaching(server)).code == ExitCode.DONE
    assert total(server) == amount_of(1)


def test_replay_says_what_the_server_knew_already(server: BackgroundServer) -> None:
    """Twice delivered is once counted, and that is worth a line."""
    leave(server.url, 1)
    journal("replay", *reaching(server))
    leave(server.url, 1)

    result = read("replay", *reaching(server))

    assert (result["delivered"], result["duplicates"]) == (1, 1)
    assert total(server) == amount_of(1)


def test_replay_with_nothing_to_do_says_so(server: BackgroundServer) -> None:
    """In a cron job it usually has nothing to do."""
    ran = journal("replay", *reaching(server))

    assert ran == (ExitCode.DONE, "dead processes left nothing\n", "")


def test_replay_to_a_server_that_is_down_keeps_everything() -> None:
    """Three: trying again may help."""
    url = f"http://127.0.0.1:{free_port()}"
    leave(url, 1, 2)

    ran = journal("replay", "--timeout", "0.5", *to(url))

    assert ran.code == ExitCode.UNREACHABLE
    assert ran.out.startswith("2 events not delivered yet; kept in the journal\n")
    assert f"no response from {url}" in ran.out
    assert states() == {"pending": 2}


def test_replay_with_a_wrong_key_gives_up_at_once() -> None:
    """Only a person can help, so the timeout is not waited for."""
    with ScriptedServer(lambda _: refused(401, message="who are you?")) as server:
        leave(server.url, 1, 2)
        ran = journal("replay", "--timeout", "600", *to(server.url))

    assert ran.code == ExitCode.REFUSED
    assert "HTTP 401: who are you?" in ran.out
    assert KEY not in ran.out
    assert states() == {"pending": 2}


def test_replay_of_an_unknown_type_parks_it_and_a_metric_frees_it(
    server: BackgroundServer,
) -> None:
    """The commonest reason for events that do not arrive, and its way out."""
    leave(server.url, 1)
    leave(server.url, 2, event_type="cost.new")

    first = journal("replay", *reaching(server))
    create_metric(server, "cost.new")
    second = journal("replay", *reaching(server))

    assert first.code == ExitCode.REFUSED
    assert "1 event delivered\n1 event parked in the journal\n" in first.out
    assert (second.code, second.out) == (ExitCode.DONE, "1 event delivered\n")
    assert total(server) == total_of([1, 2])


def test_replay_names_the_reason_of_a_refusal() -> None:
    """In the server's own words, and how often."""
    with ScriptedServer(lambda _: refused(400, message="no such field")) as server:
        leave(server.url, 1, 2)
        ran = journal("replay", *to(server.url))

    assert ran.code == ExitCode.REFUSED
    assert "2 events refused; kept as dead letters" in ran.out
    assert "2 x cost.ai.inference: HTTP 400: no such field (rejected)" in ran.out
    assert states() == {"dead": 2}


def test_replay_does_not_resend_what_may_have_been_counted(journal_dir: Path) -> None:
    """The window rule holds for commands, too."""
    with ScriptedServer() as server:
        clock = ManualClock()  # stands in the past
        writer = make_journal(
            journal_dir, destination=Destination(server.url, None, KEY), clock=clock
        )
        writer.append(payload(1))
        writer.reader.stamp(take_all(writer), clock.now_ms())
        writer.close()

        ran = journal("replay", *to(server.url))

    assert (ran.code, server.requests) == (ExitCode.REFUSED, [])
    assert "1 event quarantined; see 'outlay journal resend --help'" in ran.out


def test_replay_leaves_the_events_of_the_living_to_them(
    server: BackgroundServer,
) -> None:
    """Two shippers of one event would be two requests."""
    with Client(base_url=server.url, api_key=KEY, shipping="none") as client:
        track(client, 1)
        ran = journal("replay", *reaching(server))

    assert ran.code == ExitCode.DONE
    assert ran.out == "1 event of living processes, which ship their own\n"
    assert total(server) == 0


def test_replay_names_the_agent_that_others_wait_for(
    server: BackgroundServer,
) -> None:
    """It inherits from the dead; a living writer's last segment has no end yet."""
    with Client(base_url=server.url, api_key=KEY, shipping="agent") as client:
        track(client, 1)
        ran = journal("replay", *reaching(server))

    assert ran.code == ExitCode.DONE
    assert ran.out == "1 event of living processes that wait for 'outlay agent'\n"
    assert total(server) == 0


def test_replay_says_whom_other_events_wait_for(
    server: BackgroundServer, journal_dir: Path
) -> None:
    """Key rotation must not strand money in silence."""
    leave(server.url, 1, key="sk_test_old")
    leave("http://127.0.0.1:10", 3)
    for lost in journal_dir.glob("*/meta.json"):
        if "0.1:10" in lost.read_text():
            lost.unlink()
    leave(NOWHERE, 2)

    ran = journal("replay", *reaching(server))
    result = read("replay", *reaching(server))

    assert ran.code == ExitCode.DONE
    assert "tracked under another credential; they wait for a process" in ran.out
    assert "outlay journal move " in ran.out
    assert f"for {NOWHERE}; they wait for a process with that" in ran.out
    assert "their server is not known" in ran.out
    assert sorted(each["relation"] for each in result["otherDestinations"]) == [
        "other_address",
        "other_credential",
        "unknown",
    ]
    assert total(server) == 0


# adopt


def test_adopted_events_are_shipped_with_the_new_credential(
    server: BackgroundServer, journal_dir: Path
) -> None:
    """The deliberate way through a key rotation, quarantine included."""
    leave(server.url, 1, 2, key="sk_test_old")
    bury(journal_dir, server.url, 3, kind="quarantined", key="sk_test_old")
    old = the_other(server)

    ran = journal(
        "move", old[:8], "--i-know-these-belong-to-this-account", *reaching(server)
    )
    journal("replay", *reaching(server))

    assert ran.code == ExitCode.DONE
    assert "moved the events of 2 dead writers, and 1 file of dead letters" in ran.out
    assert total(server) == total_of([1, 2])
    current = read("status", *reaching(server))["destinations"][0]
    assert current["relation"] == "current"
    assert [row["state"] for row in current["events"]] == ["quarantined"]


def the_other(server: BackgroundServer) -> str:
    """Return the name of the destination that is not the current one."""
    found = read("status", *reaching(server))["destinations"]
    (other,) = [each for each in found if each["relation"] != "current"]
    name: str = other["destination"]
    return name


def test_adopt_moves_nothing_without_being_told_to(server: BackgroundServer) -> None:
    """The wrong answer writes costs into the books of another account."""
    leave(server.url, 1, key="sk_test_old")

    ran = journal("move", the_other(server), *reaching(server))

    assert (ran.code, ran.out) == (ExitCode.USAGE, "")
    assert "nothing was moved: 1 event would be sent" in ran.err
    assert read("replay", *reaching(server))["otherDestinations"][0]["events"] == 1


def test_adopt_leaves_living_writers_alone(
    server: BackgroundServer,
) -> None:
    """The old application still runs, during the rotation."""
    old = Client(base_url=server.url, api_key="sk_test_old", shipping="none")
    with old:
        track(old, 1)
        result = read(
            "move",
            the_other(server),
            "--i-know-these-belong-to-this-account",
            *reaching(server),
        )

    assert result == {"writers": 0, "busy": 1, "files": 0}


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("zz", ExitCode.USAGE, "0 destinations 'zz'"),
        ("", ExitCode.USAGE, "3 destinations ''"),
        ("current", ExitCode.USAGE, "is the destination of these settings already"),
        ("other_address", ExitCode.REFUSED, "its events are sent nowhere else"),
        ("unknown", ExitCode.REFUSED, "its events are sent nowhere else"),
    ],
)
def test_adopt_takes_only_what_may_belong_here(
    name: str, code: ExitCode, says: str, journal_dir: Path
) -> None:
    """Another server's events are never this one's, whatever one types."""
    leave(NOWHERE, 1)
    leave("http://127.0.0.1:10", 2)
    leave(NOWHERE, 3, key="sk_test_old")
    found = read("status", *to(NOWHERE))["destinations"]
    named = {each["relation"]: each["destination"] for each in found}
    assert len(named) == 3
    if name == "unknown":
        named[name] = named["other_credential"]
        (journal_dir / named[name] / "meta.json").unlink()

    ran = journal(
        "move",
        named.get(name, name),
        "--i-know-these-belong-to-this-account",
        *to(NOWHERE),
    )

    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
    assert states() == {"pending": 3}


def test_adopt_takes_nothing_from_another_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The organization is in the events themselves; they would not change hands."""
    with Client(
        base_url=NOWHERE, api_key=KEY, namespace="org_1", shipping="none"
    ) as client:
        track(client, 1)
    (found,) = read("status", *to(NOWHERE))["destinations"]
    adopt = ("move", found["destination"], "--i-know-these-belong-to-this-account")

    ran = journal(*adopt, *to(NOWHERE))
    monkeypatch.setenv("OUTLAY_NAMESPACE", "org_1")
    same = journal(*adopt, *to(NOWHERE, "sk_test_new"))

    assert (found["relation"], found["namespace"]) == ("other_address", "org_1")
    assert (ran.code, same.code) == (ExitCode.REFUSED, ExitCode.DONE)


# resend


def test_resend_says_what_may_be_doubled_and_does_nothing_unasked(
    journal_dir: Path,
) -> None:
    """The person who decides must see the events before anything is done."""
    bury(journal_dir, NOWHERE, 1, 2, kind="quarantined")

    ran = journal("resend", *to(NOWHERE))

    assert ran.code == ExitCode.USAGE
    assert "0.02" in ran.out
    assert "nothing was resent: 2 events may have been counted already" in ran.err
    assert states() == {"quarantined": 2}


def test_resent_events_are_delivered_once_and_are_letters_no_more(
    server: BackgroundServer, journal_dir: Path
) -> None:
    """From quarantine to the exact total."""
    bury(journal_dir, server.url, 1, 2, kind="quarantined")

    ran = journal("resend", "--i-accept-double-counting", *reaching(server))
    replayed = journal("replay", *reaching(server))
    again = journal("resend", "--i-accept-double-counting", *reaching(server))

    assert ran.code == ExitCode.DONE
    assert "2 events pending again; 2 of all may count twice" in ran.out
    assert replayed.out == "2 events delivered\n"
    assert again.out == "no such event in the journal\n"
    assert total(server) == Decimal("0.02")
    assert {letter["kind"] for letter in dead_letters(journal_dir)} == {"sent"}


def test_dead_letters_that_cannot_double_need_no_consent(
    server: BackgroundServer, journal_dir: Path
) -> None:
    """The server refused them: once it is mended, nothing speaks against them."""
    bury(journal_dir, server.url, 1, 2, kind="dead")
    bury(journal_dir, server.url, 3, kind="quarantined")

    result = read("resend", "--state", "dead", *reaching(server))
    journal("replay", *reaching(server))

    assert (result["resent"], result["mayCountTwice"]) == (2, 0)
    assert total(server) == Decimal("0.02")
    assert states() == {"quarantined": 1}


def test_resend_after_a_crash_says_what_was_pending_already(journal_dir: Path) -> None:
    """Nothing goes back twice, now or once the first has been delivered."""
    bury(journal_dir, NOWHERE, 1, 2, kind="dead")
    (letters,) = journal_dir.glob("*/dead/*.jsonl")
    unmarked, _ = letters.read_bytes().splitlines(keepends=True)
    journal("resend", "--state", "dead", *to(NOWHERE))
    _, marked = letters.read_bytes().splitlines(keepends=True)
    letters.write_bytes(unmarked + marked)

    ran = journal("resend", "--state", "dead", *to(NOWHERE))
    again = journal("resend", "--state", "dead", *to(NOWHERE))

    assert ran.code == ExitCode.DONE
    assert "0 events pending again; 1 more were already\n" in ran.out
    assert again.out == "no such event in the journal\n"
    assert states() == {"pending": 2}


def test_resend_takes_only_what_is_selected(journal_dir: Path) -> None:
    """One customer's complaint is not everybody's."""
    bury(journal_dir, NOWHERE, 1, kind="dead")

    other = read("resend", "--state", "dead", "--customer", "cus_2", *to(NOWHERE))

    assert other == {"resent": 0, "alreadyPending": 0, "events": []}
    assert states() == {"dead": 1}


# purge


def test_purge_shows_and_deletes_only_when_told(journal_dir: Path) -> None:
    """Deleted is deleted."""
    bury(journal_dir, NOWHERE, 1, 2, kind="dead")
    leave(NOWHERE, 3)

    shown = journal("purge", *to(NOWHERE))
    done = journal("purge", "--yes", *to(NOWHERE))

    assert shown.code == ExitCode.USAGE
    assert "0.02" in shown.out
    assert "nothing was deleted: 2 letters" in shown.err
    assert (done.code, done.err) == (ExitCode.DONE, "")
    assert "deleted 2 letters, 1 file" in done.out
    assert states() == {"pending": 1}
    assert journal("purge", *to(NOWHERE)).out == "nothing to delete\n"


def test_purge_takes_only_what_is_selected(journal_dir: Path) -> None:
    """Old refusals may go, fresh doubts may not."""
    bury(journal_dir, NOWHERE, 1, kind="dead")
    bury(journal_dir, NOWHERE, 2, kind="quarantined")

    result = read(
        "purge", "--state", "dead", "--older-than", "7d", "--yes", *to(NOWHERE)
    )

    assert (result["letters"], result["files"]) == (1, 1)
    assert states() == {"quarantined": 1}


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ([], 0),
        (["--state", "damaged"], 0),
        (["--state", "dead"], 1),
        (["--customer", "cus_1"], 1),
    ],
    ids=["all", "damaged", "dead", "customer"],
)
def test_purge_deletes_damaged_bytes_unless_told_otherwise(
    words: list[str], left: int, journal_dir: Path
) -> None:
    """They are counted in status until a person has looked at them."""
    bury(journal_dir, NOWHERE, 1, kind="dead")
    (dead,) = journal_dir.glob("*/dead")
    (dead / "memory-00000001-64.damaged").write_bytes(b"?")
    assert read("status")["destinations"][0]["damagedBytes"] == 1
    assert "1 file of corrupt bytes, 1 bytes" in journal("status").out

    journal("purge", "--yes", *words, *to(NOWHERE))

    assert read("status")["destinations"][0]["damagedFiles"] == left


def test_purge_of_a_living_writer_s_letters_leaves_the_file(journal_dir: Path) -> None:
    """It may be writing the next letter."""
    writer = make_journal(journal_dir, destination=Destination(NOWHERE, None, KEY))
    writer.append(payload(1))
    (event,) = take_all(writer)
    writer.move_to_dead_letters(event, "dead", "rejected", "no")

    ran = journal("purge", "--yes", *to(NOWHERE))

    assert "deleted 1 letter, 0 files\n1 emptied file left to living" in ran.out
    writer.close()
    assert journal("purge", "--yes", *to(NOWHERE)).out == "deleted 0 letters, 1 file\n"


def test_a_destination_that_was_never_used_has_nothing_to_decide() -> None:
    """The folder is not made by asking."""
    assert "no such event in the journal" in journal("resend", *to(NOWHERE)).out
    assert "nothing to delete" in journal("purge", *to(NOWHERE)).out


def test_decisions_are_about_one_destination(journal_dir: Path) -> None:
    """Too short a name must not mean all of them."""
    bury(journal_dir, NOWHERE, 1, kind="dead")
    bury(journal_dir, NOWHERE, 2, kind="dead", key="sk_test_old")
    names = [each["destination"] for each in read("status")["destinations"]]

    ran = journal("purge", "--yes", "--destination", "")
    one = journal("purge", "--yes", "--destination", names[1])

    assert ran.code == ExitCode.USAGE
    assert "several destinations begin with ''" in ran.err
    assert "deleted 1 letter" in one.out
    assert states() == {"dead": 1}


def test_an_unreadable_event_is_shown_and_kept(journal_dir: Path) -> None:
    """Whatever it is, a program tracked it."""
    writer = make_journal(journal_dir, destination=Destination(NOWHERE, None, KEY))
    for body in (
        b"[]",
        payload(1).replace(b"0.01", b"true"),
        payload(2).replace(b"0.01", b"7"),
    ):
        writer.append(body)
    writer.close()

    (view,) = read("status")["destinations"]

    assert [(row["type"], row["amount"]) for row in view["events"]] == [
        ("-", None),
        ("cost.ai.inference", None),
    ]
    assert read("list")["events"][2]["amount"] == "7"
    assert journal("status").code == journal("list").code == ExitCode.DONE
