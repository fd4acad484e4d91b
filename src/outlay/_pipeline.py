"""Build and hold the parts of a client: journal, unpriced costs, shipper, counts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from outlay._client_hooks import DroppedEvents, HookCaller, Hooks
from outlay._journal.journal import Destination, Journal, JournalLimits, ShippingRole
from outlay._journal.unpriced_store import UnpricedStore
from outlay._lifecycle import Lifecycle
from outlay._model.clock import Clock, SystemClock
from outlay._model.customer_hashing import CustomerHasher
from outlay._model.error_counts import capture_errors
from outlay._model.event_composer import EventComposer
from outlay._model.events import event_time_ms
from outlay._model.rate_limited_log import RateLimitedLog
from outlay._model.stats import FlushResult, Stats
from outlay._shipping.agent_shipper import AgentShipper
from outlay._shipping.http_transport import HttpTransport
from outlay._shipping.shipper import Shipper
from outlay._telemetry import ClientTelemetry
from outlay._unattributed import UnattributedPolicy
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider

    from outlay._model.settings import Settings
    from outlay._shipping.event_shipper import EventShipper
    from outlay._shipping.transport import Transport
    from outlay._shipping.user_client import HttpClientSource


class Pipeline:
    """Builds the parts of a client from its settings, and holds them.

    Thread safety: any thread, re-entrant. After a fork, `reset_after_fork` comes first.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        hooks: Hooks = Hooks(),  # noqa: B008 - immutable
        make_transport: Callable[[], Transport] | None = None,
        meter_provider: MeterProvider | None = None,
        journal_class: type[Journal] = Journal,
        unpriced_class: type[UnpricedStore] = UnpricedStore,
    ) -> None:
        """Build the parts. Nothing is written, and no thread is started.

        Args:
            settings: The settings of the client.
            clock: The source of time. If None, the clocks of the machine.
            hooks: The hooks of the application.
            make_transport: Makes the transport, once in each process that ships. If
                None, requests go through `HttpTransport`.
            meter_provider: The provider of OpenTelemetry instruments. If None, the
                global one.
            journal_class: The class of the journal. Recording clients pass their own.
            unpriced_class: The class of the store of unpriced costs, likewise.
        """
        self.settings: Final = settings
        self.clock: Final = clock or SystemClock()
        self._log: Final = RateLimitedLog(self.clock)
        self.lifecycle: Final = Lifecycle()
        self.hasher: Final = CustomerHasher.from_settings(settings)
        self._hooks: Final = HookCaller(hooks, self._log)
        self.dropped: Final = DroppedEvents(self._hooks, self._log)
        self.unattributed: Final = UnattributedPolicy(settings, self.dropped, self._log)
        self.composer: Final = EventComposer(
            source=settings.source,
            namespace=settings.namespace,
            allow_credits=settings.allow_credits,
            clock=self.clock,
            subject_for=self.hasher.subject_for,
        )
        self.journal: Final = self._make_journal(journal_class)
        self.unpriced: Final = unpriced_class(
            self.journal.prepared_folder,
            max_bytes=settings.max_unpriced_bytes,
            synced=settings.durability == "disk",
            clock=self.clock,
            log=self._log,
        )
        self.telemetry: Final = self._make_telemetry(meter_provider)
        self.shipper: Final = self._make_shipper(hooks, make_transport)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._random_keys = 0  # guarded by _lock

    def _make_journal(self, journal_class: type[Journal]) -> Journal:
        settings = self.settings
        by_agent = settings.shipping == "agent"
        return journal_class(
            Destination.from_settings(settings),
            JournalLimits.from_settings(settings),
            journal_dir=settings.journal_dir,
            in_memory=settings.durability == "memory",
            synced=settings.durability == "disk",
            role=ShippingRole.DELEGATED if by_agent else ShippingRole.SELF,
            clock=self.clock,
            log=self._log,
        )

    def _make_telemetry(self, provider: MeterProvider | None) -> ClientTelemetry | None:
        if not self.settings.metrics:
            return None
        server = urlsplit(self.settings.base_url)
        attributes: dict[str, str | int] = {"server.address": server.hostname or ""}
        if server.port is not None:
            attributes["server.port"] = server.port
        if self.settings.namespace is not None:
            attributes["outlay.namespace"] = self.settings.namespace
        return ClientTelemetry(
            self.stats,
            attributes=tuple(attributes.items()),
            folder=str(self.journal.folder.path),
            provider=provider,
        )

    def _make_shipper(
        self, hooks: Hooks, make_transport: Callable[[], Transport] | None
    ) -> EventShipper:
        if self.settings.shipping == "agent":
            if hooks.need_shipper:
                self._log.warn_once("hook", _NOT_CALLED)
            return AgentShipper(self.journal, clock=self.clock, log=self._log)
        return Shipper(
            self.settings,
            self.journal,
            clock=self.clock,
            log=self._log,
            make_transport=make_transport,
            on_deliveries=self._hooks.events_shipped if hooks.need_shipper else None,
            telemetry=self.telemetry,
        )

    def count_random_key(self, event_type: str) -> None:
        """Count an event without an operation id, and warn once."""
        with self._lock:
            self._random_keys += 1
        self._log.warn_once("random key", _NO_OPERATION_ID, event_type)

    def flush(self, timeout: float) -> FlushResult:
        """Wait until all pending events have an outcome, for ``timeout`` seconds."""
        if self.settings.shipping == "none":
            return self.flush_result()
        return self._result(settled=self.shipper.flush(timeout))

    def shut_down(
        self, timeout: float, *, outage_timeout: float | None = None
    ) -> FlushResult:
        """Ship what can be shipped in time, and leave the rest on disk.

        Args:
            timeout: The longest wait in seconds.
            outage_timeout: The longest wait in seconds for a server that is known to be
                down. If None, the same.
        """
        self.journal.seal()
        if self.settings.shipping == "none":
            settled = not self.stats().pending
        else:
            ships = self.settings.shipping == "thread"
            settled = self.shipper.flush(
                timeout if ships else 0.0, outage_timeout=outage_timeout
            )
        self.shipper.stop(_STOP_SECONDS if settled else 0.0)
        self.dropped.add_all(self.journal.persist_memory(), "memory_only", _MEMORY_ONLY)
        result = self._result(settled=settled)
        self.journal.close_when_idle()
        self.unpriced.close()
        if self.unpriced.in_memory:
            self._log.warn("unpriced lost", _UNPRICED_LOST, self.unpriced.in_memory)
        return result

    def flush_result(self) -> FlushResult:
        """Return the result of a flush that does not wait."""
        return self._result(settled=not self.stats().pending)

    def _result(self, *, settled: bool) -> FlushResult:
        stats = self.stats()
        # Not by the pending events: another thread may have tracked some since.
        return FlushResult(settled and not stats.parked, stats)

    def stats(self) -> Stats:
        """Return where the events are."""
        counts = self.shipper.counts()
        dropped = self.dropped.counts()
        lost = sum(dropped.values())
        tracked = self.journal.appended_count() + lost
        settled = sum(counts[outcome] for outcome in _OUTCOMES) + lost
        return Stats(
            tracked=tracked,
            recovered=counts["recovered"],
            delivered=counts["delivered"],
            pending=tracked + counts["recovered"] - settled,
            parked=counts["parked"],
            dead=counts["dead"],
            quarantined=counts["quarantined"],
            dropped=dropped,
            damaged=counts["damaged"],
            duplicates=counts["duplicates"],
            retried=counts["retried"],
            requests=counts["requests"],
            journal_bytes=self.journal.journal_bytes(),
            oldest_pending_age=self._oldest_pending_age(),
            unpriced=self.unpriced.count,
            capture_errors=capture_errors.snapshot(),
            random_keys=self._random_keys,
        )

    def _oldest_pending_age(self) -> float | None:
        times = [event_time_ms(payload) for payload in self.shipper.oldest()]
        known = [time for time in times if time is not None]
        if not known:
            return None
        return max(0.0, (self.clock.now_ms() - min(known)) / 1000)

    def reset_after_fork(self) -> None:
        """Start with no events in a forked child: the parent ships its own."""
        self.journal.reset_after_fork()
        self.unpriced.reset_after_fork()
        self.shipper.reset_after_fork()
        self.dropped.reset_after_fork()
        self.lifecycle.reset_after_fork()
        self._reset()


