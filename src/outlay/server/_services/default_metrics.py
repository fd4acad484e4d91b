"""Create cost metrics for the event types that clients capture by themselves.

A new database has them, so that a newcomer's first events are counted. The client and
the server share no code, so that the table repeats the client's event types. A test
compares both.
"""

from __future__ import annotations

from decimal import Decimal
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from outlay.server._records import Aggregation, CostMetric

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_METRICS: Final = {
    "cost.ai.inference": "inference",
    "cost.ai.embeddings": "embeddings",
    "cost.ai.images": "images",
    "cost.ai.audio": "audio",
    "cost.ai.video": "video",
    "cost.ai.rerank": "rerank",
    "cost.ai.compute": "ai-compute",
    "cost.documents.ocr": "ocr",
    "cost.messaging": "messaging",
    "cost.voice": "voice",
    "cost.geocoding": "geocoding",
    "cost.enrichment": "enrichment",
    "cost.verification": "verification",
}
"""The name of the default metric of each event type."""

DIMENSIONS: Final = {
    name: f"$.{name}" for name in ("provider", "model", "operation", "line")
}
"""The dimensions of each default metric."""

_ID_PREFIX: Final = "cst_default"
_ID_BYTES: Final = 12


def default_metrics(
    namespace: str, currency: str, product_id: str, now: int
) -> Iterator[CostMetric]:
    """Yield the default metrics of an organization.

    Args:
        namespace: The organization.
        currency: The currency of the metrics.
        product_id: The product of the metrics.
        now: The time of creation, in microseconds since 1970.
    """
    for event_type, name in DEFAULT_METRICS.items():
        yield CostMetric(
            _ID_PREFIX + token_hex(_ID_BYTES),
            namespace,
            name,
            Decimal(1),
            currency,
            product_id,
            event_type,
            Aggregation.SUM,
            "$.amount",
            DIMENSIONS,
            None,
            now,
            now,
        )


def is_untouched_default(metric: CostMetric) -> bool:
    """Return whether a metric is a default that was never changed."""
    is_default = metric.id.startswith(_ID_PREFIX)
    return is_default and metric.updated_at == metric.created_at
