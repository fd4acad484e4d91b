"""Report a client's counts to OpenTelemetry. See docs/reference/metrics.md.

It uses the API alone: without an SDK every instrument does nothing. Counts that a
client keeps anyway are read when the application collects, so tracking pays nothing.

Instruments belong to a meter provider, not to a client. An SDK takes the callbacks of
the first instrument of a name, and keeps them for its life. So each provider has one
set of instruments, which knows its clients by weak references. It adds up the clients
of one server, because a second observation with equal attributes replaces the first.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter, defaultdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, TypeAlias

from opentelemetry.metrics import Observation, get_meter

from outlay._fork import after_fork_in_child
from outlay._model.error_counts import capture_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider

    from outlay._model.stats import Stats

Attributes: TypeAlias = tuple[tuple[str, str | int], ...]
"""Names and values of attributes: the items of a mapping, but hashable."""

_Counts: TypeAlias = Counter[tuple[str, str]]  # by outcome and drop reason

_SOURCES: Final = ("tracked", "recovered")
_OUTCOMES: Final = ("delivered", "dead", "quarantined", "damaged")

# From the semantic conventions for HTTP clients: from loopback to a timeout.
_SECONDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
_EVENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class ClientTelemetry:
    """Reports one client through the instruments of its provider.

    Thread safety: any thread.
    """

    def __init__(
        self,
        stats: Callable[[], Stats],
        *,
        attributes: Attributes,
        folder: str,
        provider: MeterProvider | None,
    ) -> None:
        """Prepare to report. Nothing is registered before `start`.

        Args:
            stats: A bound method that returns the counts. It is not kept alive.
            attributes: The attributes that tell the client's server from others.
            folder: The folder whose size ``journal_bytes`` is. Clients may share it.
            provider: The provider of the instruments. If None, the global one, as it is
                or will be set.
        """
        self._stats = weakref.WeakMethod(stats)
        self._provider = provider
        self._instruments: _Instruments | None = None
        self.attributes: Final = attributes
        self.folder: Final = folder

    def start(self) -> None:
        """Report from now on."""
        if self._instruments is None:
            self._instruments = _registry.instruments_for(self._provider)
            self._instruments.register(self)

    def stop(self) -> None:
        """Report no further changes. The counts so far stay in the sums."""
        if self._instruments is not None:
            self._instruments.unregister(self)

    def record_request(
        self, events: int, seconds: float, *, status: int | None, reason: str
    ) -> None:
        """Record one request.

        Args:
            events: The number of events in the request.
            seconds: The duration of the request.
            status: The status of the response, or None if there was none.
            reason: The reason in one word, if there was no response.
        """
        if self._instruments is not None:
            self._instruments.record_request(
                events, seconds, _request_attributes(self.attributes, status, reason)
            )

    def current_stats(self) -> Stats | None:
        """Return the client's counts, or None if the client is gone."""
        stats = self._stats()
        return stats() if stats is not None else None


def _request_attributes(
    server: Attributes, status: int | None, reason: str
) -> dict[str, str | int]:
    attributes = dict(server)
    if status is None:
        attributes["error.type"] = reason
        return attributes
    attributes["http.response.status_code"] = status
    if status >= 300:
        attributes["error.type"] = str(status)
    return attributes


