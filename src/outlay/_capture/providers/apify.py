"""Extract costs from Apify: runs of actors, by the amount that it reports.

Apify is called through an HTTP client.

Source: https://docs.apify.com/api/v2/actor-run-get
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.age import is_past_dedupe_window
from outlay._capture.extraction.fields import to_amount
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.observation import Observation

if TYPE_CHECKING:
    from collections.abc import Mapping


def actor_run(response: Mapping[str, Any], call: Call) -> Observation | None:
    """Read a run. The cost so far is final once the run has ended."""
    root = "resource" if call.method == "CALLBACK" else "data"
    is_done = response.get(f"{root}.status") in _ENDS
    is_new = call.method == "POST"
    if not is_new and (
        not is_done or is_past_dedupe_window(response.get(f"{root}.finishedAt"), call)
    ):
        return None
    amount = to_amount(response.get(f"{root}.usageTotalUsd")) if is_done else None
    return Observation(
        provider=call.provider,
        event_type=event_types.COMPUTE,
        operation_id=response.get(f"{root}.id"),
        model=response.get(f"{root}.actId"),
        amount=amount,
        price_pending=amount is None,
        is_lookup=is_done,
    )


_ENDS: Final = {"SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"}
_MEMBERS: Final = ("id", "actId", "status", "finishedAt", "usageTotalUsd")
_RUN: Final = Endpoint(actor_run, tuple(f"data.{name}" for name in _MEMBERS))

for _pattern in (
    "POST /v2/acts/{id}/runs",
    "POST /v2/actor-tasks/{id}/runs",
    "GET /v2/actor-runs/{id}",
):
    register("apify", _pattern, _RUN)
register(
    "apify",
    "CALLBACK /",
    Endpoint(actor_run, tuple(f"resource.{name}" for name in _MEMBERS)),
)
