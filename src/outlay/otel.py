"""Track the costs in OpenTelemetry spans, for applications that trace already.

    from opentelemetry.sdk.trace import TracerProvider
    from outlay.otel import CostSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(CostSpanProcessor())

Needs the extra ``otel``. In a checkout: ``pip install '.[otel,pricing]'``.
"""

from outlay._capture.span_attributes import (
    ATTR_AMOUNT,
    ATTR_CURRENCY,
    ATTR_IDEMPOTENCY_KEYS,
    ATTR_STATUS,
    stamp_cost,
)
from outlay.errors import MissingExtraError

try:
    from outlay._capture.spans.processor import ATTR_CUSTOMER_ID, CostSpanProcessor
except ModuleNotFoundError as _error:
    if not (_error.name or "").startswith("opentelemetry"):
        raise
    raise MissingExtraError("outlay.otel", "otel") from _error

__all__ = (
    "ATTR_AMOUNT",
    "ATTR_CURRENCY",
    "ATTR_CUSTOMER_ID",
    "ATTR_IDEMPOTENCY_KEYS",
    "ATTR_STATUS",
    "CostSpanProcessor",
    "stamp_cost",
)
