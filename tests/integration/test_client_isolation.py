"""Code of the application that fails in odd ways: shipping goes on."""

from __future__ import annotations

import ctypes
import logging
import queue
import threading
from typing import TYPE_CHECKING, Final

import pytest

from outlay import Client
from outlay._shipping import sender_threads
from outlay._shipping.shipper import Shipper
from tests.support.answers import refused, stored
from tests.support.clock import ManualClock
from tests.support.events import assert_conserved, track
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class _TimeoutOfGreenlets(BaseException):
    """As gevent's: no Exception, so that no ``except Exception`` takes it."""


_ODD: Final = [SystemExit, KeyboardInterrupt, _TimeoutOfGreenlets]


@pytest.mark.parametrize("kind", _ODD, ids=lambda kind: kind.__name__)
def test_a_hook_that_raises_anything_does_not_end_shipping(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    """Each event is delivered, and each hook is called for each."""
    calls: queue.SimpleQueue[object] = queue.SimpleQueue()

    def fail(*words: object) -> None:
        calls.put(words)
        raise kind("odd")

    transport = ScriptedTransport([refused(400)])
    with Client(
        transport=lambda: transport,
        journal_dir=tmp_path,
        linger=0,
        batching="never",
        on_dead_letter=fail,
        on_delivered=fail,
    ) as client:
        for number in range(5):
            track(client, number)
            assert client.flush(20).complete
        stats = client.stats()

    assert (stats.dead, stats.delivered) == (1, 4)
    assert calls.qsize() == 5


@pytest.mark.parametrize("kind", _ODD, ids=lambda kind: kind.__name__)
def test_a_hook_that_raises_anything_keeps_no_other_hook_from_its_call(
    tmp_path: Path, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """One request delivers an event and refuses two. The log names each hook."""
    calls: queue.SimpleQueue[str] = queue.SimpleQueue()

    def delivered(_: object) -> None:
        calls.put("delivered")
        raise kind("odd")

    def dead(*_: object) -> None:
        calls.put("dead")
        raise kind("odd")

    transport = ScriptedTransport([stored(3, {0: (400, "bad"), 1: (400, "bad")})])
    with Client(
        transport=lambda: transport,
        journal_dir=tmp_path,
        batching="always",
        on_dead_letter=dead,
        on_delivered=delivered,
    ) as client:
        for number in range(3):
            track(client, number)

    assert [calls.get_nowait() for _ in range(calls.qsize())] == [
        "delivered",
        "dead",
        "dead",
    ]
    assert "the hook on_delivered failed" in caplog.text
    assert "the hook on_dead_letter failed" in caplog.text


@pytest.mark.parametrize("kind", _ODD, ids=lambda kind: kind.__name__)
def test_a_drop_hook_that_raises_anything_leaves_the_counts_whole(
    kind: type[BaseException],
) -> None:
    """It runs on the caller's thread, and an interrupt may be meant for the caller."""

    def dropped(*_: object) -> None:
        raise kind("odd")

    client = Client(
        transport=lambda: ScriptedTransport(otherwise=refused(503)),
        durability="memory",
        on_drop=dropped,
    )
    for number in range(5):
        track(client, number)

    with pytest.raises(kind):
        client.close(0)

    assert client.stats().dropped == {"memory_only": 5}
    assert_conserved(client.stats())


@pytest.mark.parametrize("kind", _ODD, ids=lambda kind: kind.__name__)
def test_a_log_handler_that_raises_anything_does_not_end_shipping(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    """Not even in the middle of recording what a response said."""

    class Handler(logging.Handler):
        calls = 0

        def emit(self, _: logging.LogRecord) -> None:
            self.calls += 1
            raise kind("odd")

    handler = Handler()
    logger = logging.getLogger("outlay")
    transport = ScriptedTransport([refused(400), refused(503), refused(404)])
    logger.addHandler(handler)
    try:
        with Client(
            transport=lambda: transport,
            journal_dir=tmp_path,
            linger=0,
            retry_initial=0.01,
            batching="never",
        ) as client:
            for number in range(5):
                track(client, number)
            assert client.flush(20)
            stats = client.stats()
    finally:
        logger.removeHandler(handler)

    assert handler.calls >= 2
    assert (stats.dead, stats.delivered, stats.pending) == (1, 4, 0)


@pytest.mark.parametrize("kind", _ODD, ids=lambda kind: kind.__name__)
def test_a_transport_that_raises_anything_does_not_end_shipping(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    """The outcome is unknown, and the same bytes are sent again."""
    transport = ScriptedTransport([kind("odd"), kind("odd")])

    with Client(
        transport=lambda: transport,
        journal_dir=tmp_path,
        linger=0,
        retry_initial=0.01,
        batching="never",
    ) as client:
        track(client, 1)
        assert client.flush(20).complete

    assert len(transport.posts) == 3


def test_a_transport_maker_that_raises_anything_is_called_again(tmp_path: Path) -> None:
    """A function of the application's that fails once must not end shipping."""
    transport = ScriptedTransport()
    troubles: list[BaseException] = [SystemExit("odd")]

    def make() -> ScriptedTransport:
        if troubles:
            raise troubles.pop()
        return transport

    with Client(transport=make, journal_dir=tmp_path, linger=0) as client:
        track(client, 1)
        assert client.flush(20).complete


def _kill(thread: threading.Thread) -> None:
    """Raise SystemExit in ``thread``, as a debugger or a greenlet's kill does."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )


@pytest.mark.parametrize("revive", [True, False], ids=["event", "flush"])
def test_a_shipping_thread_that_died_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, revive: bool
) -> None:
    """By the next event, or by a flush; with the same books."""
    transport = ScriptedTransport()
    with Client(transport=lambda: transport, journal_dir=tmp_path, linger=0) as client:
        track(client, 1)
        assert client.flush(20).complete
        shipper = client._shipper
        assert isinstance(shipper, Shipper)
        [thread] = shipper.threads()
        _kill(thread)
        shipper.wake()  # so that it runs, and dies
        thread.join(20)
        assert not thread.is_alive()

        track(client, 2)
        if revive:
            transport.wait_for_posts(2)
        assert client.flush(20).complete
        stats = client.stats()

    assert (stats.delivered, stats.pending) == (2, 0)
    assert "the next event starts it again" in caplog.text


class _Shortage:
    """A system without threads for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.over = False
        self.attempts = 0
        start = sender_threads.start_thread

        def start_thread(run: Callable[[], None]) -> threading.Thread | None:
            self.attempts += 1
            return start(run) if self.over else None

        monkeypatch.setattr("outlay._shipping.shipper.start_thread", start_thread)


def test_without_a_thread_it_is_said_and_tried_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process at its limit of threads has some again soon; events wait on disk."""
    shortage = _Shortage(monkeypatch)
    clock = ManualClock()
    transport = ScriptedTransport()
    client = Client(
        transport=lambda: transport, journal_dir=tmp_path, linger=0, clock=clock
    )
    for number in range(100):
        track(client, number)
    early = shortage.attempts

    shortage.over = True
    clock.advance(2)
    track(client, 100)
    transport.wait_for_posts(1)
    report = client.close(20)

    assert early == 1, "no attempt for each event"
    assert "no thread can be started" in caplog.text
    assert report.stats.delivered == 101


def test_a_flush_tries_again_to_start_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event comes any more, but a caller waits."""
    shortage = _Shortage(monkeypatch)

    with Client(transport=ScriptedTransport, journal_dir=tmp_path, linger=0) as client:
        track(client, 1)
        ending = threading.Timer(0.5, lambda: setattr(shortage, "over", True))
        ending.start()
        assert client.flush(20).complete
        ending.join()
