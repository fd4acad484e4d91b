"""A server that is alive, but never done: nothing waits for it for ever."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

from outlay import Client
from tests.support.events import track
from tests.support.raw_servers import RawServer, answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.raw_servers import Arrived, Line

_ACCEPTED: Final = answer(202)
_SOON: Final = 4.0
"""Seconds for what is bounded to half a second, on a busy machine."""


def _drip(line: Line, _: Arrived) -> None:
    line.drip(_ACCEPTED, 0.1)


@pytest.mark.serial
def test_close_keeps_its_deadline_when_the_server_drips(tmp_path: Path) -> None:
    """The request under way is left behind; its event stays, stamped as attempted."""
    with RawServer(_drip) as server:
        client = Client(base_url=server.url, journal_dir=tmp_path, linger=0)
        track(client, 1)
        started = time.monotonic()

        report = client.close(0.5)

        assert time.monotonic() - started < _SOON
    assert not report.complete
    assert report.stats.pending == 1


def test_a_sender_that_met_a_dripping_server_ships_on(tmp_path: Path) -> None:
    """After the deadline the request counts as unanswered, and is made again."""
    first = threading.Event()

    def drip_once(line: Line, arrived: Arrived) -> None:
        if first.is_set():
            line.write(_ACCEPTED)
        else:
            first.set()
            _drip(line, arrived)

    with (
        RawServer(drip_once) as server,
        Client(
            base_url=server.url,
            journal_dir=tmp_path,
            batching="never",
            deadline=0.5,
            retry_initial=0.01,
            linger=0,
        ) as client,
    ):
        for number in range(3):
            track(client, number)
        report = client.flush(20)

    assert report.complete
    assert report.stats.delivered == 3
    assert report.stats.retried == 1
