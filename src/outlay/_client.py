"""The client: what an application tracks costs with."""

from __future__ import annotations

import atexit
import enum
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final, TypedDict, Unpack
from urllib.parse import urlsplit

import msgspec

from outlay import _fork as _forks
from outlay._journal.journal import Destination, Journal, JournalLimits, ShippingRole
from outlay._journal.unpriced_store import UnpricedStore
from outlay._model import keys
from outlay._model.attribution import UNATTRIBUTED, Attribution, current_attribution
from outlay._model.clock import Clock, SystemClock, format_rfc3339
from outlay._model.customer_hashing import CustomerHasher
from outlay._model.error_counts import capture_errors
from outlay._model.events import (
    CostEvent,
    EventComposer,
    decode_event,
    encode_event,
    event_time_ms,
)
from outlay._model.rate_limited_log import RateLimitedLog
from outlay._model.settings import Settings
from outlay._model.stats import FlushResult, Stats
from outlay._model.unpriced_cost import UnpricedCost
from outlay._shipping.agent_shipper import AgentShipper
from outlay._shipping.shipper import Shipper
from outlay._telemetry import ClientTelemetry
from outlay.errors import ClosedError, ConfigError, InvalidEventError, JournalFullError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Literal, Self

    from opentelemetry.metrics import MeterProvider

    from outlay._journal.unpriced_store import StoredCost
    from outlay._model.events import Json, OperationId, Provenance
    from outlay._model.money import Amount
    from outlay._shipping.planner import Deliveries
    from outlay._shipping.transport import Transport
    from outlay._shipping.user_client import HttpClientSource

DropHook = Callable[[CostEvent, str], None]
"""Called with an event that could not be kept, and the reason.

What the hook itself tracks, and cannot be kept either, is counted and logged; the hook
is not called again for it."""

DeadLetterHook = Callable[[CostEvent, str, str], None]
"""Called with an event that will not be sent again, the reason, and the message."""

DeliveredHook = Callable[[Sequence[CostEvent]], None]
"""Called with the events that the server took in answer to one request, in no order."""


class SettingsInput(TypedDict, total=False):
    """Settings as keyword arguments; see `Settings` for what each means."""

    api_key: str | None
    base_url: str | None
    source: str | None
    namespace: str | None
    journal_dir: Path | str | None
    shipping: Literal["thread", "agent", "none"] | None
    durability: Literal["process", "disk", "memory"] | None
    batching: Literal["auto", "never", "always"] | None
    metrics: bool | None
    compression: Literal["auto", "never", "always"] | None
    allow_credits: bool | None
    currency: str | None
    price_book: Path | str | None
    update_prices: bool | None
    unattributed: Literal["bucket", "error", "drop"] | None
    unattributed_customer_id: str | None
    hash_customer_ids: str | None
    max_journal_bytes: int | None
    segment_bytes: int | None
    max_memory_bytes: int | None
    max_unpriced_bytes: int | None
    max_batch_events: int | None
    max_batch_bytes: int | None
    max_senders: int | None
    linger: float | None
    timeout: float | None
    deadline: float | None
    retry_initial: float | None
    retry_max: float | None
    parked_retry_interval: float | None
    dedupe_window: float | None
    dedupe_margin: float | None
    exit_timeout: float | None


class TrackFields(TypedDict, total=False):
    """What else `Client.track_captured` is told; see `Client.track_cost`."""

    operation_id: OperationId | None
    provider: str | None
    operation: str | None
    region: str | None
    line: str | None
    quantity: Amount | None
    unit: str | None
    provenance: Provenance
    timestamp: datetime | None
    data: Mapping[str, Json] | None


class Receipt(msgspec.Struct, frozen=True, gc=False, eq=False):
    """What `track_cost` answers.

    Thread safety: immutable.

    Attributes:
        durable: whether the event survives the death of this process from now on.
    """

    durable: bool
    _operation_id: str
    _hasher: keys.HashObject | None = None

    @property
    def idempotency_key(self) -> str:
        """What the server dedupes on. Derived when asked for: few callers ask."""
        if self._hasher is None:
            return self._operation_id
        return keys.derive_key(self._hasher, self._operation_id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Receipt):
            return NotImplemented
        return self._key_and_durability == other._key_and_durability

    def __hash__(self) -> int:
        return hash(self._key_and_durability)

    def __repr__(self) -> str:
        key, durable = self._key_and_durability
        return f"Receipt(idempotency_key={key!r}, durable={durable!r})"

    def __reduce__(self) -> tuple[type[Receipt], tuple[bool, str]]:
        """Pickle the key: a hash cannot be."""
        return Receipt, (self.durable, self.idempotency_key)

    @property
    def _key_and_durability(self) -> tuple[str, bool]:
        return self.idempotency_key, self.durable


