"""Signal handlers and finalisers that use the client while the client is used."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import pytest

from outlay import Client, ClosedError
from tests.support.events import assert_conserved, track
from tests.support.interrupts import Interrupts
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

_TRACKING: Final = (
    "outlay/_client.py",
    "outlay/_client_hooks.py",
    "outlay/_lifecycle.py",
    "outlay/_pipeline.py",
    "_journal/appender.py",
    "_journal/journal.py",
    "_journal/segment_opener.py",
    "_journal/segments.py",
    "_journal/folders.py",
    "_model/event_composer.py",
)
_SHIPPING: Final = (
    "outlay/_client.py",
    "outlay/_pipeline.py",
    "_shipping/flush_waiters.py",
    "_shipping/shipper.py",
)


def _writer(folder: Path) -> Client:
    return Client(journal_dir=folder, shipping="none", segment_bytes=64 * 1024)


def _adopter(folder: Path) -> Client:
    return Client(transport=ScriptedTransport, journal_dir=folder, linger=0.0)


@pytest.mark.parametrize("first", [True, False], ids=["first event", "later event"])
def test_tracking_from_a_handler_loses_nothing_wherever_it_strikes(
    tmp_path: Path, *, first: bool
) -> None:
    """Before every single instruction of track_cost, once."""
    for at in itertools.count():
        client = _writer(tmp_path / str(at))
        if not first:
            track(client, 0)
        interrupt = Interrupts(lambda: track(client, 2), at, *_TRACKING)  # noqa: B023

        with interrupt.watching():
            track(client, 1)

        stats = client.stats()
        client.close(0)
        assert_conserved(stats)
        if not interrupt.struck:
            break
        assert stats.tracked == (2 if first else 3), at
        if at % 20 == 0:
            with _adopter(tmp_path / str(at)) as adopter:
                assert adopter.flush(20).stats.delivered == stats.tracked, at
    assert at > 100, "the watched code was not found"


def test_closing_from_a_handler_loses_nothing_wherever_it_strikes(
    tmp_path: Path,
) -> None:
    """SIGTERM in the middle of track_cost: the event is refused, or it is kept."""
    for at in itertools.count():
        client = _writer(tmp_path / str(at))
        track(client, 0)
        interrupt = Interrupts(lambda: client.close(0), at, *_TRACKING)  # noqa: B023
        kept = 1

        with interrupt.watching():
            try:
                track(client, 1)
                kept += 1
            except ClosedError:
                pass

        if not interrupt.struck:
            client.close(0)
            break
        client._pipeline.journal.close()  # as the end of the process does
        with _adopter(tmp_path / str(at)) as adopter:
            assert adopter.flush(20).stats.delivered == kept, at
    assert at > 50, "the watched code was not found"


def test_a_handler_may_track_and_flush_while_a_flush_is_under_way(
    tmp_path: Path,
) -> None:
    """Shutdown code flushes; it may interrupt another flush anywhere."""
    for at in itertools.count():
        client = _adopter(tmp_path)

        def strike(client: Client = client) -> None:
            track(client, 2)
            assert client.flush(20).complete

        interrupt = Interrupts(strike, at, *_SHIPPING)

        with interrupt.watching():
            track(client, 1)
            assert client.flush(20).complete, at

        report = client.close(20)
        assert report.complete
        assert_conserved(report.stats)
        if not interrupt.struck:
            break
        assert report.stats.delivered == 2, at
    assert at > 50, "the watched code was not found"
