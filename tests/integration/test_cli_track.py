"""``outlay track``: one event, and the truth about what became of it."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest

from outlay import Client
from outlay._cli.exit_codes import ExitCode
from tests.support import command_line
from tests.support.answers import accepted, refused
from tests.support.command_line import Ran, create_metric, reaching
from tests.support.servers import Fault, Request, ScriptedServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.server import BackgroundServer
    from outlay.transport import TransportResponse

EVENT: Final = ("cost.any", "0.0042", "--customer", "cus_1", "--operation-id", "job-1")


@pytest.fixture(autouse=True)
def _own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep each test's events to itself, and the library's logger as it was."""
    monkeypatch.setenv("OUTLAY_JOURNAL_DIR", str(tmp_path))
    for name in ("OUTLAY_API_KEY", "OUTLAY_BASE_URL", "OUTLAY_SOURCE"):
        monkeypatch.delenv(name, raising=False)
    logger = logging.getLogger("outlay")
    handlers = list(logger.handlers)
    yield
    logger.handlers = handlers


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """A server that counts events of the type ``cost.any``."""
    with command_line.serving() as server:
        create_metric(server, "cost.any")
        yield server


def total(server: BackgroundServer) -> dict[str, str]:
    """Return what everything on ``server`` comes to, by currency."""
    words = ["costs", "--json", "--from", "2000-01-01", "--to", "2100-01-01"]
    document = json.loads(command_line.call(*words, *reaching(server)).out)
    totals: dict[str, str] = document["totals"]
    return totals


def track(*words: str) -> Ran:
    """Run ``outlay track``."""
    return command_line.call("track", *words)


def test_delivered_is_zero_and_shows_the_key(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """The whole way, as a process: the shell's if-statement is what reads it."""
    ran = command_line.run(
        "track",
        *EVENT,
        OUTLAY_BASE_URL=server.url,
        OUTLAY_API_KEY=command_line.KEY,
        OUTLAY_JOURNAL_DIR=tmp_path,
    )

    assert (ran.code, ran.err) == (ExitCode.DONE, "")
    assert ran.out.splitlines()[:2] == ["cost.any 0.0042 for cus_1", "  delivered"]
    assert "idempotency key ok1_" in ran.out
    assert total(server) == {"USD": "0.0042"}


def test_the_same_command_again_counts_once_and_says_so(
    server: BackgroundServer,
) -> None:
    """A cron job that is run twice must not cost twice."""
    first = track(*EVENT, "--json", *reaching(server))
    second = track(*EVENT, "--json", *reaching(server))

    results = json.loads(first.out), json.loads(second.out)
    assert [result["outcome"] for result in results] == ["delivered", "duplicate"]
    assert len({result["idempotencyKey"] for result in results}) == 1
    assert (first.code, second.code) == (ExitCode.DONE, ExitCode.DONE)
    assert total(server) == {"USD": "0.0042"}


def test_without_operation_id_it_warns_that_again_counts_again(
    server: BackgroundServer,
) -> None:
    """The one trap of the command, so it says so every time."""
    ran = track("cost.any", "1", "--customer", "cus_1", *reaching(server))

    assert ran.code == ExitCode.DONE
    assert "without --operation-id, the same command counts again" in ran.out


def test_every_argument_arrives_as_it_was_typed() -> None:
    """No digit is lost between the shell and the wire, in data neither."""
    with ScriptedServer() as server:
        ran = track(
            *("cost.ocr", "0.10000000000000000000000000000000001"),
            *("--customer", "Größe & Söhne", "--operation-id", "7", "--line", "pages"),
            *("--provider", "aws", "--operation", "ocr", "--region", "eu-west-1"),
            *("--quantity", "3.50", "--unit", "page"),
            *("--timestamp", "2026-10-05T12:00:00+02:00"),
            *("--data", '{"pi": 3.14159265358979323846264338, "tags": ["a"]}'),
            *("--base-url", server.url),
        )
    event: dict[str, Any] = json.loads(server.requests[0].body, parse_float=Decimal)

    assert ran.code == ExitCode.DONE
    assert (event["type"], event["subject"]) == ("cost.ocr", "Größe & Söhne")
    assert event["timestamp"] == "2026-10-05T10:00:00.000Z"
    assert event["data"] == {
        "amount": Decimal("0.10000000000000000000000000000000001"),
        "operationId": "7",
        "line": "pages",
        "provider": "aws",
        "operation": "ocr",
        "region": "eu-west-1",
        "quantity": Decimal("3.50"),
        "unit": "page",
        "provenance": "manual",
        "pi": Decimal("3.14159265358979323846264338"),
        "tags": ["a"],
    }


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-10-05", "2026-10-05T00:00:00.000Z"),
        ("2026-10", "2026-10-01T00:00:00.000Z"),
        ("2026-10-05T12:00:00", "2026-10-05T12:00:00.000Z"),
    ],
)
def test_a_date_is_a_time_too(text: str, instant: str) -> None:
    """Last month's invoice has no time of day."""
    with ScriptedServer() as server:
        ran = track(*EVENT, "--timestamp", text, "--base-url", server.url)

    assert ran.code == ExitCode.DONE
    assert json.loads(server.requests[0].body)["timestamp"] == instant


