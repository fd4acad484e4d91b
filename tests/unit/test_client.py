"""The client, with a scripted transport: receipts, counts, hooks, its life."""

from __future__ import annotations

import asyncio
import errno
import json
import queue
import threading
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import pytest

from outlay import Client, ClosedError, CostEvent, InvalidEventError, Settings
from outlay._journal.frames import STATE_AT, FrameState
from outlay._shipping.shipper import Shipper
from outlay.errors import UnavailableError
from tests.support.answers import accepted, refused, stored
from tests.support.clock import ManualClock
from tests.support.events import amount_of, assert_conserved, track
from tests.support.journals import corrupt, last_frame, segment_files
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Literal, Unpack

    from outlay._client_options import SettingsInput
    from outlay.transport import TransportResponse
    from tests.support.transports import Line

_KIB: Final = 1024


class _Clients:
    """Makes clients for one test, and ends them with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.transport = ScriptedTransport()
        self.made: list[Client] = []

    def __call__(
        self,
        *script: Line,
        on_drop: Callable[[CostEvent, str], None] | None = None,
        on_dead_letter: Callable[[CostEvent, str, str], None] | None = None,
        on_delivered: Callable[[Sequence[CostEvent]], None] | None = None,
        **settings: Unpack[SettingsInput],
    ) -> Client:
        self.transport = ScriptedTransport(script)
        chosen: SettingsInput = {"journal_dir": self.folder, "linger": 0.0}
        chosen.update(settings)
        client = Client(
            transport=lambda: self.transport,
            on_drop=on_drop,
            on_dead_letter=on_dead_letter,
            on_delivered=on_delivered,
            **chosen,
        )
        self.made.append(client)
        return client


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[_Clients]:
    """Return a maker of clients; each still open at the end is closed."""
    maker = _Clients(tmp_path / "journal")
    yield maker
    for client in maker.made:
        client.close(0)


def test_a_tracked_cost_is_kept_before_it_is_shipped(clients: _Clients) -> None:
    """The receipt is a promise: from now on the event survives a kill."""
    client = clients(shipping="none")

    receipt = client.track_cost(
        "cost.a", "0.10", customer_id="c", operation_id="job-42"
    )

    (segment,) = segment_files(clients.folder)
    assert receipt.durable
    assert b'"job-42"' in segment.read_bytes()


def test_what_is_shipped_is_what_was_tracked_to_the_last_digit(
    clients: _Clients,
) -> None:
    """No float anywhere between the argument and the wire."""
    client = clients()

    receipt = client.track_cost(
        "cost.a",
        Decimal("0.100000000000000000000000000001"),
        customer_id="ümlaut",
        operation_id="op",
        data={"model": "x"},
    )
    client.close()

    ((path, body),) = clients.transport.posts
    event = json.loads(body, parse_float=Decimal)
    assert path == "/v0/events"
    assert b'"amount":0.100000000000000000000000000001' in body
    assert event["idempotencyKey"] == receipt.idempotency_key
    assert event["subject"] == "ümlaut"
    assert event["data"]["model"] == "x"


def test_an_invalid_event_is_refused_and_leaves_no_trace(clients: _Clients) -> None:
    """A caller's mistake is the caller's to handle, at once."""
    client = clients()

    with pytest.raises(InvalidEventError, match="amount"):
        client.track_cost("cost.a", "NaN", customer_id="c")

    assert client.stats().tracked == 0
    assert client.close().complete
    assert clients.transport.posts == []


def test_memory_durability_is_told_by_the_receipt(clients: _Clients) -> None:
    """A caller must be able to tell a promise from a hope."""
    client = clients(durability="memory")

    receipt = client.track_cost("cost.a", 1, customer_id="c", operation_id=1)
    report = client.close()

    assert not receipt.durable
    assert report.stats.delivered == 1
    assert not clients.folder.exists()


def test_a_missing_operation_id_is_mentioned_once(
    clients: _Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a choice with a consequence; not one to read about a million times."""
    client = clients()

    for _ in range(3):
        client.track_cost("cost.a", 1, customer_id="c")

    assert caplog.text.count("without operation_id") == 1


