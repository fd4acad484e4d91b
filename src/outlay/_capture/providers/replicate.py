"""Replicate: predictions and trainings, by the second, or by what they made.

A prediction tells its metrics when it has ended. Until then its cost is pending, also
while somebody reads its output as a stream, which ends without them.
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

Answer = Mapping[str, Any]


def created(answer: Answer, call: Call) -> Observation | None:
    """Read a prediction that was made just now, and may have ended meanwhile."""
    if answer.get("status") in _ENDS:
        return finished(answer, call)
    return Observation(
        provider=call.provider,
        event_type=event_types.COMPUTE,
        operation_id=answer.get("id"),
        model=answer.get("model"),
        price_pending=True,
    )


def finished(answer: Answer, call: Call) -> Observation | None:
    """Read a prediction that somebody has fetched, or that was called back with."""
    status = answer.get("status")
    if status not in _ENDS or is_past_dedupe_window(answer.get("completed_at"), call):
        return None
    usage = _usage(answer.get("metrics") or {})
    if not usage and status in _IN_VAIN:
        usage = {"second": 0}  # it never ran
    return Observation(
        provider=call.provider,
        event_type=event_types.COMPUTE,
        operation_id=answer.get("id"),
        model=answer.get("model"),
        usage=usage,
        is_complete=bool(usage),
        is_lookup=True,
    )


def _usage(metrics: Answer) -> dict[str, int | Decimal]:
    """Return what may be charged for: seconds, and counts of what was made."""
    named = ((_unit(name), to_quantity(value)) for name, value in metrics.items())
    return {unit: count for unit, count in named if unit and count is not None}


def _unit(metric: str) -> str | None:
    counted = metric.removesuffix("_count") if metric.endswith("_count") else None
    return _UNITS.get(metric, counted)


_ENDS: Final = {"succeeded", "failed", "canceled", "aborted"}
_IN_VAIN: Final = {"failed", "canceled", "aborted"}
_UNITS: Final = {
    "predict_time": "second",
    "token_input_count": "input_tokens",
    "token_output_count": "output_tokens",
}
_FIELDS: Final = ("id", "model", "status", "metrics", "completed_at")
_BEGUN: Final = Endpoint(created, _FIELDS)
_ENDED: Final = Endpoint(finished, _FIELDS)

ENDPOINTS: Final = {
    "POST /v1/predictions": _BEGUN,
    "POST /v1/models/{owner}/{name}/predictions": _BEGUN,
    "GET /v1/predictions/{id}": _ENDED,
    "POST /v1/predictions/{id}/cancel": _ENDED,
    "POST /v1/models/{owner}/{name}/versions/{id}/trainings": _BEGUN,
    "GET /v1/trainings/{id}": _ENDED,
    "POST /v1/trainings/{id}/cancel": _ENDED,
    "CALLBACK /": _ENDED,
}
"""Whatever is not here costs nothing, or is not captured: deployments, which are
charged by the hour that they are up; lists, which would count once more."""

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
"""Hooked where each request gets its answer: ``run`` makes several, and returns the
output only."""
