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


class Effect(enum.Enum):
    """What an answer means for all other events of the destination."""

    NONE = "none"
    FEWER = "fewer at once"  # the server works, and has more than it can take
    SLOW_DOWN = "slow down"  # the server as a whole is in trouble
    PAUSE = "pause"  # nothing can be accepted until a person acts


class Counted(enum.Enum):
    """Whether the server has counted the event."""

    YES = "yes"
    NO = "no"
    MAYBE = "maybe"  # then the clock of the server's dedupe window runs


class Verdict(NamedTuple):
    """How to treat an event after an answer.

    Attributes:
        outcome: what becomes of the event.
        effect: what it means for the others.
        counted: whether the server has counted the event.
        reason: one word for counters and dead letters.
    """

    outcome: Outcome
    effect: Effect
    counted: Counted
    reason: str


_DELIVERED: Final = Verdict(Outcome.DELIVERED, Effect.NONE, Counted.YES, "delivered")
_DEAD: Final = Verdict(Outcome.DEAD, Effect.NONE, Counted.NO, "rejected")

# A status that is not here is judged by its class, below.
_BY_STATUS: Final = {
    400: _DEAD,
    401: Verdict(Outcome.RETRY, Effect.PAUSE, Counted.NO, "unauthorized"),
    403: Verdict(Outcome.RETRY, Effect.PAUSE, Counted.NO, "forbidden"),
    404: Verdict(Outcome.PARKED, Effect.NONE, Counted.NO, "not_found"),
    # A proxy's, between us and the service.
    407: Verdict(Outcome.RETRY, Effect.PAUSE, Counted.NO, "proxy_unauthorized"),
    408: Verdict(Outcome.RETRY, Effect.SLOW_DOWN, Counted.MAYBE, "request_timeout"),
    413: Verdict(Outcome.DEAD, Effect.NONE, Counted.NO, "too_large"),
    422: _DEAD,
    425: Verdict(Outcome.RETRY, Effect.SLOW_DOWN, Counted.NO, "too_early"),
    429: Verdict(Outcome.RETRY, Effect.FEWER, Counted.NO, "too_many_requests"),
    # One event may trip a fault that the others do not: they go on.
    500: Verdict(Outcome.RETRY, Effect.NONE, Counted.MAYBE, "server_error"),
}

# By the hundreds. 3xx: we follow no redirect, since a POST can turn into a GET; the
# base URL is wrong. Other 4xx: nothing wrong with this event that we know of.
_BY_CLASS: Final = {
    2: _DELIVERED,
    3: Verdict(Outcome.RETRY, Effect.PAUSE, Counted.NO, "redirected"),
    4: Verdict(Outcome.PARKED, Effect.NONE, Counted.NO, "refused"),
    5: Verdict(Outcome.RETRY, Effect.SLOW_DOWN, Counted.MAYBE, "unavailable"),
}

_UNKNOWN: Final = Verdict(
    Outcome.RETRY, Effect.SLOW_DOWN, Counted.MAYBE, "no_http_status"
)

UNMATCHED: Final = Verdict(
    Outcome.PARKED, Effect.NONE, Counted.NO, "invalid_event_type"
)
"""No cost metric has this event type (yet)."""

UNSENT: Final = Verdict(Outcome.RETRY, Effect.SLOW_DOWN, Counted.NO, "unreachable")
"""No connection: no byte of the request left."""

UNANSWERED: Final = Verdict(Outcome.RETRY, Effect.SLOW_DOWN, Counted.MAYBE, "no_answer")
"""The request may have arrived; the answer did not."""


def judge(status: int, error: str = "") -> Verdict:
    """Return the verdict on one event.

    Args:
        status: HTTP status of the answer, or of the event's item in a batch answer.
        error: the ``error`` category in the answer's body.
    """
    if status == 422 and error == UNMATCHED.reason:
        return UNMATCHED
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, _UNKNOWN)