# Its life.


def test_tracking_after_close_raises_closed_error(clients: _Clients) -> None:
    """Costs that cannot be kept are refused loudly, not dropped silently."""
    client = clients()
    client.close()

    with pytest.raises(ClosedError, match="create another"):
        track(client, 1)


def test_close_is_idempotent(clients: _Clients) -> None:
    """Exit handlers and context managers overlap."""
    client = clients()
    track(client, 1)

    first, second = client.close(), client.close()

    assert first == second
    assert first.complete


def test_flush_after_close_answers_at_once_and_adopts_nothing(
    clients: _Clients,
) -> None:
    """A closed client owns nothing: what others left is for the living."""
    left_behind = clients(shipping="none")
    closed = clients()
    closed.close()
    track(left_behind, 1)
    left_behind.close()

    report = closed.flush(30)
    adopter = clients()

    assert report.stats.pending == 0
    assert adopter.close().stats.recovered == 1


def test_a_client_is_a_context_manager(clients: _Clients) -> None:
    """Leaving the block closes it."""
    with clients() as client:
        track(client, 1)

    assert len(clients.transport.posts) == 1
    assert clients.transport.closed


def test_the_async_twins_do_the_same(clients: _Clients) -> None:
    """And they wait without blocking the loop."""

    async def run() -> tuple[bool, bool]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        async with clients() as client:
            track(client, 1)
            flushed = await client.aflush()
            track(client, 2)
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        return flushed.complete, ticks > 1

    assert asyncio.run(run()) == (True, True)
    assert len(clients.transport.posts) == 2


def test_an_unused_client_starts_no_thread_and_makes_no_folder(
    clients: _Clients,
) -> None:
    """Importing an application must not start anything."""
    before = {*threading.enumerate()}

    client = clients()

    assert {*threading.enumerate()} <= before
    assert client.close().complete
    assert not clients.folder.exists()


def test_settings_can_be_given_at_once_or_one_by_one(tmp_path: Path) -> None:
    """And what is given by name wins."""
    settings = Settings(journal_dir=tmp_path, linger=1.0, shipping="none")

    client = Client(settings, linger=2.0)

    assert client.settings.linger == 2.0
    assert client.settings.journal_dir == tmp_path
    client.close()


# Counts.


def test_every_outcome_is_counted_and_the_books_balance(clients: _Clients) -> None:
    """No event is in two places, or in none, at any moment."""
    client = clients(
        accepted(),
        refused(400),
        refused(422, "invalid_event_type"),
        accepted(outlay_duplicate="true"),
    )
    for number in range(4):
        track(client, number, event_type=f"cost.{number}")
        assert_conserved(client.stats())
        client.flush()
        assert_conserved(client.stats())

    stats = client.close().stats

    assert_conserved(stats)
    assert (stats.tracked, stats.delivered, stats.dead) == (4, 2, 1)
    assert (stats.parked, stats.duplicates, stats.requests) == (1, 1, 4)


def test_recovered_events_are_counted_as_such(clients: _Clients) -> None:
    """They were tracked by an earlier process, and are delivered by this one."""
    earlier = clients(shipping="none")
    for number in range(3):
        track(earlier, number)
    left = earlier.close()

    adopter = clients()
    track(adopter, 9)
    stats = adopter.close().stats

    assert not left.complete
    assert left.stats.pending == 3
    assert (stats.tracked, stats.recovered, stats.delivered) == (1, 3, 4)
    assert_conserved(stats)


def test_an_event_that_goes_bad_in_a_living_journal_is_counted(
    clients: _Clients,
) -> None:
    """It cannot be delivered any more: a flush must not wait for it, nor hide it."""
    corrupted = threading.Event()

    def wait(_path: str, _body: bytes) -> TransportResponse:
        assert corrupted.wait(10)
        return accepted()

    client = clients(wait)
    track(client, 0)
    clients.transport.wait_for_posts(1)
    for number in range(1, 4):
        track(client, number)
    (segment,) = segment_files(clients.folder)
    corrupt(segment, b'"op-2"')
    corrupted.set()

    report = client.flush()

    assert report.complete
    assert (report.stats.delivered, report.stats.damaged) == (3, 1)
    assert report.stats.pending == 0
    assert_conserved(report.stats)


