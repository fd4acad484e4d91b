"""The agent: one process that ships for all processes of a host.

It is a client that tracks nothing. Its journal follows the writers that leave their
shipping to an agent, and its shipper is the same.
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
    """Counts of events that an agent has shipped.

    Attributes:
        found: Events of other processes that were pending when the agent found them.
        delivered: Events that the server accepted.
        duplicates: Delivered events that the server knew already.
        parked: Events in the journal that are retried on a slow clock.
        dead: Events that the server refused for good, in the dead letters.
        quarantined: Events that may have been counted, in the dead letters.
        damaged: Events that were corrupt on disk. Their bytes are kept.
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

    These are writers with ``shipping="agent"``, living or dead, and dead writers of any
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
        """Prepare to ship. `start` starts the thread.

        Args:
            settings: The folder, the destination, and the settings of shipping. Their
                ``shipping`` and ``durability`` do not matter.
            transport: A function that makes the transport. If None, an `HttpTransport`
                is made.
            clock: The source of time. If None, the machine's clocks.
        """
        clock = clock or SystemClock()
        log = RateLimitedLog(clock)
        self._journal = Journal(
            Destination.from_settings(settings),
            JournalLimits.from_settings(settings),
            journal_dir=settings.journal_dir,
            in_memory=False,
            role=ShippingRole.AGENT,
            clock=clock,
            log=log,
        )
        self._shipper = Shipper(
            settings.model_copy(update={"shipping": "thread"}),
            self._journal,
            clock=clock,
            log=log,
            make_transport=transport,
            on_deliveries=None,  # outcomes are logged, and in the dead letters
        )

    def start(self) -> None:
        """Ship in the background from now on."""
        self._shipper.wake()

    def flush(self, timeout: float) -> bool:
        """Wait until all events in the journal are settled or parked.

        This skips any backoff.

        Returns:
            Whether that was done within ``timeout`` seconds.
        """
        return self._shipper.flush(timeout)

    def stop(self, timeout: float) -> bool:
        """Ship what is pending, then release all folders. The rest stays on disk.

        Returns:
            Whether nothing was left within ``timeout`` seconds.
        """
        complete = self._shipper.flush(timeout)
        self._shipper.stop(_STOP_SECONDS if complete else 0.0)
        self._journal.close()
        return complete

    def stats(self) -> AgentStats:
        """Return the counts so far."""
        counts = self._shipper.counts()
        counts["found"] = counts["recovered"]
        return AgentStats(*(counts[name] for name in AgentStats._fields))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(0.0)
