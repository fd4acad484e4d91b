"""What an answer means for the event that was sent, and for the rest. One table.

Source: the service's published contract for the modelled statuses (202, 400, 401, 403,
404, 422, 500); RFC 9110 and RFC 6585 for the others.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple


class Outcome(enum.Enum):
    """What becomes of one event after an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    PARKED = "parked"  # kept; tried again on a slow clock, for it needs a person
    DEAD = "dead"  # kept as a dead letter; the same bytes can never be accepted


class ServerEffect(enum.Enum):
    """What an answer means for all other events of the destination."""

    NONE = "none"
    FEWER = "fewer at once"  # the server works, and has more than it can take
    SLOW_DOWN = "slow down"  # the server as a whole is in trouble
    PAUSE = "pause"  # nothing can be accepted until a person acts


class Received(enum.Enum):
    """Whether the server has counted the event."""

    YES = "yes"
    NO = "no"
    MAYBE = "maybe"  # then the clock of the server's dedupe window runs


class Decision(NamedTuple):
    """How to treat an event after an answer.

    Attributes:
        outcome: what becomes of the event.
        effect: what it means for the others.
        counted: whether the server has counted the event.
        reason: one word for counters and dead letters.
    """

    outcome: Outcome
    effect: ServerEffect
    counted: Received
    reason: str


_DELIVERED: Final = Decision(
    Outcome.DELIVERED, ServerEffect.NONE, Received.YES, "delivered"
)
_DEAD: Final = Decision(Outcome.DEAD, ServerEffect.NONE, Received.NO, "rejected")

# A status that is not here is judged by its class, below.
_BY_STATUS: Final = {
    400: _DEAD,
    401: Decision(Outcome.RETRY, ServerEffect.PAUSE, Received.NO, "unauthorized"),
    403: Decision(Outcome.RETRY, ServerEffect.PAUSE, Received.NO, "forbidden"),
    404: Decision(Outcome.PARKED, ServerEffect.NONE, Received.NO, "not_found"),
    # A proxy's, between us and the service.
    407: Decision(Outcome.RETRY, ServerEffect.PAUSE, Received.NO, "proxy_unauthorized"),
    408: Decision(
        Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.MAYBE, "request_timeout"
    ),
    413: Decision(Outcome.DEAD, ServerEffect.NONE, Received.NO, "too_large"),
    422: _DEAD,
    425: Decision(Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.NO, "too_early"),
    429: Decision(Outcome.RETRY, ServerEffect.FEWER, Received.NO, "too_many_requests"),
    # One event may trip a fault that the others do not: they go on.
    500: Decision(Outcome.RETRY, ServerEffect.NONE, Received.MAYBE, "server_error"),
}

# By the hundreds. 3xx: we follow no redirect, since a POST can turn into a GET; the
# base URL is wrong. Other 4xx: nothing wrong with this event that we know of.
_BY_CLASS: Final = {
    2: _DELIVERED,
    3: Decision(Outcome.RETRY, ServerEffect.PAUSE, Received.NO, "redirected"),
    4: Decision(Outcome.PARKED, ServerEffect.NONE, Received.NO, "refused"),
    5: Decision(Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.MAYBE, "unavailable"),
}

_UNKNOWN: Final = Decision(
    Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.MAYBE, "no_http_status"
)

UNMATCHED: Final = Decision(
    Outcome.PARKED, ServerEffect.NONE, Received.NO, "invalid_event_type"
)
"""No cost metric has this event type (yet)."""

NOT_SENT: Final = Decision(
    Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.NO, "unreachable"
)
"""No connection: no byte of the request left."""

NO_RESPONSE: Final = Decision(
    Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.MAYBE, "no_answer"
)
"""The request may have arrived; the answer did not."""


def decide(status: int, error: str = "") -> Decision:
    """Return the verdict on one event.

    Args:
        status: HTTP status of the answer, or of the event's item in a batch answer.
        error: the ``error`` category in the answer's body.
    """
    if status == 422 and error == UNMATCHED.reason:
        return UNMATCHED
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, _UNKNOWN)