@pytest.mark.parametrize("at", ["magic", "length", "state", "payload", "all of it"])
def test_the_newest_event_that_goes_bad_holds_up_no_flush(
    clients: _Clients, at: str
) -> None:
    """No whole event comes after it, and yet it is not on its way any more."""
    corrupted = threading.Event()

    def wait(_path: str, _body: bytes) -> TransportResponse:
        assert corrupted.wait(10)
        return accepted()

    client = clients(wait)
    track(client, 0)
    clients.transport.wait_for_posts(1)
    track(client, 1)
    (segment,) = segment_files(clients.folder)
    bad = _spoil_last(segment, at)
    corrupted.set()

    report = client.flush()
    track(client, 2)
    later = client.flush()

    (aside,) = clients.folder.glob("*/dead/*.damaged")
    assert report.complete
    assert later.complete
    assert (report.stats.delivered, report.stats.damaged) == (1, 1)
    assert (later.stats.delivered, later.stats.damaged) == (2, 1)
    assert later.stats.pending == 0
    assert_conserved(later.stats)
    assert aside.read_bytes() == bad.rstrip(b"\0")


def _spoil_last(segment: Path, at: str) -> bytes:
    """Flip bytes of the last event of a file in place; return what is left of it."""
    where = last_frame(segment)
    frame = bytearray(segment.read_bytes()[where.start : where.stop])
    places = {"magic": 0, "length": 6, "state": STATE_AT, "payload": 100}
    if at in places:
        frame[places[at]] ^= (
            FrameState.PENDING
        )  # of a pending event's state, it leaves none
    else:
        frame = bytearray(len(frame))
    with segment.open("r+b") as file:  # in place: the process has it mapped
        file.seek(where.start)
        file.write(frame)
    return bytes(frame)


def test_an_event_that_goes_bad_between_two_processes_is_counted(
    clients: _Clients,
) -> None:
    """The adopter found three events, and can deliver two."""
    earlier = clients(shipping="none")
    for number in range(3):
        track(earlier, number)
    earlier.close()
    (segment,) = segment_files(clients.folder)
    corrupt(segment, b'"op-2"')

    stats = clients().close().stats

    assert (stats.recovered, stats.delivered, stats.damaged) == (3, 2, 1)
    assert stats.pending == 0
    assert_conserved(stats)


@pytest.mark.parametrize(
    ("durability", "shipping"),
    [("process", "none"), ("process", "agent"), ("memory", "none")],
)
def test_stats_tell_how_long_the_oldest_event_waits(
    tmp_path: Path,
    durability: Literal["process", "memory"],
    shipping: Literal["none", "agent"],
) -> None:
    """The one number that says that nothing gets through."""
    clock = ManualClock()
    client = Client(
        journal_dir=tmp_path, shipping=shipping, clock=clock, durability=durability
    )
    empty = client.stats()
    track(client, 0)
    clock.advance(5)
    track(client, 1)
    clock.advance(60)
    waiting = client.stats()
    clock.step(-3600)
    stepped_back = client.stats()
    client.close()

    assert (empty.oldest_pending_age, empty.journal_bytes) == (None, 0)
    assert waiting.oldest_pending_age == 65.0
    assert (waiting.journal_bytes > 0) is (durability == "process")
    assert stepped_back.oldest_pending_age == 0.0
    assert client.stats().oldest_pending_age is None


