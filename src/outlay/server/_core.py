"""Everything behind the routes, and its life: opened, started, stopped."""

from __future__ import annotations

import logging
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from outlay.server._services.auth import (
    ALL_PERMISSIONS,
    Authenticator,
    key_record,
    new_key,
)
from outlay.server._services.costs import CostService
from outlay.server._services.ingest import IngestService
from outlay.server._services.report import ReportService
from outlay.server._services.summary import SummaryService
from outlay.server._storage.commit_thread import CommitThread
from outlay.server._storage.sqlite_store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outlay._model.clock import Clock
    from outlay.server._settings import ServerSettings

log = logging.getLogger("outlay.server")


class ServerCore:
    """Store, writer and services of one server.

    Life: `open`, then `start` and `stop` on one event loop, once each; or `open` and
    `close`, if nothing is ever served.

    Attributes:
        generated_key: the all-powers key that `open` made for a database without any
            key; None if there was one, or a fixed key is set. It is kept nowhere else.
    """

    def __init__(self, settings: ServerSettings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._opened = False
        self.generated_key: str | None = None

    def open(self) -> None:
        """Open the database. Does nothing the second time.

        Raises:
            DatabaseError: it cannot be used; the message says what to do.
        """
        if self._opened:
            return
        settings = self.settings
        self.store = SqliteStore(
            self._database_path(),
            dedupe_window=settings.dedupe_window // timedelta(microseconds=1),
            durable=settings.database != ":memory:",
        )
        self.writer = CommitThread(
            self.store, self.now, max_waiting_events=settings.max_waiting_events
        )
        self.access = Authenticator(self.store, settings)
        self.ingest = IngestService(
            self.store, self.writer, self.access, settings, self.now
        )
        self.costs = CostService(
            self.store, self.writer, self.access, settings, self.now
        )
        self.summaries = SummaryService(self.store)
        self.reports = ReportService(self.store, settings.default_currency)
        self._opened = True
        self._ensure_a_key()

    async def start(self) -> None:
        """Start writing, on the running event loop."""
        self.open()
        self.writer.start()
        log.info("started: database=%s", self.settings.database)

    async def stop(self) -> None:
        """Write what was handed over, and close the database."""
        await self.writer.stop()
        self.close()
        counts = self.ingest.counts
        log.info(
            "stopped: accepted=%d duplicates=%d conflicts=%d refused=%d",
            counts.accepted,
            counts.duplicates,
            counts.conflicts,
            counts.refused,
        )

    def close(self) -> None:
        """Close the database, if it is open. `stop` does it for a started engine."""
        if not self._opened:
            return
        self._opened = False
        self.store.close()
        if self._folder is not None:
            self._folder.cleanup()

    def now(self) -> int:
        """Return wall time in microseconds since 1970."""
        return self._clock.now_ms() * 1000

    def check_database(self) -> None:
        """Read the database, and raise if that fails."""
        with self.store.reading() as reader:
            reader.namespaces()

    async def create_key(
        self, name: str, permissions: Iterable[str], *, namespace: str | None = None
    ) -> str:
        """Create an API key with ``permissions`` and return it, this once.

        Args:
            name: what it is for, to tell it from others.
            permissions: see `outlay.server._services.auth.PERMISSIONS`.
            namespace: its organization; None: the server's own.

        Raises:
            ValueError: a permission does not exist.
        """
        key = new_key()
        record = key_record(
            key,
            name=name,
            namespace=namespace or self.settings.namespace,
            permissions=permissions,
            now=self.now(),
        )
        await self.writer.run(lambda: self.store.add_key(record))
        return key

    def _database_path(self) -> Path:
        if self.settings.database == ":memory:":
            # A file all the same: readers beside the writer need one to share.
            self._folder = tempfile.TemporaryDirectory(prefix="outlay-server-")
            return Path(self._folder.name) / "outlay.db"
        return Path(self.settings.database)

    def _ensure_a_key(self) -> None:
        """Make an all-powers key if nobody could use the server otherwise."""
        if self.settings.api_key is not None:
            return
        with self.store.reading() as reader:
            if reader.namespaces():
                return
        self.generated_key = new_key()
        self.store.add_key(
            key_record(
                self.generated_key,
                name="first start",
                namespace=self.settings.namespace,
                permissions={ALL_PERMISSIONS},
                now=self.now(),
            )
        )
