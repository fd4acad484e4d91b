"""The event types that capture uses unless the user names another.

A wrapper, a span and a callback that see the same call must name it alike, for the
type is part of the idempotency key: this table is the one place that does.
"""

from __future__ import annotations

from typing import Final

INFERENCE: Final = "cost.ai.inference"
EMBEDDINGS: Final = "cost.ai.embeddings"
IMAGES: Final = "cost.ai.images"
AUDIO: Final = "cost.ai.audio"
VIDEO: Final = "cost.ai.video"
RERANK: Final = "cost.ai.rerank"
COMPUTE: Final = "cost.ai.compute"
OCR: Final = "cost.documents.ocr"
MESSAGING: Final = "cost.messaging"
VOICE: Final = "cost.voice"
GEOCODING: Final = "cost.geocoding"
ENRICHMENT: Final = "cost.enrichment"
VERIFICATION: Final = "cost.verification"