def test_what_is_settled_does_not_wait(tmp_path: Path) -> None:
    """Neither an event that was delivered, nor one that is parked."""
    clock = ManualClock()
    transport = ScriptedTransport(
        [accepted(), refused(422, "invalid_event_type"), refused(401)],
        otherwise=refused(401),
    )
    with Client(
        journal_dir=tmp_path, clock=clock, transport=lambda: transport, linger=0
    ) as client:
        for number in range(3):
            track(client, number, event_type=f"cost.{number}")
            clock.advance(10)
            transport.wait_for_posts(number + 1)
        client.flush(0.1)

        stats = client.stats()

        assert (stats.delivered, stats.parked, stats.pending) == (1, 1, 1)
        assert stats.oldest_pending_age == 10.0
        client.close(0)


@pytest.mark.slow
def test_the_books_balance_while_everything_moves(clients: _Clients) -> None:
    """Looked at from another thread, at any moment."""
    script: list[TransportResponse | Exception] = [
        accepted(),
        refused(400),
        UnavailableError("x", sent=False),
    ] * 200
    client = clients(*script, retry_initial=0.001, retry_max=0.002)
    done = threading.Event()

    def work() -> None:
        for number in range(400):
            track(client, number)
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    looks = 0
    while not done.is_set() or looks < 50:
        assert_conserved(client.stats())
        looks += 1
    worker.join()

    assert_conserved(client.close(20).stats)


# Hooks.


