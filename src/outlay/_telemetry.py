"""What clients tell OpenTelemetry about themselves; see docs/operating.md.

Through the API alone: without an SDK every instrument is a no-op. Counts that a client
keeps anyway are read when somebody collects, so that tracking pays nothing for them.

Instruments belong to a meter provider, not to a client: an SDK takes the callbacks of
the first instrument of a name, and keeps them for its life. So each provider has one
set of them, which knows its clients by weak references, and adds up the clients of one
server: a second observation with the same attributes would replace the first.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, TypeAlias

from outlay._fork import after_fork_in_child
from outlay._model.error_counts import capture_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import (
        CallbackOptions,
        Meter,
        MeterProvider,
        Observation,
    )

    from outlay._model.stats import Stats

Attributes: TypeAlias = tuple[tuple[str, str | int], ...]
"""Names and values of attributes: what a mapping is made of, but hashable."""

_Counts: TypeAlias = Counter[tuple[str, str]]  # by outcome and drop reason

_SOURCES: Final = ("tracked", "recovered")
_OUTCOMES: Final = ("delivered", "dead", "quarantined", "damaged")

# Of the semantic conventions for HTTP clients: from loopback to a timeout.
_SECONDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
_EVENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class ClientTelemetry:
    """One client's part in the instruments of its provider.

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
        """Prepare to observe; nothing is imported or registered before `start`.

        Args:
            stats: a bound method, which is not kept alive.
            attributes: what tells the client's server from others.
            folder: what ``journal_bytes`` is the size of; clients may share it.
            provider: None: the process's own, as it is or will be set.
        """
        self._stats = weakref.WeakMethod(stats)
        self._provider = provider
        self._instruments: _Instruments | None = None
        self.attributes: Final = attributes
        self.folder: Final = folder

    def start(self) -> None:
        """Be seen from now on. Imports the API, which takes some 30 ms."""
        if self._instruments is None:
            self._instruments = _registry.of(self._provider)
            self._instruments.register(self)

    def stop(self) -> None:
        """Be seen no more, but for what was counted."""
        if self._instruments is not None:
            self._instruments.unregister(self)

    def record_request(
        self, events: int, seconds: float, *, status: int | None, reason: str
    ) -> None:
        """Record one request.

        Args:
            events: how many it carried.
            seconds: how long it took.
            status: of the answer; None if there was none.
            reason: then why, in one word.
        """
        if self._instruments is not None:
            self._instruments.record_request(
                events, seconds, _request_attributes(self.attributes, status, reason)
            )

    def current_stats(self) -> Stats | None:
        """Return the client's stats, or None if there is no client any more."""
        stats = self._stats()
        return stats() if stats is not None else None


def _request_attributes(
    server: Attributes, status: int | None, reason: str
) -> dict[str, str | int]:
    attributes = dict(server)
    if status is not None:
        attributes["http.response.status_code"] = status
        if status >= 300:
            attributes["error.type"] = str(status)
    else:
        attributes["error.type"] = reason
    return attributes


