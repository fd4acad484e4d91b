"""The shipper: carries pending events to the server in the background.

One daemon thread plans and sends. Where it mostly waits for the network, it starts more
senders like itself (see `pacing`), which end when they find nothing to do. Each of them
plans under the lock, posts without it, and records under it again.
"""

from __future__ import annotations

import contextlib
import functools
import math
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from outlay._model.clock import thread_cpu_seconds
from outlay._shipping.planner import RequestPlanner
from outlay._shipping.transport import HttpTransport
from outlay._shipping.wire_send import send

if TYPE_CHECKING:
    from outlay._journal.journal import Journal
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._model.settings import Settings
    from outlay._shipping.planner import Deliveries, PlannedRequest
    from outlay._shipping.transport import Transport, TransportResponse
    from outlay._shipping.wire import ResponseResult
    from outlay._shipping.wire_send import Post
    from outlay._telemetry import ClientTelemetry

_LOOK_SECONDS: Final = 0.2
"""Between looks of a flush that nobody woke: a signal handler that flushes, too, can
let the wake-up pass between a look and the wait for it."""

_PREPARE_SECONDS: Final = 5.0  # between attempts; a flush does not wait for the next

OnDeliveries: TypeAlias = Callable[["Deliveries"], None]


class _Flush(NamedTuple):
    """Somebody who waits until the journal is settled up to ``targets``."""

    targets: dict[str, float]
    settled: threading.Condition


