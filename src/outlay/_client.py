"""The client: track costs, wait for their delivery, close."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Final, Unpack

from outlay._client_hooks import Hooks
from outlay._fork import after_fork_in_child, ensure_forked_state, fork_detector
from outlay._lifecycle import (
    ClientState,
    close_all_at_exit,
    live_clients,
    reset_all_after_fork,
)
from outlay._model.attribution import UNATTRIBUTED, current_attribution
from outlay._model.settings import Settings
from outlay._pipeline import Pipeline, transport_maker
from outlay._receipt import Receipt
from outlay._shipping.budgets import BudgetCache
from outlay.errors import JournalFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from opentelemetry.metrics import MeterProvider

    from outlay._client_options import (
        DeadLetterHook,
        DeliveredHook,
        DropHook,
        SettingsInput,
    )
    from outlay._model.clock import Clock
    from outlay._model.events import Json, OperationId, Provenance
    from outlay._model.money import Amount
    from outlay._model.stats import FlushResult, Stats
    from outlay._shipping.budgets import BudgetStatus
    from outlay._shipping.transport import Transport
    from outlay._shipping.user_client import HttpClientSource

# A global is found faster than an attribute of another module.
_fork_detector: Final = fork_detector
_current_attribution: Final = current_attribution.get
_RUNNING: Final = ClientState.RUNNING
_CLOSED: Final = ClientState.CLOSED

_EXIT_OUTAGE_SECONDS: Final = 1.0
"""The longest wait at exit for a server that is known to be down."""


class Client:
    """Tracks costs, writes them to a journal, and ships them in the background.

    A process needs one. Two with different destinations do not disturb each other. Use
    a client as a context manager, or call `close`. Events that are not delivered by
    then stay in the journal for the next process.

    Thread safety: any thread may call any method. After a fork, parent and child may
    both use the same object: the child starts without events.

    Attributes:
        settings: The settings of the client.
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
            settings: All settings. If None, they come from ``OUTLAY_*`` variables and
                defaults.
            transport: A function that makes the `Transport`. It is called once in each
                process that ships. If None, requests go through `HttpTransport`.
            http_client: An ``httpx.Client`` or ``httpx2.Client`` to send with, for its
                proxies, certificates or hooks. Or a function that makes one, which is
                called once in each process that ships. A ready client serves only the
                process in which it was passed, not its forked children. It stays open.
            on_drop: A function that is called when an event is dropped, on the thread
                that tracks it.
            on_dead_letter: A function that is called when an event will not be sent
                again, on a background thread.
            on_delivered: A function that is called when the server accepted events, on
                a background thread that ships nothing meanwhile. The call may come a
                moment after `flush` has returned.
            meter_provider: The provider of the OpenTelemetry instruments that report
                the events' outcomes. If None, the global one.
            clock: The source of time. If None, the clocks of the machine.
            **overrides: Single settings. They replace those of ``settings``.

        Raises:
            ConfigError: A setting or ``http_client`` is malformed. The message says
                what is allowed.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        if settings is not None:
            given = {**dict(settings), **given}
        resolved = Settings.resolve(given, environ={} if settings is not None else None)
        ensure_forked_state()
        self._open(
            Pipeline(
                resolved,
                clock=clock,
                hooks=Hooks(on_drop, on_dead_letter, on_delivered),
                make_transport=transport_maker(resolved, transport, http_client),
                meter_provider=meter_provider,
            )
        )

    def _open(self, pipeline: Pipeline) -> None:
        """Use ``pipeline``. For constructors."""
        self.settings: Settings = pipeline.settings
        self._pipeline = pipeline
        # `track_cost` reads these from here, because each further look-up takes time.
        self._lifecycle = pipeline.lifecycle
        self._compose = pipeline.composer.compose
        self._shipper = pipeline.shipper
        self._append = pipeline.journal.append
        self._budgets = BudgetCache(pipeline.settings)
        live_clients.add(self)
        if pipeline.telemetry is not None:
            pipeline.telemetry.start()
        if self.settings.shipping == "thread" and pipeline.journal.has_orphans():
            self._lifecycle.start()
            self._shipper.wake()

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
        """Track the cost of one billable operation. Call it when it has completed.

        Writes the event to the journal and returns. It takes microseconds, and never
        waits for the network. Asynchronous code calls it in the same way.

        Args:
            event_type: The event type, such as ``cost.ai.inference``. It links the cost
                to cost metrics.
            amount: The exact cost in the metric's currency. A float is taken by its
                shortest repr, so 0.1 means 0.1.
            customer_id: The customer who caused the cost. If None, the customer of
                `attribute`. If there is none, the setting ``unattributed`` decides.
            operation_id: The operation's own stable id, such as the provider's response
                id. If the same operation is tracked again, it counts once. If None,
                outlay's own retries never double the event, but an operation that runs
                again counts again.
            provider: The company that charges for it. Part of the idempotency key.
            operation: The kind of operation, such as ``document-extraction``. If None,
                that of `attribute`.
            region: The region, such as ``us-east-1``. If None, that of `attribute`.
            line: The name of this cost among several costs of the same operation. Part
                of the idempotency key.
            quantity: The quantity that was consumed, in ``unit``.
            unit: The unit of ``quantity``, such as ``page``.
            provenance: The origin of the amount. ``manual``: the caller. ``reported``:
                the provider. ``priced``: a price list.
            timestamp: The time of the cost, as an aware datetime. If None, now.
            data: More names and JSON values to group by. They replace the dimensions
                of `attribute` that have the same names.

        Returns:
            The receipt. It has the event's idempotency key, and says whether the event
            is on disk.

        Raises:
            InvalidEventError: An argument breaks a rule, or there is no customer and
                the setting ``unattributed`` is ``error``. Nothing was tracked.
            ClosedError: The client is closed. Nothing was tracked.
        """
        if not _fork_detector[0]:
            ensure_forked_state()
        attribution = _current_attribution()
        if attribution is not UNATTRIBUTED:
            customer_id, operation, region, data = attribution.with_defaults(
                customer_id, operation, region, data
            )
        unattributed = False
        if customer_id is None:
            customer_id = self._pipeline.unattributed.customer_id()
            unattributed = True
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
        compose = self._compose  # a method call through self would look it up twice
        hasher, operation_text, payload = compose(
            labels, amount, operation_id, timestamp, quantity, data
        )
        if self._lifecycle.state is not _RUNNING:
            self._lifecycle.start()
        if unattributed and not self._pipeline.unattributed.accepts(
            event_type, payload
        ):
            return Receipt(False, operation_text, hasher)  # noqa: FBT003 - durable
        if operation_id is None:
            self._pipeline.count_random_key(event_type)
        append = self._append
        try:
            durable = append(payload)
        except JournalFullError as error:
            self._pipeline.dropped.add(payload, "journal_full", error)
            return Receipt(False, operation_text, hasher)  # noqa: FBT003 - durable
        if self._shipper.needs_wake:
            self._shipper.wake()
        if self._lifecycle.state is _CLOSED:
            # Another thread closed the client meanwhile, and left this segment open.
            self._pipeline.journal.close_when_idle()
        return Receipt(durable, operation_text, hasher)

    def subject_for(self, customer_id: str) -> str:
        """Return the name under which the server knows a customer.

        It is the id itself, or its keyed digest if ``hash_customer_ids`` is set.
        """
        return self._pipeline.hasher.subject_for(customer_id)

    def budget(
        self,
        customer_id: str,
        *,
        timeout: float = 0.0,
        max_age: float = 60.0,
        strict: bool = False,
    ) -> BudgetStatus | None:
        """Return how much of a customer's budget is spent, from memory.

        A background thread asks the server, and remembers its response. `track_cost`
        never does. It needs outlay's own server, and a key with ``budgets:read``.

        Args:
            customer_id: The customer.
            timeout: The longest wait in seconds, if the status is not known or too old.
                Defaults to 0: the call returns what is known.
            max_age: The age in seconds from which the status is read again. Defaults to
                60.
            strict: Whether an unknown status raises an error. Defaults to no.

        Returns:
            The status of the customer's budget. Of several, it is the one with the
            largest share. None means that there is none, or that it is not known yet.

        Raises:
            UnavailableError: With ``strict``, the server has not responded.
            RejectedError: With ``strict``, the server refused the request.
            ConfigError: With ``strict``, the environment names certificates that cannot
                be read.
        """
        ensure_forked_state()
        return self._budgets.status(
            self.subject_for(customer_id), timeout, max_age, strict=strict
        )

    def flush(self, timeout: float = 5.0) -> FlushResult:
        """Wait until every event that was tracked before the call has an outcome.

        With ``shipping="agent"`` it waits for the agent, whose progress it reads in the
        journal. If no agent runs, it gives up after two seconds.

        Args:
            timeout: The longest wait in seconds. Defaults to 5.

        Returns:
            Whether all have an outcome, where all events are, and what to do about
            those without one. Parked events have none: the server accepts them only
            after a person has acted. With ``shipping="none"``, and after `close`, it
            returns without waiting.
        """
        ensure_forked_state()
        if self._lifecycle.state is _CLOSED:
            return self._pipeline.flush_result()
        return self._pipeline.flush(timeout)

    def close(self, timeout: float = 5.0) -> FlushResult:
        """Flush, stop the background threads, and refuse further events. Idempotent.

        Events that are not delivered in time stay in the journal. The next process with
        the same folder and destination delivers them. With ``shipping="agent"`` it does
        not wait, because the agent goes on without this process.

        Args:
            timeout: The longest wait in seconds. Defaults to 5.

        Returns:
            The same as `flush` returns.
        """
        ensure_forked_state()
        if not self._lifecycle.end(ClientState.CLOSED):
            return self._pipeline.flush_result()
        result = self._pipeline.shut_down(timeout)
        if self._pipeline.telemetry is not None:
            self._pipeline.telemetry.stop()
        # Not earlier: a child that is forked meanwhile must release its parent's files.
        live_clients.discard(self)
        return result

    async def aflush(self, timeout: float = 5.0) -> FlushResult:
        """Do the same as `flush` without blocking the event loop."""
        return await in_thread(self.flush, timeout)

    async def aclose(self, timeout: float = 5.0) -> FlushResult:
        """Do the same as `close` without blocking the event loop."""
        return await in_thread(self.close, timeout)

    def stats(self) -> Stats:
        """Return where the client's events are."""
        ensure_forked_state()
        return self._pipeline.stats()

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

    def _close_at_exit(self, timeout: float) -> None:
        """Ship what can be shipped. Later events are written to disk only."""
        ensure_forked_state()
        if self._lifecycle.end(ClientState.EXITING):
            self._pipeline.shut_down(timeout, outage_timeout=_EXIT_OUTAGE_SECONDS)

    def _reset_after_fork(self) -> None:
        self._pipeline.reset_after_fork()
        self._append = self._pipeline.journal.append
        self._budgets = BudgetCache(self.settings)


async def in_thread(
    wait: Callable[[float], FlushResult], timeout: float
) -> FlushResult:
    """Call ``wait`` on another thread, so that the event loop goes on."""
    # asyncio is loaded, because it runs this. At the top of the module it would be a
    # seventh of the time that `import outlay` takes in programs without it.
    import asyncio  # noqa: PLC0415

    return await asyncio.to_thread(wait, timeout)


def pipeline_of(client: Client) -> Pipeline:
    """Return the parts behind a client. For other modules of outlay."""
    return client._pipeline  # noqa: SLF001 - this module's own


# Here, after all other modules have registered theirs: the clients use locks and
# instruments that a forked child must reset first.
after_fork_in_child(reset_all_after_fork)
atexit.register(close_all_at_exit)
