"""Ready-made extractors for providers that outlay does not know.

    from outlay import extractors

    extractors.extractor("acme", "POST /v1/enrich", host="api.acme.com")(
        extractors.price_header("x-price", event_type="cost.enrichment")
    )

See docs/providers.md.
"""

from outlay._capture.extraction.registry import Call, extractor
from outlay._capture.extraction.templates import (
    flat,
    price_at,
    price_header,
    units_at,
    units_header,
)
from outlay._capture.observation import Observation

__all__ = (
    "Call",
    "Observation",
    "extractor",
    "flat",
    "price_at",
    "price_header",
    "units_at",
    "units_header",
)
