"""Count what operators watch, and write it in the format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from outlay.server._services.ingest import IngestCounts

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
"""The text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats,
2026-11)."""

_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)  # seconds
_BUCKET_NAMES: Final = (*map(str, _BUCKETS), "+Inf")


class _Requests(NamedTuple):
    """The labels by which requests are counted."""

    method: str
    route: str
    status: int


class _Durations:
    """The times of requests: their number in each bucket, and the sum of seconds."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * len(_BUCKET_NAMES)
        self.seconds = 0.0


class ServerTelemetry:
    """The counts and times of one server.

    Thread safety: the event loop's thread.

    Args:
        counts: The counts of received events.
        waiting_events: A function that returns the events that wait for the disk.
        stored_bytes: A function that returns the bytes of the database on disk.
    """

    def __init__(
        self,
        counts: IngestCounts,
        waiting_events: Callable[[], int],
        stored_bytes: Callable[[], int],
    ) -> None:
        self._counts = counts
        self._waiting_events = waiting_events
        self._stored_bytes = stored_bytes
        self._more: list[Callable[[], Iterable[Metric]]] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        # The library's own histogram takes ten times as long for each request.
        self._durations: dict[_Requests, _Durations] = {}

    def add(self, more: Callable[[], Iterable[Metric]]) -> None:
        """Add a function that returns more metrics, whenever they are asked for."""
        self._more.append(more)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            method: The HTTP method.
            route: The path of its route, with ``{id}``.
            status: The status of its response.
            seconds: The time that it took.
        """
        key = _Requests(method, route, status)
        durations = self._durations.get(key)
        if durations is None:
            durations = self._durations[key] = _Durations()
        durations.counts[bisect_left(_BUCKETS, seconds)] += 1
        durations.seconds += seconds

    def exposition(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that are read when they are asked for."""
        counts = self._counts
        events = CounterMetricFamily(
            "outlay_events",
            "Received events by outcome.",
            labels=("outcome",),
        )
        events.add_metric(("accepted",), counts.accepted)
        events.add_metric(("duplicate",), counts.duplicates)
        events.add_metric(("refused",), counts.refused)
        yield events
        yield CounterMetricFamily(
            "outlay_event_conflicts",
            "Duplicates whose payload differs from the first event with their key.",
            counts.conflicts,
        )
        yield GaugeMetricFamily(
            "outlay_waiting_events",
            "Events that wait for the disk.",
            self._waiting_events(),
        )
        yield GaugeMetricFamily(
            "outlay_database_bytes",
            "The database and its log on disk.",
            self._stored_bytes(),
        )
        yield self._histogram()
        for more in self._more:
            yield from more()

    def _histogram(self) -> Metric:
        histogram = HistogramMetricFamily(
            "outlay_http_request_duration_seconds",
            "The time from the request's head to the end of its response.",
            labels=("method", "route", "status"),
        )
        for key, durations in self._durations.items():
            totals = accumulate(durations.counts)
            histogram.add_metric(
                (key.method, key.route, str(key.status)),
                list(zip(_BUCKET_NAMES, totals, strict=True)),
                durations.seconds,
            )
        return histogram
