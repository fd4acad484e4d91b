"""Count what arrived since the start of the server, for each organization.

The counts are in memory only, because the hot path must not write them. An event that
was refused is nowhere else.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outlay.server._records import IngestResult
    from outlay.server._wire.problems import HttpProblem

MINUTES: Final = 60
"""The minutes for which the rate of events is kept."""

LATE_SECONDS: Final = 24 * 3600
"""The age from which an event is late: a day may be over, and read, before."""

_MICROSECONDS: Final = 1_000_000
_MINUTE: Final = 60 * _MICROSECONDS
_MOST_REASONS: Final = 100  # so that senders cannot fill the memory
_MOST_ORGANIZATIONS: Final = 1000


class Refusal(NamedTuple):
    """The reason of refusals.

    Attributes:
        status: The HTTP status.
        code: The broken rule, such as ``INVALID_EVENT_TYPE``.
        event_type: The event type of a 422, or ''.
    """

    status: int
    code: str
    event_type: str


OTHER_REFUSALS: Final = Refusal(0, "OTHER", "")
"""The refusals of all further reasons, once there are many."""


class Activity:
    """The counts of one organization. Thread safety: the event loop's thread writes.

    Attributes:
        accepted: The number of new events.
        late: The number of new events that were older than `LATE_SECONDS`.
        duplicates: The number of events whose key was received before.
        conflicts: The number of duplicates that differ from the first event.
        refusals: The number of refused events, by reason.
        minutes: The number of received events, by minute since 1970. Old ones are
            dropped.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.late = 0
        self.duplicates = 0
        self.conflicts = 0
        self.refusals: Counter[Refusal] = Counter()
        self.minutes: dict[int, int] = {}

    def add(self, results: Sequence[IngestResult], now: int) -> None:
        """Count the results of a request."""
        late_before = now - LATE_SECONDS * _MICROSECONDS
        for result in results:
            if result.duplicate:
                self.duplicates += 1
                self.conflicts += result.conflict
            else:
                self.accepted += 1
                self.late += result.event.at < late_before
        self._tick(len(results), now)

    def refuse(self, problem: HttpProblem, now: int) -> None:
        """Count a refused event."""
        body = problem.body
        event_type = (body.details or {}).get("type", "")
        reason = Refusal(problem.status, body.code or body.error, event_type)
        if reason not in self.refusals and len(self.refusals) >= _MOST_REASONS:
            reason = OTHER_REFUSALS
        self.refusals[reason] += 1
        self._tick(1, now)

    def _tick(self, events: int, now: int) -> None:
        minute = now // _MINUTE
        count = self.minutes.get(minute)
        if count is None:
            count = 0
            for old in [one for one in self.minutes if one <= minute - MINUTES]:
                del self.minutes[old]
        self.minutes[minute] = count + events


class ActivityLog:
    """The counts of all organizations since the start.

    Args:
        now: A function that returns the time in microseconds since 1970.

    Attributes:
        started_at: The time of the start, in microseconds since 1970.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self.started_at = now()
        self._organizations: dict[str, Activity] = {}

    def of(self, namespace: str) -> Activity:
        """Return the counts of an organization. The first call creates them."""
        found = self._organizations.get(namespace)
        if found is None:
            if len(self._organizations) >= _MOST_ORGANIZATIONS:
                del self._organizations[next(iter(self._organizations))]
            found = self._organizations[namespace] = Activity()
        return found
