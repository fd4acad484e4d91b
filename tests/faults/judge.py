"""The judge of a trial: what callers were told, against what the server counted."""

from __future__ import annotations

import json
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay import Client
from outlay._journal.admin.inspect import destinations
from outlay._model.clock import SystemClock
from tests.faults.scenario import Books
from tests.support.answers import accepted, stored
from tests.support.events import amount_of, assert_conserved
from tests.support.journals import KIB, segment_files
from tests.support.servers import BATCH_PATH, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    from outlay._client_options import SettingsInput
    from outlay._journal.admin.inspect import UnreadableItem
    from outlay.transport import TransportResponse
    from tests.faults.scenario import Tally
    from tests.support.servers import Request

KEY: Final = "sk_test_1"
EVENTS_PATH: Final = "/v0/events"

DEADLINE: Final = 30.0
"""Seconds for what should take less than one, on a busy machine."""


_never: Final = threading.Event()


class Judge:
    """A server, a journal folder, and what callers were told.

    Each client has one sender. So when another request comes on a connection, its
    process has the answer to the one before, and so has its journal: an event that is
    sent once more after that was sent in vain.

    Thread safety: the server's threads call `accept`; all else is the trial's.

    Attributes:
        server: keeps each event once, and answers as the trial has it.
        journal_dir: the folder.
        told: amounts by key, of events whose callers were told that they are tracked.
    """

    def __init__(self, server: ScriptedServer, journal_dir: Path) -> None:
        self.server = server
        self.journal_dir = journal_dir
        self.told: dict[str, Decimal] = {}
        self._lock = threading.Lock()
        self._answered: dict[threading.Thread, set[str]] = {}  # guarded by _lock
        self._acknowledged: set[str] = set()  # the same
        self._in_vain: Counter[str] = Counter()  # the same
        server.respond = self.accept

    def settings(self, **others: Unpack[SettingsInput]) -> SettingsInput:
        """Return the settings of a client that ships to the server at once."""
        return {
            "base_url": self.server.url,
            "api_key": KEY,
            "journal_dir": self.journal_dir,
            "segment_bytes": 64 * KIB,
            "max_senders": 1,
            "linger": 0.0,
            "retry_initial": 0.005,
            "retry_max": 0.02,
            "parked_retry_interval": 0.05,
            **others,
        }

    def client(self, **others: Unpack[SettingsInput]) -> Client:
        """Return such a client."""
        return Client(**self.settings(**others))

    # The server's side.

    def accept(self, request: Request) -> TransportResponse:
        """Keep the events of ``request`` and say so."""
        keys = self.hear(request)
        known = self.server.keep(request)
        with self._lock:
            self._answered[threading.current_thread()] = keys
        if request.path == BATCH_PATH:
            return stored(len(keys), duplicates=known)
        return accepted(outlay_duplicate="true") if known else accepted()

    def hear(self, request: Request) -> set[str]:
        """Note that ``request`` came; return the keys of its events."""
        keys = {str(json.loads(event)["idempotencyKey"]) for event in request.events}
        with self._lock:
            self._acknowledged |= self._answered.pop(threading.current_thread(), set())
            self._in_vain.update(keys & self._acknowledged)
        return keys

    # The callers' side.

    def tell(self, number: int, key: str) -> None:
        """Note that a caller was told that event ``number`` is tracked."""
        self.told[key] = amount_of(number)

    def inherit(self, **others: Unpack[SettingsInput]) -> None:
        """Deliver what all processes left behind, as the next ones do."""
        others.setdefault("batching", "always")
        until = SystemClock().monotonic() + DEADLINE
        self._inherit(others)
        while segment_files(self.journal_dir) and SystemClock().monotonic() < until:
            # A dying process closes its line before its locks, and nothing tells when.
            _never.wait(0.01)
            self._inherit(others)

    def _inherit(self, others: SettingsInput) -> None:
        with self.client(**others) as adopter:
            report = adopter.flush(DEADLINE)
        assert report.complete, report
        assert_conserved(report.stats)

    def tally(self, *, killed: int = 0) -> Tally:
        """Compare both sides, once all is delivered.

        Args:
            killed: how many callers died, perhaps between the last step of tracking
                and the telling of it.
        """
        assert segment_files(self.journal_dir) == [], "something is still pending"
        return self.books().tally(untold=dict(self.server.amounts), at_most=killed)

    def books(self) -> Books:
        """Return both sides."""
        counted = Counter(dict.fromkeys(self.server.amounts, 1)) + self._in_vain
        in_vain = sum(
            (
                times * self.server.amounts[key]
                for key, times in self._in_vain.items()
                if key in self.server.amounts
            ),
            Decimal(0),
        )
        total = self.server.total + in_vain
        return Books(self.told, counted, total, kept_in(self.journal_dir))


def kept_in(journal_dir: Path) -> dict[str, str]:
    """Return the state of each event that lies in the folder, by key."""
    problems: list[UnreadableItem] = []
    return {
        str(json.loads(event.payload)["idempotencyKey"]): event.state
        for view in destinations(journal_dir)
        for event in view.events(problems.append)
    }


@contextmanager
def judging() -> Iterator[Judge]:
    """Hold a trial, with a fresh server and a fresh folder."""
    with (
        tempfile.TemporaryDirectory(prefix="outlay-faults-") as folder,
        ScriptedServer() as server,
    ):
        yield Judge(server, Path(folder) / "journal")
