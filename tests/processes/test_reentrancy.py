"""The client used by code that its own work sets off: hooks, handlers, finalisers."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from outlay import Client, ClosedError
from tests.support.answers import refused
from tests.support.events import assert_conserved, total_of, track
from tests.support.interrupts import Interrupts
from tests.support.processes import finish, run, settings_for, start
from tests.support.servers import Fault, ScriptedServer
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

    from outlay import CostEvent

_KIB: Final = 1024


@pytest.fixture
def outlay_log() -> Iterator[logging.Logger]:
    """Return outlay's logger; handlers that a test adds are removed."""
    logger = logging.getLogger("outlay")
    before = [*logger.handlers]
    yield logger
    logger.handlers[:] = before


def _small_client(folder: Path) -> Client:
    """Return a client whose folder has room for a few events of 10 KB."""
    return Client(
        journal_dir=folder,
        shipping="none",
        segment_bytes=64 * _KIB,
        max_journal_bytes=256 * _KIB,
    )


def _track_large(client: Client, operation_id: str) -> None:
    client.track_cost(
        "cost.a",
        "0.1",
        customer_id="c",
        operation_id=operation_id,
        data={"padding": "x" * 10_000},
    )


def test_a_drop_hook_that_tracks_is_not_called_for_its_own_drops(
    tmp_path: Path,
) -> None:
    """What it tracks is dropped like the rest: told each time, it would never end."""
    told: list[CostEvent] = []

    def on_drop(event: CostEvent, _: str) -> None:
        told.append(event)
        _track_large(client, f"the price of {len(told)}")

    client = Client(
        journal_dir=tmp_path,
        shipping="none",
        segment_bytes=64 * _KIB,
        max_journal_bytes=256 * _KIB,
        on_drop=on_drop,
    )
    for number in range(40):
        _track_large(client, str(number))
    stats = client.close().stats

    assert 0 < len(told) < 40
    assert stats.tracked == 40 + len(told)
    assert stats.dropped == {"journal_full": 2 * len(told)}
    assert_conserved(stats)


