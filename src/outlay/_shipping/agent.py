"""The agent: one process that ships for all processes of a host.

It is a client that tracks nothing: the same journal, which follows writers that leave
their shipping to it, and the same shipper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._journal.journal import Destination, Journal, JournalLimits, ShippingRole
from outlay._model.clock import Clock, SystemClock
from outlay._model.rate_limited_log import RateLimitedLog
from outlay._shipping.shipper import Shipper

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from outlay._model.settings import Settings
    from outlay._shipping.transport import Transport

_STOP_SECONDS: Final = 1.0  # for a thread that has nothing left to do


class AgentStats(NamedTuple):
    """What an agent has done so far.

    Attributes:
        found: events of other processes that were not settled when it found them.
        delivered: accepted by the server.
        duplicates: of the delivered, how many the server said it knew already.
        parked: in the journal, tried again on a slow clock.
        dead: refused for good, in the dead letters.
        quarantined: perhaps counted already, in the dead letters.
        damaged: found corrupted; their bytes are kept aside.
    """

    found: int
    delivered: int
    duplicates: int
    parked: int
    dead: int
    quarantined: int
    damaged: int


class Agent:
    """Ships the events of one destination for all writers that do not ship their own.

    These are writers with ``shipping="agent"``, living or dead, and dead ones of any
    kind. Several agents may share a folder: each writer has one of them.

    Thread safety: any thread may call any method.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        transport: Callable[[], Transport] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare to ship; `start` starts it.

        Args:
            settings: say which folder and destination, and how to ship. Whatever
                applications are told by ``shipping`` and ``durability``, this ships.
            transport: makes what carries the requests; None: httpx.
            clock: where the time comes from; None: the machine.
        """
        clock = clock or SystemClock()
        notices = RateLimitedLog(clock)
        self._journal = Journal(
            Destination.of(settings),
            JournalLimits.of(settings),
            journal_dir=settings.journal_dir,
            in_memory=False,
            duty=ShippingRole.AGENT,
            clock=clock,
            notices=notices,
        )
        self._shipper = Shipper(
            settings.model_copy(update={"shipping": "thread"}),
            self._journal,
            clock=clock,
            notices=notices,
            make_transport=transport,
            on_news=None,  # logged, and in the dead letters
        )

    def start(self) -> None:
        """Ship in the background from now on."""
        self._shipper.wake()

    def flush(self, timeout: float) -> bool:
        """Wait until all that is in the journal now has met its fate.

        Tries at once, whatever backoff is running. Returns whether all of it was done
        within ``timeout`` seconds.
        """
        return self._shipper.flush(timeout)

    def stop(self, timeout: float) -> bool:
        """Ship what there is, then let go of everything; the rest stays on disk.

        Returns whether nothing was left, within ``timeout`` seconds.
        """
        complete = self._shipper.flush(timeout)
        self._shipper.stop(_STOP_SECONDS if complete else 0.0)
        self._journal.close()
        return complete

    def stats(self) -> AgentStats:
        """Return what it has done so far."""
        counts = self._shipper.counts()
        counts["found"] = counts["recovered"]
        return AgentStats(*(counts[name] for name in AgentStats._fields))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(0.0)
