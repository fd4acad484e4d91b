"""Apify, through an HTTP client: runs of actors, by the amount that it reports.

Source: https://docs.apify.com/api/v2/actor-run-get
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._capture import event_types
from outlay._capture.answers import amount_of
from outlay._capture.lateness import is_late
from outlay._capture.observation import Observation
from outlay._capture.registry import Call, Endpoint, register

if TYPE_CHECKING:
    from collections.abc import Mapping


def run(answer: Mapping[str, Any], call: Call) -> Observation | None:
    """Read a run: what it has cost so far is what it costs once it has ended."""
    root = "resource" if call.method == "CALLBACK" else "data"
    is_done = answer.get(f"{root}.status") in _ENDS
    is_new = call.method == "POST"
    if not is_new and (not is_done or is_late(answer.get(f"{root}.finishedAt"), call)):
        return None
    amount = amount_of(answer.get(f"{root}.usageTotalUsd")) if is_done else None
    return Observation(
        provider=call.provider,
        event_type=event_types.COMPUTE,
        operation_id=answer.get(f"{root}.id"),
        model=answer.get(f"{root}.actId"),
        amount=amount,
        pending=amount is None,
        retrieved=is_done,
    )


_ENDS: Final = {"SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"}
_MEMBERS: Final = ("id", "actId", "status", "finishedAt", "usageTotalUsd")
_RUN: Final = Endpoint(run, tuple(f"data.{name}" for name in _MEMBERS))

for _pattern in (
    "POST /v2/acts/{id}/runs",
    "POST /v2/actor-tasks/{id}/runs",
    "GET /v2/actor-runs/{id}",
):
    register("apify", _pattern, _RUN)
register(
    "apify",
    "CALLBACK /",
    Endpoint(run, tuple(f"resource.{name}" for name in _MEMBERS)),
)