def transport_maker(
    settings: Settings,
    transport: Callable[[], Transport] | None,
    http_client: HttpClientSource | None,
) -> Callable[[], Transport] | None:
    """Return a function that makes the transport, or None for the default one.

    Raises:
        ConfigError: Both arguments were given, or ``http_client`` is not usable.
    """
    if http_client is None:
        return transport
    if transport is not None:
        raise ConfigError("pass transport or http_client, not both")
    return HttpTransport.maker(settings, http_client)


_OUTCOMES: Final = ("delivered", "parked", "dead", "quarantined", "damaged")

_STOP_SECONDS: Final = 1.0  # for a thread that has nothing left to do

_NO_OPERATION_ID: Final = (
    "a %s cost was tracked without operation_id: if the operation runs again, it is "
    "counted again. Pass the provider's response id or your job's id (logged once)"
)

_NOT_CALLED: Final = (
    "on_dead_letter and on_delivered are not called with shipping='agent', because the "
    "agent ships in another process. Watch its log, or run 'outlay journal status'"
)

_MEMORY_ONLY: Final = (
    "the client was closed before these events were delivered or written to disk"
)

_UNPRICED_LOST: Final = (
    "%d unpriced costs are lost, because they were in memory only: install a price "
    "list, or set OUTLAY_JOURNAL_DIR to a writable folder"
)