# Whether this thread, greenlet or task is inside of an on_drop hook. Without it, a hook
# that tracks while there is no room would call itself until the stack is full.
_in_drop_hook: Final = ContextVar("outlay_telling_of_drop", default=False)

# Whether the running code tracks what it observed; see `Client.track_captured`.
_tracking_captured: Final = ContextVar("outlay_observing", default=False)

_current_attribution: Final = current_attribution.get


class State(enum.Enum):
    """The life of a client.

    NEW ──track──▶ RUNNING ──close──▶ CLOSED;  in a forked child RUNNING is NEW again.
                      └──────exit───▶ ENDING

    While the process ends, other exit hooks, finalisers and daemon threads may still
    track: their events go into the journal, for the next process.
    """

    NEW = "new"
    RUNNING = "running"
    EXITING = "ending"
    CLOSED = "closed"


_fork_detector: Final = _forks.fork_detector

# A global is found faster than a member of a class.
_RUNNING: Final = State.RUNNING
_CLOSED: Final = State.CLOSED


class Client:
    """Tracks costs, keeps them in a journal, and ships them in the background.

    Each process needs one; two with different destinations do not disturb each other.
    Use it as a context manager, or call `close`; what is not delivered by then stays
    in the journal for the next process.

    Thread safety: any thread may call any method. After a fork, parent and child each
    go on with the same object: the child starts clean.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        transport: Callable[[], Transport] | None = None,
        http_client: HttpClientSource | None = None,
        on_drop: DropHook | None = None,
        on_dead_letter: DeadLetterHook | None = None,
        on_delivered: DeliveredHook | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Clock | None = None,
        **overrides: Unpack[SettingsInput],
    ) -> None:
        """Create a client.

        Args:
            settings: all settings at once; None: environment and defaults.
            transport: makes what carries the requests, once in each process that
                ships; None: httpx.
            http_client: an ``httpx.Client`` or ``httpx2.Client`` to send with, for its
                proxies, certificates or hooks; or a function that makes one, called
                once in each process that ships. A ready one serves the process in
                which it is passed, not the children it forks, and stays open.
            on_drop: called when an event cannot be kept, on the tracking thread.
            on_dead_letter: called when an event will not be sent again, on a
                background thread.
            on_delivered: called when the server took events, on a background thread
                that ships nothing meanwhile; it may be a moment after `flush` returned.
            meter_provider: whose OpenTelemetry instruments tell what becomes of the
                events; None: the process's own.
            clock: where the time comes from; None: the machine.
            **overrides: settings by name; see `Settings`.

        Raises:
            ConfigError: a setting or ``http_client`` is malformed; the message says
                what is allowed.
        """
        _forks.ensure_forked_state()
        given = {name: value for name, value in overrides.items() if value is not None}
        if settings is not None:
            given = {**dict(settings), **given}
        self.settings: Final = Settings.resolve(
            given, environ={} if settings is not None else None
        )
        self._on_drop = on_drop
        self._on_dead_letter = on_dead_letter
        self._on_delivered = on_delivered
        self._clock = clock = clock or SystemClock()
        self._pseudonyms = CustomerHasher.of(self.settings)
        self._notices = RateLimitedLog(clock)
        self._compose = EventComposer(
            source=self.settings.source,
            namespace=self.settings.namespace,
            allow_credits=self.settings.allow_credits,
            clock=clock,
            subject_of=self._pseudonyms.subject_for,
        ).compose
        make_transport = _transport_maker(self.settings, transport, http_client)
        self._journal = self._make_journal(clock)
        self._unpriced = UnpricedStore(
            self._journal.prepared_folder,
            max_bytes=self.settings.max_unpriced_bytes,
            synced=self.settings.durability == "disk",
            clock=clock,
            notices=self._notices,
        )
        self._metrics = self._make_metrics(meter_provider)
        self._shipper = self._make_shipper(clock, make_transport)
        self._ships = self.settings.shipping == "thread"
        self._reset()
        _clients.add(self)
        # Else the shipper's thread does it, for the API is large.
        if not self._ships and self._metrics and "opentelemetry.metrics" in sys.modules:
            self._metrics.start()
        if self._ships and self._journal.has_orphans():
            self._start()
            self._shipper.wake()

    def _make_journal(self, clock: Clock) -> Journal:
        settings = self.settings
        return Journal(
            Destination.of(settings),
            JournalLimits.of(settings),
            journal_dir=settings.journal_dir,
            in_memory=settings.durability == "memory",
            synced=settings.durability == "disk",
            duty=ShippingRole.DELEGATED
            if settings.shipping == "agent"
            else ShippingRole.SELF,
            clock=clock,
            notices=self._notices,
        )

    def _make_shipper(
        self, clock: Clock, transport: Callable[[], Transport] | None
    ) -> Shipper | AgentShipper:
        hooked = bool(self._on_dead_letter or self._on_delivered)
        if self.settings.shipping == "agent":
            if hooked:
                self._notices.warn_once("hook", _NOT_CALLED)
            return AgentShipper(self._journal, clock=clock, notices=self._notices)
        return Shipper(
            self.settings,
            self._journal,
            clock=clock,
            notices=self._notices,
            make_transport=transport,
            on_news=self._call_hooks if hooked else None,
            metrics=self._metrics,
        )

    def _make_metrics(self, provider: MeterProvider | None) -> ClientTelemetry | None:
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
            folder=str(self._journal.folder.path),
            provider=provider,
        )

    def _reset(self) -> None:
        """Start with no events: at first, and in a forked child."""
        self._state = State.NEW
        self._lock = threading.RLock()  # re-entrant: hooks and handlers may track
        self._dropped: Counter[str] = Counter()  # guarded by _lock
        self._random_keys = 0  # guarded by _lock
        self._append = self._journal.append

    def track_cost(  # noqa: C901 - each call in it costs 3 %
        self,
        event_type: str,
        amount: Amount,
        *,
        customer_id: str | None = None,
        operation_id: OperationId | None = None,
        provider: str | None = None,
        operation: str | None = None,
        region: str | None = None,
        line: str | None = None,
        quantity: Amount | None = None,
        unit: str | None = None,
        provenance: Provenance = "manual",
        timestamp: datetime | None = None,
        data: Mapping[str, Json] | None = None,
    ) -> Receipt:
        """Track what one billable operation cost; call it when it has completed.

        Keeps the event in the journal and returns; takes microseconds, and never
        waits for the network. The same call serves asynchronous code.

        Args:
            event_type: such as ``cost.ai.inference``; links to cost metrics.
            amount: actual cost in the metric's currency, exact. A float is taken by
                its shortest repr, so 0.1 means 0.1.
            customer_id: who the cost is attributed to. None: who `attribute` says;
                where nobody does, the setting ``unattributed`` decides.
            operation_id: the operation's own stable id, such as the provider's
                response id. Tracking the same operation again then counts once.
                None: this event is never counted twice by outlay's own retries, but
                a re-run operation is.
            provider: who charges for it; part of the idempotency key.
            operation: what was done, such as ``document-extraction``. None: what
                `attribute` says.
            region: where. None: what `attribute` says.
            line: which of several costs of the same operation; part of the key.
            quantity: how much was consumed.
            unit: of the quantity.
            provenance: who says the amount.
            timestamp: when the cost arose, aware; None: now.
            data: anything else worth knowing or grouping by; JSON. Added to, and goes
                before, the dimensions of `attribute`.

        Returns:
            The event's idempotency key, and whether the event is on disk.

        Raises:
            InvalidEventError: an argument breaks a rule, or there is no customer and
                the setting ``unattributed`` is ``error``; nothing was tracked.
            ClosedError: the client is closed; nothing was tracked.
        """
        if not _fork_detector[0]:
            _forks.ensure_forked_state()
        owner = _current_attribution()
        if owner is not UNATTRIBUTED:
            customer_id, operation, region, data = owner.with_defaults(
                customer_id, operation, region, data
            )
        nobody = False
        if customer_id is None:
            customer_id, nobody = self._unattributed_customer(), True
        labels = (
            event_type,
            customer_id,
            provider,
            line,
            operation,
            region,
            unit,
            provenance,
        )
        compose = self._compose  # a call of an instance's own member is looked up twice
        hasher, name, payload = compose(
            labels, amount, operation_id, timestamp, quantity, data
        )
        if self._state is not _RUNNING:
            self._start()
        if nobody and not self._accepts_unattributed(event_type, payload):
            return Receipt(False, name, hasher)  # noqa: FBT003 - see Receipt
        if operation_id is None:
            self._note_random_key(event_type)
        append = self._append
        try:
            durable = append(payload)
        except JournalFullError as error:
            self._drop(payload, "journal_full", error)
            return Receipt(False, name, hasher)  # noqa: FBT003 - see Receipt
        if self._shipper.needs_wake:
            self._shipper.wake()
        if self._state is _CLOSED:
            self._journal.close_when_idle()  # closed meanwhile, which left our segment to us
        return Receipt(durable, name, hasher)

    def keep_unpriced(
        self,
        event_type: str,
        *,
        customer_id: str | None,
        operation_id: OperationId | None,
        provider: str | None,
        operation: str | None,
        region: str | None,
        line: str | None,
        timestamp: datetime,
        data: Mapping[str, Json],
        why: tuple[str, str],
        observation: bytes,
    ) -> StoredCost | None:
        """Keep what `track_cost` would track, were its amount known.

        What has no operation id gets one now, so that it counts once whenever it is
        priced.

        Args:
            event_type: this and the others: see `track_cost`.
            customer_id: None: nobody's. What ``unattributed="error"`` refuses is
                dropped here, as by `track_captured`.
            operation_id: see there.
            provider: see there.
            operation: see there.
            region: see there.
            line: see there.
            timestamp: see there.
            data: see there.
            why: the reason that there is no price, for machines and for people.
            observation: JSON, for price lists to read later.

        Returns:
            Where it is kept, or None: it was dropped for want of room or of a customer.

        Raises:
            InvalidEventError: an argument breaks a rule; nothing was kept.
            ClosedError: the client is closed; nothing was kept.
        """
        _forks.ensure_forked_state()
        labels = (
            event_type,
            customer_id or self.settings.unattributed_customer_id,
            provider,
            line,
            operation,
            region,
            None,
            "priced",
        )
        named = keys.random_key() if operation_id is None else operation_id
        if operation_id is None:
            self._note_random_key(event_type)
        *_, payload = self._compose(labels, 0, named, timestamp, None, data)
        if self._state is not _RUNNING:
            self._start()
        event = decode_event(payload)
        del event.data["amount"]  # which nobody shall take for one
        payload = encode_event(event)
        if customer_id is None and not self._accepts_unattributed(event_type, payload):
            return None
        cost = UnpricedCost(
            "open",
            *why,
            format_rfc3339(self._clock.now_ms()),
            self.settings.currency,
            msgspec.Raw(payload),
            msgspec.Raw(observation),
        )
        try:
            return self._unpriced.add(cost)
        except JournalFullError as error:
            self._drop(payload, "unpriced_full", error)
            return None

    def withdrawing_unpriced(self, kept: StoredCost) -> AbstractContextManager[bool]:
        """Withdraw an unpriced cost, whose event is tracked inside of ``with``.

        Its price came by another door. A kill in between neither loses nor doubles it.

        Args:
            kept: what `keep_unpriced` of this process returned.

        Returns:
            A context manager. It returns whether the cost still waits: if not, there is
            nothing to track, for somebody has settled it meanwhile. It raises OSError
            if the disk does not take the note of it.
        """
        return self._unpriced.replacing(kept)

    def track_captured(
        self,
        owner: Attribution,
        event_type: str,
        amount: Amount,
        **facts: Unpack[TrackFields],
    ) -> Receipt:
        """Track a cost that was observed, not handed over: what doors of capture call.

        It belongs to ``owner`` alone, whatever the running code is attributed to. And a
        watched call must not fail for want of a customer: what ``unattributed="error"``
        refuses is dropped here, and counted.

        Args:
            owner: whom to attribute the cost to.
            event_type: see `track_cost`, as for the other arguments.
            amount: exact.
            **facts: the other arguments of `track_cost`.

        Raises:
            InvalidEventError: a fact breaks a rule; nothing was tracked.
            ClosedError: the client is closed; nothing was tracked.
        """
        observing = _tracking_captured.set(True)
        running = current_attribution.set(owner)
        try:
            return self.track_cost(event_type, amount, **facts)
        finally:
            current_attribution.reset(running)
            _tracking_captured.reset(observing)

    def subject_of(self, customer_id: str) -> str:
        """Return the name under which the server knows a customer.

        It is the id itself, or what the setting ``hash_customer_ids`` makes of it.
        """
        return self._pseudonyms.subject_for(customer_id)

    def _note_random_key(self, event_type: str) -> None:
        with self._lock:
            self._random_keys += 1
        self._notices.warn_once("random key", _NO_OPERATION_ID, event_type)

    def _unattributed_customer(self) -> str:
        if self.settings.unattributed == "error" and not _tracking_captured.get():
            raise InvalidEventError("customer_id", None, _NO_CUSTOMER)
        return self.settings.unattributed_customer_id

    def _accepts_unattributed(self, event_type: str, payload: bytes) -> bool:
        """Warn that a cost is nobody's; drop it if that is the policy."""
        if self.settings.unattributed == "bucket":
            bucket = self.settings.unattributed_customer_id
            self._notices.warn(
                "unattributed", _BUCKETED, event_type, bucket, _NO_CUSTOMER
            )
            return True
        self._drop(payload, "unattributed", f"{event_type}: {_NO_CUSTOMER}")
        return False

    def flush(self, timeout: float = 5.0) -> FlushResult:
        """Wait until everything tracked before the call has met its fate.

        With ``shipping="agent"`` it waits for the agent, whose progress it reads in the
        journal; where no agent is at work, it gives up after two seconds.

        Args:
            timeout: most seconds to wait.

        Returns:
            Whether it has, and where all events are. With ``shipping="none"`` there
            is nothing to wait for, and it answers at once; so does a closed client.
        """
        _forks.ensure_forked_state()
        if self._state is State.CLOSED:
            return self._flush_result()
        return FlushResult(self._wait_for_delivery(timeout), self.stats())

    def _wait_for_delivery(self, timeout: float) -> bool:
        if self.settings.shipping == "none":
            return self._flush_result().complete
        return self._shipper.flush(timeout)

    def _flush_result(self) -> FlushResult:
        stats = self.stats()
        return FlushResult(stats.pending == 0, stats)

    def close(self, timeout: float = 5.0) -> FlushResult:
        """Flush, then stop and refuse more; idempotent.

        What is not delivered within ``timeout`` seconds stays in the journal, and the
        next process with the same folder and destination delivers it. With
        ``shipping="agent"`` it does not wait: the agent goes on without this process.
        """
        _forks.ensure_forked_state()
        with self._lock:
            if self._state is State.CLOSED:
                return self._flush_result()
            self._state = State.CLOSED
        report = self._shut_down(timeout)
        if self._metrics is not None:
            self._metrics.stop()
        _clients.discard(self)  # not earlier: a child forked meanwhile must let go, too
        return report

    def _close_at_exit(self, timeout: float) -> None:
        """Ship what there is, for the process ends; what comes later is kept."""
        _forks.ensure_forked_state()
        with self._lock:
            if self._state is State.CLOSED:
                return
            self._state = State.EXITING
        self._shut_down(timeout)

    def _shut_down(self, timeout: float) -> FlushResult:
        self._journal.seal()
        complete = self._wait_for_delivery(timeout if self._ships else 0.0)
        self._shipper.stop(_STOP_SECONDS if complete else 0.0)
        for payload in self._journal.persist_memory():
            self._drop(payload, "memory_only", _ENDED)
        report = FlushResult(complete, self.stats())
        self._journal.close_when_idle()
        self._unpriced.close()
        if self._unpriced.in_memory:
            self._notices.warn("unpriced lost", _LOST, self._unpriced.in_memory)
        return report

    async def aflush(self, timeout: float = 5.0) -> FlushResult:
        """Do what `flush` does without blocking the event loop."""
        return await _in_thread(self.flush, timeout)

    async def aclose(self, timeout: float = 5.0) -> FlushResult:
        """Do what `close` does without blocking the event loop."""
        return await _in_thread(self.close, timeout)

    def stats(self) -> Stats:
        """Return where the client's events are."""
        _forks.ensure_forked_state()
        counts = self._shipper.counts()
        with self._lock:
            dropped = dict(self._dropped)
        tracked = self._journal.appended_count() + sum(dropped.values())
        gone = sum(counts[fate] for fate in _FATES) + sum(dropped.values())
        return Stats(
            tracked=tracked,
            recovered=counts["recovered"],
            delivered=counts["delivered"],
            pending=tracked + counts["recovered"] - gone,
            parked=counts["parked"],
            dead=counts["dead"],
            quarantined=counts["quarantined"],
            dropped=dropped,
            damaged=counts["damaged"],
            duplicates=counts["duplicates"],
            retried=counts["retried"],
            requests=counts["requests"],
            journal_bytes=self._journal.journal_bytes(),
            oldest_pending_age=self._oldest_pending(),
            unpriced=self._unpriced.count,
            capture_errors=capture_errors.snapshot(),
            random_keys=self._random_keys,
        )

    def _oldest_pending(self) -> float | None:
        dates = [event_time_ms(payload) for payload in self._shipper.oldest()]
        known = [date for date in dates if date is not None]
        if not known:
            return None
        return max(0.0, (self._clock.now_ms() - min(known)) / 1000)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _start(self) -> None:
        with self._lock:
            if self._state is State.CLOSED:
                raise ClosedError("this client is closed; create another")
            if self._state is State.NEW:
                self._state = State.RUNNING

    def _drop(self, payload: bytes, reason: str, error: Exception | str) -> None:
        with self._lock:
            self._dropped[reason] += 1
        self._notices.warn(reason, "events are dropped (%s): %s", reason, error)
        if self._on_drop is None or _in_drop_hook.get():
            return
        token = _in_drop_hook.set(True)
        try:
            with self._logging_errors("on_drop"):
                self._on_drop(decode_event(payload), reason)
        finally:
            _in_drop_hook.reset(token)

    def _call_hooks(self, news: Deliveries) -> None:
        if self._on_delivered is not None and news.delivered:
            with self._logging_errors("on_delivered"):
                self._on_delivered([*map(decode_event, news.delivered)])
        if self._on_dead_letter is not None:
            for payload, reason, message in news.buried:
                with self._logging_errors("on_dead_letter"):
                    self._on_dead_letter(decode_event(payload), reason, message)

    @contextmanager
    def _logging_errors(self, hook: str) -> Iterator[None]:
        """Let no error of the application's hook get at what calls it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - logged, and that is all that can be done
            self._notices.exception(hook, error, "the hook %s failed", hook)

    def _reset_after_fork(self) -> None:
        """Begin anew in a forked child."""
        closed = self._state is State.CLOSED
        self._journal.reset_after_fork()
        self._unpriced.forked()
        self._shipper.forked()
        self._reset()
        if closed:
            self._state = State.CLOSED


def _transport_maker(
    settings: Settings,
    transport: Callable[[], Transport] | None,
    http_client: HttpClientSource | None,
) -> Callable[[], Transport] | None:
    if http_client is None:
        return transport
    if transport is not None:
        raise ConfigError("pass transport or http_client, not both")
    # For those few who pass one; all others' caller need not wait for them.
    from outlay._shipping.transport import HttpTransport  # noqa: PLC0415
    from outlay._shipping.user_client import Loan  # noqa: PLC0415

    return partial(HttpTransport.of, settings, Loan(http_client))


async def _in_thread(
    wait: Callable[[float], FlushResult], timeout: float
) -> FlushResult:
    import asyncio  # noqa: PLC0415 - a third of outlay's import, for few applications

    return await asyncio.to_thread(wait, timeout)


_NO_CUSTOMER: Final = (
    "pass customer_id=, or run the code inside of outlay.attribute(customer_id=...)"
)
_BUCKETED: Final = "a %s cost belongs to no customer, and is tracked for %r: %s"

_NO_OPERATION_ID: Final = (
    "a %s cost was tracked without operation_id: if the operation is run again, it is "
    "counted again. Pass the provider's response id or your job's id (said once)"
)

_NOT_CALLED: Final = (
    "on_dead_letter and on_delivered are not called with shipping='agent': they would "
    "have to be in the agent; watch its log, or 'outlay journal status'"
)

_LOST: Final = (
    "%d unpriced costs are lost, for they are in memory only: install a price list, or "
    "have a folder to keep them in (OUTLAY_JOURNAL_DIR)"
)

_ENDED: Final = "the client has ended, they were not delivered, and no disk has them"

_FATES: Final = ("delivered", "parked", "dead", "quarantined", "damaged")

_STOP_SECONDS: Final = 1.0  # for a thread that has nothing left to do

_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _reset_all_after_fork() -> None:
    for client in list(_clients):
        client._reset_after_fork()  # noqa: SLF001 - this module's own


def _close_all_at_exit() -> None:
    """Ship what there is at exit; all clients' time runs together."""
    clock = SystemClock()
    started = clock.monotonic()
    for client in list(_clients):
        elapsed = clock.monotonic() - started
        client._close_at_exit(  # noqa: SLF001 - this module's own
            max(0.0, client.settings.exit_timeout - elapsed)
        )


_forks.after_fork_in_child(_reset_all_after_fork)
atexit.register(_close_all_at_exit)