class Shipper:
    """Ships what the journal holds.

    Thread safety: any thread may call any public method; `wake` is re-entrant, too.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        *,
        clock: Clock,
        notices: RateLimitedLog,
        make_transport: Callable[[], Transport] | None,
        on_news: OnDeliveries | None,
        metrics: ClientTelemetry | None = None,
    ) -> None:
        """Prepare to ship; the thread starts with the first `wake` or `flush`.

        Args:
            settings: the client's.
            journal: where events come from and their fates go.
            clock: measures waits, dates attempts.
            notices: where trouble is reported.
            make_transport: called once in each process that ships; None: httpx.
            on_news: called on a sender's thread, without locks held.
            metrics: told of each request.
        """
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._notices = notices
        self._make_transport = make_transport or self._httpx_transport
        self._on_news = on_news
        self._metrics = metrics
        self._begin()

    def _begin(self) -> None:
        """Start without threads: at first, and in a forked child."""
        self.needs_wake = self._settings.shipping != "none"
        """Whether `wake` must be called after an event was appended."""
        # Re-entrant: a signal handler may flush on the thread that holds it.
        self._lock = threading.RLock()
        # put() of a SimpleQueue is re-entrant by contract; Event and Condition are
        # not, and a finaliser may track a cost while this thread is inside of one.
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._main_sender: threading.Thread | None = (
            None  # guarded by _lock, as the rest
        )
        self._extra_senders: set[threading.Thread] = set()
        self._dispatch: RequestPlanner | None = None
        self._transport: Transport | None = None
        self._post: Post  # set with the transport
        self._waiting = False
        self._stopping = False
        self._closed = False
        self._flushes: list[_Flush] = []
        self._next_scan_at = -math.inf

    def wake(self) -> None:
        """Say that there is something to ship; starts the thread if need be."""
        self.needs_wake = False
        if self._main_sender is None:
            self._start_primary()
        self._wakeups.put(None)

    def flush(self, timeout: float) -> bool:
        """Wait until all that is pending now has met its fate.

        Tries at once, whatever backoff is running. Returns whether all of it was done
        within ``timeout`` seconds.
        """
        with self._lock:
            self._scan(self._clock.monotonic())
            # A condition of the lock, which it gives up while it waits: a signal
            # handler may flush on a thread that holds the lock already.
            flush = _Flush(
                self._journal.flush_targets(), threading.Condition(self._lock)
            )
            if self._journal.reader.is_settled_up_to(flush.targets):
                return True
            if self._dispatch is not None:
                self._dispatch.skip_backoff()
            self._flushes.append(flush)
            self.wake()
            try:
                return self._wait_for(flush, timeout)
            finally:
                self._flushes.remove(flush)

    def _wait_for(self, flush: _Flush, timeout: float) -> bool:
        def is_over() -> bool:
            return self._closed or self._journal.reader.is_settled_up_to(flush.targets)

        while not flush.settled.wait_for(is_over, min(timeout, _LOOK_SECONDS)):
            timeout -= _LOOK_SECONDS
            if timeout <= 0:
                return False
        # Closed meanwhile, the journal does not tell any more: what it let go of would
        # pass for settled.
        return not self._closed

    def stop(self, timeout: float) -> None:
        """End the threads, waiting at most ``timeout`` seconds for requests under way.

        A request that is still under way then has an unknown outcome: its events stay
        in the journal, stamped, and the next process sends them again.
        """
        deadline = self._clock.monotonic() + timeout
        with self._lock:
            self._stopping = True
            senders = [*self._extra_senders]
            if self._main_sender is not None:
                senders.append(self._main_sender)
        self._wakeups.put(None)
        for sender in senders:
            if sender is not threading.current_thread():
                sender.join(max(0.0, deadline - self._clock.monotonic()))
        with self._lock:
            self._closed = True
            transport, self._transport = self._transport, None
        if transport is not None:
            try:
                transport.close()
            except Exception as error:  # noqa: BLE001 - a transport of the user's; logged
                self._notices.exception(
                    "transport", error, "the transport could not be closed"
                )

    def counts(self) -> Counter[str]:
        """Return how many events were delivered, dead, quarantined, and so on."""
        with self._lock:
            counts = Counter(self._dispatch.counts if self._dispatch else ())
            counts["parked"] = self._journal.reader.parked_count()
            counts["recovered"] = self._journal.reader.recovered_count
            counts["damaged"] = self._journal.reader.damaged_count
            return counts

    def oldest(self) -> list[bytes]:
        """Return payloads of pending events, the oldest among them."""
        with self._lock:
            return self._journal.reader.oldest_payloads()

    def forked(self) -> None:
        """Begin anew in a forked child, which has none of its parent's threads.

        The parent's connections are forgotten without a word on them: both processes
        hold the same sockets.
        """
        self._begin()

    # Threads.

    def _start_primary(self) -> None:
        with self._lock:
            if self._main_sender is None and not self._stopping:
                started = self._start(self._run_primary)
                self.needs_wake = started is None  # then the next event tries again

    def _start(self, run: Callable[[], None]) -> threading.Thread | None:
        if sys.is_finalizing():
            return None  # before Python 3.12, starting it would wait for it for ever
        sender = threading.Thread(target=run, name="outlay-shipper", daemon=True)
        try:
            sender.start()
        except RuntimeError:
            # The interpreter is shutting down, or the system has no more threads.
            # What is pending stays in the journal.
            return None
        return sender

    def _run_primary(self) -> None:
        with self._lock:
            # By the thread itself: a signal handler that strikes while one is being
            # started starts another.
            if self._main_sender is not None or self._stopping:
                return
            self._main_sender = threading.current_thread()
            # Of the kind that suits this thread: a worker may have been patched to run
            # greenlets since the client was made, and blocks as a whole on any other.
            self._wakeups = queue.SimpleQueue()
        try:
            prepared = self._prepare_with_retries()
            if prepared is not None:
                self._ship(*prepared)
        except Exception as error:  # noqa: BLE001 - logged; there is nobody else to tell
            self._notices.exception(
                "shipper",
                error,
                "the shipper stopped; pending events stay in the journal",
            )

    def _ship(self, dispatch: RequestPlanner, transport: Transport) -> None:
        while not self._stopping:
            self._scan_if_due()
            step = self._plan(dispatch, transport)
            self._call_hooks(dispatch)
            if isinstance(step, float):
                self._wait(step)
            else:
                self._send(step, dispatch, transport)

    def _run_extra(self, dispatch: RequestPlanner, transport: Transport) -> None:
        _suppress_tracing()
        try:
            while True:
                step = self._plan_extra(dispatch, transport)
                if isinstance(step, float):
                    break
                self._send(step, dispatch, transport)
        except Exception as error:  # noqa: BLE001 - logged; there is nobody else to tell
            self._notices.exception(
                "sender", error, "a sender stopped; its events stay in the journal"
            )
        finally:
            with self._lock:
                self._extra_senders.discard(threading.current_thread())

    def _prepare_with_retries(self) -> tuple[RequestPlanner, Transport] | None:
        """Prepare, again and again if need be; None: to be stopped first."""
        while not self._stopping:
            try:
                return self._prepare()
            except Exception as error:  # noqa: BLE001 - logged; a process that is out
                # of files, say, is not so for ever
                self._notices.exception(
                    "shipper",
                    error,
                    "cannot ship; pending events stay in the journal, and it is tried "
                    "again every %g s",
                    _PREPARE_SECONDS,
                )
            with contextlib.suppress(queue.Empty):
                self._wakeups.get(timeout=_PREPARE_SECONDS)
        return None

    def _prepare(self) -> tuple[RequestPlanner, Transport]:
        """Make the planner and the transport on the shipping thread."""
        _suppress_tracing()
        if self._metrics is not None:
            self._metrics.start()
        self._post = send
        dispatch = RequestPlanner(
            self._settings, self._journal, clock=self._clock, notices=self._notices
        )
        transport = self._make_transport()
        with self._lock:
            self._dispatch, self._transport = dispatch, transport
        return dispatch, transport

    def _httpx_transport(self) -> Transport:
        return HttpTransport.of(self._settings)

    def _scan_if_due(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            # What a closed client adopted nobody else could deliver.
            if now >= self._next_scan_at and not self._stopping:
                self._scan(now)

    def _scan(self, now: float) -> None:
        # Whoever looks does it for the thread, too: one that looked again during the
        # flush of a close would adopt what that flush does not wait for.
        self._next_scan_at = now + self._journal.scan()

    # One round: plan, post, record.

    def _plan(
        self, dispatch: RequestPlanner, transport: Transport
    ) -> PlannedRequest | float:
        with self._lock:
            if self._stopping:
                return 0.0
            step = dispatch.plan(hurry=self._flush_waiting)
            if isinstance(step, float) and dispatch.idle:
                # Set, then look again: an event appended before the flag was up woke
                # nobody, and one appended after it will.
                self.needs_wake = True
                step = dispatch.plan(hurry=self._flush_waiting)
                self.needs_wake = isinstance(step, float) and dispatch.idle
            self._notify_flushes()  # planning may have settled events, too
            self._waiting = isinstance(step, float)
            if not self._waiting:
                self._start_extra_sender(dispatch, transport)
            return step

    def _plan_extra(
        self, dispatch: RequestPlanner, transport: Transport
    ) -> PlannedRequest | float:
        with self._lock:
            if (
                self._stopping
                or len(self._extra_senders) >= dispatch.target_concurrency
            ):
                return 0.0
            step = dispatch.plan(hurry=self._flush_waiting)
            self._notify_flushes()
            if not isinstance(step, float):
                self._start_extra_sender(dispatch, transport)
            return step

    @property
    def _flush_waiting(self) -> bool:
        return bool(self._flushes)

    def _start_extra_sender(
        self, dispatch: RequestPlanner, transport: Transport
    ) -> None:
        """Start another sender where that helps and there is work for it."""
        senders = 1 + len(self._extra_senders)
        if senders < dispatch.target_concurrency and dispatch.has_more():
            extra = self._start(functools.partial(self._run_extra, dispatch, transport))
            if extra is not None:
                self._extra_senders.add(extra)

    def _wait(self, seconds: float) -> None:
        until_look = self._next_scan_at - self._clock.monotonic()
        with contextlib.suppress(queue.Empty):
            self._wakeups.get(timeout=max(0.0, min(seconds, until_look)))
        self._waiting = False

    def _send(
        self, job: PlannedRequest, dispatch: RequestPlanner, transport: Transport
    ) -> None:
        started, cpu_started = self._clock.monotonic(), thread_cpu_seconds()
        answer, judgement = self._post(job, transport)
        wall = self._clock.monotonic() - started
        cpu = thread_cpu_seconds() - cpu_started
        self._record_telemetry(job, answer, judgement, wall)
        with self._lock:
            if self._closed:
                return  # too late: the journal is closed, the next process resends
            dispatch.record(job, answer, judgement, wall=wall, cpu=cpu)
            self._notify_flushes()
            if self._waiting:
                self._wakeups.put(None)
        self._call_hooks(dispatch)

    def _record_telemetry(
        self,
        job: PlannedRequest,
        answer: TransportResponse | None,
        judgement: ResponseResult,
        wall: float,
    ) -> None:
        if self._metrics is None:
            return
        status = answer.status if answer is not None else None
        why = judgement.replies[0].verdict.reason
        try:
            self._metrics.record_request(
                len(job.events), wall, status=status, reason=why
            )
        except Exception as error:  # noqa: BLE001 - of the application's telemetry; logged
            self._notices.exception("metrics", error, "a request could not be measured")

    def _notify_flushes(self) -> None:
        # Here and not by the waiters: they would be woken for every event.
        for flush in self._flushes:
            if self._journal.reader.is_settled_up_to(flush.targets):
                flush.settled.notify_all()

    def _call_hooks(self, dispatch: RequestPlanner) -> None:
        with self._lock:
            news = dispatch.take_deliveries()
        if self._on_news is not None and (news.delivered or news.buried):
            self._on_news(news)


def _suppress_tracing() -> None:
    """Keep our own requests out of the application's traces, on this thread."""
    from opentelemetry import context

    context.attach(context.set_value("suppress_instrumentation", True))  # noqa: FBT003