def test_a_drop_is_counted_reported_and_logged(
    clients: _Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no silent loss."""
    dropped: list[tuple[CostEvent, str]] = []
    client = clients(
        shipping="none",
        segment_bytes=64 * _KIB,
        max_journal_bytes=256 * _KIB,
        on_drop=lambda event, reason: dropped.append((event, reason)),
    )

    receipts = [
        client.track_cost(
            "cost.a",
            "0.30",
            customer_id="c",
            operation_id=number,
            data={"padding": "x" * 10_000},
        )
        for number in range(40)
    ]

    stats = client.stats()
    assert stats.dropped == {"journal_full": len(dropped)}
    assert [receipt.durable for receipt in receipts].count(False) == len(dropped)
    assert 0 < len(dropped) < 40
    assert dropped[0][0].data["amount"] == Decimal("0.30")
    assert dropped[0][1] == "journal_full"
    assert "OUTLAY_MAX_JOURNAL_BYTES" in caplog.text
    assert_conserved(stats)


def test_a_dead_letter_is_reported_with_the_servers_words(clients: _Clients) -> None:
    """An application may want to tell a person."""
    told: queue.SimpleQueue[tuple[str, str, str]] = queue.SimpleQueue()
    client = clients(
        refused(400, "bad", "data is odd"),
        on_dead_letter=lambda event, *words: told.put((event.subject, *words)),
    )

    track(client, 1)

    words = told.get(timeout=20)
    assert words == ("cus_1", "rejected", "HTTP 400: data is odd")


def test_delivered_events_are_reported_by_the_request(clients: _Clients) -> None:
    """After the answer, and only those that the server took."""
    told: queue.SimpleQueue[Sequence[CostEvent]] = queue.SimpleQueue()
    client = clients(
        stored(3, {1: (400, "bad")}), on_delivered=told.put, batching="always"
    )

    assert isinstance(client._shipper, Shipper)
    with client._shipper.held():  # so that they go together
        keys = [track(client, number) for number in range(3)]
    events = told.get(timeout=20)

    assert [event.idempotency_key for event in events] == [keys[0], keys[2]]
    assert events[0].data["amount"] == amount_of(0)
    assert client.close().stats.delivered == 2
    assert told.empty()


def test_delivered_events_without_a_hook_take_no_memory(clients: _Clients) -> None:
    """No process would ever delete them."""
    told: list[object] = []
    client = clients(on_dead_letter=lambda *words: told.append(words))
    for number in range(50):
        track(client, number)
    client.flush()

    assert isinstance(client._shipper, Shipper)
    assert client._shipper.planner is not None
    assert client._shipper.planner.take_deliveries() == ([], [])


@pytest.mark.slow
def test_ten_thousand_failures_are_a_few_lines(
    clients: _Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the journal, the server, and each hook: a line of each kind a minute."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    client = clients(
        *[refused(400), accepted(), refused(422, "invalid_event_type")] * 50,
        on_drop=fail,
        on_delivered=fail,
        on_dead_letter=fail,
        segment_bytes=64 * _KIB,
        max_journal_bytes=256 * _KIB,
    )
    for number in range(150):
        track(client, number, event_type=f"cost.{number}")
        client.flush()
    parked = client.stats().parked
    clients.transport.script(*[UnavailableError("away", sent=False)] * 1000)
    for number in range(10_000):
        track(client, number)
    stats = client.close(0).stats

    assert stats.dropped["journal_full"] > 5_000
    assert_conserved(stats)
    mine = [record for record in caplog.records if record.name == "outlay"]
    assert len(mine) <= parked + 10
    assert sum("hook" in record.message for record in mine) == 3


def test_hooks_that_raise_stop_nothing(
    clients: _Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """The application's bug must not cost it its other events."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    refusing = clients(refused(400), on_dead_letter=fail)
    track(refusing, 1)
    refused_stats = refusing.close().stats
    client = clients(
        shipping="none",
        on_drop=fail,
        segment_bytes=64 * _KIB,
        max_journal_bytes=256 * _KIB,
    )
    for number in range(40):
        client.track_cost(
            "cost.a",
            1,
            customer_id="c",
            operation_id=number,
            data={"padding": "x" * 60_000},
        )

    stats = client.close().stats

    assert (refused_stats.dead, refused_stats.pending) == (1, 0)
    assert stats.dropped["journal_full"] > 0
    assert "the hook on_dead_letter failed" in caplog.text
    assert "the hook on_drop failed" in caplog.text
    assert_conserved(stats)


def test_a_hook_may_track_a_cost(clients: _Clients) -> None:
    """Even a failure has its price."""
    tracked = threading.Event()

    def compensate(*_: object) -> None:
        track(client, 2)
        tracked.set()

    client = clients(refused(400), on_dead_letter=compensate)
    track(client, 1)

    assert tracked.wait(10)
    stats = client.close().stats

    assert (stats.dead, stats.delivered) == (1, 1)


def test_dead_letters_without_a_hook_take_no_memory(clients: _Clients) -> None:
    """A wrong configuration may make millions of them."""
    client = clients(*[refused(400)] * 50)
    for number in range(50):
        track(client, number)

    stats = client.close(20).stats

    assert isinstance(client._shipper, Shipper)
    planner, [shipping_thread] = client._shipper.planner, client._shipper.threads()
    assert planner is not None
    shipping_thread.join(10)
    assert stats.dead == 50
    assert planner.take_deliveries() == ([], [])


def test_a_transport_that_cannot_be_made_keeps_everything(
    clients: _Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """A certificate file that is missing must not take the application down."""

    def fail() -> ScriptedTransport:
        raise OSError("no certificates")

    client = Client(transport=fail, journal_dir=clients.folder, linger=0.0)
    track(client, 1)
    report = client.close(0.2)
    adopter = clients()

    assert not report.complete
    assert "no certificates" in caplog.text
    assert adopter.close().stats.delivered == 1


def test_a_transport_that_can_be_made_later_ships_then(clients: _Clients) -> None:
    """A process that has no file descriptor left has one again some day."""
    made = []

    def make() -> ScriptedTransport:
        made.append(ScriptedTransport())
        if len(made) == 1:
            raise OSError(errno.EMFILE, "too many open files")
        return made[-1]

    client = Client(transport=make, journal_dir=clients.folder, linger=0.0)
    clients.made.append(client)
    track(client, 1)

    assert client.flush(20).complete
    assert len(made) == 2


def test_a_transport_that_cannot_be_closed_does_not_keep_the_journal(
    clients: _Clients,
) -> None:
    """The locks must be released, or no process could deliver the rest."""

    class Stubborn(ScriptedTransport):
        def close(self) -> None:
            raise OSError("still busy")

    client = Client(
        transport=lambda: Stubborn(otherwise=refused(503)),
        journal_dir=clients.folder,
        linger=0.0,
    )
    track(client, 1)
    client.close(0.2)

    assert clients().close().stats.delivered == 1


def test_a_transport_that_answers_nonsense_ends_nothing(clients: _Clients) -> None:
    """It is the user's own; what it returns is not checked by anybody else."""

    class Odd(ScriptedTransport):
        def post(self, path: str, body: bytes) -> TransportResponse:
            answer = super().post(path, body)
            return answer if len(self.posts) > 1 else None  # type: ignore[return-value]

    client = Client(
        transport=Odd, journal_dir=clients.folder, linger=0, retry_initial=0.01
    )
    track(client, 1)

    assert client.close(20).stats.delivered == 1


def test_a_sender_that_comes_late_touches_nothing_after_close(tmp_path: Path) -> None:
    """The shipping thread may be anywhere when the deadline of close() passes.

    Here it stands between two rounds, and goes on when the client is closed: it must
    not adopt, send or settle anything any more.
    """
    closed, reached = threading.Event(), threading.Event()

    class Clock:
        """Holds up the shipping thread where it looks for orphans."""

        def __init__(self) -> None:
            self.time = 0.0
            self.armed = False

        def now_ns(self) -> int:
            return 1_767_268_800_000_000_000

        def now_ms(self) -> int:
            return 1_767_268_800_000

        def monotonic(self) -> float:
            name = threading.current_thread().name
            if self.armed and name.startswith("outlay"):
                reached.set()
                closed.wait(10)
                self.time = 1000.0
            return self.time

    clock = Clock()
    transport = ScriptedTransport()
    client = Client(
        transport=lambda: transport, journal_dir=tmp_path, linger=0.0, clock=clock
    )
    track(client, 1)
    client.flush()
    other = Client(journal_dir=tmp_path, shipping="none")
    track(other, 2)
    other.close()
    clock.armed = True
    client._shipper.wake()
    assert reached.wait(10)

    client.close(0)
    assert isinstance(client._shipper, Shipper)
    [shipping_thread] = client._shipper.threads()
    closed.set()
    shipping_thread.join(10)

    with Client(transport=ScriptedTransport, journal_dir=tmp_path) as adopter:
        assert adopter.flush().stats.recovered == 1
    assert len(transport.posts) == 1


def test_an_answer_that_comes_after_close_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal belongs to the next process by then; the server knows the key."""
    posted, closed = threading.Event(), threading.Event()

    class Slow(ScriptedTransport):
        def post(self, path: str, body: bytes) -> TransportResponse:
            posted.set()
            closed.wait(10)
            return super().post(path, body)

    client = Client(transport=Slow, journal_dir=tmp_path, linger=0.0)
    track(client, 1)
    assert posted.wait(10)
    assert isinstance(client._shipper, Shipper)
    [shipping_thread] = client._shipper.threads()

    report = client.close(0)
    closed.set()
    shipping_thread.join(10)

    assert not shipping_thread.is_alive()
    assert (report.complete, client.stats().pending) == (False, 1)
    assert "stopped" not in caplog.text
    with Client(transport=ScriptedTransport, journal_dir=tmp_path) as adopter:
        assert adopter.flush(20).stats.delivered == 1


def test_every_sender_keeps_its_requests_out_of_the_applications_traces(
    tmp_path: Path,
) -> None:
    """Spans about shipping costs would be costs of their own."""
    from opentelemetry import context  # noqa: PLC0415 - for this test alone

    arrived = threading.Barrier(3)
    suppressed: list[object] = []

    class Tracing(ScriptedTransport):
        def post(self, path: str, body: bytes) -> TransportResponse:
            with suppress(threading.BrokenBarrierError):
                arrived.wait(0.2)
            suppressed.append(context.get_value("suppress_instrumentation"))
            return super().post(path, body)

    with Client(transport=Tracing, journal_dir=tmp_path, batching="never") as client:
        for number in range(100):
            track(client, number)
        senders = threading.active_count()
        client.flush(20)

    assert senders >= 1
    assert set(suppressed) == {True}
