"""Extract costs from responses of providers that outlay does not know.

For example::

    from outlay import extractors

    extractors.extractor("acme", "POST /v1/enrich", host="api.acme.com")(
        extractors.price_from_header("x-price", event_type="cost.enrichment")
    )

See docs/how-to/own-provider.md.
"""

from outlay._capture.extraction.registry import Call, extractor
from outlay._capture.extraction.templates import (
    flat_rate,
    price_from_body,
    price_from_header,
    units_from_body,
    units_from_header,
)
from outlay._capture.observation import Observation

__all__ = (
    "Call",
    "Observation",
    "extractor",
    "flat_rate",
    "price_from_body",
    "price_from_header",
    "units_from_body",
    "units_from_header",
)
