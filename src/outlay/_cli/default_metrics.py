"""The default cost metrics, one for each event type that capture uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._capture import event_types
from outlay._cli.server_api import NewMetric

if TYPE_CHECKING:
    from outlay._cli.server_api import CostMetric, ServerApi

_DIMENSIONS: Final = {
    name: f"$.{name}" for name in ("provider", "model", "operation", "line")
}

_NAMES: Final = {
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

DEFAULT_METRICS: Final = tuple(
    NewMetric(name=name, event_type=event_type, group_by=_DIMENSIONS)
    for event_type, name in _NAMES.items()
)


def create_missing_defaults(api: ServerApi) -> list[CostMetric]:
    """Create the default metrics of the event types that no metric counts yet."""
    counted = {metric.event_type for metric in api.metrics()}
    return [
        api.create_metric(metric)
        for metric in DEFAULT_METRICS
        if metric.event_type not in counted
    ]


def is_default(metric: CostMetric) -> bool:
    """Return whether ``metric`` is a default metric that nobody has changed."""
    return any(
        (metric.name, metric.event_type, metric.value_property, metric.group_by)
        == (each.name, each.event_type, each.value_property, each.group_by)
        and (metric.aggregation, metric.currency, metric.unit_cost, metric.unit)
        == (each.aggregation, each.currency, each.unit_cost, each.unit)
        for each in DEFAULT_METRICS
    )
