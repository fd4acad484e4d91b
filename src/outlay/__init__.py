"""outlay: track what every customer really costs, exactly and once.

    import outlay

    outlay.track_cost("cost.ai.inference", "0.0042", customer_id="cus_123",
                      operation_id="job-42", provider="anthropic")

The functions of this module use a default client. `configure` or the ``OUTLAY_*``
variables set it up. `Client` is the same as an object of its own.

Names for special tasks are in public modules: `outlay.errors`, `outlay.extractors`,
`outlay.integrations`, `outlay.otel`, `outlay.pricing`, `outlay.propagation`,
`outlay.testing` and `outlay.transport`.
"""

from outlay import errors as errors
from outlay import extractors as extractors
from outlay import integrations as integrations
from outlay import propagation as propagation
from outlay import transport as transport
from outlay._capture.context.attribution import attribute, set_customer
from outlay._capture.context.bind import bind
from outlay._capture.instrumentation.instrument import instrument, uninstrument
from outlay._capture.observe import observe, observe_batch
from outlay._capture.operations.operation import (
    Operation,
    current_operation,
    operation,
)
from outlay._capture.operations.track_call import track_call
from outlay._client import Client
from outlay._default_client import (
    aclose,
    aflush,
    close,
    configure,
    default_client,
    flush,
    stats,
    track_cost,
)
from outlay._model.events import CostEvent
from outlay._model.settings import Settings
from outlay._model.stats import FlushResult, Stats
from outlay._receipt import Receipt
from outlay.errors import ClosedError, ConfigError, InvalidEventError, OutlayError

__all__ = (  # noqa: RUF022 - grouped by task, as in docs/api.md
    # Track a cost.
    "track_cost",
    "Receipt",
    "CostEvent",
    # Say whose costs they are.
    "attribute",
    "set_customer",
    "bind",
    # Group the costs of an operation; track a function.
    "operation",
    "current_operation",
    "Operation",
    "track_call",
    # Capture the costs of provider libraries.
    "instrument",
    "uninstrument",
    "observe",
    "observe_batch",
    # Set up, wait, look and close.
    "configure",
    "default_client",
    "flush",
    "aflush",
    "stats",
    "close",
    "aclose",
    "Client",
    "Settings",
    "FlushResult",
    "Stats",
    # Errors of these calls; all others are in `outlay.errors`.
    "OutlayError",
    "ConfigError",
    "InvalidEventError",
    "ClosedError",
)
