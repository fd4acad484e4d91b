"""Ready-made extractors for providers that outlay does not know.

    import outlay
    from outlay import extractors

    outlay.extractor("acme", "POST /v1/enrich", host="api.acme.com")(
        extractors.price_header("x-price", event_type="cost.enrichment")
    )

See docs/providers.md.
"""

from outlay._capture.ready_made import (
    flat,
    price_at,
    price_header,
    units_at,
    units_header,
)

__all__ = ("flat", "price_at", "price_header", "units_at", "units_header")
