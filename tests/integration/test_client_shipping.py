"""Real threads, real sockets, a server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

from outlay import Client
from tests.support.answers import accepted, refused
from tests.support.events import assert_conserved, total_of, track
from tests.support.journals import dead_letters, segment_files
from tests.support.servers import BATCH_PATH, Fault, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Unpack

    from outlay._client_options import SettingsInput
    from outlay.transport import TransportResponse
    from tests.support.events import Batching
    from tests.support.servers import Request, Respond, Response

_KEY: Final = "sk_test_secret"
_OFFER: Final = f"{BATCH_PATH}; max=1000"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Return a server that accepts everything, until told otherwise."""
    with ScriptedServer() as running:
        yield running


def _client(
    server: ScriptedServer, folder: Path, **settings: Unpack[SettingsInput]
) -> Client:
    chosen: SettingsInput = {
        "base_url": server.url,
        "api_key": _KEY,
        "journal_dir": folder,
        "linger": 0.0,
        "retry_initial": 0.01,
        "retry_max": 0.05,
    }
    chosen.update(settings)
    return Client(**chosen)


def _in_turn(*answers: Response, then: Respond) -> Respond:
    """Answer with ``answers``, one each, and then as ``then`` does."""
    left = list(answers)

    def respond(request: Request) -> Response:
        return left.pop(0) if left else then(request)

    return respond


