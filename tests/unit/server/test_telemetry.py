"""Durations are counted in the buckets that a reader of Prometheus expects."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from outlay.server._services.ingest import IngestCounts
from outlay.server._services.telemetry import ServerTelemetry


def test_durations_are_cumulative_and_their_ends_belong_to_them() -> None:
    """A bucket counts the durations of at most its end, and the last one counts all."""
    telemetry = ServerTelemetry(IngestCounts(), lambda: 0, lambda: 0)
    for seconds in (0.0005, 0.001, 0.002, 20.0):
        telemetry.observe("GET", "/v0/costs", 200, seconds)

    families = text_string_to_metric_families(telemetry.exposition().decode())
    [family] = [one for one in families if "duration" in one.name]
    counted = {
        one.labels.get("le", one.name.rpartition("_")[2]): one.value
        for one in family.samples
    }

    assert (counted["0.001"], counted["0.005"], counted["10.0"]) == (2, 3, 3)
    assert (counted["+Inf"], counted["count"], counted["sum"]) == (4, 4, 20.0035)
