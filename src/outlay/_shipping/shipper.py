"""Ship pending events in the background.

One daemon thread, the main sender, scans, plans and sends. While it mostly waits for
the network, it starts extra senders (see `concurrency`), which end when they find no
event. Each of them plans under the lock, sends without it, and records under it again.
"""

from __future__ import annotations

import contextlib
import functools
import math
import queue
import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from outlay._shipping.flush_waiters import FlushWaiters
from outlay._shipping.http_transport import HttpTransport
from outlay._shipping.planner import RequestPlanner
from outlay._shipping.request_sender import RequestSender
from outlay._shipping.sender_threads import SenderThreads, join_threads, start_thread
from outlay._shipping.settlement import Deliveries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay._journal.journal import Journal
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._model.settings import Settings
    from outlay._shipping.transport import Transport
    from outlay._shipping.wire import PlannedRequest
    from outlay._telemetry import ClientTelemetry

_START_SECONDS: Final = 1.0  # between attempts to start the thread

_PREPARE_SECONDS: Final = 5.0  # between attempts to prepare; no flush waits for it

OnDeliveries: TypeAlias = Callable[[Deliveries], None]


class Shipper:
    """Ships the journal's events on threads of this process. It is an `EventShipper`.

    Thread safety: any thread may call any public method. `wake` is re-entrant, too.

    Attributes:
        needs_wake: Whether `wake` must be called after an event was appended.
        planner: The planner of this process. None before the first event is shipped.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        *,
        clock: Clock,
        log: RateLimitedLog,
        make_transport: Callable[[], Transport] | None,
        on_deliveries: OnDeliveries | None,
        telemetry: ClientTelemetry | None = None,
    ) -> None:
        """Prepare to ship. The thread starts with the first `wake` or `flush`.

        Args:
            settings: The client's settings.
            journal: The journal of the events and their outcomes.
            clock: The source of time.
            log: The log for trouble.
            make_transport: A function that makes the transport in each process that
                ships. If None, an `HttpTransport` is made.
            on_deliveries: A function that is called with outcomes, on a sender's thread
                and without locks. It raises nothing. If None, outcomes are not
                reported.
            telemetry: The telemetry that each request is reported to. Defaults to None.
        """
        self._settings: Final = settings
        self._journal: Final = journal
        self._clock: Final = clock
        self._log: Final = log
        self._make_transport: Final = make_transport or HttpTransport.maker(settings)
        self._on_deliveries: Final = on_deliveries
        self._telemetry: Final = telemetry
        self._reset()

    def _reset(self) -> None:
        """Begin without threads: at first, and in a forked child."""
        self.needs_wake = self._settings.shipping != "none"
        # Re-entrant: a signal handler may flush on the thread that holds it.
        self._lock = threading.RLock()
        # The put() of a SimpleQueue is re-entrant by contract. Event and Condition are
        # not, and a finalizer may track a cost while this thread is inside of one.
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        # All below are guarded by the lock.
        self.planner: RequestPlanner | None = None
        self._sender: RequestSender | None = None
        self._threads = SenderThreads()
        self._flushes = FlushWaiters(self._lock, self._journal.reader)
        self._waiting = False  # the main sender waits for a wake-up
        self._stopping = False
        self._closed = False
        self._next_scan_at = -math.inf
        self._start_from = -math.inf

    def wake(self) -> None:
        """Note that an event was appended. Start the thread if there is none."""
        self.needs_wake = False
        if self._threads.main is None:
            self._start_main()
        self._wakeups.put(None)

    def flush(self, timeout: float, *, outage_timeout: float | None = None) -> bool:
        """Wait until all events are settled or parked. This skips any backoff."""
        with self._lock:
            self._scan(self._clock.monotonic())
            targets = self._journal.flush_targets()
            if self._journal.reader.is_settled_up_to(targets):
                return True
            if self.planner is not None:
                self.planner.skip_backoff()
            return self._flushes.wait(
                targets,
                timeout,
                outage_timeout=timeout if outage_timeout is None else outage_timeout,
                shipper=self,
            )

    @property
    def is_closed(self) -> bool:
        """Whether the shipper was stopped, and the journal may have another owner."""
        return self._closed

    @property
    def server_is_down(self) -> bool:
        """Whether the server is known not to take events now."""
        return self.planner is not None and self.planner.server_is_down

    def stop(self, timeout: float) -> None:
        """Stop the threads, waiting at most ``timeout`` seconds for requests in flight.

        A request that is still in flight then has an unknown outcome. Its events stay
        in the journal, stamped, and the next process sends them again.
        """
        with self._lock:
            self._stopping = True
            threads = self._threads.all
        self._wakeups.put(None)
        join_threads(threads, timeout, self._clock.monotonic)
        with self._lock:
            self._closed = True
            sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def counts(self) -> Counter[str]:
        """Return how many events were delivered, dead, quarantined, and so on."""
        with self._lock:
            counts = Counter(self.planner.counts if self.planner else ())
            counts["parked"] = self._journal.reader.parked_count()
            counts["recovered"] = self._journal.reader.recovered_count
            counts["damaged"] = self._journal.reader.damaged_count
            return counts

    def oldest(self) -> list[bytes]:
        """Return payloads of pending events, the oldest among them."""
        with self._lock:
            return self._journal.reader.oldest_payloads()

    def threads(self) -> list[threading.Thread]:
        """Return the threads that ship."""
        with self._lock:
            return self._threads.all

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let no request be planned or recorded inside of the context."""
        with self._lock:
            yield

    def reset_after_fork(self) -> None:
        """Start over in a forked child, which has none of its parent's threads.

        The parent's connections are not closed: both processes hold the same sockets.
        """
        self._reset()

    # The main sender.

    def _start_main(self) -> None:
        with self._lock:
            if self._threads.main is not None or self._stopping:
                return
            now = self._clock.monotonic()
            if now >= self._start_from and start_thread(self._run_main) is not None:
                return
            self.needs_wake = True  # so that a later event tries again
            if now >= self._start_from:
                self._start_from = now + _START_SECONDS
                self._log.warn(
                    "thread",
                    "no thread can be started to ship; pending events stay in the "
                    "journal, and outlay tries again every %g s",
                    _START_SECONDS,
                )

    def _run_main(self) -> None:
        with self._lock:
            # The thread registers itself: a signal handler that runs during a start
            # starts another thread.
            if self._threads.main is not None or self._stopping:
                return
            self._threads.main = threading.current_thread()
            # A queue of the kind that suits this thread. A worker may have been patched
            # to run greenlets since the client was made. It would block as a whole on
            # another kind.
            self._wakeups = queue.SimpleQueue()
        try:
            prepared = self._prepare_with_retries()
            if prepared is not None:
                self._ship(*prepared)
        except BaseException as error:  # noqa: BLE001 - logged; the thread has no caller
            self._log.exception(
                "shipper",
                error,
                "the shipper stopped; pending events stay in the journal, and the next "
                "event starts it again",
            )
            with self._lock:
                self._threads.main = None
                self.needs_wake = not self._stopping

    def _ship(self, planner: RequestPlanner, sender: RequestSender) -> None:
        while not self._stopping:
            self._scan_if_due()
            step = self._plan(planner, sender)
            self._call_hooks(planner)
            if isinstance(step, float):
                self._wait(step)
            else:
                self._send(step, planner, sender)

    def _prepare_with_retries(self) -> tuple[RequestPlanner, RequestSender] | None:
        """Prepare, and retry after errors. Return None if the shipper was stopped."""
        while not self._stopping:
            try:
                return self._prepare()
            except BaseException as error:  # noqa: BLE001 - logged. A process that is out
                # of files, for example, may have some again.
                self._log.exception(
                    "shipper",
                    error,
                    "cannot ship; pending events stay in the journal, and outlay tries "
                    "again every %g s",
                    _PREPARE_SECONDS,
                )
            with contextlib.suppress(queue.Empty):
                self._wakeups.get(timeout=_PREPARE_SECONDS)
        return None

    def _prepare(self) -> tuple[RequestPlanner, RequestSender]:
        """Make the planner and the transport, or return those of a thread that died."""
        with self._lock:
            if self.planner is not None and self._sender is not None:
                return self.planner, self._sender
        planner = RequestPlanner(
            self._settings, self._journal, clock=self._clock, log=self._log
        )
        sender = RequestSender(
            self._make_transport(),
            clock=self._clock,
            log=self._log,
            telemetry=self._telemetry,
        )
        with self._lock:
            self.planner, self._sender = planner, sender
        return planner, sender

    def _scan_if_due(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            # A closed client must not adopt: no other process could deliver it.
            if now >= self._next_scan_at and not self._stopping:
                self._scan(now)

    def _scan(self, now: float) -> None:
        # A flush that scans does it for the thread, too. A thread that scanned again
        # during the flush of a close would adopt events that the flush does not await.
        self._next_scan_at = now + self._journal.scan()

    def _plan(
        self, planner: RequestPlanner, sender: RequestSender
    ) -> PlannedRequest | float:
        with self._lock:
            if self._stopping:
                return 0.0
            step = planner.plan(linger=not self._flushes)
            if isinstance(step, float) and planner.idle:
                # Raise the flag, then plan again. An event that was appended before the
                # flag was up woke no thread, and an event after it will.
                self.needs_wake = True
                step = planner.plan(linger=not self._flushes)
                self.needs_wake = isinstance(step, float) and planner.idle
            self._flushes.notify()  # planning may have settled events, too
            self._waiting = isinstance(step, float)
            if not self._waiting:
                self._start_extra_sender(planner, sender)
            return step

    def _wait(self, seconds: float) -> None:
        until_scan = self._next_scan_at - self._clock.monotonic()
        with contextlib.suppress(queue.Empty):
            self._wakeups.get(timeout=max(0.0, min(seconds, until_scan)))
        self._waiting = False

    # The extra senders.

    def _start_extra_sender(
        self, planner: RequestPlanner, sender: RequestSender
    ) -> None:
        """Start another sender if it helps and there is work for it."""
        senders = 1 + len(self._threads.extra)
        if senders < planner.target_concurrency and planner.has_more():
            self._threads.start_extra(
                functools.partial(self._run_extra, planner, sender)
            )

    def _run_extra(self, planner: RequestPlanner, sender: RequestSender) -> None:
        try:
            while True:
                step = self._plan_extra(planner, sender)
                if isinstance(step, float):
                    break
                self._send(step, planner, sender)
        except BaseException as error:  # noqa: BLE001 - logged; the thread has no caller
            self._log.exception(
                "sender", error, "a sender stopped; its events stay in the journal"
            )
        finally:
            with self._lock:
                self._threads.leave()

    def _plan_extra(
        self, planner: RequestPlanner, sender: RequestSender
    ) -> PlannedRequest | float:
        with self._lock:
            surplus = len(self._threads.extra) >= planner.target_concurrency
            if self._stopping or surplus:
                return 0.0
            step = planner.plan(linger=not self._flushes)
            self._flushes.notify()
            if not isinstance(step, float):
                self._start_extra_sender(planner, sender)
            return step

    # All senders.

    def _send(
        self, request: PlannedRequest, planner: RequestPlanner, sender: RequestSender
    ) -> None:
        exchange = sender.send(request)
        with self._lock:
            if self._closed:
                return  # too late: the journal is closed, and the next process resends
            planner.record(
                request,
                exchange.response,
                exchange.result,
                wall=exchange.wall,
                cpu=exchange.cpu,
            )
            self._flushes.notify()
            if self._waiting:
                self._wakeups.put(None)
        self._call_hooks(planner)

    def _call_hooks(self, planner: RequestPlanner) -> None:
        with self._lock:
            deliveries = planner.take_deliveries()
        if self._on_deliveries is not None and any(deliveries):
            self._on_deliveries(deliveries)