class _Instruments:
    """The instruments of one provider, for all clients that use it."""

    def __init__(self, meter: Meter) -> None:
        self._reset()
        self._create_observed(meter)
        self._seconds = meter.create_histogram(
            "outlay.ship.duration",
            "s",
            "Duration of requests to the server.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._events = meter.create_histogram(
            "outlay.ship.batch.size",
            "{event}",
            "Events in one request to the server.",
            explicit_bucket_boundaries_advisory=_EVENTS,
        )

    def _reset(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a handler may close a client
        # Guarded by _lock, as the counts are.
        self._clients: weakref.WeakSet[ClientTelemetry] = weakref.WeakSet()
        # The counts of closed clients, because a counter must not go down.
        self._closed_counts: defaultdict[Attributes, _Counts] = defaultdict(Counter)

    def _create_observed(self, meter: Meter) -> None:
        meter.create_observable_counter(
            "outlay.events.tracked",
            [self._count_of("tracked")],
            "{event}",
            "Events that track_cost took.",
        )
        meter.create_observable_counter(
            "outlay.events.recovered",
            [self._count_of("recovered")],
            "{event}",
            "Events of earlier processes found in the journal.",
        )
        meter.create_observable_counter(
            "outlay.events",
            [self._outcomes],
            "{event}",
            "Events that have an outcome, by outcome.",
        )
        meter.create_observable_up_down_counter(
            "outlay.events.pending",
            [self._pending],
            "{event}",
            "Events that wait in the journal.",
        )
        meter.create_observable_gauge(
            "outlay.journal.size",
            [self._journal_size],
            "By",
            "Size of the journal for the server, of all processes.",
        )
        meter.create_observable_up_down_counter(
            "outlay.capture.unpriced",
            [self._unpriced],
            "{cost}",
            "Captured costs that wait for a price.",
        )
        meter.create_observable_counter(
            "outlay.capture.errors",
            [self._errors],
            "{error}",
            "Failures of capture in the process. The calls were not affected.",
        )
        meter.create_observable_gauge(
            "outlay.pending.age",
            [self._age],
            "s",
            "Age of the oldest pending event.",
        )

    def reset_after_fork(self) -> None:
        """Count from zero in a forked child: the parent reports its own counts."""
        clients = list(self._clients)
        self._reset()
        self._clients.update(clients)

    def register(self, client: ClientTelemetry) -> None:
        """Report a client from now on."""
        with self._lock:
            self._clients.add(client)

    def unregister(self, client: ClientTelemetry) -> None:
        """Stop reporting a client, and keep its counts in the sums."""
        stats = client.current_stats()  # without the lock: it waits for the shipper's
        with self._lock:
            if client in self._clients and stats is not None:
                self._clients.discard(client)
                self._closed_counts[client.attributes].update(_counts(stats))

    def record_request(
        self, events: int, seconds: float, attributes: dict[str, str | int]
    ) -> None:
        """Record one request."""
        self._seconds.record(seconds, attributes)
        self._events.record(events, attributes)

    # Callbacks. They run on the thread that collects.

    def _read(self) -> list[tuple[ClientTelemetry, Stats]]:
        with self._lock:
            clients = list(self._clients)
        return _read(clients)

    def _totals(self) -> dict[Attributes, _Counts]:
        with self._lock:
            # In one step: a client that closes meanwhile is in exactly one of them.
            clients = list(self._clients)
            totals = {key: counts.copy() for key, counts in self._closed_counts.items()}
        for client, stats in _read(clients):
            totals.setdefault(client.attributes, Counter()).update(_counts(stats))
        return totals

    def _count_of(self, name: str) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            return [
                Observation(counts[name, ""], dict(attributes))
                for attributes, counts in self._totals().items()
            ]

        return observe

    def _outcomes(self, _options: CallbackOptions) -> Iterator[Observation]:
        for attributes, counts in self._totals().items():
            for outcome in _OUTCOMES:
                yield Observation(
                    counts[outcome, ""],
                    {**dict(attributes), "outlay.outcome": outcome},
                )
            for (outcome, reason), count in counts.items():
                if outcome == "dropped":
                    yield Observation(
                        count,
                        {
                            **dict(attributes),
                            "outlay.outcome": outcome,
                            "outlay.drop.reason": reason,
                        },
                    )

    def _pending(self, _options: CallbackOptions) -> Iterator[Observation]:
        waiting: Counter[tuple[Attributes, str]] = Counter()
        for client, stats in self._read():
            waiting[client.attributes, "pending"] += stats.pending
            waiting[client.attributes, "parked"] += stats.parked
        for (attributes, state), count in waiting.items():
            yield Observation(count, {**dict(attributes), "outlay.state": state})

    def _journal_size(self, _options: CallbackOptions) -> Iterator[Observation]:
        # Clients with one folder see the same bytes.
        folders = {
            (client.attributes, client.folder): stats.journal_bytes
            for client, stats in self._read()
        }
        sizes: Counter[Attributes] = Counter()
        for (attributes, _), size in folders.items():
            sizes[attributes] += size
        for attributes, size in sizes.items():
            yield Observation(size, dict(attributes))

    def _unpriced(self, _options: CallbackOptions) -> Iterator[Observation]:
        waiting: Counter[Attributes] = Counter()
        for client, stats in self._read():
            waiting[client.attributes] += stats.unpriced
        for attributes, count in waiting.items():
            yield Observation(count, dict(attributes))

    def _errors(self, _options: CallbackOptions) -> Iterator[Observation]:
        # These belong to the process, so they have no server's attributes.
        for kind, count in capture_errors.snapshot().items():
            what, _, error = kind.rpartition(": ")
            yield Observation(count, {"outlay.capture.what": what, "error.type": error})

    def _age(self, _options: CallbackOptions) -> Iterator[Observation]:
        ages: dict[Attributes, float] = {}
        for client, stats in self._read():
            if stats.oldest_pending_age is not None:
                age = max(stats.oldest_pending_age, ages.get(client.attributes, 0.0))
                ages[client.attributes] = age
        for attributes, age in ages.items():
            yield Observation(age, dict(attributes))


def _read(clients: Iterable[ClientTelemetry]) -> list[tuple[ClientTelemetry, Stats]]:
    read = [(client, client.current_stats()) for client in clients]
    return [(client, stats) for client, stats in read if stats is not None]


def _counts(stats: Stats) -> _Counts:
    counts: _Counts = Counter(
        {(name, ""): getattr(stats, name) for name in (*_OUTCOMES, *_SOURCES)}
    )
    counts.update({("dropped", why): count for why, count in stats.dropped.items()})
    return counts


class _Registry:
    """Makes the instruments of each provider once.

    Thread safety: any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # The global provider may be set later. The API's proxy then passes the
        # instruments on to it, so a second set would report everything twice.
        self._global: _Instruments | None = None  # guarded by _lock, as the rest
        # Weak on both sides: a provider of an SDK holds the instruments' callbacks.
        self._given: weakref.WeakKeyDictionary[
            MeterProvider, weakref.ref[_Instruments]
        ] = weakref.WeakKeyDictionary()

    def instruments_for(self, provider: MeterProvider | None) -> _Instruments:
        """Return the instruments of ``provider``, or of the global one if None."""
        with self._lock:
            if provider is None:
                self._global = self._global or _make_instruments(provider)
                return self._global
            known = self._given.get(provider)
            instruments = known() if known is not None else None
            if instruments is None:
                instruments = _make_instruments(provider)
                self._given[provider] = weakref.ref(instruments)
            return instruments

    def reset_after_fork(self) -> None:
        """Let all instruments count from zero in a forked child."""
        self._lock = threading.RLock()
        given = [known() for known in self._given.values()]
        for instruments in (self._global, *given):
            if instruments is not None:
                instruments.reset_after_fork()


def _make_instruments(provider: MeterProvider | None) -> _Instruments:
    return _Instruments(get_meter("outlay", version("outlay"), provider))


_registry: Final = _Registry()
after_fork_in_child(_registry.reset_after_fork)