@pytest.mark.parametrize("batching", ["never", "always"])
def test_eight_threads_track_and_every_event_arrives_once(
    server: ScriptedServer, tmp_path: Path, batching: Batching
) -> None:
    """The main job: exact totals, each event once."""
    client = _client(server, tmp_path, batching=batching)

    def work(first: int) -> None:
        for number in range(first, first + 50):
            track(client, number)

    threads = [threading.Thread(target=work, args=(n * 50,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = client.close(20)

    assert report.complete
    assert server.total == total_of(range(400))
    assert server.duplicates == 0
    assert report.stats.delivered == 400
    assert_conserved(report.stats)
    assert segment_files(tmp_path) == []


def test_the_batch_extension_is_used_once_it_is_advertised(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """A header on the first answer; then hundreds of events a request."""

    def respond(request: Request) -> TransportResponse:
        answer = server.accept(request)
        return answer._replace(headers={**answer.headers, "Outlay-Batch": _OFFER})

    server.respond = respond
    client = _client(server, tmp_path, linger=0.05)
    for number in range(2000):
        track(client, number)

    report = client.close(20)

    assert server.total == total_of(range(2000))
    assert report.stats.requests < 300
    assert {request.path for request in server.requests} == {"/v0/events", BATCH_PATH}


def test_a_wrong_key_pauses_and_a_right_one_resumes(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything is kept, it is logged once, and no restart is needed."""
    caplog.set_level(logging.INFO, "outlay")
    server.respond = lambda _: refused(401, "unauthorized", "no such key")
    client = _client(server, tmp_path)
    for number in range(20):
        track(client, number)
    server.wait_for_requests(4)
    paused = client.stats()

    server.respond = server.accept
    report = client.close(20)

    assert (paused.delivered, paused.pending) == (0, 20)
    assert server.total == total_of(range(20))
    assert caplog.text.count("shipping is paused: HTTP 401: no such key") == 1
    assert "Type: export OUTLAY_API_KEY=<key>" in caplog.text
    assert "shipping resumes" in caplog.text
    assert _KEY not in caplog.text
    assert_conserved(report.stats)


def test_a_server_that_is_down_at_the_start_gets_everything_later(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Applications start before their services do."""
    server.stop()
    client = _client(server, tmp_path)
    for number in range(20):
        track(client, number)
    early = client.flush(0.3)

    server.restart()
    report = client.close(20)

    assert not early.complete
    assert early.stats.pending == 20
    assert server.total == total_of(range(20))
    assert report.stats.delivered == 20
    assert caplog.text.count("cannot ship") == 1, "an outage is one line"


@pytest.mark.parametrize("kept", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("batching", ["never", "always"])
def test_a_server_that_dies_in_the_middle_of_a_request_counts_each_event_once(
    server: ScriptedServer, tmp_path: Path, batching: Batching, *, kept: bool
) -> None:
    """Before or after it had stored them: the client cannot tell, the key can."""
    died = threading.Event()

    def die(request: Request) -> TransportResponse | Fault:
        if kept:
            server.keep(request)
        died.set()
        return Fault.RESET

    server.respond = _in_turn(accepted(), then=die) if batching == "never" else die
    client = _client(server, tmp_path, batching=batching)
    numbers = range(1 if batching == "never" else 0, 60)
    if batching == "never":
        track(client, 0)
        client.flush(10)
    for number in numbers:
        track(client, number)
    assert died.wait(10)
    server.stop()
    server.respond = server.accept
    server.restart()

    report = client.close(20)

    assert report.complete
    assert server.total == total_of(numbers)
    assert report.stats.retried > 0
    assert (report.stats.duplicates > 0) == kept
    assert_conserved(report.stats)


def test_a_server_that_is_unavailable_for_a_while_gets_everything(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """503 to all, with a hint when to come back."""
    answers = [refused(503, "unavailable", "busy", retry_after="0.05")] * 10
    server.respond = _in_turn(*answers, then=server.accept)
    client = _client(server, tmp_path)

    for number in range(200):
        track(client, number)
    report = client.close(20)

    assert report.complete
    assert server.total == total_of(range(200))
    assert server.duplicates == 0


def test_a_rejected_event_is_kept_with_the_servers_words_and_told(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """And its neighbours are delivered."""
    told = threading.Event()
    server.respond = _in_turn(
        refused(400, "validation_error", "data is odd"), then=server.accept
    )
    client = Client(
        base_url=server.url,
        journal_dir=tmp_path,
        linger=0.0,
        on_dead_letter=lambda *_: told.set(),
    )

    track(client, 1)
    client.flush(10)
    for number in range(2, 10):
        track(client, number)
    report = client.close(20)

    (letter,) = dead_letters(tmp_path)
    assert told.wait(10)
    assert letter["message"] == "HTTP 400: data is odd"
    assert letter["event"]["data"]["operationId"] == "op-1"
    assert server.total == total_of(range(2, 10))
    assert_conserved(report.stats)


def test_an_unknown_event_type_is_parked_and_the_others_pass(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Until a person creates the metric. Then it is delivered, too."""

    def respond(request: Request) -> TransportResponse:
        if b'"type":"cost.new"' in request.body:
            return refused(422, "invalid_event_type", "no metric reads cost.new")
        return server.accept(request)

    server.respond = respond
    client = _client(server, tmp_path)
    for number in range(10):
        track(client, number, event_type="cost.new" if number < 5 else "cost.known")
    parked = client.close(20)

    server.respond = server.accept
    with _client(server, tmp_path) as successor:
        delivered = successor.flush(20)

    assert not parked.complete
    assert (parked.stats.parked, parked.stats.delivered) == (5, 5)
    assert delivered.stats.recovered == delivered.stats.delivered == 5
    assert server.total == total_of(range(10))


@pytest.mark.serial
def test_close_keeps_its_deadline_when_the_server_hangs(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """A deployment waits for no server; the next process delivers."""
    server.respond = lambda _: Fault.HANG
    client = _client(server, tmp_path)
    track(client, 1)
    server.wait_for_requests(1)

    started = time.monotonic()
    report = client.close(0.3)
    took = time.monotonic() - started

    assert not report.complete
    assert took < 1.5
    assert report.stats.pending == 1
    server.respond = server.accept
    with _client(server, tmp_path) as successor:
        assert successor.flush(20).stats.recovered == 1
    assert server.total == total_of([1])


def test_a_flush_keeps_its_deadline_and_reports_what_is_left(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """It is a wait, not a promise."""
    server.respond = lambda _: Fault.HANG
    client = _client(server, tmp_path)
    for number in range(5):
        track(client, number)

    report = client.flush(0.2)

    assert not report.complete
    assert report.stats.pending == 5
    client.close(0)


def test_a_flush_waits_for_what_was_tracked_before_it(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """When it returns, the server has it."""
    client = _client(server, tmp_path, linger=30.0)

    for number in range(5):
        track(client, number)
        assert client.flush(10).complete
        assert server.total == total_of(range(number + 1)), "no lingering in a flush"
    client.close()


def test_several_threads_may_flush_at_once(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Request handlers do."""
    client = _client(server, tmp_path)
    reports: list[bool] = []

    def work(number: int) -> None:
        track(client, number)
        reports.append(client.flush(20).complete)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()

    assert reports == [True] * 8
    assert server.total == total_of(range(8))


def test_the_async_twins_flush_and_close(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """The same client serves asynchronous code."""

    async def run() -> bool:
        client = _client(server, tmp_path)
        track(client, 1)
        flushed = await client.aflush(20)
        track(client, 2)
        closed = await client.aclose(20)
        return flushed.complete and closed.complete

    assert asyncio.run(run())
    assert server.total == total_of([1, 2])


def test_shipping_none_sends_nothing_and_a_shipping_sibling_delivers(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Workers only write; one process ships."""
    before = {*threading.enumerate()}
    writer = _client(server, tmp_path, shipping="none")
    track(writer, 1)
    report = writer.flush(5)
    threads = {*threading.enumerate()}
    writer.close()

    with _client(server, tmp_path) as sibling:
        sibling.flush(20)

    assert not report.complete
    assert threads <= before
    assert server.total == total_of([1])


@pytest.mark.serial
def test_more_senders_carry_more_to_a_slow_server(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """200 ms away, one request at a time would be five events a second."""
    under_way = 0
    most = 0
    lock = threading.Lock()
    never = threading.Event()

    def slow(request: Request) -> TransportResponse:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        never.wait(0.2)
        with lock:
            under_way -= 1
        return server.accept(request)

    server.respond = slow
    took: dict[int, float] = {}
    peak: dict[int, int] = {}
    for senders in (1, 8):
        most = 0
        client = _client(
            server,
            tmp_path / str(senders),
            max_senders=senders,
            batching="never",
        )
        started = time.monotonic()
        for number in range(senders * 4):
            track(client, number)
        assert client.close(20).complete
        took[senders] = time.monotonic() - started
        peak[senders] = most

    assert peak == {1: 1, 8: 8}
    assert took[8] < took[1] * 2, "eight times the events in about the same time"


def test_two_clients_in_one_process_ship_to_their_own_servers(tmp_path: Path) -> None:
    """One journal folder, two destinations, no mixing."""
    with ScriptedServer() as one, ScriptedServer() as other:
        clients = [_client(server, tmp_path) for server in (one, other)]
        for number in range(100):
            track(clients[number % 2], number)
        for client in clients:
            assert client.close(20).complete

        assert one.total == total_of(range(0, 100, 2))
        assert other.total == total_of(range(1, 100, 2))


def test_the_journal_of_one_credential_is_not_sent_with_another(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """A rotated key is another destination: its predecessor's events stay its own."""
    writer = _client(server, tmp_path, shipping="none")
    track(writer, 1)
    writer.close()

    with _client(server, tmp_path, api_key="sk_test_other") as other:
        track(other, 2)
        other.flush(20)

    assert server.total == total_of([2])
    assert {request.headers["authorization"] for request in server.requests} == {
        "Bearer sk_test_other"
    }


def test_no_credential_is_on_disk_or_in_a_log(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes over the wire, and nowhere else."""
    caplog.set_level(logging.DEBUG)
    server.respond = _in_turn(
        refused(401), refused(400), refused(503), then=server.accept
    )
    client = _client(server, tmp_path)
    for number in range(10):
        track(client, number)
    client.flush(20)

    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert _KEY.encode() not in path.read_bytes(), path
    assert _KEY not in caplog.text.replace(f"Bearer {_KEY}", "")
    assert _KEY not in repr(client.settings)
    client.close()
