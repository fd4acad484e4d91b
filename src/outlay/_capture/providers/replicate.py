"""Extract costs from Replicate: predictions and trainings, by seconds or results.

A prediction contains its metrics when it has ended. Until then its cost is pending.
That also holds while the caller streams its output, which ends without metrics.
Source: https://replicate.com/docs/billing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.age import is_past_dedupe_window
from outlay._capture.extraction.fields import to_quantity
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.instrumentation.http_exchange import observe_httpx_response
from outlay._capture.instrumentation.library import InstrumentedClients, Library, Patch
from outlay._capture.instrumentation.wrappers import observe_result
from outlay._capture.observation import Observation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal
    from types import ModuleType

Response = Mapping[str, Any]


def created(response: Response, call: Call) -> Observation | None:
    """Read a new prediction, which may have ended meanwhile."""
    if response.get("status") in _ENDS:
        return finished(response, call)
    return Observation(
        provider=call.provider,
        event_type=event_types.COMPUTE,
        operation_id=response.get("id"),
        model=response.get("model"),
        price_pending=True,
    )


def finished(response: Response, call: Call) -> Observation | None:
    """Read a prediction that was retrieved, or that came by callback."""
    status = response.get("status")
    if status not in _ENDS or is_past_dedupe_window(response.get("completed_at"), call):
        return None
    usage = _usage(response.get("metrics") or {})
    if not usage and status in _WITHOUT_RESULT:
        usage = {"second": 0}  # it never ran
    return Observation(
        provider=call.provider,
        event_type=event_types.COMPUTE,
        operation_id=response.get("id"),
        model=response.get("model"),
        usage=usage,
        is_complete=bool(usage),
        is_lookup=True,
    )


def _usage(metrics: Response) -> dict[str, int | Decimal]:
    """Return the units that may be charged: seconds, and counts of results."""
    named = ((_unit(name), to_quantity(value)) for name, value in metrics.items())
    return {unit: count for unit, count in named if unit and count is not None}


def _unit(metric: str) -> str | None:
    counted = metric.removesuffix("_count") if metric.endswith("_count") else None
    return _UNITS.get(metric, counted)


_ENDS: Final = {"succeeded", "failed", "canceled", "aborted"}
_WITHOUT_RESULT: Final = {"failed", "canceled", "aborted"}
_UNITS: Final = {
    "predict_time": "second",
    "token_input_count": "input_tokens",
    "token_output_count": "output_tokens",
}
_FIELDS: Final = ("id", "model", "status", "metrics", "completed_at")
_CREATED: Final = Endpoint(created, _FIELDS)
_FINISHED: Final = Endpoint(finished, _FIELDS)

ENDPOINTS: Final = {
    "POST /v1/predictions": _CREATED,
    "POST /v1/models/{owner}/{name}/predictions": _CREATED,
    "GET /v1/predictions/{id}": _FINISHED,
    "POST /v1/predictions/{id}/cancel": _FINISHED,
    "POST /v1/models/{owner}/{name}/versions/{id}/trainings": _CREATED,
    "GET /v1/trainings/{id}": _FINISHED,
    "POST /v1/trainings/{id}/cancel": _FINISHED,
    "CALLBACK /": _FINISHED,
}
"""Other operations cost nothing, or are not captured: deployments, which cost by the
hour, and lists, which would count operations again."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("replicate", _pattern, _endpoint)


def _patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    def on_response(response: Any, client: Any, *_args: Any, **_kwargs: Any) -> None:
        options = scope.options_for(client)
        if options is not None:
            provider = options.provider or "replicate"
            observe_httpx_response("replicate", options, provider, response)

    yield Patch(module.Client, "_request", observe_result("replicate", on_response))
    yield Patch(
        module.Client, "_async_request", observe_result("replicate", on_response)
    )


LIBRARY: Final = Library("replicate", _patches)
"""It is patched where each request gets its response, because ``run`` makes several
requests and returns the output only."""
