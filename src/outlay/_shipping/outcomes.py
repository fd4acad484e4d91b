"""Decide by one table what a response means for an event, and for all others.

Source: the service's published contract for the statuses that it models (202, 400, 401,
403, 404, 422, 500); RFC 9110 and RFC 6585 for the others.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple


class Outcome(enum.Enum):
    """The outcome of one event after an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    PARKED = "parked"  # kept, and retried on a slow clock: a person has to act
    DEAD = "dead"  # kept as a dead letter: the same bytes can never be accepted


class ServerEffect(enum.Enum):
    """The effect of a response on all other events of the destination."""

    NONE = "none"
    FEWER = "fewer at once"  # the server works, and has more than it can take
    SLOW_DOWN = "slow down"  # the server as a whole is in trouble
    PAUSE = "pause"  # no event can be accepted until a person acts


class Received(enum.Enum):
    """Whether the server has counted the event."""

    YES = "yes"
    NO = "no"
    MAYBE = "maybe"  # so the clock of the server's dedupe window runs


class Decision(NamedTuple):
    """The treatment of an event after a response.

    Attributes:
        outcome: The outcome of the event.
        effect: The effect of the response on the other events.
        received: Whether the server has counted the event.
        reason: One word for counters and dead letters.
    """

    outcome: Outcome
    effect: ServerEffect
    received: Received
    reason: str


_DELIVERED: Final = Decision(
    Outcome.DELIVERED, ServerEffect.NONE, Received.YES, "delivered"
)
_DEAD: Final = Decision(Outcome.DEAD, ServerEffect.NONE, Received.NO, "rejected")

# For a status that is not here, its class decides, below.
_BY_STATUS: Final = {
    400: _DEAD,
    401: Decision(Outcome.RETRY, ServerEffect.PAUSE, Received.NO, "unauthorized"),
    403: Decision(Outcome.RETRY, ServerEffect.PAUSE, Received.NO, "forbidden"),
    404: Decision(Outcome.PARKED, ServerEffect.NONE, Received.NO, "not_found"),
    # From a proxy between us and the service.
    407: Decision(Outcome.RETRY, ServerEffect.PAUSE, Received.NO, "proxy_unauthorized"),
    408: Decision(
        Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.MAYBE, "request_timeout"
    ),
    413: Decision(Outcome.DEAD, ServerEffect.NONE, Received.NO, "too_large"),
    422: _DEAD,
    425: Decision(Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.NO, "too_early"),
    429: Decision(Outcome.RETRY, ServerEffect.FEWER, Received.NO, "too_many_requests"),
    # One event may trigger a fault that the other events do not.
    500: Decision(Outcome.RETRY, ServerEffect.NONE, Received.MAYBE, "server_error"),
}

# By the hundreds. 3xx: we follow no redirect, because a POST can turn into a GET; the
# base URL is wrong. Other 4xx: nothing that we know is wrong with this event.
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
"""No cost metric reads this event type (yet)."""

NOT_SENT: Final = Decision(
    Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.NO, "unreachable"
)
"""There was no connection, so no byte of the request left."""

NO_RESPONSE: Final = Decision(
    Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.MAYBE, "no_response"
)
"""The request may have arrived, but no usable response did."""

FOREIGN: Final = Decision(
    Outcome.RETRY, ServerEffect.NONE, Received.NO, "foreign_response"
)
"""A refusal that is not the service's JSON. A hop before the service refused it."""

MAYBE_ONE_EVENT: Final = frozenset({"forbidden", "redirected", FOREIGN.reason})
"""Reasons that a hop may give for one event, because it dislikes the event's text, or
for all events. Only other events can tell."""


def decide(status: int, error: str = "") -> Decision:
    """Return how to treat one event.

    Args:
        status: The HTTP status of the response, or of the event's item in a batch.
        error: The ``error`` category in the response's body. Defaults to none.
    """
    if status == 422 and error == UNMATCHED.reason:
        return UNMATCHED
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, _UNKNOWN)
