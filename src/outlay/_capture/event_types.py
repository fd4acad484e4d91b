"""Name the event types that capture uses unless the user gives another.

The type is part of the idempotency key. So a wrapper, a span and a callback that
observe the same call must use the same one. This table is its only definition.
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
