"""The reference server as the judge: what arrived, and what it comes to."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import httpx
from starlette.middleware import Middleware

from outlay import Client
from outlay.server import BackgroundServer, ServerSettings
from tests.support.events import EVENT_TYPE, assert_conserved
from tests.support.journals import segment_files
from tests.support.processes import environment, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from outlay import Stats
    from outlay.server import IngestCounts

KEY: Final = "sk_test_1"

DEADLINE: Final = 90.0
"""Seconds for what should take a few, on a busy machine."""

_COST: Final = {
    "name": "inference",
    "eventType": EVENT_TYPE,
    "valueProperty": "$.amount",
}
_ALL_TIME: Final = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}


class _Bell:
    """Rings after each answer, so that tests wait for events and not for time."""

    def __init__(self, app: ASGIApp, changed: threading.Condition) -> None:
        self._app = app
        self._changed = changed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
        with self._changed:
            self._changed.notify_all()


class Ledger:
    """A reference server, and the folder in which its clients keep their events.

    Attributes:
        journal_dir: the folder.
    """

    def __init__(
        self, server: BackgroundServer, changed: threading.Condition, journal_dir: Path
    ) -> None:
        self.journal_dir = journal_dir
        self._server = server
        self._changed = changed
        headers = {"authorization": f"Bearer {KEY}"}
        self._api = httpx.Client(base_url=server.url, headers=headers, timeout=30)
        self._api.post("/v0/costMetrics", json=_COST).raise_for_status()

    def settings(self, **others: object) -> dict[str, object]:
        """Return the variables of a client that ships to this server."""
        return settings_for(self._server.url, self.journal_dir, **others)

    def environment(self, **others: object) -> dict[str, str]:
        """Return the whole environment of a process with such a client."""
        return environment(self.settings(**others))

    @property
    def counts(self) -> IngestCounts:
        """What came in since the start."""
        return self._server.counts

    @property
    def total(self) -> Decimal:
        """What all events come to, to the last digit."""
        return self._sum()

    def total_of(self, customer: str) -> Decimal:
        """Return what a customer's events come to."""
        return self._sum(subject=customer)

    def _sum(self, **filters: str) -> Decimal:
        [cost] = self._api.get("/v0/costs").raise_for_status().json()["data"]
        asked = {**_ALL_TIME, **filters}
        summary = self._api.get(f"/v0/costs/{cost['id']}/summary", params=asked)
        return Decimal(summary.raise_for_status().json()["totalCostExact"])

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until ``condition`` holds; looked at after each answer."""
        with self._changed:
            done = self._changed.wait_for(condition, DEADLINE)
        assert done, f"{what} not within {DEADLINE} s: {self.counts}"

    def inherit(self) -> Stats:
        """Deliver what all processes left behind, as the next one would."""
        with Client(
            base_url=self._server.url,
            api_key=KEY,
            journal_dir=self.journal_dir,
            linger=0.0,
            exit_timeout=0.0,
        ) as adopter:
            report = adopter.flush(DEADLINE)
        assert report.complete, report
        assert_conserved(report.stats)
        assert segment_files(self.journal_dir) == []
        return report.stats

    def close(self) -> None:
        """Let go of the connection to the server."""
        self._api.close()


@contextmanager
def keeping(journal_dir: Path) -> Iterator[Ledger]:
    """Run a reference server for clients that keep their events in ``journal_dir``."""
    changed = threading.Condition()
    settings = ServerSettings(port=0, database=":memory:", api_key=KEY)
    bell = Middleware(_Bell, changed=changed)
    with BackgroundServer(settings, middleware=[bell]) as server:
        ledger = Ledger(server, changed, journal_dir)
        try:
            yield ledger
        finally:
            ledger.close()
