"""Replicate: predictions and trainings, by the second, or by what they made.

A prediction tells its metrics when it has ended. Until then its cost is pending, also
while somebody reads its output as a stream, which ends without them.
Source: https://replicate.com/docs/billing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from outlay._capture import event_types
from outlay._capture.answers import quantity_of
from outlay._capture.exchanges import settle_response
from outlay._capture.hooks import awaiting, returning
from outlay._capture.instrumenting import Library, Scope, Seam
from outlay._capture.lateness import is_late
from outlay._capture.observation import Observation
from outlay._capture.registry import Call, Endpoint, register

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal
    from types import ModuleType

Answer = Mapping[str, Any]


def begun(answer: Answer, call: Call) -> Observation | None:
    """Read a prediction that was made just now, and may have ended meanwhile."""
    if answer.get("status") in _ENDS:
        return ended(answer, call)
    return Observation(
        provider=call.provider,
        event_type=event_types.COMPUTE,
        operation_id=answer.get("id"),
        model=answer.get("model"),
        pending=True,
    )


def ended(answer: Answer, call: Call) -> Observation | None:
    """Read a prediction that somebody has fetched, or that was called back with."""
    status = answer.get("status")
    if status not in _ENDS or is_late(answer.get("completed_at"), call):
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
        complete=bool(usage),
        retrieved=True,
    )


def _usage(metrics: Answer) -> dict[str, int | Decimal]:
    """Return what may be charged for: seconds, and counts of what was made."""
    named = ((_unit(name), quantity_of(value)) for name, value in metrics.items())
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
_BEGUN: Final = Endpoint(begun, _FIELDS)
_ENDED: Final = Endpoint(ended, _FIELDS)

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


def _seams(module: ModuleType, scope: Scope) -> Iterable[Seam]:
    def answered(response: Any, client: Any, *_args: Any, **_kwargs: Any) -> None:
        options = scope.options_of(client)
        if options is not None:
            provider = options.provider or "replicate"
            settle_response("replicate", options, provider, response)

    yield Seam(module.Client, "_request", returning("replicate", answered))
    yield Seam(module.Client, "_async_request", awaiting("replicate", answered))


LIBRARY: Final = Library("replicate", _seams)
"""Hooked where each request gets its answer: ``run`` makes several, and returns the
output only."""
