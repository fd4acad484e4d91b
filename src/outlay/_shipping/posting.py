"""One request: its body, its way, and what its answer says of each event."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from outlay._shipping.outcomes import UNANSWERED, UNSENT
from outlay._shipping.requests import (
    Judgement,
    batch_body,
    judge_batch,
    judge_single,
    unanswered,
)
from outlay.errors import UnavailableError

if TYPE_CHECKING:
    from outlay._shipping.dispatch import Job
    from outlay._shipping.transport import Answer, Transport

Post: TypeAlias = Callable[["Job", "Transport"], tuple["Answer | None", Judgement]]


def post(job: Job, transport: Transport) -> tuple[Answer | None, Judgement]:
    """Make the request; return its answer, None if there was none, and the judgement.

    Raises nothing: what a transport raises counts as no answer.
    """
    count = len(job.events)
    body = job.events[0].payload
    if job.batched:
        body = batch_body([event.payload for event in job.events])
    try:
        answer = transport.post(job.path, body)
        judgement = judge_batch(answer, count) if job.batched else judge_single(answer)
    except UnavailableError as error:
        verdict = UNANSWERED if error.sent else UNSENT
        return None, unanswered(verdict, str(error), count)
    except BaseException as error:  # noqa: BLE001 - whatever a transport of the user's
        # raises, such as a cancellation: a sender that ended here would never give up
        # its place, and in time nothing would be sent.
        return None, unanswered(UNANSWERED, f"transport failed: {error!r}", count)
    return answer, judgement
