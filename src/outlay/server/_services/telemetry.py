"""Count what operators watch, and write it in the format of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from outlay.server._services.ingest import IngestCounts

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
"""The text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats,
2026-11)."""

_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)  # seconds


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
        self._durations = Histogram(
            "outlay_http_request_duration_seconds",
            "The time from the request's head to the end of its response.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        # Finding a child by its labels takes longer than everything else.
        self._children: dict[tuple[str, str, int], Histogram] = {}

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
        key = (method, route, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._durations.labels(
                method, route, str(status)
            )
        child.observe(seconds)

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
        for more in self._more:
            yield from more()
