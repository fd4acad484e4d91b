"""Senders over real connections: as many as the server can take, and no more."""

from __future__ import annotations

import statistics
import threading
from typing import TYPE_CHECKING, Final

from outlay import Client
from tests.support.answers import refused
from tests.support.events import total_of, track
from tests.support.servers import ScriptedServer

if TYPE_CHECKING:
    from pathlib import Path

    from outlay.transport import TransportResponse
    from tests.support.servers import Request

_ROOM: Final = 4
_EVENTS: Final = 600
_SECONDS: Final = 0.02


class _Turnstile:
    """Serves `_ROOM` requests at once, each for `_SECONDS`, and answers more with 429.

    Attributes:
        crowds: how many were there when each request came, with it.
        refusals: how many were sent away.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self.crowds: list[int] = []
        self.refusals = 0
        self._server: Final = server
        self._inside = 0
        self._lock: Final = threading.Lock()
        self._never: Final = threading.Event()

    def respond(self, request: Request) -> TransportResponse:
        """Let a request in, or send it away."""
        with self._lock:
            self.crowds.append(self._inside + 1)
            if self._inside >= _ROOM:
                self.refusals += 1
                return refused(429)
            self._inside += 1
        self._never.wait(_SECONDS)
        with self._lock:
            self._inside -= 1
        return self._server.accept(request)


def test_senders_settle_at_what_the_server_takes_and_each_event_counts_once(
    tmp_path: Path,
) -> None:
    """A server that says 429 beyond its room is filled, and neither left nor hammered.

    No server says how many fit: it is found by one more each round, and half as
    many after a refusal.
    """
    with ScriptedServer() as server:
        turnstile = _Turnstile(server)
        server.respond = turnstile.respond
        with Client(
            base_url=server.url,
            journal_dir=tmp_path,
            batching="never",
            max_senders=32,
            linger=0,
        ) as client:
            for number in range(_EVENTS):
                track(client, number)
            report = client.flush(40)

    settled = turnstile.crowds[len(turnstile.crowds) // 2 :]
    assert report.complete
    assert report.stats.delivered == _EVENTS
    assert server.total == total_of(range(_EVENTS))
    assert server.duplicates == 0
    assert _ROOM / 2 <= statistics.median(settled) <= _ROOM + 1
    assert max(settled) <= _ROOM + 2
    assert 0 < turnstile.refusals < _EVENTS / 5