def test_a_drop_hook_is_called_again_after_one_that_failed(tmp_path: Path) -> None:
    """It must not stay switched off for good."""
    calls = 0

    def on_drop(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError

    client = Client(
        journal_dir=tmp_path,
        shipping="none",
        segment_bytes=64 * _KIB,
        max_journal_bytes=256 * _KIB,
        on_drop=on_drop,
    )
    for number in range(40):
        _track_large(client, str(number))

    assert calls == client.close().stats.dropped["journal_full"] > 1


def test_a_dead_letter_hook_may_track_flush_and_close(tmp_path: Path) -> None:
    """It runs on the thread that all of them would wait for."""
    seen: list[bool] = []
    done = threading.Event()

    def on_dead_letter(*_: object) -> None:
        track(client, 2)
        seen.append(client.flush(0.1).complete)
        seen.append(client.close(0.1).complete)
        done.set()

    transport = ScriptedTransport([refused(400)])
    client = Client(
        transport=lambda: transport,
        journal_dir=tmp_path,
        linger=0.0,
        on_dead_letter=on_dead_letter,
    )
    track(client, 1)
    client.flush(20)
    assert done.wait(20)
    stats = client.close().stats

    assert_conserved(stats)
    assert (stats.dead, stats.delivered + stats.pending) == (1, 1)
    with Client(transport=ScriptedTransport, journal_dir=tmp_path) as adopter:
        assert adopter.flush(20).stats.delivered == stats.pending


def test_a_log_handler_may_track_what_outlays_own_lines_cost(
    tmp_path: Path, outlay_log: logging.Logger
) -> None:
    """Some pay by the line; ours must not set off an endless row of them."""
    lines: list[str] = []

    class Meter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            # Without operation_id, and too large: both of them make outlay log.
            client.track_cost("cost.logs", "0.001", customer_id="c")
            _track_large(client, f"line {len(lines)}")

    outlay_log.addHandler(Meter())
    client = _small_client(tmp_path)
    for number in range(40):
        _track_large(client, str(number))
    stats = client.close().stats

    assert len(lines) == 2  # dropped; no operation_id
    assert stats.tracked == 40 + 2 * len(lines)
    assert_conserved(stats)


def test_finalisers_that_track_while_costs_are_tracked_lose_nothing(
    tmp_path: Path,
) -> None:
    """The garbage collector runs them wherever memory is allocated."""

    class Session:
        def __init__(self, number: int) -> None:
            self.number = number
            self.itself = self  # only the collector ends it

        def __del__(self) -> None:
            track(client, self.number)
            ended.release()

    ended = threading.Semaphore(0)
    transport = ScriptedTransport()
    client = Client(transport=lambda: transport, journal_dir=tmp_path, linger=0.0)
    thresholds = gc.get_threshold()
    gc.set_threshold(7)
    try:
        for number in range(500):
            Session(1000 + number)
            track(client, number)
    finally:
        gc.set_threshold(*thresholds)
    for _ in range(500):
        while not ended.acquire(timeout=0.1):
            gc.collect()  # does nothing while another thread collects
    report = client.close(20)

    assert report.complete
    assert report.stats.delivered == 1000
    assert_conserved(report.stats)


def test_a_span_exporter_may_track_and_flush_on_its_own_thread(tmp_path: Path) -> None:
    """Tracing has a price, too: its thread tracks while others track and close."""
    exported: list[bool] = []

    class Meter(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            for _ in spans:
                track(client, 1000 + len(exported))
                exported.append(client.flush(20).complete)
            return SpanExportResult.SUCCESS

    transport = ScriptedTransport()
    client = Client(transport=lambda: transport, journal_dir=tmp_path, linger=0.0)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Meter(), schedule_delay_millis=1))
    tracer = provider.get_tracer("application")
    for number in range(200):
        with tracer.start_as_current_span("call"):
            track(client, number)
    assert client.flush(20).complete
    provider.shutdown()  # exports what is left
    report = client.close(20)

    assert exported == [True] * 200
    assert report.complete
    assert report.stats.delivered == 400
    assert_conserved(report.stats)


_TRACKING: Final = (
    "outlay/_client.py",
    "outlay/_client_hooks.py",
    "outlay/_lifecycle.py",
    "outlay/_pipeline.py",
    "_journal/appender.py",
    "_journal/journal.py",
    "_journal/segment_opener.py",
    "_journal/folders.py",
    "_journal/segments.py",
)


def _inherited(folder: Path) -> set[bytes]:
    """Return the events that another client finds in the folder, and delivers."""
    transport = ScriptedTransport()
    with Client(transport=lambda: transport, journal_dir=folder, linger=0.0) as adopter:
        assert adopter.flush(20).complete
    return {body for _, body in transport.posts}


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["first event", "later event"])
def test_a_handler_that_replaces_the_client_loses_nothing_wherever_it_strikes(
    tmp_path: Path, *, first: bool
) -> None:
    """SIGHUP reloads the settings: the old client is closed in the middle of a call.

    Its successor inherits at once, and must not take a segment for finished in which
    that call is still writing.
    """
    for at in itertools.count():
        folder = tmp_path / str(at)
        client = Client(journal_dir=folder, shipping="none", segment_bytes=64 * _KIB)
        if not first:
            track(client, 0)
        arrived: set[bytes] = set()

        def strike(
            client: Client = client,
            folder: Path = folder,
            arrived: set[bytes] = arrived,
        ) -> None:
            client.close(0)
            arrived |= _inherited(folder)

        interrupt = Interrupts(strike, at, *_TRACKING)
        kept = 0 if first else 1
        with interrupt.watching(), contextlib.suppress(ClosedError):
            track(client, 1)
            kept += 1

        client.close(0)
        arrived |= _inherited(folder)
        assert len(arrived) == kept, at
        if not interrupt.struck:
            break
    assert at > 50, "the watched code was not found"


