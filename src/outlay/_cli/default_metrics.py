"""The default cost metrics, one for each event type that capture uses."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from outlay._capture import event_types

if TYPE_CHECKING:
    from outlay.api import Api, CostMetric

_DIMENSIONS: Final = ("provider", "model", "operation", "line")

DEFAULT_METRICS: Final = {
    event_types.INFERENCE: "inference",
    event_types.EMBEDDINGS: "embeddings",
    event_types.IMAGES: "images",
    event_types.AUDIO: "audio",
    event_types.VIDEO: "video",
    event_types.RERANK: "rerank",
    event_types.COMPUTE: "ai-compute",
    event_types.OCR: "ocr",
    event_types.MESSAGING: "messaging",
    event_types.VOICE: "voice",
    event_types.GEOCODING: "geocoding",
    event_types.ENRICHMENT: "enrichment",
    event_types.VERIFICATION: "verification",
}
"""The name of the default metric of each event type."""


def create_missing_defaults(api: Api) -> list[CostMetric]:
    """Create the default metrics of the event types that no metric counts yet."""
    counted = {metric.event_type for metric in api.metrics()}
    return [
        api.create_metric(name, event_type, group_by=_DIMENSIONS)
        for event_type, name in DEFAULT_METRICS.items()
        if event_type not in counted
    ]


def is_default(metric: CostMetric) -> bool:
    """Return whether ``metric`` is a default metric that no person has changed."""
    return (
        DEFAULT_METRICS.get(metric.event_type or "") == metric.name
        and metric.group_by == {name: f"$.{name}" for name in _DIMENSIONS}
        and (metric.aggregation, metric.value_property) == ("SUM", "$.amount")
        and (metric.unit_cost, metric.unit) == (Decimal(1), None)
    )
