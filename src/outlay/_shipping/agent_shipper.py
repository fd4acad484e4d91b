"""Replaces the shipper where an agent ships.

It sends nothing and starts no thread. The agent is another process, and the two know of
each other only through the journal: outcomes in the frames, and a lock that says
whether an agent ships.
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
"""The time until a warning that no agent ships, and between checks for one. An agent
that is restarted is back by then."""

AGENT_NOTICE_SECONDS: Final = 2.0
"""The time in which a running agent notices a new writer. It polls once a second."""

_FIRST_PAUSE: Final = 0.01  # seconds between the checks of a flush; doubles
_LONGEST_PAUSE: Final = 0.1


class AgentShipper:
    """Leaves all shipping to an agent. See `EventShipper`.

    Thread safety: any thread, re-entrant.

    Attributes:
        needs_wake: Always true.
    """

    def __init__(self, journal: Journal, *, clock: Clock, log: RateLimitedLog) -> None:
        """Read the agent's progress from ``journal``."""
        self.needs_wake = True
        self._journal: Final = journal
        self._monotonic: Final = clock.monotonic
        self._log: Final = log
        self._reset()

    def _reset(self) -> None:
        """Start over: at first, and in a forked child."""
        self._check_at: float | None = None
        self._final_counts: Counter[str] | None = None

    def wake(self) -> None:
        """Note that an event was appended. From time to time, check for an agent."""
        self._journal.move_to_disk()
        if self._check_at is None:
            self._check_at = self._monotonic() + AGENT_GRACE_SECONDS
        elif self._monotonic() >= self._check_at:
            self._check_at = self._monotonic() + AGENT_GRACE_SECONDS
            self._check_for_agent()

    def flush(
        self,
        timeout: float,
        *,
        outage_timeout: float | None = None,  # noqa: ARG002 - only the agent knows
    ) -> bool:
        """Wait until an agent has shipped all events that are pending now.

        This returns early if there is no agent.

        Returns:
            Whether all of them were settled or parked within ``timeout`` seconds.
        """
        journal = self._journal
        targets = journal.flush_targets()
        # Events in memory, because no disk took them: the agent cannot see them.
        in_memory = bool(journal.reader.segment_names())
        never = threading.Event()  # the agent is another process, and sets no event
        waited, pause = 0.0, _FIRST_PAUSE
        while not journal.agent_progress.is_settled_up_to(targets):
            noticed = waited < AGENT_NOTICE_SECONDS or journal.is_shipped()
            if waited >= timeout or not noticed:
                return False
            never.wait(min(pause, timeout - waited))
            waited += pause
            pause = min(2 * pause, _LONGEST_PAUSE)
        return not in_memory

    def stop(self, timeout: float) -> None:  # noqa: ARG002 - as in `EventShipper`
        """Read the counts a last time. The agent may delete the segments afterwards."""
        self._final_counts = self._journal.agent_progress.counts()

    def counts(self) -> Counter[str]:
        """Return how many events were delivered, dead, quarantined, and so on."""
        if self._final_counts is not None:
            return self._final_counts
        return self._journal.agent_progress.counts()

    def oldest(self) -> list[bytes]:
        """Return payloads of pending events, the oldest among them."""
        if self._final_counts is not None:
            return []
        return (
            self._journal.agent_progress.oldest()
            + self._journal.reader.oldest_payloads()
        )

    def reset_after_fork(self) -> None:
        """Start over in a forked child, which writes to a folder of its own."""
        self._reset()

    def _check_for_agent(self) -> None:
        self._journal.leave_deleted_folder()
        if self._journal.is_shipped():
            self._log.resolved("agent", "an agent ships the events again")
            return
        self._log.warn(
            "agent",
            "no agent ships this process's events (shipping='agent'); they wait in %s. "
            "Start 'outlay agent' with the same OUTLAY_BASE_URL, OUTLAY_API_KEY, "
            "OUTLAY_NAMESPACE and OUTLAY_JOURNAL_DIR",
            self._journal.folder.path,
        )