_STORM: Final = """
# With a tracer such as coverage's, a busy machine has no time left beside the signals.
sys.settrace(None)
threading.settrace(None)
client = outlay.default_client()
strikes = iter(range(1000, 1500))
depth = 0

def strike(*_):
    global depth
    if depth == 3:  # on a slow machine they come faster than they end
        return
    depth += 1
    number = next(strikes, None)
    if number is None:
        signal.setitimer(signal.ITIMER_REAL, 0)
    else:
        track(client, number)
        say(number)
    depth -= 1

signal.signal(signal.SIGALRM, strike)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for number in range(1000):
    track(client, number)
    say(number)
done = client.flush(20)
signal.setitimer(signal.ITIMER_REAL, 0)
client.close(20)
"""


@pytest.mark.serial
def test_a_storm_of_signals_whose_handler_tracks_loses_nothing(tmp_path: Path) -> None:
    """A thousand a second, through tracking and into flushing."""
    with ScriptedServer() as server:
        settings = settings_for(server.url, tmp_path, batching="always")
        said = finish(start(_STORM, settings))

        numbers = set(map(int, said.split()))
        assert len(numbers) > 1000, "no signal came"
        assert server.total == total_of(numbers)
        assert server.duplicates == 0


_CLOSING_HANDLER: Final = """
client = outlay.default_client()
signal.signal(signal.SIGTERM, lambda *_: say(client.close(0.3).complete))
track(client, 1)
say("tracked")
say(client.flush(60).complete)
"""


@pytest.mark.serial
def test_closing_in_a_handler_ends_a_flush_that_hangs(tmp_path: Path) -> None:
    """SIGTERM comes while the server hangs: close() keeps its deadline all the same."""
    with ScriptedServer(lambda _: Fault.HANG) as server:
        process = start(_CLOSING_HANDLER, settings_for(server.url, tmp_path))
        assert process.stdout is not None
        assert process.stdout.readline() == "tracked\n"
        server.wait_for_requests(1)
        started = time.monotonic()
        process.terminate()
        said = finish(process)

    assert said == "False\nFalse\n"
    assert time.monotonic() - started < 10
    with Client(
        transport=ScriptedTransport,
        base_url=server.url,
        api_key="sk_test_1",
        journal_dir=tmp_path,
    ) as adopter:
        assert adopter.flush(20).stats.delivered == 1


# The first call in unusual places.

_FIRST_CALL: Final = """
import itertools
numbers = itertools.count()

def call():
    say(track(outlay, os.getpid() * 10_000 + next(numbers)))
"""


def _play(folder: Path, program: str) -> set[str]:
    """Run a program, check that the keys it said are in its journal, return them."""
    variables = {"OUTLAY_JOURNAL_DIR": folder, "OUTLAY_SHIPPING": "none"}
    said = {*run(_FIRST_CALL + program, variables).split()}
    kept = {json.loads(body)["idempotencyKey"] for body in _inherited(folder)}
    assert kept == said
    return said


def test_the_first_call_may_come_in_an_exit_hook(tmp_path: Path) -> None:
    """From Python 3.12 on, no thread can be started there."""
    program = """
import atexit
atexit.register(call)
"""
    assert len(_play(tmp_path, program)) == 1


def test_eight_threads_may_make_the_first_call_at_once(tmp_path: Path) -> None:
    """They get one client."""
    program = """
barrier = threading.Barrier(8)

def first():
    barrier.wait()
    call()

threads = [threading.Thread(target=first) for _ in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
assert len(os.listdir(os.environ["OUTLAY_JOURNAL_DIR"])) == 1
"""
    assert len(_play(tmp_path, program)) == 8


def test_greenlets_may_make_the_first_call_at_once(tmp_path: Path) -> None:
    """Where threads are greenlets, too."""
    program = """
from gevent import joinall, monkey, spawn
monkey.patch_all()
joinall([spawn(call) for _ in range(8)], raise_error=True)
"""
    assert len(_play(tmp_path, program)) == 8
