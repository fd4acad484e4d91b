"""Open, start and stop the parts of the server behind the routes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily

from outlay.server._errors import StoreUnavailableError
from outlay.server._services.auth import (
    ALL_PERMISSIONS,
    Authenticator,
    key_digest,
    key_record,
    new_key,
)
from outlay.server._services.billable_metrics import BillableMetricService
from outlay.server._services.budget_telemetry import budget_metrics
from outlay.server._services.budget_watch import BudgetWatch
from outlay.server._services.budgets import BudgetService
from outlay.server._services.correcting import CorrectionService
from outlay.server._services.costs import DEFAULT_PRODUCT, CostService
from outlay.server._services.default_metrics import default_metrics
from outlay.server._services.erasures import ErasureService
from outlay.server._services.events import EventService
from outlay.server._services.ingest import IngestService
from outlay.server._services.keys import KeyService
from outlay.server._services.moving_telemetry import moving_metrics
from outlay.server._services.query_pool import QueryPool
from outlay.server._services.query_services import QueryServices
from outlay.server._services.rate_limit import RateLimit
from outlay.server._services.reconciliations import ReconciliationService
from outlay.server._services.retention import RetentionService
from outlay.server._services.revenue import RevenueService
from outlay.server._services.sessions import Sessions
from outlay.server._services.telemetry import ServerTelemetry
from outlay.server._services.webhook_sender import WebhookSender
from outlay.server._services.webhooks import WebhookService
from outlay.server._storage.commit_thread import CommitThread
from outlay.server._storage.opening import open_store
from outlay.server._wire.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

    from outlay._model.clock import Clock
    from outlay.server._settings import ServerSettings
    from outlay.server._storage.store import Store

log = logging.getLogger("outlay.server")

_KEY_USE_SECONDS: Final = 60


class ServerCore:
    """The store, the commit thread and the services of one server.

    Call `open`, then `start` and `stop` on one event loop, once each. If nothing is
    ever served, call `open` and `close`.

    Args:
        settings: The server's settings.
        clock: The source of the time.
        open_store: The function that opens the store. Defaults to the SQLite file of
            the settings.

    Attributes:
        generated_key: The key with all permissions that `open` created for a database
            without keys. None if there was a key, or a fixed key is set. It is stored
            nowhere else.
    """

    def __init__(
        self,
        settings: ServerSettings,
        clock: Clock,
        open_store: Callable[[ServerSettings], Store] = open_store,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._open_store = open_store
        self._opened = False
        self.generated_key: str | None = None

    def open(self) -> None:
        """Open the database. A second call does nothing.

        Raises:
            DatabaseError: The database cannot be used. The message says what to do.
        """
        if self._opened:
            return
        settings = self.settings
        self.store = self._open_store(settings)
        self.commits = CommitThread(
            self.store, self.now, max_waiting_events=settings.max_waiting_events
        )
        self.auth = Authenticator(self.store, settings, self.now)
        self.rates = RateLimit(settings.rate_limit, self._clock.monotonic)
        self.erasures = ErasureService(self.store, self.commits, self.now)
        self.retention = RetentionService(self.store, self.commits)
        self.keys = KeyService(self.store, self.commits, self.auth, self.now)
        services = QueryServices(self.store, settings.default_currency)
        self.summaries, self.reports = services.summaries, services.reports
        self.queries = QueryPool(
            services,
            timeout=settings.query_timeout,
            reopen=self.store.reopener(),
        )
        self._open_budgets()
        self.ingest = IngestService(
            self.store,
            self.commits,
            self.auth,
            settings,
            self.now,
            on_stored=self.budget_watch.note,
        )
        self.costs = CostService(
            self.store,
            self.commits,
            self.auth,
            settings,
            self.now,
            on_change=self.budget_watch.note_corrected,
        )
        self.billable = BillableMetricService(
            self.store, self.commits, self.auth, self.costs, self.now
        )
        self.corrections = CorrectionService(
            self.store,
            self.commits,
            self.now,
            on_change=self.budget_watch.note_corrected,
        )
        self.revenue = RevenueService(self.store, self.commits, self.now)
        self.reconciliations = ReconciliationService(self.store, self.commits, self.now)
        self.profitability = services.profitability
        self.sessions = Sessions(
            self.store, self.commits, self.now, settings.session_secret
        )
        self.events = EventService(
            self.store, settings.dedupe_window // timedelta(microseconds=1)
        )
        self.telemetry = ServerTelemetry(
            self.ingest.counts, self.commits.waiting_events, self.store.stored_bytes
        )
        self.telemetry.add(self._store_metrics)
        self.telemetry.add(lambda: budget_metrics(self.budget_watch, self.webhooks))
        self._opened = True
        self._ensure_default_metrics()
        self._ensure_key()

    def _open_budgets(self) -> None:
        self.sender = WebhookSender(
            self.settings.webhook_networks,
            self.now,
            seconds=self.settings.webhook_timeout,
        )
        self.webhooks = WebhookService(self.store, self.commits, self.sender, self.now)
        self.budget_watch = BudgetWatch(
            self.store, self.commits, self.queries, self.now, self.webhooks.wake
        )
        self.budgets = BudgetService(
            self.store, self.commits, self.now, self.budget_watch.note_all
        )

    async def start(self) -> None:
        """Start the commit thread, on the running event loop."""
        self.open()
        self.commits.start()
        self._tasks = [
            asyncio.create_task(task)
            for task in (
                self._write_key_uses(),
                self.budget_watch.run(),
                self.webhooks.run(),
            )
        ]
        log.info("started: store=%s", self.settings.store_place)

    async def stop(self) -> None:
        """Commit every waiting event, and close the database."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(StoreUnavailableError):  # The time of a use is worth no failure.
            await self.keys.write_uses()
        await self.queries.stop()
        await self.commits.stop()
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
        """Close the database, if it is open. `stop` does it for a started core."""
        if not self._opened:
            return
        self._opened = False
        self.queries.close()
        self.sender.close()
        self.store.close()

    def now(self) -> int:
        """Return wall time in microseconds since 1970."""
        return self._clock.now_ms() * 1000

    def _store_metrics(self) -> Iterable[Metric]:
        info = GaugeMetricFamily(
            "outlay_store_info", "The kind of the store.", labels=("engine",)
        )
        info.add_metric((self.settings.engine,), 1)
        yield info
        yield GaugeMetricFamily(
            "outlay_unfolded_rows",
            "Rows that deferred work has yet to fold into totals.",
            self.store.unfolded(),
        )
        moving = self.store.moving()
        if moving is not None:
            yield from moving_metrics(moving)

    def check_alive(self) -> None:
        """Check the file that only a restart may make readable, and raise if it fails.

        A server finds a PostgreSQL again that was away. A restart would only cost the
        time of a start.
        """
        if self.settings.store is None:
            self.check_database()

    def check_database(self) -> None:
        """Read the database, and raise if that fails."""
        with self.store.reading() as reader:
            reader.namespaces()

    def check_ready(self) -> None:
        """Check that events can be taken, and raise if not.

        Raises:
            HttpProblem: 503, because the server is starting or ending.
            StoreUnavailableError: The database cannot be read.
        """
        if not self.commits.is_running:
            raise unavailable("the server is starting or ending; try again")
        self.check_database()

    async def create_key(
        self, name: str, permissions: Iterable[str], *, namespace: str | None = None
    ) -> str:
        """Create an API key with ``permissions``, and return it. It is not stored.

        Args:
            name: A name that tells the key from others.
            permissions: The permissions, from `_services.auth.PERMISSIONS`.
            namespace: The key's organization. Defaults to the server's own.

        Raises:
            ValueError: A permission does not exist.
        """
        key = new_key()
        record = key_record(
            key,
            name=name,
            namespace=namespace or self.settings.namespace,
            permissions=permissions,
            now=self.now(),
        )
        await self.commits.run(lambda: self.store.add_key(record))
        return key

    async def revoke_key(self, key: str) -> None:
        """Revoke an API key. The next request with it is refused."""
        with self.store.reading() as reader:
            record = reader.key(key_digest(key))
        if record is not None:
            now = self.now()
            await self.commits.run(lambda: self.store.revoke_key(record.id, now))

    async def _write_key_uses(self) -> None:
        """Write the last use of keys, once a minute."""
        while True:
            await asyncio.sleep(_KEY_USE_SECONDS)
            with suppress(StoreUnavailableError):  # The next use is noted again.
                await self.keys.write_uses()

    def _ensure_default_metrics(self) -> None:
        """Create the default metrics in a new database."""
        settings = self.settings
        if settings.default_metrics or settings.dev:
            self.store.add_first_costs(
                default_metrics(
                    settings.namespace,
                    settings.default_currency,
                    DEFAULT_PRODUCT,
                    self.now(),
                )
            )

    def _ensure_key(self) -> None:
        """Create a key with all permissions if no other key exists."""
        if self.settings.api_key is not None or self.settings.dev:
            return
        key = new_key()
        record = key_record(
            key,
            name="first start",
            namespace=self.settings.namespace,
            permissions={ALL_PERMISSIONS},
            now=self.now(),
        )
        if self.store.add_first_key(record):
            self.generated_key = key
