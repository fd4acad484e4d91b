"""One request: its body, its way, and what its answer says of each event."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from outlay._shipping.outcomes import NO_RESPONSE, NOT_SENT
from outlay._shipping.wire import (
    ResponseResult,
    batch_body,
    no_response,
    read_batch_response,
    read_event_response,
)
from outlay.errors import UnavailableError

if TYPE_CHECKING:
    from outlay._shipping.planner import PlannedRequest
    from outlay._shipping.transport import Transport, TransportResponse

Post: TypeAlias = Callable[
    ["PlannedRequest", "Transport"], tuple["TransportResponse | None", ResponseResult]
]


def send(
    job: PlannedRequest, transport: Transport
) -> tuple[TransportResponse | None, ResponseResult]:
    """Make the request; return its answer, None if there was none, and the judgement.

    Raises nothing: what a transport raises counts as no answer.
    """
    count = len(job.events)
    body = job.events[0].payload
    if job.batched:
        body = batch_body([event.payload for event in job.events])
    try:
        answer = transport.post(job.path, body)
        judgement = (
            read_batch_response(answer, count)
            if job.batched
            else read_event_response(answer)
        )
    except UnavailableError as error:
        verdict = NO_RESPONSE if error.sent else NOT_SENT
        return None, no_response(verdict, str(error), count)
    except BaseException as error:  # noqa: BLE001 - whatever a transport of the user's
        # raises, such as a cancellation: a sender that ended here would never give up
        # its place, and in time nothing would be sent.
        return None, no_response(NO_RESPONSE, f"transport failed: {error!r}", count)
    return answer, judgement
