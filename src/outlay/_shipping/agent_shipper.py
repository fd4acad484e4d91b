"""What stands in the shipper's place where an agent ships: it only looks and waits.

No thread, no request, nothing imported for them. The agent is another process, and all
that the two know of each other is in the journal: fates in the frames, and a lock that
says whether anybody ships.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections import Counter

    from outlay._journal.journal import Journal
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog

AGENT_GRACE_SECONDS: Final = 30.0
"""Seconds until events that nobody ships are warned about, and between such looks: an
agent that is restarted is back by then."""

AGENT_NOTICE_SECONDS: Final = 2.0
"""Seconds in which a running agent has noticed a new writer; it looks once a second."""

_FIRST_PAUSE: Final = 0.01  # seconds between the looks of a flush; doubles
_LONGEST_PAUSE: Final = 0.1


class AgentShipper:
    """Leaves all shipping to an agent.

    Thread safety: any thread, re-entrant.

    Attributes:
        needs_wake: whether `wake` must be called after an event was appended: always.
    """

    needs_wake: Final = True

    def __init__(
        self, journal: Journal, *, clock: Clock, notices: RateLimitedLog
    ) -> None:
        self._journal = journal
        self._monotonic = clock.monotonic
        self._notices = notices
        self._begin()

    def _begin(self) -> None:
        """Start afresh: at first, and in a forked child."""
        self._look_at: float | None = None
        self._final_counts: Counter[str] | None = None

    def wake(self) -> None:
        """Take note that an event was appended; now and then, look for an agent."""
        self._journal.move_to_disk()
        if self._look_at is None:
            self._look_at = self._monotonic() + AGENT_GRACE_SECONDS
        elif self._monotonic() >= self._look_at:
            self._look_at = self._monotonic() + AGENT_GRACE_SECONDS
            self._check_for_agent()

    def flush(self, timeout: float) -> bool:
        """Wait until an agent has shipped all that is pending now.

        Gives up early if there is none. Returns whether all of it met its fate.
        """
        journal = self._journal
        targets = journal.flush_targets()
        out_of_reach = bool(
            journal.reader.segment_names()
        )  # in memory, for want of a disk
        nobody = threading.Event()  # nobody sets it: the agent is another process
        waited, pause = 0.0, _FIRST_PAUSE
        while not journal.fates.is_settled_up_to(targets):
            noticed = waited < AGENT_NOTICE_SECONDS or journal.is_shipped()
            if waited >= timeout or not noticed:
                return False
            nobody.wait(min(pause, timeout - waited))
            waited += pause
            pause = min(2 * pause, _LONGEST_PAUSE)
        return not out_of_reach

    def stop(self, timeout: float) -> None:  # noqa: ARG002 - the shipper's signature
        """Take a last look; from now on the agent may remove what was looked at."""
        self._final_counts = self._journal.fates.counts()

    def counts(self) -> Counter[str]:
        """Return how many events were delivered, dead, quarantined, and so on."""
        return (
            self._journal.fates.counts()
            if self._final_counts is None
            else self._final_counts
        )

    def oldest(self) -> list[bytes]:
        """Return payloads of pending events, the oldest among them."""
        if self._final_counts is not None:
            return []
        return self._journal.fates.oldest() + self._journal.reader.oldest_payloads()

    def forked(self) -> None:
        """Begin anew in a forked child, which writes to a folder of its own."""
        self._begin()

    def _check_for_agent(self) -> None:
        self._journal.leave_deleted_folder()
        if self._journal.is_shipped():
            self._notices.resolved("agent", "an agent ships the events again")
            return
        self._notices.warn(
            "agent",
            "no agent ships this process's events (shipping='agent'); they wait in %s. "
            "Start 'outlay agent' with the same OUTLAY_BASE_URL, OUTLAY_API_KEY, "
            "OUTLAY_NAMESPACE and OUTLAY_JOURNAL_DIR",
            self._journal.folder.path,
        )
