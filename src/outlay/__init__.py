"""outlay: track what every customer really costs, exactly and once.

    import outlay

    outlay.track_cost("cost.ai.inference", "0.0042", customer_id="cus_123",
                      operation_id="job-42", provider="anthropic")

The functions here use a default client, made from ``OUTLAY_*`` variables or by
`configure`; `Client` is the real thing.
"""

from typing import TYPE_CHECKING

from outlay._capture.attribution import attribute
from outlay._capture.carrying import bind
from outlay._capture.messages import carry, resume
from outlay._capture.observation import Observation
from outlay._capture.operations import Operation, current_operation, operation
from outlay._capture.registry import Call, extractor
from outlay._capture.tracking import track_call
from outlay._client import Client, Receipt
from outlay._default import (
    aclose,
    aflush,
    close,
    configure,
    default_client,
    flush,
    stats,
    track_cost,
)
from outlay._instrument import instrument, uninstrument
from outlay._late import needed as _needed
from outlay._model.events import CostEvent
from outlay._model.stats import FlushReport, Stats
from outlay._observe import observe, observe_batch
from outlay.errors import (
    ClosedError,
    ConfigError,
    DeliveryError,
    InvalidEventError,
    JournalError,
    MissingExtraError,
    NoOperationError,
    OutlayError,
    RejectedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from outlay._capture.baggage import from_baggage, to_baggage
    from outlay._model.settings import Settings
    from outlay._shipping.transport import Answer, HttpxTransport, Transport

__all__ = (
    "Answer",
    "Call",
    "Client",
    "ClosedError",
    "ConfigError",
    "CostEvent",
    "DeliveryError",
    "FlushReport",
    "HttpxTransport",
    "InvalidEventError",
    "JournalError",
    "MissingExtraError",
    "NoOperationError",
    "Observation",
    "Operation",
    "OutlayError",
    "Receipt",
    "RejectedError",
    "Settings",
    "Stats",
    "Transport",
    "UnavailableError",
    "aclose",
    "aflush",
    "attribute",
    "bind",
    "carry",
    "close",
    "configure",
    "current_operation",
    "default_client",
    "extractor",
    "flush",
    "from_baggage",
    "instrument",
    "observe",
    "observe_batch",
    "operation",
    "resume",
    "stats",
    "to_baggage",
    "track_call",
    "track_cost",
    "uninstrument",
)

# The settings, which come with pydantic, and nobody needs before a client is made;
# the seam to the network, which nobody needs before something is shipped; and that to
# OpenTelemetry, which few need at all.
_LATE = {
    "Answer": "outlay._shipping.transport",
    "HttpxTransport": "outlay._shipping.transport",
    "Settings": "outlay._model.settings",
    "Transport": "outlay._shipping.transport",
    "from_baggage": "outlay._capture.baggage",
    "to_baggage": "outlay._capture.baggage",
}


def __getattr__(name: str) -> object:
    """Import what few programs name, when they do (PEP 562)."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_needed(_LATE[name]), name)


def __dir__() -> list[str]:
    """Return the public names, those that are not imported yet among them."""
    return sorted({*globals(), *__all__})