class _Instruments:
    """The instruments of one provider, for all clients that use it."""

    def __init__(self, meter: Meter, observation: type[Observation]) -> None:
        self._observation = observation
        self._begin()
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

    def _begin(self) -> None:
        """Start without clients: at first, and in a forked child."""
        self._lock = threading.RLock()  # re-entrant: a handler may close a client
        self._watched: weakref.WeakSet[ClientTelemetry] = (
            weakref.WeakSet()
        )  # guarded by _lock
        # What clients counted that are closed: a counter must not go down.
        self._retired: defaultdict[Attributes, _Counts] = defaultdict(Counter)

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
            "Events that met their fate, by outcome.",
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
            "Failures of capture in the process; the calls were unharmed.",
        )
        meter.create_observable_gauge(
            "outlay.pending.age",
            [self._age],
            "s",
            "Age of the oldest pending event.",
        )

    def forked(self) -> None:
        """Begin anew in a forked child: what its parent counted is its parent's."""
        mine = list(self._watched)
        self._begin()
        self._watched.update(mine)

    def register(self, client: ClientTelemetry) -> None:
        """Observe a client from now on."""
        with self._lock:
            self._watched.add(client)

    def unregister(self, client: ClientTelemetry) -> None:
        """Observe a client no more, and keep what it counted."""
        stats = client.current_stats()  # without the lock: it waits for the shipper's
        with self._lock:
            if client in self._watched and stats is not None:
                self._watched.discard(client)
                self._retired[client.attributes].update(_counts(stats))

    def record_request(
        self, events: int, seconds: float, attributes: dict[str, str | int]
    ) -> None:
        """Record one request."""
        self._seconds.record(seconds, attributes)
        self._events.record(events, attributes)

    # Callbacks: on the thread of whoever collects.

    def _read(self) -> list[tuple[ClientTelemetry, Stats]]:
        with self._lock:
            watched = list(self._watched)
        return _read(watched)

    def _totals(self) -> dict[Attributes, _Counts]:
        with self._lock:
            # Both at once: a client that is closed meanwhile is in one of them.
            watched = list(self._watched)
            totals = {key: counts.copy() for key, counts in self._retired.items()}
        for client, stats in _read(watched):
            totals.setdefault(client.attributes, Counter()).update(_counts(stats))
        return totals

    def _count_of(self, name: str) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            return [
                self._observation(counts[name, ""], dict(attributes))
                for attributes, counts in self._totals().items()
            ]

        return observe

    def _outcomes(self, _options: CallbackOptions) -> Iterator[Observation]:
        for attributes, counts in self._totals().items():
            for outcome in _OUTCOMES:
                yield self._observation(
                    counts[outcome, ""],
                    {**dict(attributes), "outlay.outcome": outcome},
                )
            for (outcome, reason), count in counts.items():
                if outcome == "dropped":
                    yield self._observation(
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
            yield self._observation(count, {**dict(attributes), "outlay.state": state})

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
            yield self._observation(size, dict(attributes))

    def _unpriced(self, _options: CallbackOptions) -> Iterator[Observation]:
        waiting: Counter[Attributes] = Counter()
        for client, stats in self._read():
            waiting[client.attributes] += stats.unpriced
        for attributes, count in waiting.items():
            yield self._observation(count, dict(attributes))

    def _errors(self, _options: CallbackOptions) -> Iterator[Observation]:
        # Of the process, not of a client: no server's attributes are theirs.
        for kind, count in capture_errors.snapshot().items():
            what, _, error = kind.rpartition(": ")
            yield self._observation(
                count, {"outlay.capture.what": what, "error.type": error}
            )

    def _age(self, _options: CallbackOptions) -> Iterator[Observation]:
        ages: dict[Attributes, float] = {}
        for client, stats in self._read():
            if stats.oldest_pending_age is not None:
                age = max(stats.oldest_pending_age, ages.get(client.attributes, 0.0))
                ages[client.attributes] = age
        for attributes, age in ages.items():
            yield self._observation(age, dict(attributes))


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
    """The instruments of each provider, made once.

    Thread safety: any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # The process's own provider may be set later: the API's proxy then hands the
        # instruments on to it, and others of the same names would be one too many.
        self._own: _Instruments | None = None  # guarded by _lock, as the rest
        # Weak on both sides: a provider of an SDK holds the instruments' callbacks.
        self._given: weakref.WeakKeyDictionary[
            MeterProvider, weakref.ref[_Instruments]
        ] = weakref.WeakKeyDictionary()

    def of(self, provider: MeterProvider | None) -> _Instruments:
        """Return the instruments of ``provider``; None: of the process's own."""
        with self._lock:
            if provider is None:
                self._own = self._own or _make(provider)
                return self._own
            known = self._given.get(provider)
            instruments = known() if known is not None else None
            if instruments is None:
                instruments = _make(provider)
                self._given[provider] = weakref.ref(instruments)
            return instruments

    def forked(self) -> None:
        """Let all instruments begin anew in a forked child."""
        self._lock = threading.RLock()
        given = [known() for known in self._given.values()]
        for instruments in (self._own, *given):
            if instruments is not None:
                instruments.forked()


def _make(provider: MeterProvider | None) -> _Instruments:
    # 30 ms, which the shipper's thread takes.
    from importlib.metadata import version  # noqa: PLC0415

    from opentelemetry import metrics  # noqa: PLC0415

    meter = metrics.get_meter("outlay", version("outlay"), provider)
    return _Instruments(meter, metrics.Observation)


_registry: Final = _Registry()
after_fork_in_child(_registry.forked)
