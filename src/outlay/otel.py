"""OpenTelemetry: cost events of spans, for applications that trace already.

    from opentelemetry.sdk.trace import TracerProvider
    from outlay.otel import CostSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(CostSpanProcessor())

Needs the extra ``otel``: ``pip install 'outlay[otel,pricing]'``.
"""

from outlay._capture.span_attributes import AMOUNT, CURRENCY, KEYS, STATUS, stamp_cost
from outlay.errors import MissingExtraError

try:
    from outlay._capture.spans.processor import CUSTOMER, CostSpanProcessor
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("opentelemetry"):
        raise
    raise MissingExtraError("outlay.otel", "otel") from error

__all__ = (
    "AMOUNT",
    "CURRENCY",
    "CUSTOMER",
    "KEYS",
    "STATUS",
    "CostSpanProcessor",
    "stamp_cost",
)