def test_type_that_nothing_counts_is_parked_and_delivered_later(
    server: BackgroundServer,
) -> None:
    """The remedy is a metric; then the next use delivers what waited."""
    other = ("cost.new", "1", "--customer", "cus_1", "--operation-id", "1")

    ran = track(*other, *reaching(server))
    create_metric(server, "cost.new")
    later = track(*EVENT, *reaching(server))

    assert ran.code == ExitCode.REFUSED
    assert "  parked in the journal\n  HTTP 422: " in ran.out
    assert later.code == ExitCode.DONE
    assert total(server) == {"USD": "1.0042"}


def test_wrong_key_is_refused_at_once_and_kept(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """No waiting: only a person can help. Said once, so the library's log is quiet."""
    ran = command_line.run(
        *("track", *EVENT, "--timeout", "50"),
        OUTLAY_BASE_URL=server.url,
        OUTLAY_API_KEY="sk_test_secret",
        OUTLAY_JOURNAL_DIR=tmp_path,
    )

    assert (ran.code, ran.err) == (ExitCode.REFUSED, "")
    assert "  refused; kept in the journal\n  HTTP 401: " in ran.out
    assert "secret" not in ran.out + ran.err


def test_server_down_is_three_and_the_next_use_delivers() -> None:
    """Nothing is lost by a server that is not there."""
    port = free_port()
    nowhere = ["--base-url", f"http://127.0.0.1:{port}", "--timeout", "0.3"]

    ran = track(*EVENT, "--json", *nowhere)

    result = json.loads(ran.out)
    assert (ran.code, result["outcome"], result["durable"]) == (
        ExitCode.UNREACHABLE,
        "kept",
        True,
    )
    assert result["message"].startswith(f"no response from http://127.0.0.1:{port} (")


def test_what_an_earlier_command_left_is_delivered_by_the_next() -> None:
    """The journal belongs to the destination, not to the process."""
    with ScriptedServer() as server:
        server.stop()
        left = track(*EVENT, "--timeout", "0.3", "--base-url", server.url)
        server.restart()
        later = ("cost.any", "1", "--customer", "cus_1", "--operation-id", "job-2")
        ran = track(*later, "--base-url", server.url)

    assert (left.code, ran.code) == (ExitCode.UNREACHABLE, ExitCode.DONE)
    assert "  and 1 earlier event from the journal\n" in ran.out
    assert server.total == Decimal("1.0042")


def test_its_fate_is_not_mixed_up_with_that_of_earlier_events() -> None:
    """Another event's refusal is not this one's, whatever is sent on the occasion."""
    offer = {"outlay_batch": "/v0/events/batch; max=1000"}

    def respond(request: Request) -> TransportResponse:
        if b"cost.old" in request.body:
            return refused(422, "invalid_event_type", **offer)
        return accepted(**offer)

    with ScriptedServer(respond) as scripted:
        where = ("--base-url", scripted.url)
        for number in "123":
            old = ("cost.old", "1", "--customer", "c", "--operation-id", number)
            assert track(*old, *where).code == ExitCode.REFUSED
        ran = track(*EVENT, *where)

    assert ran.code == ExitCode.DONE


def test_its_fate_is_known_although_others_are_delivered_with_it() -> None:
    """A backlog invites batches, whose answers are about many events at once."""
    with ScriptedServer(lambda _: refused(503)) as server:
        where = ("--base-url", server.url)
        for number in "123":
            old = ("cost.old", "1", "--customer", "c", "--operation-id", number)
            assert track(*old, "--timeout", "0.2", *where).code == ExitCode.UNREACHABLE
        server.respond = lambda request: server.accept(request)._replace(
            headers={"outlay-batch": "/v0/events/batch; max=1000"}
        )
        ran = track(*EVENT, "--json", *where)

    result = json.loads(ran.out)
    assert (ran.code, result["outcome"]) == (ExitCode.DONE, "delivered")
    assert result["earlierDelivered"] == 3


def test_server_that_recovers_within_the_timeout_counts_as_delivered() -> None:
    """A hiccup of the server is no news to the shell."""
    answers = iter([refused(503), accepted()])
    with ScriptedServer(lambda _: next(answers)) as server:
        ran = track(*EVENT, "--timeout", "20", "--base-url", server.url)

    assert ran.code == ExitCode.DONE


@pytest.mark.parametrize(
    ("answer", "code", "fate"),
    [
        (refused(400, message="no such field"), ExitCode.REFUSED, "dead"),
        (refused(413, message="too large"), ExitCode.REFUSED, "dead"),
        (refused(403, message="not yours"), ExitCode.REFUSED, "kept"),
        (refused(404, message="no such organization"), ExitCode.REFUSED, "parked"),
        (refused(503, message="later"), ExitCode.UNREACHABLE, "kept"),
        (Fault.HANG, ExitCode.UNREACHABLE, "kept"),
        (Fault.RESET, ExitCode.UNREACHABLE, "kept"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
def test_what_the_server_says_decides_the_exit_code(
    answer: Any,  # noqa: ANN401 - Answer or Fault
    code: ExitCode,
    fate: str,
) -> None:
    """The shell knows from the number alone whether to try again."""
    with ScriptedServer(lambda _: answer) as server:
        ran = track(*EVENT, "--json", "--timeout", "0.5", "--base-url", server.url)

    assert (ran.code, json.loads(ran.out)["outcome"]) == (code, fate)


def test_full_journal_says_that_the_event_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The only way to lose an event must not look like success."""
    monkeypatch.setenv("OUTLAY_MAX_JOURNAL_BYTES", "262144")
    monkeypatch.setenv("OUTLAY_SEGMENT_BYTES", "65536")
    with (
        ScriptedServer() as server,
        Client(base_url=server.url, shipping="none") as other,
    ):
        fill(other)
        ran = track(*EVENT, "--json", "--base-url", server.url)

    result = json.loads(ran.out)
    assert (ran.code, result["outcome"], result["durable"]) == (
        ExitCode.REFUSED,
        "dropped",
        False,
    )


def fill(client: Client) -> None:
    """Track until the journal of ``client`` takes no more."""
    for number in range(1000):
        receipt = client.track_cost(
            "cost.any",
            1,
            customer_id="cus_1",
            operation_id=number,
            data={"note": "x" * 10_000},
        )
        if not receipt.durable:
            return
    raise AssertionError("it takes everything")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cost.any", "abc", "--customer", "c"], "amount='abc'"),
        (["cost.any", "nan", "--customer", "c"], "amount='nan'"),
        (["cost.any", "-1", "--customer", "c"], "amount='-1'"),
        (["", "1", "--customer", "c"], "event_type=''"),
        (["cost.any", "1", "--customer", " "], "customer_id=' '"),
        (["cost.any", "1", "--customer", "c" * 256], "256 characters"),
        (["cost.any", "1"], "--customer"),
        (["cost.any", "1", "--customer", "c", "--data", "[1]"], "not a JSON object"),
        (["cost.any", "1", "--customer", "c", "--data", "{"], "not a JSON object"),
        (["cost.any", "1", "--customer", "c", "--data", '{"amount": 2}'], "amount"),
        (["cost.any", "1", "--customer", "c", "--timestamp", "soon"], "--timestamp"),
        (["cost.any", "1", "--customer", "c", "--timeout", "soon"], "--timeout"),
    ],
    ids=lambda value: None if isinstance(value, list) else value,
)
def test_wrong_input_is_two_and_tracks_nothing(
    words: list[str], says: str, tmp_path: Path
) -> None:
    """The message names what was wrong; nothing is left behind to be delivered."""
    ran = track(*words, "--base-url", "http://127.0.0.1:1")

    assert (ran.code, ran.out) == (ExitCode.USAGE, "")
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert list(tmp_path.rglob("*.seg")) == []
